"""Bodies that pass through a filter, whatever framing they come and leave in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http.chunked import ChunkedReader
from kvproxy.http.scan import CHUNKED_BODY, CLOSE, LENGTH
from kvproxy.proxy.request.filtered_body import FilteredBody, chunked_head, content_length


class Shout:
    """Makes everything upper case, and holds the last byte back."""

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        data = self.held + data.upper()
        self.held = data[-1:]
        return data[:-1]

    def finish(self) -> bytes:
        return self.held


@given(st.binary(max_size=300), st.booleans(), st.booleans(), st.lists(st.integers(0, 400)))
def test_any_cuts_give_the_same_body(
    body: bytes, chunked: bool, frames: bool, cuts: list[int]
) -> None:
    wire = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked and body else body
    if chunked and not body:
        wire = b"0\r\n\r\n"
    filtered = FilteredBody(Shout(), chunked=chunked, frames=frames)
    places = [0, *sorted(cut for cut in cuts if cut < len(wire)), len(wire)]
    out = b"".join(filtered.feed(wire[start:end]) for start, end in pairwise(places))
    out += filtered.finish()
    if frames:
        reader = ChunkedReader(decode=True)
        out, rest = reader.feed(out)
        assert reader.finished
        assert rest == b""
    assert out == body.upper()


def test_trailers_stay() -> None:
    filtered = FilteredBody(Shout(), chunked=True, frames=True)
    out = filtered.feed(b"2\r\nab\r\n0\r\nX-Sum: 1\r\nSet-Cookie: no\r\n\r\n") + filtered.finish()
    assert out == b"1\r\nA\r\n1\r\nB\r\n0\r\nX-Sum: 1\r\n\r\n"


@pytest.mark.parametrize(
    ("kind", "length", "piece", "framed", "ended", "known"),
    [
        (LENGTH, 7, b"abc", True, False, 7),
        (CHUNKED_BODY, 0, b"3\r\nabc\r\n", True, False, None),
        (CHUNKED_BODY, 0, b"3\r\nabc\r\n0\r\n\r\n", True, True, 3),
        (CHUNKED_BODY, 0, b"abc", False, True, 3),
        (CLOSE, 0, b"abc", True, False, None),
    ],
)
def test_what_is_known_of_the_length(
    kind: int, length: int, piece: bytes, framed: bool, ended: bool, known: int | None
) -> None:
    assert content_length(kind, length, piece, framed=framed, ended=ended) == known


def test_the_head_says_that_the_length_is_not_known() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\n"
    expected = b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n"
    assert chunked_head(head) == expected
    assert chunked_head(expected) == expected
