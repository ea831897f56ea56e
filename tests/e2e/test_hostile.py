"""Hostile clients and servers: what may be refused is refused, and nothing is ever smuggled.

Each payload is followed on its connection by a request for ``/smuggled``. Whatever the proxy
says to the payload, no server may ever see that request, unless the row says the payload is legal.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import Answer, Backend, Endless, Gate, ManualServer, echoed, plain_answer
from tests.support.deadline import wait_until
from tests.support.http_client import (
    ConnectionEndedError,
    RawConnection,
    build_request,
    fetch,
    read_all_responses,
)
from tests.support.proxy_process import ProxyProcess
from tests.support.websocket import handshake, switching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Stage:
    """One proxy with every route that the payloads need."""

    def __init__(self, loop_thread: LoopThread) -> None:
        """Start servers and proxy."""
        self.echo = Backend(loop_thread, "echo")
        self.secret = Backend(loop_thread, "secret")
        self.manual = ManualServer()
        rules = {
            "a": ("Host:a", "echo"),
            "admin": ("Host:a;PathPrefix:/admin", "secret"),
            "strip": ("Host:strip;PathPrefixStrip:/foo", "echo"),
            "replace": ("Host:replace;ReplacePathRegex: ^/x(.*)$ /$1", "echo"),
            "redirect": ("Host:redirect;Path:/{any}", "echo"),
            "old": ("Host:old;ReplacePath:/new", "echo"),
            "manual": ("Host:manual", "manual"),
        }
        urls = {"echo": self.echo.url, "secret": self.secret.url, "manual": self.manual.url}
        self.proxy = ProxyProcess(
            {
                "backends": {name: {"servers": {"a": {"url": url}}} for name, url in urls.items()},
                "frontends": {
                    name: {"backend": backend, "routes": {"r": {"rule": rule}}}
                    for name, (rule, backend) in rules.items()
                },
            },
            entry_points={
                "http": {},
                "untrusting": {"forwardedHeaders": {"trustedIPs": ["10.0.0.1"]}},
            },
        )
        self.proxy.start()

    def stop(self) -> None:
        """Stop everything."""
        self.proxy.stop()
        self.echo.stop()
        self.secret.stop()
        self.manual.stop()

    def assert_well(self) -> None:
        """Fail unless the proxy still serves, and nobody was ever asked for ``/smuggled``."""
        assert echoed(self.proxy.fetch("/well", host="a")).target == b"/well"
        assert b"/smuggled" not in self.echo.received()
        assert not self.secret.requests


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    made = Stage(loop_thread)
    yield made
    made.stop()


@dataclass(frozen=True)
class Refused:
    """A payload that is refused with ``status``; then the connection closes."""

    name: str
    payload: bytes
    status: int = 400


def length(value: bytes) -> bytes:
    """A request with this Content-Length value and a body of five bytes."""
    return POST + b"Content-Length: " + value + b"\r\n\r\nhello"


def coding(value: bytes) -> bytes:
    """A request with this Transfer-Encoding value and a chunked body."""
    return POST + b"Transfer-Encoding: " + value + b"\r\n\r\n5\r\nhello\r\n0\r\n\r\n"


def header(line: bytes) -> bytes:
    """A request with this header line."""
    return GET + line + b"\r\n\r\n"


REFUSED = [
    # Lengths that int() would take, and those that are two answers to one question.
    Refused("length-plus", length(b"+5")),
    Refused("length-minus", length(b"-5")),
    Refused("length-hex", length(b"0x5")),
    Refused("length-underscore", length(b"0_5")),
    Refused("length-blank-inside", length(b"5 5")),
    Refused("length-list", length(b"5, 5")),
    Refused("length-after-a-tab", length(b"\t5")),
    Refused("length-empty", length(b"")),
    Refused("length-unicode-digit", length("\u0665".encode())),
    Refused("length-nbsp", length(b"\xa05")),
    Refused("length-too-long", length(b"9" * 40)),
    Refused("length-twice-equal", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    Refused("length-twice", POST + b"Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello"),
    Refused(
        "length-then-chunked",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Refused(
        "chunked-then-length",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    # Transfer codings.
    Refused("coding-comma-first", coding(b",chunked"), 501),
    Refused("coding-twice-in-a-list", coding(b"chunked, chunked"), 501),
    Refused(
        "coding-two-lines",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Refused(
        "coding-two-lines-identity",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    Refused("coding-unknown", coding(b"xchunked"), 501),
    Refused("coding-gzip-chunked", coding(b"gzip, chunked"), 501),
    Refused("coding-identity", coding(b"identity"), 501),
    Refused("coding-empty", coding(b""), 501),
    Refused("coding-vertical-tab", coding(b"\x0bchunked")),
    Refused("coding-next-line", coding(b"\x85chunked"), 501),
    Refused("coding-nbsp", coding(b"chunked\xa0"), 501),
    Refused("coding-quoted", coding(b'"chunked"'), 501),
    Refused("coding-parameter", coding(b"chunked;a=b"), 501),
    Refused(
        "coding-http-1.0",
        b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    # Header lines.
    Refused("nul-in-value", header(b"X-A: a\0b")),
    Refused("bare-cr-in-value", header(b"X-A: a\rX-B: b")),
    Refused("bare-lf-line-end", GET + b"X-A: a\nX-B: b\r\n\r\n"),
    Refused("bare-lf-everywhere", b"GET / HTTP/1.1\nHost: a\n\n"),
    Refused("bare-cr-everywhere", b"GET / HTTP/1.1\rHost: a\r\r"),
    Refused("cr-cr-lf", GET + b"X-A: a\r\r\n\r\n"),
    Refused("blank-before-colon", header(b"Content-Length : 5")),
    Refused("tab-before-colon", header(b"Transfer-Encoding\t: chunked")),
    Refused("folded-line", header(b"X-A: a\r\n b")),
    Refused("folded-coding", header(b"Transfer-Encoding:\r\n chunked")),
    Refused("empty-name", header(b": a")),
    Refused("no-colon", header(b"nonsense")),
    Refused("blank-before-first-header", b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    Refused("name-with-nul", header(b"X\0A: a")),
    Refused("name-with-parenthesis", header(b"X(A): a")),
    Refused("name-with-high-byte", header(b"X-\xe9: a")),
    Refused("escape-in-value", header(b"X-A: \x1b[2J")),
    Refused("delete-in-value", header(b"X-A: a\x7f")),
    # Request lines.
    Refused("version-1.32", b"GET / HTTP/1.32\r\nHost: a\r\n\r\n"),
    Refused("version-1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    Refused("version-2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    Refused("version-overflow", b"GET / HTTP/257.257\r\nHost: a\r\n\r\n"),
    Refused("version-lower-case", b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    Refused("version-missing", b"GET /\r\nHost: a\r\n\r\n"),
    Refused("version-with-tail", b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n"),
    Refused("http-2-preface-of-another-target", b"PRI / HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    Refused("method-with-bad-byte", b"GE\x01T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("method-with-high-byte", b"G\xc9T / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("method-empty", b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("two-blanks", b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("tab-for-blank", b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("blank-in-target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("control-in-target", b"GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("target-without-slash", b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("star-with-get", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("other-scheme", b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("connect", b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    Refused("connect-origin-form", b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    Refused("tls-hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    Refused("five-empty-lines", b"\r\n" * 5 + GET + b"\r\n"),
    # Hosts.
    Refused("host-missing", b"GET / HTTP/1.1\r\n\r\n"),
    Refused("host-twice", b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    Refused("host-twice-other-case", b"GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n"),
    Refused("host-userinfo", b"GET / HTTP/1.1\r\nHost: x@a\r\n\r\n"),
    Refused("host-slash", b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    Refused("host-blank", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    Refused("host-quote", b'GET / HTTP/1.1\r\nHost: "a"\r\n\r\n'),
    Refused("host-high-byte", b"GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n"),
    Refused("absolute-userinfo", b"GET http://x@a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    Refused("connection-of-many-names", header(b"Connection: " + b",".join([b"x"] * 65))),
    Refused("expectation", header(b"Expect: 200-ok"), 417),
    # Bodies.
    Refused("chunk-hex-prefix", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-plus", CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-minus", CHUNKED + b"-1\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-underscore", CHUNKED + b"0_5\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-leading-blank", CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-empty-size", CHUNKED + b"\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-not-hex", CHUNKED + b"g\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-overflow", CHUNKED + b"1" + b"0" * 16 + b"\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-bare-lf", CHUNKED + b"5\nhello\r\n0\r\n\r\n"),
    Refused("chunk-bare-cr", CHUNKED + b"5\rhello\r\n0\r\n\r\n"),
    Refused("chunk-longer-than-said", CHUNKED + b"5\r\nhelloo\r\n0\r\n\r\n"),
    Refused("chunk-garbage-for-its-end", CHUNKED + b"5\r\nhelloXX0\r\n\r\n"),
    Refused("chunk-lf-for-its-end", CHUNKED + b"5\r\nhello\n0\r\n\r\n"),
    Refused("chunk-extension-with-lf", CHUNKED + b"5;a\n=b\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-extension-with-nul", CHUNKED + b"5;a=\0\r\nhello\r\n0\r\n\r\n"),
    Refused("chunk-extension-endless", CHUNKED + b"5;" + b"x" * 70_000),
    Refused("trailer-without-colon", CHUNKED + b"0\r\nnonsense\r\n\r\n"),
    Refused("trailer-folded", CHUNKED + b"0\r\nX-A: a\r\n b\r\n\r\n"),
    Refused("trailer-bare-lf", CHUNKED + b"0\r\nX-A: a\n\r\n\r\n"),
    Refused("trailers-endless", CHUNKED + b"0\r\n" + b"X-A: aaaaaaaa\r\n" * 5000),
    # Sizes.
    Refused("head-too-large", header(b"X-A: " + b"x" * 70_000), 431),
    Refused("request-line-too-large", b"GET /" + b"x" * 70_000, 431),
    Refused("name-too-large", GET + b"x" * 70_000, 431),
    Refused("too-many-headers", header(b"\r\n".join([b"X-A: a"] * 200)), 431),
]


@pytest.mark.parametrize("refused", [pytest.param(each, id=each.name) for each in REFUSED])
def test_refused(stage: Stage, refused: Refused) -> None:
    before = len(stage.echo.requests)
    with stage.proxy.connect() as client:
        client.send_if_open(refused.payload + SMUGGLED)
        answer = client.read_response()
        assert answer.status == refused.status
        assert answer.values("Connection") == [b"close"]
        client.assert_closed()
    assert len(stage.echo.requests) == before
    stage.assert_well()


PATHS = {
    "dot-segments": "/x/../admin",
    "encoded-dot-segments": "/x/%2e%2e/admin",
    "half-encoded-dots": "/x/.%2e/admin",
    "dots-at-the-end": "/admin/..",
    "encoded-slash": "/x%2f..%2fadmin",
    "encoded-backslash": "/x%5c..%5cadmin",
    "backslash": "/x\\..\\admin",
    "encoded-nul": "/admin%00",
    "encoded-question-mark": "/x%3f",
    "encoded-hash": "/x%23",
    "encoded-semicolon": "/x%3b",
    "semicolon-dots": "/x/..;/admin",
    "fragment": "/x#/../admin",
}
"""Paths with a second meaning. Their framing is beyond doubt, so the connection may stay."""


@pytest.mark.parametrize("target", PATHS.values(), ids=PATHS.keys())
def test_paths_with_a_second_meaning(stage: Stage, target: str) -> None:
    before = len(stage.echo.requests)
    answer = stage.proxy.fetch(target, host="a")
    assert (answer.status, answer.body) == (400, b"Bad Request")
    assert len(stage.echo.requests) == before
    stage.assert_well()


@pytest.mark.parametrize(
    ("host", "target"),
    [
        pytest.param("strip", "/foo../admin", id="strip"),
        pytest.param("strip", "/foo./admin", id="strip-one-dot"),
        pytest.param("replace", "/x../admin", id="replace"),
    ],
)
def test_modifiers_cannot_make_dot_segments(stage: Stage, host: str, target: str) -> None:
    """What a modifier would turn into a path with dot segments is not found."""
    assert stage.proxy.fetch(target, host=host).status == 404
    stage.assert_well()


@dataclass(frozen=True)
class Legal:
    """A payload that looks odd and is legal: it makes one request with this body."""

    name: str
    payload: bytes
    body: bytes = b""


LEGAL = [
    Legal("blanks-around-a-length", POST + b"Content-Length:   5  \r\n\r\nhello", b"hello"),
    Legal("leading-zeros-in-a-length", POST + b"Content-Length: 005\r\n\r\nhello", b"hello"),
    Legal(
        "body-of-a-get",
        GET + b"Content-Length: 26\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\n",
    ),
    Legal("coding-in-capitals", coding(b"CHUNKED"), b"hello"),
    Legal("chunk-size-with-zeros", CHUNKED + b"00005\r\nhello\r\n000\r\n\r\n", b"hello"),
    Legal("chunk-extension", CHUNKED + b'5;a="b;c"\r\nhello\r\n0;x\r\n\r\n', b"hello"),
    Legal("length-alias", POST + b"Content_Length: 3\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    Legal(
        "coding-alias",
        POST + b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
    ),
    Legal(
        "connection-names-length",
        POST + b"Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
        b"hello",
    ),
    Legal(
        "connection-names-coding",
        POST + b"Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n0\r\n\r\n",
        b"hello",
    ),
    Legal("connection-names-host", GET + b"Connection: host\r\n\r\n"),
    Legal("four-empty-lines", b"\r\n" * 4 + GET + b"\r\n"),
    Legal("no-blank-after-colon", GET + b"X-A:b\r\n\r\n"),
    Legal("empty-value", GET + b"X-A:\r\n\r\n"),
]


@pytest.mark.parametrize("legal", [pytest.param(each, id=each.name) for each in LEGAL])
def test_legal(stage: Stage, legal: Legal) -> None:
    marker = f"/after-{legal.name}"
    with stage.proxy.connect() as client:
        client.send(legal.payload + build_request(marker, host="a"))
        seen = echoed(client.read_response())
        following = echoed(client.read_response())
    assert following.target == marker.encode()
    if seen.values("Transfer-Encoding"):
        assert not seen.values("Content-Length")
    assert not seen.values("Transfer_Encoding")
    assert not seen.values("Content_Length")
    assert len(seen.values("Host")) == 1
    last = stage.echo.requests_for("/")[-1]
    assert last.body == legal.body


def test_truncated_requests_never_complete_at_the_server(stage: Stage) -> None:
    """A client that leaves in the middle of a body makes no whole request."""
    for payload in (length(b"50"), CHUNKED + b"5\r\nhel", CHUNKED + b"5\r\nhello\r\n0\r\n"):
        before = len(stage.echo.requests)
        with stage.proxy.connect() as client:
            client.send(payload)
            client.half_close()
            client.read_to_end()
        stage.assert_well()
        assert len(stage.echo.requests) == before + 1, "only the question whether all is well"


# --- names that only a trusted party may set

SPELLINGS = [
    "X-Forwarded-For",
    "x-forwarded-for",
    "X_Forwarded_For",
    "X-Forwarded_Proto",
    "x_forwarded-host",
    "X_Real_Ip",
    "X-Real_IP",
    "X_FORWARDED_PORT",
    "X-Forwarded_Server",
    "X_Forwarded_Prefix",
]


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("connection", ["close", "{name}", "x-other"])
def test_spoofed_names_do_not_pass(stage: Stage, name: str, connection: str) -> None:
    headers = ((name, "spoofed"), ("Connection", connection.format(name=name)))
    answer = stage.proxy.fetch(host="a", headers=headers, entry_point="untrusting")
    seen = echoed(answer)
    assert b"spoofed" not in seen.head
    assert seen.values("X-Forwarded-For") == [b"127.0.0.1"]
    assert seen.values("X-Real-Ip") == [b"127.0.0.1"]
    assert seen.values("X-Forwarded-Proto") == [b"http"]
    assert seen.values("X-Forwarded-Host") == [b"a"]


@pytest.mark.parametrize("name", [name for name in SPELLINGS if "_" in name])
def test_aliases_do_not_pass_even_from_the_trusted(stage: Stage, name: str) -> None:
    seen = echoed(stage.proxy.fetch(host="a", headers=((name, "spoofed"),)))
    assert b"spoofed" not in seen.head


@pytest.mark.parametrize(
    "name",
    [
        *SPELLINGS,
        "Host",
        "Content-Length",
        "Content_Length",
        "Transfer-Encoding",
        "Authorization",
        "Cookie",
        "Connection",
        "Content-Type",
        "Upgrade",
        "Te",
    ],
)
def test_names_that_no_trailer_may_set(stage: Stage, name: str) -> None:
    """RFC 9110 section 6.5.1; spoofed forwarded names in trailers are the same attack."""
    path = f"/trailer-{name}"
    request = build_request(path, host="a", method="POST", chunks=(b"x",))
    trailers = f"{name}: spoofed\r\nX-Sum: 1\r\n\r\n".encode()
    with stage.proxy.connect() as client:
        client.send(request[:-2] + trailers)
        assert client.read_response().status == 200
    (seen,) = stage.echo.wait_for(path)
    assert seen.trailers == ((b"X-Sum", b"1"),)


# --- upgrade and CONNECT


def test_h2c_upgrade_is_not_forwarded(stage: Stage) -> None:
    headers = (
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAAQCAAAAAAIAAAAA"),
    )
    seen = echoed(stage.proxy.fetch(host="a", headers=headers))
    for name in ("Upgrade", "Connection", "HTTP2-Settings"):
        assert not seen.values(name)


def test_unasked_101_makes_no_tunnel(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        client.send(build_request(host="manual", headers=(("Upgrade", "websocket"),)))
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            server.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                b"Upgrade: websocket\r\n\r\n"
            )
            assert client.read_response().status == 500
            client.send_if_open(b"tunnelled?")
            assert b"tunnelled?" not in server.read_to_end()
    stage.assert_well()


def test_connect_does_not_poison_the_pool(stage: Stage) -> None:
    for _ in range(5):
        with stage.proxy.connect() as client:
            client.send(b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED)
            assert client.read_response().status == 405
            client.assert_closed()
        stage.assert_well()


# --- values that would split a head


def test_redirect_cannot_be_split(stage: Stage) -> None:
    answer = stage.proxy.fetch("/a%0d%0aSet-Cookie:%20x=1/", host="redirect")
    assert answer.status == 301
    assert not answer.values("Set-Cookie")
    assert answer.values("Location") == [b"/a%0D%0ASet-Cookie:%20x=1"]


def test_redirect_stays_on_the_host(stage: Stage) -> None:
    """``//evil.test/`` as a Location would lead away."""
    answer = stage.proxy.fetch("//evil.test/", host="redirect")
    location = answer.value("Location") or b""
    assert not location.startswith(b"//")


@pytest.mark.parametrize(
    ("host", "target", "name"),
    [("old", "/a%0d%0aX-Evil:%201", "X-Replaced-Path")],
)
def test_added_headers_cannot_be_split(stage: Stage, host: str, target: str, name: str) -> None:
    seen = echoed(stage.proxy.fetch(target, host=host))
    assert not seen.values("X-Evil")
    assert len(seen.values(name)) == 1


# --- servers that lie

EXTRA = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"


@dataclass(frozen=True)
class Lie:
    """What a server sends to one client; the next client must not see any of it."""

    name: str
    answer: bytes
    method: str = "GET"
    status: int = 200


LIES = [
    Lie("two-answers", plain_answer() + EXTRA),
    Lie("body-after-head", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison", method="HEAD"),
    Lie("body-after-204", b"HTTP/1.1 204 No Content\r\n\r\n" + EXTRA, status=204),
    Lie("body-after-304", b"HTTP/1.1 304 Not Modified\r\n\r\n" + EXTRA, status=304),
    Lie(
        "bytes-after-the-last-chunk",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + EXTRA,
    ),
    Lie("longer-than-said", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + b"poison" * 20),
]


@pytest.mark.parametrize("lie", [pytest.param(each, id=each.name) for each in LIES])
def test_nothing_leaks_to_the_next_client(stage: Stage, lie: Lie) -> None:
    stage.echo.on(f"/{lie.name}", Answer((lie.answer,)))
    with stage.proxy.connect() as client, stage.proxy.connect() as other:
        first = client.request(build_request(f"/{lie.name}", host="a", method=lie.method))
        assert first.status == lie.status
        for number in range(10):
            answer = other.request(build_request(f"/other-{number}", host="a"))
            assert echoed(answer).target == f"/other-{number}".encode()
        second = client.request(build_request("/mine", host="a"))
        assert echoed(second).target == b"/mine"


def test_unasked_answer_on_an_idle_connection_is_not_used(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        client.send(build_request("/one", host="manual"))
        server = stage.manual.accept()
        server.read_until(b"\r\n\r\n")
        server.send(plain_answer(b"one"))
        assert client.read_response().body == b"one"
        server.send(EXTRA)
        server.assert_closed()
        client.send(build_request("/two", host="manual"))
        with stage.manual.accept() as second:
            second.read_until(b"\r\n\r\n")
            second.send(plain_answer(b"two", "Connection: close"))
            assert client.read_response().body == b"two"


def test_answer_meant_for_a_client_that_left_goes_to_nobody(stage: Stage) -> None:
    """Its connection may not carry the next request, whether the answer had begun or not."""
    for begun in (False, True):
        gate = Gate()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n"
        parts = (head, gate, b"poison" * 33_333 + b"po") if begun else (gate, EXTRA)
        path = f"/left-{begun}"
        stage.echo.on(path, Answer(parts))
        with stage.proxy.connect() as client:
            client.send(build_request(path, host="a"))
            assert gate.reached.wait(5)
            if begun:
                assert client.read_head().status == 200
            client.reset()
        with stage.proxy.connect() as other:
            for number in range(20):
                if number == 3:
                    gate.open()
                answer = other.request(build_request(f"/innocent-{number}", host="a"))
                assert echoed(answer).target == f"/innocent-{number}".encode()
    stage.assert_well()


def send_until_closed(client: RawConnection) -> None:
    """Send more than any buffer on the way holds, or until nobody listens."""
    for _ in range(1000):
        if not client.send_if_open(b"x" * 100_000):
            break


def test_early_refusal_of_a_large_body_reaches_the_client(stage: Stage) -> None:
    refusal = plain_answer(b"too large", status="413 Payload Too Large")
    stage.echo.on("/upload", Answer((refusal,), "close", read="head"))
    for _ in range(5):
        with stage.proxy.connect() as client:
            client.send(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
            sender = threading.Thread(target=send_until_closed, args=(client,))
            sender.start()
            answer = client.read_response()
            assert (answer.status, answer.body) == (413, b"too large")
            assert answer.values("Connection") == [b"close"]
            client.close()
            sender.join(5)
    stage.assert_well()


def test_answer_before_the_whole_request_frees_no_connection(stage: Stage) -> None:
    """The rest of the body must not become the head of somebody's next request."""
    with stage.proxy.connect() as client:
        client.send(build_request("/up", host="manual", method="POST", body=b"x" * 100)[:-50])
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            server.send(plain_answer(b"enough"))
            assert client.read_response().body == b"enough"
            client.send_if_open(SMUGGLED[:50])
            assert b"GET /smuggled" not in server.read_to_end()
    stage.assert_well()


@pytest.mark.parametrize(
    ("name", "behaviour", "status"),
    [
        pytest.param("head", Endless(b"HTTP/1.1 200 OK\r\n", b"X-A: aaaaaaaa\r\n" * 50), 500),
        pytest.param("header-line", Endless(b"HTTP/1.1 200 OK\r\nX-A: ", b"a" * 4096), 500),
        pytest.param(
            "informational", Endless(b"", b"HTTP/1.1 103 Early Hints\r\nX-A: a\r\n\r\n"), 502
        ),
        pytest.param("garbage", Endless(b"", b"\xff" * 4096), 500),
    ],
)
def test_endless_heads_of_a_server(
    stage: Stage, name: str, behaviour: Endless, status: int
) -> None:
    stage.echo.on(f"/endless-{name}", behaviour)
    assert stage.proxy.fetch(f"/endless-{name}", host="a").status == status
    stage.assert_well()


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("size", b"zz\r\nhello\r\n0\r\n\r\n"),
        ("end", b"5\r\nhelloXX0\r\n\r\n"),
        ("lf", b"5\nhello\n0\n\n"),
        ("overflow", b"f" * 17 + b"\r\n"),
        ("trailer", b"0\r\nSet-Cookie\r\n\r\n"),
        ("extension", b"5;" + b"x" * 100_000),
    ],
)
def test_bad_chunks_of_a_server_cut_the_answer(stage: Stage, name: str, body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
    stage.echo.on(f"/chunks-{name}", Answer((head, 0.05, body, EXTRA)))
    with stage.proxy.connect() as client:
        client.send(build_request(f"/chunks-{name}", host="a"))
        with pytest.raises(ConnectionEndedError):
            client.read_response()
    stage.assert_well()


def test_answers_of_refused_pipelines_are_in_order(stage: Stage) -> None:
    """Good requests before a bad one are answered first; the ones after it never."""
    good = build_request("/good", host="a")
    with stage.proxy.connect() as client:
        client.send(good * 3 + b"BAD\r\n\r\n" + SMUGGLED)
        for _ in range(3):
            assert echoed(client.read_response()).target == b"/good"
        assert read_all_responses(client.read_to_end()) == [400]
    stage.assert_well()


# --- memory


def test_client_that_never_reads_costs_bounded_memory(stage: Stage) -> None:
    stage.echo.on(
        "/flood",
        Endless(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"8000\r\n%b\r\n" % (b"x" * 32768),
        ),
    )
    (worker,) = stage.proxy.worker_pids()
    before = stage.proxy.resident_kilobytes(worker)
    clients = [stage.proxy.connect(receive_buffer=4096) for _ in range(20)]
    for client in clients:
        client.send(build_request("/flood", host="a"))
    wait_until(lambda: len(stage.echo.requests_for("/flood")) == 20, "20 floods to begin")
    sent = -1

    def stalled() -> bool:
        nonlocal sent
        previous, sent = sent, sum(each.sent for each in stage.echo.connections)
        return sent == previous and echoed(stage.proxy.fetch(host="a")).target == b"/"

    wait_until(stalled, "the servers to be held back", 10)
    grown = stage.proxy.resident_kilobytes(worker) - before
    for client in clients:
        client.reset()
    assert grown < 20 * 1024, f"{grown} KB for 20 clients that do not read"
    stage.assert_well()


def test_server_that_never_reads_costs_bounded_memory(stage: Stage) -> None:
    (worker,) = stage.proxy.worker_pids()
    before = stage.proxy.resident_kilobytes(worker)
    with stage.proxy.connect() as client:
        client.send(b"POST /up HTTP/1.1\r\nHost: manual\r\nContent-Length: 1000000000\r\n\r\n")
        with stage.manual.accept():
            client.socket.settimeout(0.5)
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < 100_000_000:
                    sent += client.socket.send(b"x" * 65536)
            grown = stage.proxy.resident_kilobytes(worker) - before
    assert sent < 50_000_000
    assert grown < 8 * 1024, f"{grown} KB for a server that does not read"
    stage.assert_well()


def test_pipelined_flood_costs_bounded_memory(stage: Stage) -> None:
    """Requests that wait for the answer of the first are not read without end."""
    (worker,) = stage.proxy.worker_pids()
    before = stage.proxy.resident_kilobytes(worker)
    with stage.proxy.connect() as client:
        client.send(build_request("/wait", host="manual"))
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            client.socket.settimeout(0.5)
            sent = 0
            with pytest.raises(TimeoutError):
                while sent < 100_000_000:
                    sent += client.socket.send(build_request("/next", host="a") * 1000)
            grown = stage.proxy.resident_kilobytes(worker) - before
    assert grown < 8 * 1024, f"{grown} KB for pipelined requests"
    stage.assert_well()


def test_tunnels_that_nobody_reads_cost_bounded_memory(stage: Stage) -> None:
    """Both directions of a WebSocket are held back by the side that does not read."""
    (worker,) = stage.proxy.worker_pids()
    before = stage.proxy.resident_kilobytes(worker)
    with stage.proxy.connect(receive_buffer=4096) as client:
        client.send(handshake(host="manual"))
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            server.send(switching())
            client.read_until(b"\r\n\r\n")
            for side in (server, client):
                side.socket.settimeout(0.5)
                sent = 0
                with pytest.raises(TimeoutError):
                    while sent < 100_000_000:
                        sent += side.socket.send(b"x" * 65536)
            grown = stage.proxy.resident_kilobytes(worker) - before
    assert grown < 8 * 1024, f"{grown} KB for a tunnel that nobody reads"
    stage.assert_well()


def test_hosts_made_up_by_clients_cost_bounded_memory(stage: Stage) -> None:
    """What is remembered about Host values must not grow with what clients think of."""
    (worker,) = stage.proxy.worker_pids()
    sizes = []
    with stage.proxy.connect(seconds=20) as client:
        for turn in range(3):
            hosts = (f"{turn}-{number}-{'x' * 150}" for number in range(12_000))
            data = b"".join(build_request(host=host) for host in hosts)
            sender = threading.Thread(target=client.send_if_open, args=(data,))
            sender.start()
            for _ in range(12_000):
                assert client.read_response().status == 404
            sender.join(5)
            sizes.append(stage.proxy.resident_kilobytes(worker))
    assert sizes[-1] - sizes[0] < 8 * 1024, f"KB after each 12,000 hosts: {sizes}"


def test_idle_connections_are_cheap(stage: Stage) -> None:
    """At most 6 KB of worker memory for an idle keep-alive connection."""
    (worker,) = stage.proxy.worker_pids()
    request = build_request("/idle", host="a")
    warm = [stage.proxy.connect() for _ in range(200)]
    for client in warm:
        assert client.request(request).status == 200
    before = stage.proxy.resident_kilobytes(worker)
    more = [stage.proxy.connect() for _ in range(500)]
    for client in more:
        assert client.request(request).status == 200
    grown = stage.proxy.resident_kilobytes(worker) - before
    for client in [*warm, *more]:
        client.close()
    assert grown < 500 * 6, f"{grown / 500:.1f} KB for an idle connection"


def test_nothing_is_left_behind(stage: Stage) -> None:
    """After all of the above the worker is the one that started, and serves."""
    assert len(stage.proxy.worker_pids()) == 1
    assert "Traceback" not in stage.proxy.log()
    assert fetch(stage.proxy.port, build_request(host="a")).status == 200
    with RawConnection(stage.proxy.port) as client:
        assert echoed(client.request(build_request(host="a"))).target == b"/"
