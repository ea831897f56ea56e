"""The cookie of a server (specification section 7.4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.balance.stickiness import (
    Stickiness,
    cookie_name,
    cookie_value,
    stickiness_of,
    url_identity,
)
from kvproxy.model.dynamic import LoadBalancer
from kvproxy.model.dynamic import Stickiness as Options

NAMES = {
    "derived": ("", "backend", "_76eb3"),
    "derived-1": ("", "backend1", "_73be0"),
    "derived-sticky": ("", "sticky", "_82b5f"),
    "derived-odd": ("", "/my/BACKEND-v1.0~rc1", "_5f7bc"),
    "B16": ("my cookie;1", "backend", "my_cookie_1"),
    "B17-path": ("/my/BACKEND-v1.0~rc1", "backend", "_my_BACKEND-v1.0~rc1"),
    "B17-signs": (
        "!#$%&'()*+-./:<=>?@[]^_`{|}~",
        "backend",
        "!#$%&'__*+-._________^_`_|_~",
    ),
    "other script": ("k\u00e9ks", "backend", "k_ks"),
}


@pytest.mark.parametrize(("configured", "backend", "expected"), NAMES.values(), ids=NAMES)
def test_name(configured: str, backend: str, expected: str) -> None:
    assert cookie_name(configured, backend) == expected


LINES = {
    "plain": (Options(), b"Set-Cookie: _76eb3=http://10.0.0.1:80; Path=/\r\n"),
    "B15": (
        Options(cookie_name="name", secure=True, http_only=True, same_site="lax"),
        b"Set-Cookie: name=http://10.0.0.1:80; Path=/; HttpOnly; Secure; SameSite=Lax\r\n",
    ),
    "none": (
        Options(same_site="none"),
        b"Set-Cookie: _76eb3=http://10.0.0.1:80; Path=/; SameSite=None\r\n",
    ),
    "strict": (
        Options(same_site="strict"),
        b"Set-Cookie: _76eb3=http://10.0.0.1:80; Path=/; SameSite=Strict\r\n",
    ),
    "another case": (
        Options(same_site="Lax"),
        b"Set-Cookie: _76eb3=http://10.0.0.1:80; Path=/\r\n",
    ),
}


@pytest.mark.parametrize(("options", "expected"), LINES.values(), ids=LINES)
def test_line(options: Options, expected: bytes) -> None:
    stickiness = stickiness_of(LoadBalancer(stickiness=options), "backend")
    assert stickiness is not None
    assert stickiness.line("http://10.0.0.1:80") == expected


def test_the_deprecated_spelling_has_a_name_of_its_own() -> None:
    stickiness = stickiness_of(LoadBalancer(sticky=True), "backend")
    assert stickiness is not None
    assert stickiness.line("http://a") == b"Set-Cookie: _TRAEFIK_BACKEND=http://a; Path=/\r\n"


def test_the_deprecated_spelling_gives_way_to_the_other() -> None:
    balancer = LoadBalancer(sticky=True, stickiness=Options(cookie_name="new"))
    stickiness = stickiness_of(balancer, "backend")
    assert stickiness is not None
    assert stickiness.name == b"new"


@pytest.mark.parametrize("balancer", [None, LoadBalancer(), LoadBalancer(method="drr")])
def test_nothing_asks_for_a_cookie(balancer: LoadBalancer | None) -> None:
    assert stickiness_of(balancer, "backend") is None


def test_credentials_of_a_server_are_not_shown() -> None:
    stickiness = Stickiness(b"c", b"")
    line = stickiness.line("http://me:secret@10.0.0.1:80/x")
    assert line == b"Set-Cookie: c=http://10.0.0.1:80/x\r\n"


VALUES = {
    "alone": ([b"c=v"], b"v"),
    "among others": ([b"a=1; c=v; d=2"], b"v"),
    "second line": ([b"a=1", b"b=2; c=v"], b"v"),
    "first one wins": ([b"c=v; c=w", b"c=x"], b"v"),
    "quoted": ([b'c="v"'], b"v"),
    "equals in the value": ([b"c=v=w"], b"v=w"),
    "empty": ([b"c="], b""),
    "no space": ([b"a=1;c=v"], b"v"),
    "tabs": ([b"a=1;\tc=v\t"], b"v"),
    "absent": ([b"a=1"], None),
    "no header": ([], None),
    "name alone": ([b"c"], None),
    "longer name": ([b"cc=v"], None),
    "other case": ([b"C=v"], None),
    "control character": ([b"c=a\x01b"], None),
    "bytes above ASCII": ([b"c=a\xe9b"], None),
    "quote inside": ([b'c=a"b'], None),
    "backslash": ([b"c=a\\b"], None),
    "invalid one passed over": ([b"c=a\x01; c=v"], b"v"),
    "a lone quote": ([b'c="'], None),
}


@pytest.mark.parametrize(("lines", "expected"), VALUES.values(), ids=VALUES)
def test_cookie_value(lines: list[bytes], expected: bytes | None) -> None:
    assert cookie_value(lines, b"c") == expected


IDENTITIES = {
    "plain": ("http://10.0.0.1:80", ("http", "10.0.0.1:80", "")),
    "path": ("http://a/x", ("http", "a", "/x")),
    "query does not count": ("http://a/x?y=1", ("http", "a", "/x")),
    "user does not count": ("http://me:secret@a/x", ("http", "a", "/x")),
    "scheme in another case": ("HTTP://a", ("http", "a", "")),
    "junk": ("junk", ("", "", "junk")),
    "no URL": ("http://[", None),
}


@pytest.mark.parametrize(("url", "expected"), IDENTITIES.values(), ids=IDENTITIES)
def test_identity(url: str, expected: tuple[str, str, str] | None) -> None:
    assert url_identity(url) == expected


@given(st.lists(st.binary(max_size=30), max_size=3))
def test_any_cookie_header_is_read(lines: list[bytes]) -> None:
    value = cookie_value(lines, b"c")
    assert value is None or value.isascii()
    Stickiness(b"c", b"").identity(lines)


HOSTS = st.from_regex(r"[a-z0-9.-]{1,20}(:[0-9]{1,4})?", fullmatch=True)
PATHS = st.from_regex(r"(/[A-Za-z0-9._~ ,-]*){0,3}", fullmatch=True)


@given(st.sampled_from(("http", "https")), HOSTS, PATHS)
def test_what_is_set_is_understood(scheme: str, host: str, path: str) -> None:
    stickiness = Stickiness(b"name", b"; Path=/")
    line = stickiness.line(f"{scheme}://{host}{path}")
    sent_back = line.removeprefix(b"Set-Cookie: ").partition(b"; Path=")[0]
    assert stickiness.identity([b"other=1; " + sent_back]) == (scheme, host, path)
