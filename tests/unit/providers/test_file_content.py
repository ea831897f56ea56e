"""What one file says: reading in part equals reading the whole, and bad texts change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.file_content import MAXIMUM_BYTES, FileContent, UnusableError
from providers.toml_chunks import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

ROUTES = b"""# routes
[frontends]
  [frontends.a]
  backend = "b"
    [frontends.a.routes.r]
    rule = "Host:a"
  [frontends.c]
  backend = "b"
    [frontends.c.routes.r]
    rule = "Host:c"
[backends]
  [backends.b]
    [backends.b.servers.s]
    url = "http://127.0.0.1:1"
"""

PIECES = st.sampled_from(
    [
        b"[frontends]\n",
        b"[backends]\n",
        b'  [frontends.a]\n  backend = "b"\n',
        b'  [frontends.b]\r\n  backend = "x"\r\n',
        b'[frontends."quo.ted"]\nbackend = "b"\n',
        b"[frontends.'lit']\nbackend = 'b'\n",
        b'[ frontends . spaced ]\nbackend = "b"\n',
        b"[frontends.typo]\nbakend = 'b'\n",
        b"[frontends.wrong]\nbackend = 5\n",
        b'    [frontends.a.routes.r]\n    rule = "Host:a"\n',
        b'[frontends.b.routes.r]\nrule = "Host:b"\n',
        b'[backends.b.servers.s]\nurl = "http://h"\n',
        b'[backends.b.servers.t]\nurl = "http://h"\nweight = "heavy"\n',
        b"[backends.c]\n",
        b"[[tls]]\nentryPoints = ['https']\n[tls.certificate]\ncertFile = 'c'\nkeyFile = 'k'\n",
        b"[[tls]]\nentryPoints = 1\n",
        b"[unknown.section]\nx = 1\n",
        b"[Frontends.upper]\nbackend = 'b'\n",
        b"frontends.dotted.backend = 'b'\n",
        b"frontends = {}\n",
        b"frontends = 1\n",
        b"# a comment with [frontends.a]\n",
        b"entryPoints = [\n[frontends.a]\n]\n",
        b"entryPoints = [\n  'http',\n  'https'\n]\n",
        b"x = [\n['a'],\n['b']\n]\n",
        b"note = '''\n[frontends.a]\n'''\n",
        b"[[frontends.list]]\n",
        b"priority = 7\n",
        b"priority = \n",
        b"\n",
        b"\xff\n",
        b"[frontends.a",
        b"backend = 'b'",
    ]
)
TEXTS = st.lists(PIECES, max_size=8)


def contents(pieces: Sequence[bytes]) -> tuple[FileContent, str]:
    fresh = FileContent("x.toml")
    try:
        fresh.update(b"".join(pieces))
    except UnusableError as error:
        return fresh, str(error)
    return fresh, ""


@given(TEXTS, st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2), TEXTS), max_size=6))
@settings(max_examples=600)
def test_reading_in_part_equals_reading_the_whole(
    start: list[bytes], edits: list[tuple[int, int, list[bytes]]]
) -> None:
    held, _ = contents(start)
    pieces = start
    for position, removed, added in edits:
        pieces = [*pieces[:position], *added[:2], *pieces[position + removed :]]
        before = dict(held.entries)
        names = held.names
        fresh, refused = contents(pieces)
        try:
            touched = held.update(b"".join(pieces))
        except UnusableError as error:
            assert held.entries == before
            if "half-written" not in str(error):
                assert str(error) == refused
            continue
        assert not refused
        assert held.entries == fresh.entries
        assert held.names == fresh.names
        assert sorted(map(str, held.problems)) == sorted(map(str, fresh.problems))
        assert touched >= names ^ held.names
        for entry, decoded in before.items():
            now = held.entries.get(entry)
            assert (now is decoded) == (now == decoded)
            if now is not decoded:
                assert entry in touched
        for entry in held.names:
            assert held.place(entry) == fresh.place(entry)


@given(st.integers(0, len(ROUTES)), st.integers(0, 30), st.binary(max_size=20))
@settings(max_examples=600)
def test_any_edit_of_bytes_equals_reading_the_whole(
    position: int, removed: int, added: bytes
) -> None:
    held, _ = contents([ROUTES])
    text = ROUTES[:position] + added + ROUTES[position + removed :]
    fresh, refused = contents([text])
    try:
        held.update(text)
    except UnusableError as error:
        assert "half-written" in str(error) or str(error) == refused
        return
    assert not refused
    assert held.entries == fresh.entries
    assert held.names == fresh.names
    assert sorted(map(str, held.problems)) == sorted(map(str, fresh.problems))


def test_a_change_of_one_entry_reads_only_that_entry() -> None:
    held, _ = contents([ROUTES])
    before = dict(held.entries)
    assert held.update(ROUTES.replace(b"Host:c", b"Host:d")) == {("frontends", "c")}
    assert held.entries["frontends", "a"] is before["frontends", "a"]
    assert held.entries["backends", "b"] is before["backends", "b"]
    assert held.update(ROUTES.replace(b"Host:c", b"Host:d").replace(b"# ro", b"\n# ro")) == set()


def test_the_routes_are_cut_into_chunks() -> None:
    """The property tests above would hold too if nothing were ever read in part."""
    chunks = cut(ROUTES)
    assert chunks is not None
    assert [entry for entry in chunks.entries if entry] == [
        ("frontends", "a"),
        ("frontends", "c"),
        ("backends", "b"),
    ]
    assert chunks.changed_to(ROUTES.replace(b"Host:a", b"Host:z")) is not None


def test_places_are_those_in_the_file() -> None:
    held, _ = contents([ROUTES])
    assert held.place(("frontends", "c")) == "x.toml:7"
    held.update(
        ROUTES.replace(b'backend = "b"\n    [frontends.c', b'bakend = "b"\n    [frontends.c')
    )
    places = {(problem.where, problem.entry) for problem in held.problems}
    assert ("x.toml:8", None) in places
    held.update(b"\n\n" + held.text)
    assert ("x.toml:10", None) in {(problem.where, problem.entry) for problem in held.problems}


BAD_TEXTS = {
    "zero-bytes": (b"", "empty"),
    "white-space": (b" \n\t\n", "empty"),
    "cut-in-a-string": (ROUTES[: ROUTES.index(b"Host:c") + 3], "x.toml:10"),
    "cut-in-a-header": (ROUTES[: ROUTES.index(b"frontends.c") + 8], "x.toml:7"),
    "cut-behind-a-line": (ROUTES[: ROUTES.index(b"  [frontends.c]")].rstrip(), "half-written"),
    "not-utf-8": (ROUTES.replace(b"Host:c", b"Host:\xff"), "UTF-8"),
    "utf-16": (ROUTES.decode().encode("utf-16"), "UTF-8"),
    "nul": (ROUTES.replace(b"backend", b"back\0end", 1), "x.toml:4"),
    "given-twice": (ROUTES + b"[frontends.a]\nbackend = 'c'\n", "x.toml"),
    "section-is-a-value": (b"frontends = 5\n", "x.toml:1"),
    "section-is-a-list": (b"[[frontends]]\nbackend = 'b'\n", "x.toml:1"),
    "not-toml": (b"<html>\n", "x.toml:1"),
    "too-large": (b"#" * (MAXIMUM_BYTES + 1), "too large"),
}


@pytest.mark.parametrize(("text", "message"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_a_bad_text_changes_nothing(text: bytes, message: str) -> None:
    held, _ = contents([ROUTES])
    before = dict(held.entries)
    with pytest.raises(UnusableError, match=message):
        held.update(text)
    assert held.entries == before
    assert held.text == ROUTES
    with pytest.raises(UnusableError):
        held.update(text)
    assert held.update(ROUTES.replace(b"Host:c", b"Host:d")) == {("frontends", "c")}


def test_a_bad_entry_is_left_out_alone() -> None:
    held, _ = contents([ROUTES])
    touched = held.update(ROUTES.replace(b'"Host:a"', b"5"))
    assert touched == {("frontends", "a")}
    assert ("frontends", "a") not in held.entries
    assert ("frontends", "a") in held.names
    assert [(p.where, p.entry, p.fatal) for p in held.problems] == [
        ("x.toml:6", ("frontends", "a"), True)
    ]


def test_comments_alone_are_a_valid_way_to_have_no_routes() -> None:
    held, _ = contents([ROUTES])
    held.update(b"# nothing here now\n")
    assert held.entries == {}


def test_the_main_file_keeps_its_static_part_to_itself() -> None:
    text = b"logLevel = 'DEBUG'\nnonsense = 1\n[entryPoints.http]\naddress = ':80'\n" + ROUTES
    main = FileContent("kvproxy.toml", main=True)
    main.update(text)
    assert main.problems == ()
    assert ("frontends", "a") in main.entries
    other = FileContent("routes.toml")
    other.update(text)
    assert [problem.path for problem in other.problems] == ["nonsense"]
