"""Case tables of request targets: the specification's section 8.1, and Go's net/url below it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http.target import CanonicalTarget, canonical_target, encode_path, request_uri

# target: what it means, the same with and without allow_unsafe
ACCEPTED: dict[bytes, CanonicalTarget] = {
    b"*": CanonicalTarget(b"*", b"", b"", b"*"),
    b"/": CanonicalTarget(b"/", b"", b"", b"/"),
    b"//a": CanonicalTarget(b"//a", b"", b"", b"//a"),
    b"/a/b": CanonicalTarget(b"/a/b", b"", b"", b"/a/b"),
    b"/a?": CanonicalTarget(b"/a", b"", b"", b"/a"),
    b"/a??": CanonicalTarget(b"/a", b"", b"??", b"/a??"),
    b"/a?x=%zz;y": CanonicalTarget(b"/a", b"", b"?x=%zz;y", b"/a?x=%zz;y"),
    b"/a?x=/../\\%2f": CanonicalTarget(b"/a", b"", b"?x=/../\\%2f", b"/a?x=/../\\%2f"),
    b"/a?\xc3\xa9": CanonicalTarget(b"/a", b"", b"?%C3%A9", b"/a?%C3%A9"),
    b"/a%20b": CanonicalTarget(b"/a b", b"", b"", b"/a%20b"),
    b"/%41": CanonicalTarget(b"/A", b"/%41", b"", b"/%41"),
    b"/%c3%a9": CanonicalTarget(b"/\xc3\xa9", b"/%c3%a9", b"", b"/%c3%a9"),
    b"/%C3%A9": CanonicalTarget(b"/\xc3\xa9", b"", b"", b"/%C3%A9"),
    b"/\xe9": CanonicalTarget(b"/\xe9", b"/\xe9", b"", b"/%E9"),
    b"/a|b": CanonicalTarget(b"/a|b", b"/a|b", b"", b"/a%7Cb"),
    b"/<a>": CanonicalTarget(b"/<a>", b"/<a>", b"", b"/%3Ca%3E"),
    b"/a!b'(c)*": CanonicalTarget(b"/a!b'(c)*", b"/a!b'(c)*", b"", b"/a!b'(c)*"),
    b"/a!|": CanonicalTarget(b"/a!|", b"/a!|", b"", b"/a%21%7C"),
    b"/[a]": CanonicalTarget(b"/[a]", b"/[a]", b"", b"/[a]"),
    b"/$&+,:;=@~-_.": CanonicalTarget(b"/$&+,:;=@~-_.", b"", b"", b"/$&+,:;=@~-_."),
    b"/%252e%252e/": CanonicalTarget(b"/%2e%2e/", b"", b"", b"/%252e%252e/"),
    b"/.a/..b/c./...": CanonicalTarget(b"/.a/..b/c./...", b"", b"", b"/.a/..b/c./..."),
    b"/%0d%0a": CanonicalTarget(b"/\r\n", b"/%0d%0a", b"", b"/%0d%0a"),
}

# target: what it means with allow_unsafe; refused without
UNSAFE: dict[bytes, CanonicalTarget] = {
    b"/a%2Fb": CanonicalTarget(b"/a/b", b"/a%2Fb", b"", b"/a%2Fb"),
    b"/a%2fb": CanonicalTarget(b"/a/b", b"/a%2fb", b"", b"/a%2fb"),
    b"/a%5Cb": CanonicalTarget(b"/a\\b", b"", b"", b"/a%5Cb"),
    b"/a%5cb": CanonicalTarget(b"/a\\b", b"/a%5cb", b"", b"/a%5cb"),
    b"/a\\b": CanonicalTarget(b"/a\\b", b"/a\\b", b"", b"/a%5Cb"),
    b"/%00": CanonicalTarget(b"/\0", b"", b"", b"/%00"),
    b"/a%3Bb": CanonicalTarget(b"/a;b", b"/a%3Bb", b"", b"/a%3Bb"),
    b"/a%3bb": CanonicalTarget(b"/a;b", b"/a%3bb", b"", b"/a%3bb"),
    b"/a%3Fb": CanonicalTarget(b"/a?b", b"", b"", b"/a%3Fb"),
    b"/a%3fb": CanonicalTarget(b"/a?b", b"/a%3fb", b"", b"/a%3fb"),
    b"/a%23b": CanonicalTarget(b"/a#b", b"", b"", b"/a%23b"),
    b"/a#b": CanonicalTarget(b"/a#b", b"/a#b", b"", b"/a%23b"),
    b"/a?b#c": CanonicalTarget(b"/a", b"", b"?b#c", b"/a?b#c"),
    b"/.": CanonicalTarget(b"/.", b"", b"", b"/."),
    b"/..": CanonicalTarget(b"/..", b"", b"", b"/.."),
    b"/./a": CanonicalTarget(b"/./a", b"", b"", b"/./a"),
    b"/a/../b": CanonicalTarget(b"/a/../b", b"", b"", b"/a/../b"),
    b"/a/..?b": CanonicalTarget(b"/a/..", b"", b"?b", b"/a/..?b"),
    b"/%2e": CanonicalTarget(b"/.", b"/%2e", b"", b"/%2e"),
    b"/a/%2E%2e/b": CanonicalTarget(b"/a/../b", b"/a/%2E%2e/b", b"", b"/a/%2E%2e/b"),
    b"/a/.%2e": CanonicalTarget(b"/a/..", b"/a/.%2e", b"", b"/a/.%2e"),
    b"/a/..;x/b": CanonicalTarget(b"/a/..;x/b", b"", b"", b"/a/..;x/b"),
    b"/a/%2e%2e;x": CanonicalTarget(b"/a/..;x", b"/a/%2e%2e;x", b"", b"/a/%2e%2e;x"),
}

REFUSED = [b"", b"a", b"?a", b"**", b"/%", b"/%4", b"/%zz", b"/%4g", b"/a%", b"/%-1", b"/% 1"]

# (path, raw path, query, URI)
REQUEST_URIS: list[tuple[bytes, bytes, bytes, bytes]] = [
    (b"", b"", b"", b"/"),
    (b"", b"", b"?a", b"/?a"),
    (b"/a b", b"", b"", b"/a%20b"),
    (b"/a/b", b"/a%2Fb", b"?q", b"/a%2Fb?q"),
    (b"/changed", b"/a%2Fb", b"", b"/changed"),
    (b"/a", b"/a%", b"", b"/a"),
    (b"/a|b", b"/a|b", b"", b"/a%7Cb"),
    (b"/new?x=1", b"", b"", b"/new%3Fx=1"),
    (b"*", b"", b"", b"*"),
    (b"/\xff\r\n", b"", b"", b"/%FF%0D%0A"),
]


@pytest.mark.parametrize("allow_unsafe", [False, True], ids=["safe", "unsafe"])
@pytest.mark.parametrize(("target", "meaning"), ACCEPTED.items(), ids=map(ascii, ACCEPTED))
def test_accepted(target: bytes, meaning: CanonicalTarget, allow_unsafe: bool) -> None:
    assert canonical_target(target, allow_unsafe) == meaning


@pytest.mark.parametrize(("target", "meaning"), UNSAFE.items(), ids=map(ascii, UNSAFE))
def test_unsafe(target: bytes, meaning: CanonicalTarget) -> None:
    assert canonical_target(target, allow_unsafe=False) is None
    assert canonical_target(target, allow_unsafe=True) == meaning


@pytest.mark.parametrize("allow_unsafe", [False, True], ids=["safe", "unsafe"])
@pytest.mark.parametrize("target", REFUSED, ids=ascii)
def test_refused(target: bytes, allow_unsafe: bool) -> None:
    assert canonical_target(target, allow_unsafe) is None


@pytest.mark.parametrize(("path", "raw_path", "query", "uri"), REQUEST_URIS, ids=ascii)
def test_request_uri(path: bytes, raw_path: bytes, query: bytes, uri: bytes) -> None:
    assert request_uri(path, raw_path, query) == uri


@given(st.binary().map(lambda tail: b"/" + tail))
def test_encoded_path_means_the_path(path: bytes) -> None:
    meaning = canonical_target(encode_path(path), allow_unsafe=True)
    assert meaning is not None
    assert (meaning.path, meaning.raw_path, meaning.query) == (path, b"", b"")


@given(st.text("/.%2eE5cCfF;?#\\ab|\xe9", max_size=12).map(lambda tail: "/" + tail))
def test_what_is_forwarded_means_the_same_again(spelled: str) -> None:
    for allow_unsafe in (False, True):
        meaning = canonical_target(spelled.encode("latin-1"), allow_unsafe)
        if meaning is None:
            continue
        again = canonical_target(meaning.uri, allow_unsafe)
        assert again is not None
        assert (again.path, again.query, again.uri) == (meaning.path, meaning.query, meaning.uri)
        if not allow_unsafe:
            segments = meaning.path.split(b"/")
            assert not {b".", b".."} & {segment.partition(b";")[0] for segment in segments}
            assert not set(b"\\\0?#") & set(meaning.path)
