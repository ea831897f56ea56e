"""Case tables of the codec of header blocks. The sources are RFC 9113 (section 8) and RFC 8441."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import hpack
import pytest

from kvproxy.http.flags import (
    CHUNKED,
    EXPECT,
    FORWARDED,
    HEAD,
    HTTP2,
    IDEMPOTENT,
    KEEP_ALIVE,
    OPTIONS_STAR,
    PLAIN_PATH,
    UPGRADE,
)
from kvproxy.http.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    PADDED,
    PRIORITISED,
    PROTOCOL_ERROR,
    pack_header,
)
from kvproxy.http.hpack import encode_field

if TYPE_CHECKING:
    from tests.unit.http.conftest import BlockCodec, DecodedRequest

MAX_BYTES = 65536
MAX_HEADERS = 100

Fields = list[tuple[bytes, bytes]]

METHOD = (b":method", b"GET")
SCHEME = (b":scheme", b"https")
AUTHORITY = (b":authority", b"a.test")
PATH = (b":path", b"/")
GET: Fields = [METHOD, SCHEME, AUTHORITY, PATH]
POST: Fields = [(b":method", b"POST"), *GET[1:]]
TUNNEL: Fields = [(b":method", b"CONNECT"), (b":protocol", b"websocket"), *GET[1:]]


def with_path(path: bytes, method: bytes = b"GET") -> Fields:
    return [(b":method", method), SCHEME, AUTHORITY, (b":path", path)]


def with_authority(authority: bytes) -> Fields:
    return [METHOD, SCHEME, (b":authority", authority), PATH]


def encode(fields: Fields) -> bytes:
    return b"".join(itertools.starmap(encode_field, fields))


def decode(codec: BlockCodec, fields: Fields, ended: bool = True) -> DecodedRequest:
    return codec.BlockDecoder().request(encode(fields), MAX_BYTES, MAX_HEADERS, ended)


# id: (fields, answer)
REFUSED: dict[str, tuple[Fields, int]] = {
    # Names: RFC 9113, section 8.2.1.
    "empty-name": ([*GET, (b"", b"a")], PROTOCOL_ERROR),
    "upper-case-name": ([*GET, (b"x-a\x41", b"a")], PROTOCOL_ERROR),
    "name-with-space": ([*GET, (b"x a", b"a")], PROTOCOL_ERROR),
    "name-with-space-at-its-end": ([*GET, (b"x-a ", b"a")], PROTOCOL_ERROR),
    "name-with-colon": ([*GET, (b"x:a", b"a")], PROTOCOL_ERROR),
    "name-with-CRLF": ([*GET, (b"x: y\r\nz", b"a")], PROTOCOL_ERROR),
    "name-with-NUL": ([*GET, (b"x\0", b"a")], PROTOCOL_ERROR),
    "name-with-DEL": ([*GET, (b"x\x7f", b"a")], PROTOCOL_ERROR),
    "name-with-high-byte": ([*GET, (b"x\xe9", b"a")], PROTOCOL_ERROR),
    "name-with-parenthesis": ([*GET, (b"x(a)", b"a")], PROTOCOL_ERROR),
    # Values: the same section.
    "value-with-CRLF": ([*GET, (b"x", b"a\r\ny: b")], PROTOCOL_ERROR),
    "value-with-request": ([*GET, (b"x", b"a\r\n\r\nGET / HTTP/1.1")], PROTOCOL_ERROR),
    "value-with-LF": ([*GET, (b"x", b"a\nb")], PROTOCOL_ERROR),
    "value-with-CR": ([*GET, (b"x", b"a\rb")], PROTOCOL_ERROR),
    "value-with-NUL": ([*GET, (b"x", b"a\0b")], PROTOCOL_ERROR),
    "value-with-control": ([*GET, (b"x", b"a\x0bb")], PROTOCOL_ERROR),
    "value-with-DEL": ([*GET, (b"x", b"12345678\x7f")], PROTOCOL_ERROR),
    "value-with-space-before": ([*GET, (b"x", b" a")], PROTOCOL_ERROR),
    "value-with-tab-behind": ([*GET, (b"x", b"a\t")], PROTOCOL_ERROR),
    "value-of-a-space": ([*GET, (b"x", b" ")], PROTOCOL_ERROR),
    # Fields of a connection: section 8.2.2.
    "connection": ([*GET, (b"connection", b"close")], PROTOCOL_ERROR),
    "keep-alive": ([*GET, (b"keep-alive", b"timeout=5")], PROTOCOL_ERROR),
    "proxy-connection": ([*GET, (b"proxy-connection", b"close")], PROTOCOL_ERROR),
    "transfer-encoding": ([*POST, (b"transfer-encoding", b"chunked")], PROTOCOL_ERROR),
    "upgrade": ([*GET, (b"upgrade", b"h2c")], PROTOCOL_ERROR),
    "te-other-than-trailers": ([*GET, (b"te", b"trailers, deflate")], PROTOCOL_ERROR),
    # Pseudo-header fields: section 8.3.
    "unknown-pseudo-field": ([(b":test", b"ok"), *GET], PROTOCOL_ERROR),
    "pseudo-field-of-answers": ([(b":status", b"200"), *GET], PROTOCOL_ERROR),
    "pseudo-field-without-name": ([(b":", b"200"), *GET], PROTOCOL_ERROR),
    "pseudo-field-behind-others": ([*GET[:3], (b"x", b"a"), PATH], PROTOCOL_ERROR),
    "no-method": (GET[1:], PROTOCOL_ERROR),
    "no-scheme": ([METHOD, AUTHORITY, PATH], PROTOCOL_ERROR),
    "no-path": (GET[:3], PROTOCOL_ERROR),
    "no-authority": ([METHOD, SCHEME, PATH], PROTOCOL_ERROR),
    "two-methods": ([METHOD, *GET], PROTOCOL_ERROR),
    "two-schemes": ([SCHEME, *GET], PROTOCOL_ERROR),
    "two-authorities": ([AUTHORITY, *GET], PROTOCOL_ERROR),
    "two-paths": ([PATH, *GET], PROTOCOL_ERROR),
    "empty-method": ([(b":method", b""), *GET[1:]], PROTOCOL_ERROR),
    "method-with-space": (with_path(b"/", b"GET / HTTP/1.1"), PROTOCOL_ERROR),
    "method-with-CRLF": (with_path(b"/", b"G\r\nET"), PROTOCOL_ERROR),
    "other-scheme": ([METHOD, (b":scheme", b"ftp"), AUTHORITY, PATH], PROTOCOL_ERROR),
    "scheme-with-request": (
        [METHOD, (b":scheme", b"http://b.test/ HTTP/1.1\r\nX: "), AUTHORITY, PATH],
        PROTOCOL_ERROR,
    ),
    "empty-path": (with_path(b""), PROTOCOL_ERROR),
    "path-without-slash": (with_path(b"a"), PROTOCOL_ERROR),
    "absolute-path": (with_path(b"http://b.test/"), PROTOCOL_ERROR),
    "asterisk-of-GET": (with_path(b"*"), PROTOCOL_ERROR),
    "path-with-space": (with_path(b"/ HTTP/1.1"), PROTOCOL_ERROR),
    "path-with-CRLF": (with_path(b"/\r\n"), PROTOCOL_ERROR),
    "path-with-NUL": (with_path(b"/\0"), PROTOCOL_ERROR),
    "path-with-DEL": (with_path(b"/\x7f"), PROTOCOL_ERROR),
    "empty-authority": (with_authority(b""), PROTOCOL_ERROR),
    "authority-with-userinfo": (with_authority(b"user@a.test"), PROTOCOL_ERROR),
    "authority-with-slash": (with_authority(b"a.test/b"), PROTOCOL_ERROR),
    "authority-with-space": (with_authority(b"a.test b"), PROTOCOL_ERROR),
    "authority-with-CRLF": (with_authority(b"a.test\r\nX: y"), PROTOCOL_ERROR),
    "authority-with-long-port": (with_authority(b"a.test:123456"), PROTOCOL_ERROR),
    "host-that-differs": ([*GET, (b"host", b"b.test")], PROTOCOL_ERROR),
    "two-hosts": ([*GET, (b"host", b"a.test"), (b"host", b"a.test")], PROTOCOL_ERROR),
    "host-with-slash": ([METHOD, SCHEME, PATH, (b"host", b"a.test/b")], PROTOCOL_ERROR),
    # Framing: section 8.1.1.
    "length-of-letters": ([*POST, (b"content-length", b"5x")], PROTOCOL_ERROR),
    "length-with-sign": ([*POST, (b"content-length", b"+5")], PROTOCOL_ERROR),
    "empty-length": ([*POST, (b"content-length", b"")], PROTOCOL_ERROR),
    "long-length": ([*POST, (b"content-length", b"1" * 19)], PROTOCOL_ERROR),
    "two-lengths": ([*POST, *[(b"content-length", b"0")] * 2], PROTOCOL_ERROR),
    "length-without-body": ([*POST, (b"content-length", b"5")], PROTOCOL_ERROR),
    # CONNECT: section 8.5, and RFC 8441.
    "CONNECT": ([(b":method", b"CONNECT"), AUTHORITY], 405),
    "protocol-of-GET": ([*GET, (b":protocol", b"websocket")], PROTOCOL_ERROR),
    "tunnel-without-path": (TUNNEL[:4], PROTOCOL_ERROR),
    "tunnel-without-scheme": ([*TUNNEL[:2], AUTHORITY, PATH], PROTOCOL_ERROR),
    "tunnel-with-length": ([*TUNNEL, (b"content-length", b"0")], PROTOCOL_ERROR),
    "other-tunnel": ([TUNNEL[0], (b":protocol", b"connect-udp"), *GET[1:]], 501),
    # Limits, and what is not understood.
    "many-headers": ([*GET, *[(b"x", b"")] * (MAX_HEADERS - 3)], 431),
    "large-headers": ([*GET, (b"x", b"a" * MAX_BYTES)], 431),
    "malformed-and-large": ([*GET, (b"X", b"a" * MAX_BYTES)], 431),
    "bomb": ([*GET, (b"x", b"a" * (1 << 20))], ENHANCE_YOUR_CALM),
    "expectation": ([*GET, (b"expect", b"200-ok")], 417),
}


@pytest.mark.parametrize(("fields", "answer"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(codec: BlockCodec, fields: Fields, answer: int) -> None:
    assert decode(codec, fields) == answer


PLAIN = KEEP_ALIVE | HTTP2 | PLAIN_PATH
PLAIN_GET = PLAIN | IDEMPOTENT
LINE = b"GET / HTTP/1.1\r\n"
POST_LINE = b"POST / HTTP/1.1\r\n"

# id: (fields, ended, head, flags, length)
ACCEPTED: dict[str, tuple[Fields, bool, bytes, int, int]] = {
    "GET": (GET, True, LINE, PLAIN_GET, -1),
    "HEAD": (with_path(b"/", b"HEAD"), True, b"HEAD / HTTP/1.1\r\n", PLAIN_GET | HEAD, -1),
    "any-method": (with_path(b"/a", b"get"), True, b"get /a HTTP/1.1\r\n", PLAIN, -1),
    "names-as-Go-spells-them": (
        [*GET, (b"x-a", b"1"), (b"x-b-c_d-", b"")],
        True,
        LINE + b"X-A: 1\r\nX-B-C_d-: \r\n",
        PLAIN_GET,
        -1,
    ),
    "order-and-repetition-stay": (
        [*GET, (b"x", b"1"), (b"y", b"2"), (b"x", b"3")],
        True,
        LINE + b"X: 1\r\nY: 2\r\nX: 3\r\n",
        PLAIN_GET,
        -1,
    ),
    "cookie-crumbs": (
        [*GET, (b"a", b"1"), (b"cookie", b"a=1"), (b"b", b"2"), (b"cookie", b"b=2; c=3")],
        True,
        LINE + b"A: 1\r\nCookie: a=1; b=2; c=3\r\nB: 2\r\n",
        PLAIN_GET,
        -1,
    ),
    "host-alone": ([METHOD, SCHEME, PATH, (b"host", b"a.test")], True, LINE, PLAIN_GET, -1),
    "host-as-well": ([*GET, (b"host", b"A.Test")], True, LINE, PLAIN_GET, -1),
    "te": ([*GET, (b"te", b"trailers")], True, LINE + b"Te: trailers\r\n", PLAIN_GET, -1),
    "high-bytes-and-tabs": (
        [*GET, (b"x", b"\xc3\xa9\tb")],
        True,
        LINE + b"X: \xc3\xa9\tb\r\n",
        PLAIN_GET,
        -1,
    ),
    "path-with-two-meanings": (
        with_path(b"/a/../b"),
        True,
        b"GET /a/../b HTTP/1.1\r\n",
        PLAIN_GET & ~PLAIN_PATH,
        -1,
    ),
    "OPTIONS-asterisk": (
        with_path(b"*", b"OPTIONS"),
        True,
        b"OPTIONS * HTTP/1.1\r\n",
        (PLAIN_GET | OPTIONS_STAR) & ~PLAIN_PATH,
        -1,
    ),
    "body-of-known-length": (
        [*POST, (b"content-length", b"5")],
        False,
        POST_LINE + b"Content-Length: 5\r\n",
        PLAIN,
        5,
    ),
    "body-of-unknown-length": (
        POST,
        False,
        POST_LINE + b"Transfer-Encoding: chunked\r\n",
        PLAIN | CHUNKED,
        -1,
    ),
    "no-body-of-POST": (POST, True, POST_LINE + b"Content-Length: 0\r\n", PLAIN, -1),
    "length-0": (
        [*POST, (b"content-length", b"0")],
        True,
        POST_LINE + b"Content-Length: 0\r\n",
        PLAIN,
        0,
    ),
    "expect": (
        [*POST, (b"content-length", b"5"), (b"expect", b"100-Continue")],
        False,
        POST_LINE + b"Content-Length: 5\r\nExpect: 100-Continue\r\n",
        PLAIN | EXPECT,
        5,
    ),
    "idempotency-key": (
        [*POST, (b"idempotency-key", b"a")],
        True,
        POST_LINE + b"Idempotency-Key: a\r\nContent-Length: 0\r\n",
        PLAIN | IDEMPOTENT,
        -1,
    ),
    "underscored-idempotency-key": (
        [*POST, (b"idempotency_key", b"a")],
        True,
        POST_LINE + b"Idempotency_key: a\r\nContent-Length: 0\r\n",
        PLAIN,
        -1,
    ),
    "websocket": (
        [*TUNNEL, (b"sec-websocket-version", b"13")],
        False,
        LINE + b"Sec-Websocket-Version: 13\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        PLAIN_GET | UPGRADE,
        -1,
    ),
}


@pytest.mark.parametrize(
    ("fields", "ended", "head", "flags", "length"), ACCEPTED.values(), ids=ACCEPTED.keys()
)
def test_accepted(
    codec: BlockCodec, fields: Fields, ended: bool, head: bytes, flags: int, length: int
) -> None:
    path = b"*" if flags & OPTIONS_STAR else head.split(b" ")[1]
    assert decode(codec, fields, ended) == (head, b"a.test", path, flags, length, b"")


# id: (name, flags besides the usual ones)
CUT: dict[str, tuple[bytes, int]] = {
    "X-Forwarded-For": (b"x-forwarded-for", FORWARDED),
    "any of the family": (b"x-forwarded-a_b", FORWARDED),
    "X-Real-Ip": (b"x-real-ip", FORWARDED),
    "underscored": (b"x_forwarded_for", 0),
    "underscored Content-Length": (b"content_length", 0),
    "underscored Transfer-Encoding": (b"transfer_encoding", 0),
    "underscored Keep-Alive": (b"keep_alive", 0),
    "Proxy-Authorization": (b"proxy-authorization", 0),
    "Trailer": (b"trailer", 0),
}


@pytest.mark.parametrize(("name", "flags"), CUT.values(), ids=CUT.keys())
def test_what_servers_are_not_sent(codec: BlockCodec, name: bytes, flags: int) -> None:
    line = b"-".join(part[:1].upper() + part[1:] for part in name.split(b"-")) + b": v\r\n"
    answer = decode(codec, [*GET, (name, b"v")])
    assert answer == (LINE, b"a.test", b"/", PLAIN_GET | flags, -1, line)


STATUS = (b":status", b"200")

# id: (fields, answer)
RESPONSES: dict[str, tuple[Fields, int | tuple[int, bytes, int]]] = {
    "status alone": ([STATUS], (200, b"", -1)),
    "informational": ([(b":status", b"103"), (b"link", b"a")], (103, b"Link: a\r\n", -1)),
    "lines": (
        [STATUS, (b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"content-length", b"5")],
        (200, b"Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 5\r\n", 5),
    ),
    "equal lengths": (
        [STATUS, (b"content-length", b"5"), (b"content-length", b"5")],
        (200, b"Content-Length: 5\r\n", 5),
    ),
    "lengths that differ": (
        [STATUS, (b"content-length", b"5"), (b"content-length", b"6")],
        PROTOCOL_ERROR,
    ),
    "bad length": ([STATUS, (b"content-length", b"-1")], PROTOCOL_ERROR),
    "no status": ([(b"x", b"a")], PROTOCOL_ERROR),
    "nothing": ([], PROTOCOL_ERROR),
    "two statuses": ([STATUS, STATUS], PROTOCOL_ERROR),
    "status behind": ([(b"x", b"a"), STATUS], PROTOCOL_ERROR),
    "status of two digits": ([(b":status", b"20")], PROTOCOL_ERROR),
    "status of letters": ([(b":status", b"2xx")], PROTOCOL_ERROR),
    "status below 100": ([(b":status", b"099")], PROTOCOL_ERROR),
    "101": ([(b":status", b"101")], PROTOCOL_ERROR),
    "pseudo-field of requests": ([STATUS, PATH], PROTOCOL_ERROR),
    "field of a connection": ([STATUS, (b"transfer-encoding", b"chunked")], PROTOCOL_ERROR),
    "value with CRLF": ([STATUS, (b"x", b"a\r\nb: c")], PROTOCOL_ERROR),
    "upper-case name": ([STATUS, (b"X", b"a")], PROTOCOL_ERROR),
    "many headers": ([STATUS, *[(b"x", b"")] * MAX_HEADERS], 431),
}


def raw(name: bytes, value: bytes) -> bytes:
    """A literal field with the name as it is (`encode_field` trusts its callers)."""
    return b"\0%c%b%c%b" % (len(name), name, len(value), value)


@pytest.mark.parametrize(("fields", "answer"), RESPONSES.values(), ids=RESPONSES.keys())
def test_responses(codec: BlockCodec, fields: Fields, answer: int | tuple[int, bytes, int]) -> None:
    block = b"".join(itertools.starmap(raw, fields))
    assert codec.BlockDecoder().response(block, MAX_BYTES, MAX_HEADERS) == answer


# id: (fields, answer)
TRAILERS: dict[str, tuple[Fields, int | bytes]] = {
    "lines": (
        [(b"grpc-status", b"0"), (b"x-sum", b"a")],
        b"Grpc-Status: 0\r\nX-Sum: a\r\n",
    ),
    "nothing": ([], b""),
    "pseudo-field": ([STATUS], PROTOCOL_ERROR),
    "field of a connection": ([(b"connection", b"close")], PROTOCOL_ERROR),
    "what trailers must not have": (
        [
            *[(b"content-length", b"5"), (b"host", b"b.test"), (b"authorization", b"a")],
            *[(b"set-cookie", b"a"), (b"set_cookie", b"a"), (b"cookie", b"a"), (b"te", b"a")],
            *[(b"content_type", b"a"), (b"x-forwarded-for", b"a"), (b"x_real_ip", b"a")],
            *[(b"trailer", b"a"), (b"proxy-authorization", b"a"), (b"expect", b"a")],
            (b"date", b"a"),
        ],
        b"Date: a\r\n",
    ),
}


@pytest.mark.parametrize(("fields", "answer"), TRAILERS.values(), ids=TRAILERS.keys())
def test_trailers(codec: BlockCodec, fields: Fields, answer: int | bytes) -> None:
    block = b"".join(itertools.starmap(raw, fields))
    assert codec.BlockDecoder().trailers(block, MAX_BYTES, MAX_HEADERS) == answer


def read_back(block: bytes) -> Fields:
    return [(bytes(name), bytes(value)) for name, value in hpack.Decoder().decode(block, raw=True)]


def test_encode_response(codec: BlockCodec) -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nX-A:  b \t\r\nConnection: close\r\nTe: trailers\r\n"
        b"Transfer-Encoding: chunked\r\nKeep-Alive: a\r\nUpgrade: a\r\nProxy-Connection: a\r\n"
        b"SET-COOKIE: a\r\nEmpty:\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
    )
    block, end = codec.encode_response(head + b"body")
    assert end == len(head)
    assert read_back(block) == [
        *[STATUS, (b"server", b"x"), (b"x-a", b"b"), (b"set-cookie", b"a"), (b"empty", b"")],
        (b"accept-encoding", b"gzip, deflate"),
    ]
    assert block[0] == 0x88
    assert codec.encode_response(head[:-2]) == (block, len(head) - 2)


@pytest.mark.parametrize("status", [b"100", b"103", b"204", b"206", b"304", b"404", b"500", b"999"])
def test_encode_status(codec: BlockCodec, status: bytes) -> None:
    block, _ = codec.encode_response(b"HTTP/1.1 %b What\r\n\r\n" % status)
    assert read_back(block) == [(b":status", status)]


def test_encode_answer(codec: BlockCodec) -> None:
    head = b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n"
    block, _ = codec.encode_response(head)
    start = b"\0\0%c\1" % len(block)
    whole = start + b"\4\0\1\0\7" + block + b"\0\0\3\0\1\0\1\0\7abc"
    assert codec.encode_answer(head + b"abc", 65543, 3) == (whole, 3)
    assert codec.encode_answer(head + b"abc", 65543, 2) is None
    assert codec.encode_answer(head, 65543, 0) == (start + b"\5\0\1\0\7" + block, 0)
    assert codec.encode_answer(head, 65543, -1) is None
    assert codec.encode_answer(head + b"a" * 16_385, 1, 1 << 20) is None
    _, size = codec.encode_answer(head + b"a" * 16_384, 1, 1 << 20) or (b"", 0)
    assert size == 16_384
    large = b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"
    assert codec.encode_answer(large, 1, 100) is None
    with pytest.raises(ValueError, match=r"."):
        codec.encode_answer(b"HTTP/1.1 2xx\r\n\r\n", 1, 100)


def test_encode_request(codec: BlockCodec) -> None:
    head = (
        b"POST /a?b HTTP/1.1\r\nAccept: */*\r\nTe: trailers\r\nTransfer-Encoding: chunked\r\n"
        b"Cookie: a=1\r\nHost: a.test\r\n\r\n"
    )
    assert read_back(codec.encode_request(head, b"http")) == [
        *[(b":method", b"POST"), (b":scheme", b"http"), AUTHORITY, (b":path", b"/a?b")],
        *[(b"accept", b"*/*"), (b"te", b"trailers"), (b"cookie", b"a=1")],
    ]


WHOLE = END_STREAM | END_HEADERS
# id: (kind, flags, stream, payload, what is cut off at the end, block of stream 7)
FRAMES: dict[str, tuple[int, int, int, bytes, int, bytes | None]] = {
    "whole": (HEADERS, WHOLE, 7, b"abc", 0, b"abc"),
    "empty": (HEADERS, WHOLE, 7, b"", 0, b""),
    "largest": (HEADERS, WHOLE, 7, b"a" * 16_384, 0, b"a" * 16_384),
    "too large": (HEADERS, WHOLE, 7, b"a" * 16_385, 0, None),
    "unknown flags": (HEADERS, WHOLE | 0xD2, 7, b"abc", 0, b"abc"),
    "reserved bit": (HEADERS, WHOLE, 1 << 31 | 7, b"abc", 0, b"abc"),
    "of another stream": (HEADERS, WHOLE, 9, b"abc", 0, None),
    "of stream 0": (HEADERS, WHOLE, 0, b"abc", 0, None),
    "with a body": (HEADERS, END_HEADERS, 7, b"abc", 0, None),
    "to be continued": (HEADERS, END_STREAM, 7, b"abc", 0, None),
    "padded": (HEADERS, WHOLE | PADDED, 7, b"\0abc", 0, None),
    "with a priority": (HEADERS, WHOLE | PRIORITISED, 7, b"\0\0\0\0\0abc", 0, None),
    "another kind": (DATA, WHOLE, 7, b"abc", 0, None),
    "cut in its payload": (HEADERS, WHOLE, 7, b"abc", 1, None),
    "cut in its head": (HEADERS, WHOLE, 7, b"", 1, None),
    "nothing of it": (HEADERS, WHOLE, 7, b"", 9, None),
}


@pytest.mark.parametrize("case", FRAMES.values(), ids=FRAMES.keys())
@pytest.mark.parametrize("before", [0, 11])
def test_request_block(
    codec: BlockCodec, before: int, case: tuple[int, int, int, bytes, int, bytes | None]
) -> None:
    kind, flags, stream, payload, cut, block = case
    frame = pack_header(len(payload) << 8 | kind, flags, stream) + payload
    behind = b"behind" if not cut else b""
    data = b"x" * before + frame[: len(frame) - cut] + behind
    assert codec.request_block(data, before, 7) == block


@pytest.mark.parametrize("position", [-1, 4])
def test_request_block_outside(codec: BlockCodec, position: int) -> None:
    with pytest.raises(ValueError, match="position"):
        codec.request_block(b"abc", position, 1)


def test_encode_trailers(codec: BlockCodec) -> None:
    lines = b"Grpc-Status: 0\r\nX-" + b"a" * 200 + b": " + b"b" * 400 + b"\r\n"
    assert read_back(codec.encode_trailers(lines)) == [
        (b"grpc-status", b"0"),
        (b"x-" + b"a" * 200, b"b" * 400),
    ]
    assert codec.encode_trailers(b"") == b""


@pytest.mark.parametrize("name", [b"authorization", b"cookie", b"set-cookie"])
def test_credentials_are_never_indexed(codec: BlockCodec, name: bytes) -> None:
    block = codec.encode_trailers(b"%b: a\r\n" % name.title())
    (field,) = hpack.Decoder().decode(block)
    assert isinstance(field, hpack.NeverIndexedHeaderTuple)


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"\r\n",
            b"\r\n\r\n",
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 2x0 OK\r\n",
            b"HTTP/1.1 20\r\n",
        ),
        *(b"HTTP/1.1 200 OK\r\nno field\r\n", b"HTTP/1.1 200 OK\r\n: a\r\n", b"ICY 200 OK\r\n"),
    ],
)
def test_what_is_no_head(codec: BlockCodec, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.encode_response(data)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        *(b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /\r\nHost: a\r\n\r\n"),
        *(b" HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ],
)
def test_what_is_no_request(codec: BlockCodec, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.encode_request(data, b"http")


def test_equal_blocks_mean_the_same_while_the_table_does_not_change(codec: BlockCodec) -> None:
    decoder = codec.BlockDecoder()
    remembering = b"\x82\x87\x84\x41\x06a.test"
    first = decoder.request(remembering, MAX_BYTES, MAX_HEADERS, True)
    assert decoder.changes == 1
    indexed = b"\x82\x87\x84\xbe"
    for _ in range(3):
        assert decoder.request(indexed, MAX_BYTES, MAX_HEADERS, True) == first
    assert decoder.changes == 1
    decoder.request(b"\x20", MAX_BYTES, MAX_HEADERS, True)
    assert decoder.changes == 2
