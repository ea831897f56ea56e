"""Compression (specification cases D06 to D11)."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http.answer import Answer
from kvproxy.middleware.compress import Compress, accepts_gzip
from tests.unit.middleware.requests import a_request, now

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
VARY = b"Vary: Accept-Encoding\r\n"
GZIP = (("Accept-Encoding", "gzip"),)

ACCEPTED = {
    "gzip": (("gzip",), True),
    "list": (("deflate, gzip;q=1.0, *;q=0.5",), True),
    "lines": (("deflate", "gzip"), True),
    "case": (("GZIP",), True),
    "star": (("*",), True),
    "zero": (("gzip;q=0",), False),
    "zero-long": (("gzip;q=0.000",), False),
    "small": (("gzip; q=0.001",), True),
    "zero-beats-star": (("*, gzip;q=0",), False),
    "star-zero": (("*;q=0",), False),
    "identity": (("identity",), False),
    "other": (("gzipped, br",), False),
    "nonsense": (("gzip;q=x", ";;,"), False),
    "none": ((), False),
    "empty": (("",), False),
}


@pytest.mark.parametrize(("lines", "accepted"), ACCEPTED.values(), ids=ACCEPTED)
def test_who_takes_gzip(lines: tuple[str, ...], accepted: bool) -> None:
    request = a_request(headers=[("Accept-Encoding", line) for line in lines])
    assert accepts_gzip(request) is accepted


@pytest.mark.parametrize("kind", ["application/grpc", "application/grpc+proto"])
def test_d10_grpc_is_left_alone(kind: str) -> None:
    request = a_request(headers=(("Content-Type", kind), *GZIP))
    assert now(Compress(), request) is None
    assert request.filter is None


def test_the_filter_is_set_for_everybody_else() -> None:
    compress, request = Compress(), a_request()
    assert now(compress, request) is None
    assert request.filter is compress


HEADS = {
    "D06": (HEAD, 512, GZIP, True),
    "unknown-length": (HEAD, None, GZIP, True),
    "D07": (HEAD, 511, GZIP, False),
    "D08": (HEAD + b"Content-Encoding: gzip\r\n", 600, GZIP, False),
    "D09": (HEAD, 600, (), False),
    "D09-zero": (HEAD, 600, (("Accept-Encoding", "gzip;q=0"),), False),
    "range": (HEAD + b"Content-Range: bytes 0-599/1000\r\n", 600, GZIP, False),
    "no-transform": (HEAD + b"Cache-Control: public, no-transform\r\n", 600, GZIP, False),
}


@pytest.mark.parametrize(("head", "length", "sent", "changed"), HEADS.values(), ids=HEADS)
def test_heads(
    head: bytes, length: int | None, sent: tuple[tuple[str, str], ...], changed: bool
) -> None:
    found, body = Compress().of_head(a_request(headers=sent), head, 200, length)
    assert found == head + VARY + (b"Content-Encoding: gzip\r\n" if changed else b"")
    assert (body is not None) is changed


def test_what_is_said_of_the_bytes_is_made_true() -> None:
    head = HEAD + b'ETag: "abc"\r\nAccept-Ranges: bytes\r\n'
    found, _ = Compress().of_head(a_request(headers=GZIP), head, 200, None)
    assert found == HEAD + VARY + b'Etag: W/"abc"\r\nContent-Encoding: gzip\r\n'
    weak = HEAD + b'ETag: W/"abc"\r\n'
    found, _ = Compress().of_head(a_request(headers=GZIP), weak, 200, None)
    assert found.startswith(weak)


@given(st.lists(st.binary(max_size=2000), max_size=8))
def test_each_piece_can_be_read_when_it_comes(pieces: list[bytes]) -> None:
    _, body = Compress().of_head(a_request(headers=GZIP), HEAD, 200, None)
    assert body is not None
    reader = zlib.decompressobj(31)
    for piece in pieces:
        assert reader.decompress(body.feed(piece)) == piece
    assert reader.decompress(body.finish()) == b""
    assert reader.eof


@pytest.mark.parametrize(("size", "compressed"), [(511, False), (512, True)])
def test_answers_of_the_proxy_itself(size: int, compressed: bool) -> None:
    plain = Answer(404, b"x" * size, ((b"Content-Type", b"text/plain"),))
    answer = Compress().of_answer(a_request(headers=GZIP), plain)
    assert (b"Vary", b"Accept-Encoding") in answer.headers
    assert ((b"Content-Encoding", b"gzip") in answer.headers) is compressed
    assert (gzip.decompress(answer.body) if compressed else answer.body) == plain.body


def test_answers_that_are_encoded_already_or_have_no_body() -> None:
    request = a_request(headers=GZIP)
    encoded = Answer(200, b"x" * 600, ((b"content-encoding", b"br"),))
    assert Compress().of_answer(request, encoded).body == encoded.body
    assert Compress().of_answer(request, Answer(304, b"x" * 600)).body == b"x" * 600


@given(st.lists(st.binary(max_size=60), max_size=3))
def test_any_header_says_yes_or_no(lines: list[bytes]) -> None:
    request = a_request()
    request.headers[b"accept-encoding"] = lines
    assert accepts_gzip(request) in (True, False)
