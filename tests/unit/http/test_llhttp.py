"""The head scanner against llhttp, an independent parser.

Whatever kvproxy accepts and forwards, llhttp accepts, with the same method, target, headers and
framing. Where kvproxy refuses what llhttp accepts, a row of STRICTER says why. The other way round,
llhttp refuses two things that kvproxy accepts: methods it has not heard of, and raw bytes above
0x7F in a target, which kvproxy encodes before it forwards them.
"""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import httptools
import pytest

from kvproxy.http import scan
from kvproxy.http.scan import (
    ABSOLUTE,
    CHUNKED,
    KEEP_ALIVE,
    LENGTH,
    SPLIT,
    UPGRADE,
    scan_request,
    scan_response,
)
from kvproxy.http.target import canonical_target
from tests.fuzz.scan import DATE, Maker

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 65536
MAX_HEADERS = 128
KNOWN_METHODS = frozenset(
    b"GET HEAD POST PUT DELETE OPTIONS TRACE PATCH PROPFIND M-SEARCH NOTIFY PURGE SEARCH".split()
)


class Parsed:
    """What llhttp makes of a request: of the first one, when several follow each other."""

    def __init__(self, data: bytes) -> None:
        self.method = b""
        self.target = b""
        self.status = 0
        self.version = ""
        self.keep_alive = False
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_complete = False
        self.complete = False
        self.body = b""
        self.refused = False
        self.upgrade = False
        self._parser = self.make_parser()
        self.feed(data)

    def make_parser(self) -> httptools.HttpRequestParser | httptools.HttpResponseParser:
        return httptools.HttpRequestParser(self)

    def feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.upgrade = True
        except httptools.HttpParserError:
            self.refused = True

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]

    def on_url(self, url: bytes) -> None:
        if not self.head_complete:
            self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:
            self.headers.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if not self.head_complete:
            self.head_complete = True
            if isinstance(self._parser, httptools.HttpRequestParser):
                self.method = self._parser.get_method()
            else:
                self.status = self._parser.get_status_code()
            self.version = self._parser.get_http_version()
            self.keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


class ParsedResponse(Parsed):
    """What llhttp makes of an answer."""

    def make_parser(self) -> httptools.HttpResponseParser:
        return httptools.HttpResponseParser(self)


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """The header lines of a well-formed head without its empty line, in the plainest way."""
    lines = head.split(b"\r\n")[1:-1]
    return [(name, value.strip(b" \t")) for name, _, value in (x.partition(b":") for x in lines)]


_HOST = re.compile(rb"(\[[\w:.%~-]+\]|[\w.~!$&'()*+,;=%-]*)(:\d{0,5})?", re.ASCII)
_HTTP_TARGET = re.compile(rb"https?://[^/?#]", re.IGNORECASE)

# id: (why kvproxy refuses, an example with the status, which requests the row is about)
STRICTER: dict[str, tuple[str, bytes, int, Callable[[Parsed, bytes], bool]]] = {
    "version": (
        "only HTTP/1.0 and HTTP/1.1 are spoken",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        505,
        lambda parsed, _: parsed.version not in ("1.0", "1.1"),
    ),
    "HTTP/0.9": (
        "a request line has a version",
        b"GET /\r\n\r\n",
        400,
        lambda _, data: re.match(rb"(\r\n)*+[^\r\n ]+ [^\r\n ]+\r\n", data) is not None,
    ),
    "spaces in a request line": (
        "RFC 9112, 3: exactly one between its parts",
        b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        lambda _, data: data.lstrip(b"\r\n").partition(b"\r\n")[0].count(b" ") != 2,
    ),
    "CONNECT": (
        "kvproxy opens no tunnel by CONNECT",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        405,
        lambda parsed, _: parsed.method == b"CONNECT",
    ),
    "host": (
        "RFC 9112, 3.2: exactly one Host",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        400,
        lambda parsed, _: len(parsed.values(b"host")) != (1 if parsed.version == "1.1" else 0),
    ),
    "host value": (
        "RFC 9112, 3.2: a valid Host; RFC 9110, 4.2.4: no user information",
        b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        400,
        lambda parsed, _: not all(map(_HOST.fullmatch, parsed.values(b"host"))),
    ),
    "authority": (
        "RFC 9110, 4.2.4: no user information; a host that is no host",
        b"GET http://user@a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        lambda parsed, _: (
            _HTTP_TARGET.match(parsed.target) is not None
            and not _HOST.fullmatch(re.split(rb"[/?]", parsed.target)[2])
        ),
    ),
    "target form": (
        "RFC 9112, 3.2: origin-form, http or https in absolute-form, `*` only of OPTIONS",
        b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        lambda parsed, _: (
            not (
                parsed.target.startswith(b"/")
                or _HTTP_TARGET.match(parsed.target)
                or (parsed.target == b"*" and parsed.method == b"OPTIONS")
            )
        ),
    ),
    "length": (
        "a bound that no arithmetic overflows",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000000005\r\n\r\n",
        400,
        lambda parsed, _: any(len(value) > 18 for value in parsed.values(b"content-length")),
    ),
    "coding": (
        "RFC 9112, 6.1: a coding that is not understood is refused, here all but chunked",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        501,
        lambda parsed, _: (
            [v.lower() for v in parsed.values(b"transfer-encoding")] not in ([], [b"chunked"])
        ),
    ),
    "tab in a framing line": (
        "the coding with a tab behind it is another coding for some, llhttp among them",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\t\r\n\r\n",
        400,
        lambda _, data: (
            re.search(rb"(?i)\n(content-length|transfer-encoding):[^\r\n]*\t", data) is not None
        ),
    ),
    "coding of HTTP/1.0": (
        "RFC 9112, 6.1: its framing is faulty",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        400,
        lambda parsed, _: parsed.version == "1.0" and parsed.values(b"transfer-encoding") != [],
    ),
    "expectation": (
        "RFC 9110, 10.1.1: an unknown expectation is answered with 417",
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n",
        417,
        lambda parsed, _: any(v.lower() != b"100-continue" for v in parsed.values(b"expect")),
    ),
    "number of headers": (
        "bounded",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * MAX_HEADERS + b"\r\n",
        431,
        lambda parsed, _: len(parsed.headers) > MAX_HEADERS,
    ),
    "number of connection options": (
        "bounded",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: a" + b",a" * 64 + b"\r\n\r\n",
        400,
        lambda parsed, _: b",".join(parsed.values(b"connection")).count(b",") >= 64,
    ),
    "empty lines before a request": (
        "bounded",
        b"\r\n" * 5 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        lambda _, data: data.startswith(b"\r\n" * 5),
    ),
    "bare line ends before a request": (
        "RFC 9112, 2.2 asks only for CRLF to be skipped",
        b"\n\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        lambda _, data: re.match(rb"(?:\r\n)*+[\r\n]", data) is not None,
    ),
}


@pytest.mark.parametrize(
    ("data", "status", "concerns"), [row[1:] for row in STRICTER.values()], ids=STRICTER.keys()
)
def test_stricter(data: bytes, status: int, concerns: Callable[[Parsed, bytes], bool]) -> None:
    parsed = Parsed(data)
    assert parsed.head_complete
    assert not parsed.refused
    assert concerns(parsed, data)
    assert scan_request(data, MAX_BYTES, MAX_HEADERS) == status


def compare_accepted(data: bytes) -> bool:
    """Compare an accepted request and what is forwarded; False when it is refused after all."""
    answer = scan_request(data, MAX_BYTES, MAX_HEADERS)
    assert isinstance(answer, tuple)
    head, host, target, flags, length, end = answer
    canonical = canonical_target(target, allow_unsafe=True)
    if canonical is None:
        return False
    method = head.partition(b" ")[0]
    if method in KNOWN_METHODS and target.isascii():
        original = Parsed(data[:end])
        assert original.head_complete
        assert original.method == method
        spelled = original.target
        if flags & ABSOLUTE:
            absolute = re.fullmatch(rb"(?i:https?)://([^/?#]+)(.*)", spelled)
            assert absolute is not None
            assert absolute[1] == host
            spelled = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
        assert target == spelled
        assert original.headers == fields_of(data[: end - 2].lstrip(b"\r\n"))
        # To llhttp, Proxy-Connection is another Connection.
        if flags & KEEP_ALIVE and not original.values(b"proxy-connection"):
            assert original.keep_alive
    if method not in KNOWN_METHODS:
        head = b"POST" + head[len(method) :]
        method = b"POST"
    head = head.replace(target, canonical.uri, 1)
    body = b"5\r\nhello\r\n0\r\n\r\n" if flags & CHUNKED else b"x" * min(length, 1000)
    content = b"hello" if flags & CHUNKED else body
    forwarded = Parsed(head + b"Host: " + host + b"\r\n\r\n")
    assert forwarded.head_complete
    assert forwarded.complete == (not body)
    assert forwarded.upgrade == bool(flags & UPGRADE)
    if body:
        forwarded.feed(body[:-1])
        assert not forwarded.complete
        forwarded.feed(body[-1:])
        assert forwarded.complete == (length <= 1000), (head, body)
    assert forwarded.body == content
    assert not forwarded.refused
    assert (forwarded.method, forwarded.target) == (method, canonical.uri)
    assert forwarded.headers == [*fields_of(head), (b"Host", host)]
    return True


def test_random_requests() -> None:
    rng = random.Random(7)
    maker = Maker(rng)
    compared = refused = 0
    for _ in range(20_000):
        data = maker.request()
        answer = scan_request(data, MAX_BYTES, MAX_HEADERS)
        if isinstance(answer, tuple):
            compared += compare_accepted(data)
            continue
        parsed = Parsed(data)
        if answer is None:
            assert not parsed.head_complete, data
        elif parsed.head_complete:
            reasons = [name for name, row in STRICTER.items() if row[3](parsed, data)]
            assert reasons, data
            refused += 1
    assert compared > 3_000
    assert refused > 1_000


def compare_accepted_response(data: bytes) -> None:
    """Compare an accepted answer and what is forwarded of it."""
    answer = scan_response(data, KEEP_ALIVE | UPGRADE | SPLIT, DATE)
    assert isinstance(answer, tuple)
    head, kind, length, end, reuse, status = answer
    fields = fields_of(data[: end - 2])
    # Equal lengths may be collapsed to one: RFC 9110, section 8.6.
    if [name.lower() for name, _ in fields].count(b"content-length") < 2:
        original = ParsedResponse(data[:end])
        assert original.head_complete
        assert original.status == status
        assert original.headers == fields
        # To llhttp, Proxy-Connection is another Connection.
        if reuse and kind == LENGTH and not original.values(b"proxy-connection"):
            assert original.keep_alive
    forwarded = ParsedResponse(head + b"\r\n")
    assert forwarded.head_complete
    assert forwarded.headers == fields_of(head)
    assert not forwarded.refused
    match kind:
        case scan.NO_BODY | scan.INFORMATIONAL:
            assert forwarded.complete
        case scan.SWITCHING:
            assert forwarded.upgrade
        case scan.CHUNKED_BODY:
            forwarded.feed(b"5\r\nhello\r\n0\r\n\r")
            assert not forwarded.complete
            forwarded.feed(b"\n")
            assert (forwarded.complete, forwarded.body) == (True, b"hello")
        case scan.CLOSE:
            forwarded.feed(b"hello")
            assert (forwarded.complete, forwarded.body) == (False, b"hello")
            assert not forwarded.keep_alive
        case _:
            forwarded.feed(b"x" * min(length, 1000))
            assert forwarded.complete == (length <= 1000)
            assert len(forwarded.body) == min(length, 1000)


def test_random_responses() -> None:
    rng = random.Random(7)
    maker = Maker(rng)
    compared = 0
    for _ in range(10_000):
        data = maker.response()
        answer = scan_response(data, KEEP_ALIVE | UPGRADE, DATE)
        if answer is not None and not isinstance(answer, int):
            compare_accepted_response(data)
            compared += 1
    assert compared > 3_000
