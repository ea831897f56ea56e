from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.http.target import canonical_target, request_uri
from kvproxy.rules.modifiers import (
    FORWARDED_PREFIX,
    NO_MODIFIERS,
    REPLACED_PATH,
    Modified,
    Modifiers,
    has_dot_segment,
)
from kvproxy.rules.parser import parse_rules


def modifiers(rule: str) -> Modifiers:
    return parse_rules({"r": rule}).modifiers


def test_no_modifier_is_false() -> None:
    assert not modifiers("Host:a;Path:/x")
    assert not Modifiers()
    assert not modifiers("ReplacePathRegex:no-space")
    assert modifiers("AddPrefix:/x")
    assert modifiers("PathStrip: ")


def test_the_given_order_of_prefixes_counts() -> None:
    stripper = Modifiers(strip=True, strips=(b"/stat", b"/stat/us"))
    assert stripper.apply(b"/stat/us", b"") == Modified(
        b"/us", b"", ((FORWARDED_PREFIX, b"/stat"),)
    )


@pytest.mark.parametrize(
    ("rule", "path", "raw_path", "expected"),
    [
        ("PathPrefixStrip:/a", b"/a/b c", b"", (b"/b c", b"")),
        ("PathPrefixStrip:/a", b"/a/b/c", b"/a/b%2Fc", (b"/b/c", b"/b%2Fc")),
        ("PathPrefixStrip:/a", b"/a/b", b"/a%2Fb", (b"/b", b"")),
        ("PathPrefixStrip:/a", b"/a/!", b"/a/!", (b"/!", b"/!")),
        ("PathPrefixStripRegex:/{x}", b"/ab/c/d", b"/ab/c%2Fd", (b"/c/d", b"/c%2Fd")),
        ("PathPrefixStripRegex:/{x}", b"/ab/c", b"/%61b%2Fc", (b"/c", b"")),
        ("PathPrefixStripRegex:/{x}/", b"/ab/c/d", b"/ab/c%2Fd", (b"/c/d", b"/c%2Fd")),
        ("AddPrefix:/p q", b"/a/b", b"/a%2Fb", (b"/p q/a/b", b"")),
        ("AddPrefix:/p%2Fq", b"/a/b", b"/a%2Fb", (b"/p%2Fq/a/b", b"")),
        ("ReplacePath:/a/b", b"/a/b", b"/a%2Fb", (b"/a/b", b"")),
        ("ReplacePathRegex:a b", b"/x/y", b"/x%2Fy", (b"/x/y", b"/x%2Fy")),
        ("ReplacePathRegex:x $0", b"/x/y", b"/x%2Fy", (b"/x/y", b"")),
        ("ReplacePathRegex:.* $1", b"/x", b"", (b"/", b"")),
        ("AddPrefix:/p", b"*", b"", (b"/p*", b"")),
    ],
)
def test_path_and_raw_path(
    rule: str, path: bytes, raw_path: bytes, expected: tuple[bytes, bytes]
) -> None:
    modified = modifiers(rule).apply(path, raw_path)
    assert modified is not None
    assert (modified.path, modified.raw_path) == expected


def test_header_values_cannot_break_out() -> None:
    modified = modifiers("ReplacePath:/x").apply(b"/a\r\nX-Evil: 1\x00\x7f\t \xe4%", b"")
    assert modified is not None
    assert modified.headers == ((REPLACED_PATH, b"/a%0D%0AX-Evil: 1%00%7F%09 \xe4%"),)


@pytest.mark.parametrize(
    ("rule", "path", "passes"),
    [
        ("PathPrefixStrip:/foo", b"/foo../x", False),
        ("PathPrefixStrip:/foo", b"/foo..", False),
        ("PathPrefixStrip:/foo", b"/foo./x", False),
        ("PathPrefixStrip:/foo", b"/foo..;a=1/x", False),
        ("PathPrefixStrip:/foo", b"/foo.../x", True),
        ("PathPrefixStrip:/foo", b"/foo..x", True),
        ("PathPrefixStrip:/foo", b"/foo.x", True),
        ("PathPrefixStrip:/foo", b"/foo/../x", True),
        ("PathPrefixStripRegex:/{x:[a-z]+}", b"/foo../x", False),
        ("ReplacePathRegex:^/x(.*) /y/$1", b"/x../z", False),
        ("ReplacePathRegex:^/x(.*) /y/$1", b"/x/z", True),
        ("AddPrefix:/a/.", b"/x", False),
        ("ReplacePath:/..", b"/x", False),
    ],
)
def test_dot_segments_are_never_made(rule: str, path: bytes, passes: bool) -> None:
    assert (modifiers(rule).apply(path, b"") is not None) == passes


def test_a_replacement_out_of_bounds_is_answered_with_404() -> None:
    assert modifiers("ReplacePathRegex:a b").apply(b"/" + b"a" * 5000, b"") is None


RULES = (
    "PathPrefixStrip:/a,/ab,/",
    "PathPrefixStripRegex:/{x},/a/{y:[^.]+}",
    "PathPrefixStripRegex:/{x:.};AddPrefix:/z",
    "ReplacePathRegex:^/(.)(.*) $2/$1",
    "ReplacePathRegex:[./%] $0$0",
    "PathStrip:/a;ReplacePath:/b",
)

targets = st.lists(
    st.sampled_from(
        [*"/ab.;%", "%2e", "%2F", "%2f", "%61", "%41", "%00", "%0a", "..", "\u00e4", "%ff", "!"]
    ),
    max_size=12,
).map(lambda pieces: ("/" + "".join(pieces)).encode())


@settings(max_examples=500)
@given(st.sampled_from(RULES), targets, st.booleans())
def test_what_is_sent_decodes_to_the_modified_path(rule: str, target: bytes, unsafe: bool) -> None:
    canonical = canonical_target(target, unsafe)
    if canonical is None:
        return
    modified = modifiers(rule).apply(canonical.path, canonical.raw_path)
    if modified is None:
        return
    assert modified.path.startswith(b"/")
    sent = request_uri(modified.path, modified.raw_path, b"")
    assert unquote_to_bytes(sent) == modified.path
    if not unsafe:
        assert not has_dot_segment(modified.path)
    for _, value in modified.headers:
        assert not set(value) & {0, 10, 13, 127}


def test_the_shared_nothing_is_what_parsing_gives() -> None:
    assert modifiers("Host:a") is NO_MODIFIERS
