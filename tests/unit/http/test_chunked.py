"""Case tables of the chunked reader (RFC 9112, section 7.1), and its fuzzer for a short while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http.chunked import MAX_SIZE_LINE, ChunkedError, ChunkedReader
from tests.fuzz import chunked as fuzzer

BEHIND = b"GET / HTTP/1.1\r\n"

# id: bytes that are refused at once, whatever may follow
REFUSED: dict[str, bytes] = {
    "size-empty": b"\r\n",
    "size-only-extension": b";a\r\n",
    "size-hexadecimal-prefix": b"0x5\r\nhello",
    "size-plus": b"+5\r\nhello",
    "size-minus": b"-5\r\nhello",
    "size-underscore": b"5_0\r\n",
    "size-space-before": b" 5\r\nhello",
    "size-space-behind": b"5 \r\nhello",
    "size-tab-behind": b"5\t\r\nhello",
    "size-letter": b"g\r\n",
    "size-longest-valid-prefix": b"5g\r\nhello",
    "size-superscript": b"\xb2\r\n",
    "size-NEL": b"5\x85\r\nhello",
    "size-16-digits": b"0000000000000005\r\nhello",
    "size-overflow": b"ffffffffffffffff5\r\n",
    "size-bare-LF": b"5\nhello\r\n",
    "size-bare-CR": b"5\rhello\r\n",
    "size-CR-CR-LF": b"5\r\r\nhello\r\n",
    "size-NUL": b"5\0\r\n",
    "size-comma": b"5,5\r\n",
    "extension-without-name": b"5;\r\nhello",
    "extension-without-value": b"5;a=\r\nhello",
    "extension-space-before": b"5 ;a\r\nhello",
    "extension-space-inside": b"5;a b\r\nhello",
    "extension-bare-LF": b"5;a\nhello\r\n",
    "extension-bare-CR": b"5;a\rb\r\nhello\r\n",
    "extension-NUL": b"5;a=\0\r\nhello",
    "extension-quote-broken": b'5;a="b"c\r\nhello',
    "extension-line-end-in-quote": b'5;a="\r\n"\r\nhello',
    "extension-too-long": b"5;" + b"a" * MAX_SIZE_LINE,
    "data-longer-than-size": b"5\r\nhelloX\r\n",
    "data-with-garbage-for-CRLF": b"5\r\nhelloXX",
    "data-with-bare-LF": b"5\r\nhello\n0\r\n",
    "data-with-bare-CR": b"5\r\nhello\r0\r\n\r\n",
    "last-chunk-with-garbage": b"0\r\nXX\r\n",
    "last-chunk-with-bare-LF": b"0\r\n\n",
    "last-chunk-with-bare-CR": b"0\r\n\rX",
    "trailer-no-colon": b"0\r\nA\r\n",
    "trailer-empty-name": b"0\r\n: b\r\n",
    "trailer-space-before-colon": b"0\r\nA : b\r\n",
    "trailer-continuation": b"0\r\nA: b\r\n c\r\n",
    "trailer-NUL": b"0\r\nA: \0\r\n",
    "trailer-bare-LF": b"0\r\nA: b\nHost: c\r\n",
    "trailer-bare-CR": b"0\r\nA: b\rHost: c\r\n",
    "trailer-high-byte-in-name": b"0\r\n\xe9: b\r\n",
    "trailers-too-large": b"0\r\n" + b"A: b\r\n" * 1366,
    "trailer-too-large-unfinished": b"0\r\nA: " + b"b" * 8190,
}

# id: (body, content, passed on)
ACCEPTED: dict[str, tuple[bytes, bytes, bytes | None]] = {
    "empty": (b"0\r\n\r\n", b"", None),
    "one-chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello", None),
    "many-chunks": (
        b"1\r\na\r\n002\r\nbc\r\nA\r\n0123456789\r\n00\r\n\r\n",
        b"abc0123456789",
        None,
    ),
    "15-digits": (b"000000000000001\r\na\r\n000000000000000\r\n\r\n", b"a", None),
    "content-that-looks-like-chunks": (b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n", None),
    "extensions": (
        b'1;a\r\nx\r\n1;a=b;c="d; \\" \xe9"\r\ny\r\n0;z=""\r\n\r\n',
        b"xy",
        None,
    ),
    "longest-size-line": (
        b"1;" + b"a" * (MAX_SIZE_LINE - 4) + b"\r\nx\r\n0\r\n\r\n",
        b"x",
        None,
    ),
    "trailers": (
        b"0\r\nGrpc-Status: 0\r\nX-A:\t\xc3\xa9 \r\nEmpty:\r\n\r\n",
        b"",
        None,
    ),
    "trailers-dropped": (
        b"1\r\na\r\n0\r\nHost: x\r\nA: b\r\nCONTENT_LENGTH: 5\r\n\r\n",
        b"a",
        b"1\r\na\r\n0\r\nA: b\r\n\r\n",
    ),
    "trailers-all-dropped": (b"0\r\nCookie: x\r\n\r\n", b"", b"0\r\n\r\n"),
    "trailers-just-small-enough": (b"0\r\n" + b"A: b\r\n" * 1365 + b"\r\n", b"", None),
}

DROPPED_TRAILERS = (
    b"Connection Keep-Alive Proxy-Connection Proxy-Authenticate Proxy-Authorization Te Trailer"
    b" Upgrade Transfer-Encoding Content-Length Content-Type Content-Encoding Content-Range Host"
    b" Expect X-Forwarded-For X-Forwarded-Anything X-Real-Ip Authorization Cookie Set-Cookie"
).split()


def read(data: bytes, decode: bool, size: int) -> tuple[bytes, bytes, bool]:
    """Feed `data` in pieces of `size` bytes: (passed on, behind, finished)."""
    reader = ChunkedReader(decode)
    out = behind = b""
    for start in range(0, len(data), size):
        passed, rest = reader.feed(data[start : start + size])
        out += passed
        behind += rest
    return out, behind, reader.finished


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1 << 16])
@pytest.mark.parametrize("decode", [False, True], ids=["pass", "decode"])
@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refused(data: bytes, decode: bool, size: int) -> None:
    with pytest.raises(ChunkedError):
        read(data, decode, size)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1 << 16])
@pytest.mark.parametrize(("data", "content", "passed"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(data: bytes, content: bytes, passed: bytes | None, size: int) -> None:
    expected = data if passed is None else passed
    assert read(data + BEHIND, False, size) == (expected, BEHIND, True)
    assert read(data + BEHIND, True, size) == (content, BEHIND, True)


@pytest.mark.parametrize("data", [row[0] for row in ACCEPTED.values()], ids=ACCEPTED.keys())
def test_every_proper_prefix_is_unfinished(data: bytes) -> None:
    step = 1 + len(data) // 500
    for missing in range(1, len(data) + 1, step):
        assert read(data[:-missing], False, 1 << 16)[1:] == (b"", False)


@pytest.mark.parametrize("name", DROPPED_TRAILERS, ids=bytes.decode)
def test_forbidden_trailer_is_dropped_in_any_spelling(name: bytes) -> None:
    for spelling in (name, name.lower(), name.upper(), name.replace(b"-", b"_")):
        data = b"0\r\nA: b\r\n%b: x\r\nC: d\r\n\r\n" % spelling
        assert read(data, False, 1 << 16) == (b"0\r\nA: b\r\nC: d\r\n\r\n", b"", True)


def test_inside_one_body_the_very_object_is_passed_on() -> None:
    reader = ChunkedReader()
    for piece in (b"a\r\n01234", b"567", b"89\r\n5\r\nhello\r\n", b"0\r\n\r\n"):
        assert reader.feed(piece)[0] is piece
    assert reader.finished


def test_decoded_content_inside_one_chunk_is_not_joined() -> None:
    reader = ChunkedReader(decode=True)
    reader.feed(b"a\r\n")
    piece = b"01234"
    assert reader.feed(piece)[0] is piece


def test_no_unfinished_line_is_passed_on() -> None:
    reader = ChunkedReader()
    assert reader.feed(b"1\r\na\r\n5;x") == (b"1\r\na\r\n", b"")
    assert reader.feed(b"=y\r\nhe") == (b"5;x=y\r\nhe", b"")


def test_bytes_after_the_end_are_all_behind() -> None:
    reader = ChunkedReader()
    reader.feed(b"0\r\n\r\n")
    assert reader.feed(BEHIND) == (b"", BEHIND)


def test_trailer_bound_is_the_callers() -> None:
    with pytest.raises(ChunkedError):
        ChunkedReader(max_trailer_bytes=7).feed(b"0\r\nAB: cd\r\n\r\n")
    assert ChunkedReader(max_trailer_bytes=8).feed(b"0\r\nAB: cd\r\n\r\n")[1] == b""


@given(st.lists(st.binary(min_size=1, max_size=40)), st.data())
def test_any_content_comes_through_any_cuts(contents: list[bytes], data: st.DataObject) -> None:
    body = b"".join(b"%X\r\n%b\r\n" % (len(c), c) for c in contents) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    assert fuzzer.read(body + BEHIND, cuts, decode=False) == (body, BEHIND)
    assert fuzzer.read(body + BEHIND, cuts, decode=True) == (b"".join(contents), BEHIND)


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=3))
def test_any_bytes_keep_the_properties(data: bytes, cuts: list[int]) -> None:
    fuzzer.check(data, sorted(min(cut, len(data)) for cut in cuts))


def test_fuzzer() -> None:
    outcomes = fuzzer.run(seed=1, inputs=10**9, seconds=3)
    assert outcomes.keys() == {"accepted", "refused", "unfinished"}
