"""Case tables of scan_response and send."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from kvproxy.http.scan import (
    CHUNKED_BODY,
    CLOSE,
    HEAD,
    HTTP10,
    INFORMATIONAL,
    KEEP_ALIVE,
    LENGTH,
    NO_BODY,
    SPLIT,
    SWITCHING,
    UPGRADE,
)

if TYPE_CHECKING:
    from tests.unit.http.conftest import Scanner

DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
DATED = b"date: now"
OK = b"HTTP/1.1 200 OK"


def lines(*parts: bytes) -> bytes:
    return b"".join(part + b"\r\n" for part in parts)


def answer(*fields: bytes, status: bytes = OK, body: bytes = b"") -> bytes:
    """An answer with these header lines and a Date."""
    return lines(status, DATED, *fields, b"") + body


# id: answer
REFUSED: dict[str, bytes] = {
    "garbage": b"garbage\r\n",
    "empty-line-first": b"\r\nHTTP/1.1 200 OK\r\n",
    "version-2.0": b"HTTP/2.0 200 OK\r\n",
    "version-1.2": b"HTTP/1.2 200 OK\r\n",
    "version-1.10": b"HTTP/1.10 200 OK\r\n",
    "lower-case": b"http/1.1 200 OK\r\n",
    "ICY": b"ICY 200 OK\r\n",
    "status-two-digits": b"HTTP/1.1 20 OK\r\n",
    "status-four-digits": b"HTTP/1.1 2000 OK\r\n",
    "status-099": b"HTTP/1.1 099 OK\r\n",
    "status-letter": b"HTTP/1.1 2x0 OK\r\n",
    "status-superscript": b"HTTP/1.1 20\xb2 OK\r\n",
    "two-spaces-before-status": b"HTTP/1.1  200 OK\r\n",
    "tab-before-status": b"HTTP/1.1\t200 OK\r\n",
    "tab-behind-status": b"HTTP/1.1 200\tOK\r\n",
    "NUL-in-reason": b"HTTP/1.1 200 O\0K\r\n",
    "bare-LF": b"HTTP/1.1 200 OK\nA: b\n\n",
    "bare-LF-without-reason": b"HTTP/1.1 200\nA: b\n\n",
    "bare-CR": b"HTTP/1.1 200 OK\rA: b\r\n",
    "space-before-colon": b"HTTP/1.1 200 OK\r\nA : b\r\n",
    "continuation": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n",
    "no-colon": b"HTTP/1.1 200 OK\r\nA\r\n",
    "NUL-in-value": b"HTTP/1.1 200 OK\r\nA: b\0\r\n",
    "bare-LF-in-value": b"HTTP/1.1 200 OK\r\nA: b\nSet-Cookie: c\r\n",
    "length-bad": answer(b"Content-Length: 5x"),
    "length-empty": answer(b"Content-Length:"),
    "length-sign": answer(b"Content-Length: +5"),
    "length-list": answer(b"Content-Length: 5, 5"),
    "length-overflow": answer(b"Content-Length: 9999999999999999999"),
    "length-tab": answer(b"Content-Length:\t5"),
    "coding-tab": answer(b"Transfer-Encoding: chunked\t"),
    "lengths-differ": answer(b"Content-Length: 5", b"Content-Length: 6"),
    "third-length-differs": answer(*[b"Content-Length: %d" % n for n in (5, 5, 4)]),
    "second-length-bad": answer(b"Content-Length: 5", b"Content-Length: x"),
    "lengths-both-bad": answer(b"Content-Length: x", b"Content-Length: x"),
    "length-and-chunked": answer(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "coding-gzip": answer(b"Transfer-Encoding: gzip"),
    "coding-list": answer(b"Transfer-Encoding: gzip, chunked"),
    "coding-identity": answer(b"Transfer-Encoding: identity"),
    "coding-empty": answer(b"Transfer-Encoding:"),
    "coding-twice": answer(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "coding-NEL": answer(b"Transfer-Encoding: chunked\x85"),
    "coding-in-1.0": answer(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK"),
    "framing-bad-though-204": answer(b"Content-Length: x", status=b"HTTP/1.1 204 No Content"),
    "65-connection-options": answer(b"Connection: " + b",".join([b"a"] * 65)),
    "101-not-asked-for": answer(
        b"Connection: Upgrade", b"Upgrade: websocket", status=b"HTTP/1.1 101 Switching Protocols"
    ),
    "257-headers": answer(*[b"A: b"] * 256, b"Content-Length: 0"),
    "head-too-large": answer(b"A: " + b"b" * 262144),
    "head-too-large-unfinished": lines(OK) + b"A: " + b"b" * 262144,
}

# id: (answer, request flags, out, kind, remaining, reuse, status)
ACCEPTED: dict[str, tuple[bytes, int, bytes, int, int, int, int]] = {
    "length-begun": (
        answer(b"Content-Length: 5", body=b"123"),
        KEEP_ALIVE,
        answer(b"Content-Length: 5", body=b"123"),
        LENGTH,
        2,
        1,
        200,
    ),
    "length-too-much": (
        answer(b"Content-Length: 5", body=b"123456"),
        KEEP_ALIVE,
        answer(b"Content-Length: 5", body=b"12345"),
        LENGTH,
        0,
        0,
        200,
    ),
    "length-client-closes": (
        answer(b"Content-Length: 5", body=b"12345"),
        0,
        answer(b"Content-Length: 5", b"Connection: close", body=b"12345"),
        LENGTH,
        0,
        1,
        200,
    ),
    "length-server-closes": (
        answer(b"Connection: close", b"Content-Length: 5", body=b"12345"),
        KEEP_ALIVE,
        answer(b"Content-Length: 5", body=b"12345"),
        LENGTH,
        0,
        0,
        200,
    ),
    "length-1.0-closes": (
        answer(b"Content-Length: 1", status=b"HTTP/1.0 200 OK", body=b"1"),
        KEEP_ALIVE,
        answer(b"Content-Length: 1", body=b"1"),
        LENGTH,
        0,
        0,
        200,
    ),
    "split": (
        lines(OK, b"Content-Length: 5", b"Connection: x", b"") + b"12345",
        KEEP_ALIVE | SPLIT,
        lines(OK, b"Content-Length: 5") + DATE,
        LENGTH,
        5,
        1,
        200,
    ),
    "split-too-much": (
        answer(b"Content-Length: 5", body=b"123456"),
        SPLIT,
        lines(OK, DATED, b"Content-Length: 5", b"Connection: close"),
        LENGTH,
        5,
        0,
        200,
    ),
    "split-close": (
        answer(body=b"123"),
        KEEP_ALIVE | SPLIT,
        lines(OK, DATED, b"Connection: close"),
        CLOSE,
        0,
        0,
        200,
    ),
    "split-no-body": (
        answer(status=b"HTTP/1.1 304 Not Modified"),
        KEEP_ALIVE | SPLIT,
        lines(b"HTTP/1.1 304 Not Modified", DATED),
        NO_BODY,
        0,
        1,
        304,
    ),
    "close-delimited": (
        answer(b"Connection: keep-alive", body=b"123"),
        KEEP_ALIVE,
        answer(b"Connection: close", body=b"123"),
        CLOSE,
        0,
        0,
        200,
    ),
    "close-delimited-1.0-date-added": (
        lines(b"HTTP/1.0 200 Fine", b"") + b"123",
        HTTP10,
        lines(b"HTTP/1.1 200 Fine") + DATE + lines(b"Connection: close", b"") + b"123",
        CLOSE,
        0,
        0,
        200,
    ),
    "chunked": (
        answer(b"Transfer-Encoding: Chunked", b"Trailer: X-A", body=b"1\r\na\r\n"),
        KEEP_ALIVE,
        answer(b"Transfer-Encoding: Chunked", b"Trailer: X-A"),
        CHUNKED_BODY,
        0,
        1,
        200,
    ),
    "chunked-server-closes": (
        answer(b"Transfer-Encoding: chunked", b"Connection: Close"),
        KEEP_ALIVE,
        answer(b"Transfer-Encoding: chunked"),
        CHUNKED_BODY,
        0,
        0,
        200,
    ),
    "chunked-for-1.0": (
        answer(b"Transfer-Encoding: chunked", b"A: b"),
        HTTP10,
        answer(b"A: b", b"Connection: close"),
        CHUNKED_BODY,
        0,
        1,
        200,
    ),
    "HEAD-with-bytes-behind": (
        answer(b"Content-Length: 5", body=b"12345"),
        KEEP_ALIVE | HEAD,
        answer(b"Content-Length: 5"),
        NO_BODY,
        0,
        0,
        200,
    ),
    "HEAD-client-closes": (
        answer(b"Transfer-Encoding: chunked"),
        HEAD,
        answer(b"Transfer-Encoding: chunked", b"Connection: close"),
        NO_BODY,
        0,
        1,
        200,
    ),
    "204-with-length": (
        answer(b"Content-Length: 5", b"Content-Length: 5", status=b"HTTP/1.1 204 No Content"),
        KEEP_ALIVE,
        answer(status=b"HTTP/1.1 204 No Content"),
        NO_BODY,
        0,
        0,
        204,
    ),
    "204-with-coding": (
        answer(b"Transfer-Encoding: chunked", status=b"HTTP/1.1 204 No Content"),
        KEEP_ALIVE,
        answer(status=b"HTTP/1.1 204 No Content"),
        NO_BODY,
        0,
        0,
        204,
    ),
    "100": (
        lines(b"HTTP/1.1 100 Continue", b"") + b"HTTP/1.1 200 OK\r\n",
        0,
        lines(b"HTTP/1.1 100 Continue", b""),
        INFORMATIONAL,
        0,
        1,
        100,
    ),
    "103": (
        lines(b"HTTP/1.1 103 Early Hints", b"Link: x", b"Content-Length: 0", b""),
        KEEP_ALIVE,
        lines(b"HTTP/1.1 103 Early Hints", b"Link: x", b""),
        INFORMATIONAL,
        0,
        1,
        103,
    ),
    "101": (
        lines(
            b"HTTP/1.1 101 Switching Protocols",
            b"upgrade: WebSocket",
            b"Connection: upgrade, X-Gone",
            b"X-Gone: x",
            b"Sec-WebSocket-Accept: x",
            b"",
        )
        + b"\x81\x00",
        KEEP_ALIVE | UPGRADE,
        lines(
            b"HTTP/1.1 101 Switching Protocols",
            b"Sec-WebSocket-Accept: x",
            b"Connection: Upgrade",
            b"Upgrade: websocket",
            b"",
        ),
        SWITCHING,
        0,
        0,
        101,
    ),
}

# id: (answer, request flags, out): complete, and nothing closes
WHOLE: dict[str, tuple[bytes, int, bytes]] = {
    "length": (
        answer(b"Content-Length: 5", body=b"12345"),
        KEEP_ALIVE,
        answer(b"Content-Length: 5", body=b"12345"),
    ),
    "date-added": (
        lines(OK, b"Content-Length: 0", b""),
        KEEP_ALIVE,
        lines(OK, b"Content-Length: 0") + DATE + b"\r\n",
    ),
    "hop-by-hop": (
        answer(
            b"Connection: X-Foo, keep-alive",
            b"x-foo: a",
            b"Keep-Alive: 5",
            b"Proxy-Connection: a",
            b"Proxy-Authenticate: a",
            b"Te: a",
            b"Upgrade: h2c",
            b"Trailer: a",
            b"Server: b",
            b"X-Forwarded-For: c",
            b"Keep_Alive: d",
            b"Content-Length: 0",
        ),
        KEEP_ALIVE,
        answer(
            b"Trailer: a",
            b"Server: b",
            b"X-Forwarded-For: c",
            b"Keep_Alive: d",
            b"Content-Length: 0",
        ),
    ),
    "nominated-date-and-framing-stay": (
        answer(b"Connection: date, content-length", b"Content-Length: 1", body=b"1"),
        KEEP_ALIVE,
        answer(b"Content-Length: 1", body=b"1"),
    ),
    "equal-lengths-collapse": (
        answer(b"Content-Length: 5", b"A: b", b"content-length: 05", body=b"12345"),
        KEEP_ALIVE,
        answer(b"Content-Length: 5", b"A: b", body=b"12345"),
    ),
    "1.0-keep-alive": (
        answer(b"Content-Length: 0", b"Connection: Keep-Alive", status=b"HTTP/1.0 200 OK"),
        KEEP_ALIVE,
        answer(b"Content-Length: 0"),
    ),
    "HEAD": (
        answer(b"Content-Length: 5"),
        KEEP_ALIVE | HEAD,
        answer(b"Content-Length: 5"),
    ),
    "204": (
        answer(status=b"HTTP/1.1 204 No Content"),
        KEEP_ALIVE,
        answer(status=b"HTTP/1.1 204 No Content"),
    ),
    "204-with-length-0": (
        answer(b"Content-Length: 0", status=b"HTTP/1.1 204 No Content"),
        KEEP_ALIVE,
        answer(status=b"HTTP/1.1 204 No Content"),
    ),
    "304-with-length": (
        answer(b"Content-Length: 5", status=b"HTTP/1.1 304 Not Modified"),
        KEEP_ALIVE,
        answer(b"Content-Length: 5", status=b"HTTP/1.1 304 Not Modified"),
    ),
    "reason-kept": (
        answer(b"Content-Length: 0", status=b"HTTP/1.1 299 \tOdd \xe9 "),
        KEEP_ALIVE,
        answer(b"Content-Length: 0", status=b"HTTP/1.1 299 \tOdd \xe9 "),
    ),
    "reason-empty": (
        answer(b"Content-Length: 0", status=b"HTTP/1.1 200 "),
        KEEP_ALIVE,
        answer(b"Content-Length: 0", status=b"HTTP/1.1 200 "),
    ),
    "reason-absent": (
        answer(b"Content-Length: 0", status=b"HTTP/1.1 200"),
        KEEP_ALIVE,
        answer(b"Content-Length: 0", status=b"HTTP/1.1 200"),
    ),
    "upgrade-refused": (
        answer(b"Content-Length: 0", b"Upgrade: websocket", status=b"HTTP/1.1 426 Upgrade"),
        KEEP_ALIVE | UPGRADE,
        answer(b"Content-Length: 0", status=b"HTTP/1.1 426 Upgrade"),
    ),
}

# id: answers of status 101 that must not open a tunnel although the client asked for one
BAD_SWITCHES: dict[str, bytes] = {
    "other-protocol": b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "no-protocol": b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_refused(scanner: Scanner, data: bytes) -> None:
    assert scanner.scan_response(data, KEEP_ALIVE, DATE) == 500


@pytest.mark.parametrize("data", BAD_SWITCHES.values(), ids=BAD_SWITCHES.keys())
def test_no_tunnel(scanner: Scanner, data: bytes) -> None:
    assert scanner.scan_response(data, KEEP_ALIVE | UPGRADE, DATE) == 500


@pytest.mark.parametrize(
    ("data", "flags", "out", "kind", "remaining", "reuse", "status"),
    ACCEPTED.values(),
    ids=ACCEPTED.keys(),
)
def test_accepted(
    scanner: Scanner,
    data: bytes,
    flags: int,
    out: bytes,
    kind: int,
    remaining: int,
    reuse: int,
    status: int,
) -> None:
    end = data.index(b"\r\n\r\n") + 4
    expected = (out, kind, remaining, end, reuse, status)
    assert scanner.scan_response(data, flags, DATE) == expected


@pytest.mark.parametrize(("data", "flags", "out"), WHOLE.values(), ids=WHOLE.keys())
def test_whole(scanner: Scanner, data: bytes, flags: int, out: bytes) -> None:
    assert scanner.scan_response(data, flags, DATE) == out


@pytest.mark.parametrize(
    "data",
    [row[0] for row in (*ACCEPTED.values(), *WHOLE.values())],
    ids=[*ACCEPTED.keys(), *WHOLE.keys()],
)
def test_every_proper_prefix_is_incomplete(scanner: Scanner, data: bytes) -> None:
    for end in range(data.index(b"\r\n\r\n") + 4):
        assert scanner.scan_response(data[:end], KEEP_ALIVE, DATE) is None


def test_send_all(scanner: Scanner) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        assert scanner.send(left.fileno(), b"data") is None
        assert right.recv(10) == b"data"


def test_send_part_then_nothing(scanner: Scanner) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        data = bytes(1 << 24)
        written = scanner.send(left.fileno(), data)
        assert written is not None
        assert 0 < written < len(data)
        while written:
            written = scanner.send(left.fileno(), data)
            assert written is not None
        received = 0
        right.setblocking(False)
        with pytest.raises(BlockingIOError):
            while chunk := right.recv(1 << 20):
                received += len(chunk)
        assert scanner.send(left.fileno(), b"data") is None
        assert received > 0


def test_send_to_dead_socket(scanner: Scanner) -> None:
    left, right = socket.socketpair()
    right.close()
    with left:
        left.setblocking(False)
        assert scanner.send(left.fileno(), b"data") == 4


def test_send_to_closed_descriptor(scanner: Scanner) -> None:
    assert scanner.send(-1, b"data") == 4
