"""Clients that speak HTTP/2, in clear and over TLS, in front of servers that speak HTTP/1.1."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import h2.events
import pytest

from tests.support.backend import (
    Answer,
    Backend,
    Endless,
    Gate,
    ReservedPort,
    parse_request_head,
    plain_answer,
)
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.http2_backend import Http2Backend
from tests.support.http2_client import FrameClient, LibraryClient, Reply
from tests.support.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GET,
    HEADERS,
    INTERNAL_ERROR,
    NO_ERROR,
    PING,
    PING_FRAME,
    POST,
    PREFACE,
    RST_STREAM,
    Body,
    Ended,
    Fields,
    Goaway,
    Pong,
    Question,
    Reset,
    Settings,
    block,
    data,
    frame,
    headers,
    rst_stream,
    settings,
    window_update,
)
from tests.support.proxy_process import ProxyProcess
from tests.support.tls_client import connect
from tests.support.websocket import TEXT, WebSocketServer
from tests.support.websocket import frame as websocket_frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.backend import LoopThread, ServerRequest

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE = os.urandom(1 << 20)


class Stage:
    """One proxy, and servers whose backends are named by the first label of the host."""

    def __init__(self, loop_thread: LoopThread) -> None:
        self.gate = Gate()
        script = {
            "/large": Answer((plain_answer(LARGE),)),
            "/chunked": Answer((CHUNKED + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",)),
            "/trailers": Answer((CHUNKED + b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n",)),
            "/late-trailers": Answer((CHUNKED, 0.05, b"3\r\nabc\r\n", 0.05, b"0\r\nX: y\r\n\r\n")),
            "/until-close": Answer((b"HTTP/1.1 200 OK\r\n\r\nabc",), after="close"),
            "/204": Answer((b"HTTP/1.1 204 No Content\r\n\r\n",)),
            "/304": Answer((b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",)),
            "/hints": Answer(
                (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", plain_answer(b"after"))
            ),
            "/head": Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",)),
            "/hop": Answer(
                (plain_answer(b"ok", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: a", "X-B: 2"),)
            ),
            "/broken": Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",), after="close"),
            "/silent": Answer((), after="close"),
            "/malformed": Answer((b"HTTP/1.1 200 OK\r\nBad Line\r\n\r\n",)),
            "/hold": Answer((), after="hang"),
            "/early": Answer((plain_answer(b"early"),), read="head", after="hang"),
            "/gate": Answer((CHUNKED, b"3\r\nabc\r\n", self.gate, b"3\r\ndef\r\n0\r\n\r\n")),
            "/endless": Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 65536),
            "/many": Answer((plain_answer(b"ok", "X-H: " + "a" * 40_000),)),
        }
        self.server = Backend(loop_thread, script=script)
        self.http2 = Http2Backend(loop_thread)
        self.websocket = WebSocketServer(loop_thread)
        self.dead = ReservedPort()
        self.pair = authority().issue("a.test")
        urls = {
            "a": self.server.url,
            "two": self.http2.url,
            "ws": self.websocket.url,
            "dead": f"http://127.0.0.1:{self.dead.port}",
        }
        self.routes: dict[str, Any] = {
            "backends": {name: {"servers": {"s": {"url": url}}} for name, url in urls.items()},
            "frontends": {
                name: {
                    "backend": name,
                    "passHostHeader": True,
                    "routes": {"r": {"rule": f"Host:{name}.test"}},
                }
                for name in urls
            },
        }
        self.proxy = ProxyProcess(
            self.routes,
            entry_points={"http": {}, "https": {"tls": {"certificates": [self.pair.option()]}}},
        )
        self.proxy.start()
        self.tls = authority().client_context(protocols=("h2", "http/1.1"))

    def stop(self) -> None:
        self.proxy.stop()
        for server in (self.server, self.http2, self.websocket):
            server.stop()
        self.dead.close()

    def client(self, way: str = "http", **options: bool) -> LibraryClient:
        return LibraryClient(self.proxy.ports[way], self.tls if way == "https" else None, **options)

    def frames(self, way: str = "http") -> FrameClient:
        return FrameClient(self.proxy.ports[way], self.tls if way == "https" else None)


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    made = Stage(loop_thread)
    yield made
    made.stop()


@pytest.fixture(params=["http", "https"])
def client(request: pytest.FixtureRequest, stage: Stage) -> Iterator[LibraryClient]:
    """A client on each entry point in turn."""
    with stage.client(request.param) as made:
        yield made


def asked(reply: Reply) -> ServerRequest:
    """The request that the server has echoed."""
    assert reply.status == 200, reply
    head, mark, _ = reply.body.partition(b"\r\n\r\n")
    return parse_request_head(head + mark)


def test_a_request_becomes_one_of_http_1_1(client: LibraryClient) -> None:
    request = asked(
        client.fetch(
            b"/x?y=1",
            (b"x-lower", b"1"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
            (b"te", b"trailers"),
            (b"x-forwarded-for", b"6.6.6.6"),
        )
    )
    assert (request.method, request.target, request.version) == (b"GET", b"/x?y=1", b"HTTP/1.1")
    assert request.value("Host") == b"a.test"
    assert request.value("Cookie") == b"a=1; b=2"
    assert request.value("Te") == b"trailers"
    assert request.value("X-Forwarded-For") == b"6.6.6.6, 127.0.0.1"
    assert b"X-Lower: 1\r\n" in request.head
    assert request.values("Transfer-Encoding") == []


@pytest.mark.parametrize("way", ["http", "https"])
def test_the_scheme_is_that_of_the_entry_point(stage: Stage, way: str) -> None:
    with stage.client(way) as client:
        request = asked(client.fetch())
        assert request.value("X-Forwarded-Proto") == way.encode()


# id: (path, status, body)
ANSWERS: dict[str, tuple[bytes, int, bytes]] = {
    "large": (b"/large", 200, LARGE),
    "chunked": (b"/chunked", 200, b"abcdefg"),
    "until the server closes": (b"/until-close", 200, b"abc"),
    "204": (b"/204", 204, b""),
    "304": (b"/304", 304, b""),
    "no answer": (b"/silent", 502, b"Bad Gateway"),
    "malformed answer": (b"/malformed", 500, b"Internal Server Error"),
}


@pytest.mark.parametrize(("path", "status", "body"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers(client: LibraryClient, path: bytes, status: int, body: bytes) -> None:
    for _ in range(2):
        reply = client.fetch(path)
        assert (reply.status, reply.body, reply.ended) == (status, body, True)
        assert reply.value(b"date") is not None
        assert reply.value(b"transfer-encoding") is None


def test_answers_of_the_proxy_itself(client: LibraryClient) -> None:
    missing = client.fetch(host=b"nobody.test")
    assert (missing.status, missing.body) == (404, b"404 page not found\n")
    assert client.fetch(host=b"dead.test").status == 502
    assert client.fetch(b"/a%2fb").status == 400
    assert client.fetch(b"*", method=b"OPTIONS").status == 200
    large = client.ask(b"/", *[(b"x-%d" % i, b"a" * 1000) for i in range(70)])
    assert client.wait(large).status == 431
    assert client.fetch().status == 200


def test_head(client: LibraryClient) -> None:
    reply = client.fetch(b"/head", method=b"HEAD")
    assert (reply.value(b"content-length"), reply.body) == (b"1234", b"")


@pytest.mark.parametrize("path", [b"/trailers", b"/late-trailers"])
def test_trailers_of_an_answer(client: LibraryClient, path: bytes) -> None:
    reply = client.fetch(path)
    expected = [(b"x-sum", b"1")] if path == b"/trailers" else [(b"x", b"y")]
    assert (reply.body, reply.trailers) == (b"abc", expected)


def test_interim_answers(client: LibraryClient) -> None:
    reply = client.fetch(b"/hints")
    assert [(b"link", b"</a>") in fields for fields in reply.informational] == [True]
    assert (reply.status, reply.body) == (200, b"after")


def test_what_speaks_of_a_connection_stays_behind(client: LibraryClient) -> None:
    reply = client.fetch(b"/hop")
    names = [name for name, _ in reply.fields]
    assert b"x-b" in names
    assert not {b"x-hop", b"keep-alive", b"connection"}.intersection(names)


def test_large_heads_both_ways(client: LibraryClient) -> None:
    more = [(b"x-%d" % i, os.urandom(400).hex().encode()) for i in range(40)]
    request = asked(client.fetch(b"/", *more))
    for name, value in more:
        assert request.value(name.decode()) == value
    assert len(client.fetch(b"/many").value(b"x-h") or b"") == 40_000


@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
def test_request_bodies(client: LibraryClient, length: bool) -> None:
    more = [(b"content-length", b"%d" % len(LARGE))] * length
    stream = client.ask(b"/body", *more, method=b"POST", ended=False)
    client.upload(stream, LARGE)
    reply = client.wait(stream)
    head, _, body = reply.body.partition(b"\r\n\r\n")
    assert body == LARGE
    framing = b"Content-Length: %d" % len(LARGE) if length else b"Transfer-Encoding: chunked"
    assert framing in head.split(b"\r\n")


def test_trailers_of_a_request(stage: Stage, client: LibraryClient) -> None:
    stream = client.ask(b"/with-trailers", method=b"POST", ended=False)
    client.upload(stream, b"abc", ended=False)
    client.library.send_headers(stream, [(b"x-sum", b"1"), (b"x-real-ip", b"1")], end_stream=True)
    client.flush()
    assert client.wait(stream).status == 200
    request = stage.server.requests_for("/with-trailers")[-1]
    assert (request.body, request.trailers) == (b"abc", ((b"X-Sum", b"1"),))


def test_a_body_that_waits_for_100(client: LibraryClient) -> None:
    more = [(b"content-length", b"3"), (b"expect", b"100-continue")]
    stream = client.ask(b"/expect", *more, method=b"POST", ended=False)
    reply = client.replies[stream]
    client.wait_until(lambda: bool(reply.informational), "100")
    client.upload(stream, b"abc")
    assert client.wait(stream).body.endswith(b"abc")


def test_an_answer_before_the_end_of_the_request(client: LibraryClient) -> None:
    stream = client.ask(b"/early", (b"content-length", b"9000000"), method=b"POST", ended=False)
    reply = client.wait(stream)
    assert (reply.status, reply.body) == (200, b"early")
    client.wait_until(lambda: reply.reset is not None, "reset")
    assert reply.reset == NO_ERROR
    assert client.fetch().status == 200


NOBODY: Fields = [(b":method", b"POST"), *GET[1:2], (b":authority", b"nobody.test"), GET[3]]


def test_a_refused_request_is_taken_for_a_moment(stage: Stage) -> None:
    """A reset that followed the answer at once would make curl throw it away."""
    with stage.frames() as client:
        client.send(headers(NOBODY, flags=END_HEADERS) + data(b"a" * 1000, flags=0) + PING_FRAME)
        client.expect(Ended())
        client.expect(Pong())
        assert RST_STREAM not in [each.kind for each in client.passed]
        client.expect(Reset((NO_ERROR,)))
        client.send(headers(GET, 3))
        client.expect(Ended(3))


@pytest.mark.parametrize("end", [data(b""), headers([(b"a", b"b")])], ids=["body", "trailers"])
def test_a_refused_request_that_ends_is_not_reset(stage: Stage, end: bytes) -> None:
    with stage.frames() as client:
        client.send(headers(NOBODY, flags=END_HEADERS) + data(b"a" * 1000, flags=0) + end)
        client.expect(Ended())
        client.send(window_update(1, 1) + headers(GET, 3))
        client.expect(Ended(3))
        assert RST_STREAM not in [each.kind for each in client.passed]


def test_many_streams_at_a_time(client: LibraryClient) -> None:
    streams = [client.ask(b"/%d" % i) for i in range(100)]
    for number, stream in enumerate(streams):
        assert asked(client.wait(stream)).target == b"/%d" % number


def test_a_server_that_breaks_off(client: LibraryClient) -> None:
    stream = client.ask(b"/broken")
    assert client.wait(stream).reset == INTERNAL_ERROR
    assert client.fetch().status == 200


def test_a_client_that_gives_up(stage: Stage, client: LibraryClient) -> None:
    before = len(stage.server.requests_for("/hold"))
    stream = client.ask(b"/hold")
    (request,) = stage.server.wait_for("/hold", before + 1)[before:]
    client.library.reset_stream(stream, 8)
    client.flush()
    assert client.fetch().status == 200
    server_side = stage.server.connections[request.connection]
    wait_until(lambda: bool(server_side.ended), "end of the connection to the server")


def test_requests_of_http_1_1_on_the_same_port(stage: Stage) -> None:
    assert stage.proxy.fetch("/", host="a.test").status == 200
    with stage.proxy.connect() as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
        assert connection.read_response().status == 200
        connection.send(PREFACE)
        assert connection.read_response().status == 505


def test_preface_in_pieces(stage: Stage) -> None:
    with FrameClient(stage.proxy.port, handshake=False) as client:
        for byte in PREFACE + settings() + headers(GET):
            client.send(bytes((byte,)))
        client.expect(Settings())
        client.expect(Ended())


def test_k19_alpn_chooses_http2_first(stage: Stage) -> None:
    for protocols, chosen in ((("http/1.1", "h2"), "h2"), (("http/1.1",), "http/1.1")):
        context = authority().client_context(protocols=protocols)
        with connect(stage.proxy.ports["https"], "a.test", context=context) as connection:
            assert connection.selected_alpn_protocol() == chosen


def test_tls_that_http2_must_not_be_spoken_over(stage: Stage) -> None:
    context = authority().client_context(protocols=("h2",))
    context.maximum_version = 0x0303  # type: ignore[assignment]
    context.set_ciphers("ECDHE-RSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA:AES128-SHA")
    with FrameClient(stage.proxy.ports["https"], context, handshake=False) as client:
        client.send(PREFACE + settings())
        client.expect(Goaway((12,)))
        client.wait_for_end()


# What must not come out at a server. Malformed messages are covered by their case tables; these
# are the ways in which HTTP/2 was turned into two requests of HTTP/1.1 elsewhere.
SMUGGLED = b"GET /smuggled HTTP/1.1"
PAYLOADS: dict[str, bytes] = {
    "CRLF in a value": headers([*GET, (b"x", b"a\r\n\r\n" + SMUGGLED)]),
    "LF in a value": headers([*GET, (b"x", b"a\n\n" + SMUGGLED)]),
    "CRLF in a name": headers([*GET, (b"x: a\r\n\r\n" + SMUGGLED + b"\r\nb", b"c")]),
    "CRLF in the path": headers([*GET[:3], (b":path", b"/ HTTP/1.1\r\n\r\n" + SMUGGLED)]),
    "CRLF in the method": headers([(b":method", SMUGGLED + b"\r\n\r\nGET"), *GET[1:]]),
    "CRLF in the authority": headers(
        [*GET[:2], (b":authority", b"a.test\r\n\r\n" + SMUGGLED), GET[3]]
    ),
    "space in the method": headers([(b":method", SMUGGLED + b" "), *GET[1:]]),
    "transfer-encoding": headers([*POST, (b"transfer-encoding", b"chunked")], flags=END_HEADERS)
    + data(b"0\r\n\r\n" + SMUGGLED),
    "length too small": headers([*POST, (b"content-length", b"0")], flags=END_HEADERS)
    + data(SMUGGLED + b"\r\n\r\n"),
    "length too large": headers([*POST, (b"content-length", b"100")], flags=END_HEADERS)
    + data(SMUGGLED),
    "two lengths": headers(
        [*POST, (b"content-length", b"0"), (b"content-length", b"30")], flags=END_HEADERS
    )
    + data(SMUGGLED + b"\r\n\r\n"),
    "underscored length": headers([*GET, (b"content_length", b"30")]),
    "underscored coding": headers([*GET, (b"transfer_encoding", b"chunked")]),
    "chunks in a chunked body": headers(POST, flags=END_HEADERS)
    + data(b"0\r\n\r\n" + SMUGGLED + b"\r\nHost: a.test\r\n\r\n"),
    "CRLF in a trailer": headers(POST, flags=END_HEADERS)
    + data(b"a", flags=0)
    + headers([(b"x", b"a\r\n\r\n" + SMUGGLED)]),
    "length in a trailer": headers(POST, flags=END_HEADERS)
    + data(b"a", flags=0)
    + headers([(b"content-length", b"30")]),
    "upgrade": headers([*GET, (b"upgrade", b"h2c"), (b"http2-settings", b"AAMAAABk")]),
    "CONNECT": headers([(b":method", b"CONNECT"), GET[2]], flags=END_HEADERS) + data(SMUGGLED),
}


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
def test_nothing_is_smuggled(stage: Stage, payload: bytes) -> None:
    seen = len(stage.server.requests)
    with stage.frames() as client:
        client.send(payload + headers(GET, 3))
        client.expect(Ended(3))
    for request in stage.server.requests[seen:]:
        assert request.target == b"/"
        assert request.method in (b"GET", b"POST")
        assert not {b"content_length", b"transfer_encoding"}.intersection(
            name.lower() for name, _ in request.headers
        )
        assert len(request.values("Content-Length") + request.values("Transfer-Encoding")) < 2
        assert not request.trailers


# What ends a connection with ENHANCE_YOUR_CALM. id: (once, over and over)
FLOODS: dict[str, tuple[bytes, list[bytes]]] = {
    "rapid reset": (
        b"",
        [headers(GET, 2 * i + 1) + rst_stream(2 * i + 1) for i in range(3000)],
    ),
    "CONTINUATION": (
        frame(HEADERS, END_STREAM, 1, block(GET)),
        [frame(CONTINUATION, 0, 1, b"\x82" * 100)] * 3000,
    ),
    "PING": (b"", [PING_FRAME] * 5000),
    "SETTINGS": (b"", [settings()] * 5000),
    "empty DATA": (headers(POST, flags=END_HEADERS), [frame(DATA, 0, 1)] * 5000),
    "windows": (headers([*GET[:3], (b":path", b"/hold")]), [window_update(1, 1)] * 5000),
    "windows of a body": (
        settings((4, 0)) + headers([*GET[:3], (b":path", b"/large")]),
        [window_update(1, 1)] * 5000,
    ),
    "bomb": (
        frame(HEADERS, END, 1, block(GET) + b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000),
        [frame(HEADERS, END, 2 * i + 3, b"\xbe" * 15000) for i in range(10)],
    ),
}


@pytest.mark.parametrize(("once", "flood"), FLOODS.values(), ids=FLOODS.keys())
def test_floods(stage: Stage, once: bytes, flood: list[bytes]) -> None:
    with stage.client() as other, stage.frames() as client:
        client.send(once)
        for start in range(0, len(flood), 100):
            client.send(b"".join(flood[start : start + 100]))
        client.expect(Goaway((ENHANCE_YOUR_CALM,)))
        client.wait_for_end()
        assert other.fetch().status == 200


def test_a_client_that_does_not_read(stage: Stage) -> None:
    worker = stage.proxy.worker_pids()[0]
    with stage.client(reads=False) as client, stage.client() as other:
        window = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: (1 << 31) - 1}
        client.library.update_settings(window)
        client.library.increment_flow_control_window((1 << 31) - 1 - 65_535)
        client.flush()
        before = stage.proxy.resident_kilobytes(worker)
        for _ in range(30):
            client.ask(b"/endless")
        requests = stage.server.wait_for("/endless", 30)
        connections = [stage.server.connections[each.connection] for each in requests]
        seen = (-1, 0.0)

        def stands_still() -> bool:
            """Whether the servers have not got rid of anything for a while."""
            nonlocal seen
            assert other.fetch().status == 200
            count = sum(each.sent for each in connections)
            if count != seen[0]:
                seen = (count, time.monotonic())
            return time.monotonic() - seen[1] > 0.5

        wait_until(stands_still, "an end of reading from the server", 20)
        assert stage.proxy.resident_kilobytes(worker) - before < 24_000


def test_a_client_that_opens_no_window(stage: Stage) -> None:
    with stage.client(reads=False) as client:
        streams = [client.ask(b"/large") for _ in range(40)]
        client.wait_until(
            lambda: sum(len(client.replies[each].body) for each in streams) >= 65_535, "window"
        )
        assert client.replies[streams[0]].reset is None
        with stage.client() as other:
            assert other.fetch(b"/large").body == LARGE


def test_a_slow_reader_gets_everything(stage: Stage) -> None:
    with stage.client(reads=False) as client:
        stream = client.ask(b"/large")
        reply = client.replies[stream]
        credited = 0
        end = time.monotonic() + 20
        while not reply.ended:
            assert client.step(end)
            if not reply.ended and len(reply.body) - credited > 10_000:
                client.library.acknowledge_received_data(len(reply.body) - credited, stream)
                client.flush()
                credited = len(reply.body)
        assert reply.body == LARGE


def test_priorities(stage: Stage) -> None:
    """The most urgent goes first when the window is too small for all."""
    large: Fields = [*GET[:3], (b":path", b"/large")]
    with stage.frames() as client:
        client.send(settings((4, 1 << 20)))
        for stream, urgency in ((1, b"u=6"), (3, b"u=1"), (5, b"u=3, i"), (7, b"u=3, i")):
            client.send(headers([*large, (b"priority", urgency)], stream))
        # When all heads are there, all bodies wait for the window of the connection.
        waiting = {1, 3, 5, 7}
        while waiting:
            got = client.next(time.monotonic() + 8)
            assert got is not None
            waiting -= {got.stream} if got.kind == HEADERS else set()
        for _ in range(64):
            client.send(window_update(65_536))
        ends = []
        while len(ends) < 4:
            got = client.next(time.monotonic() + 8)
            assert got is not None
            if got.kind == DATA and got.flags & END_STREAM:
                ends.append(got.stream)
        assert ends[0] == 3
        assert ends[-1] == 1


def test_a_tunnel_of_websocket(client: LibraryClient) -> None:
    stream = client.library.get_next_available_stream_id()
    client.wait_until(lambda: client.library.remote_settings.get(8) == 1, "settings")
    client.replies[stream] = Reply()
    fields = [
        *[(b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"http")],
        *[(b":authority", b"ws.test"), (b":path", b"/chat"), (b"sec-websocket-version", b"13")],
        (b"sec-websocket-protocol", b"chat"),
    ]
    client.library.send_headers(stream, fields)
    # Sent before the server has agreed: held back until it does.
    client.library.send_data(stream, websocket_frame(TEXT, b"hello", masked=True))
    client.flush()
    reply = client.replies[stream]
    answer = websocket_frame(TEXT, b"hello")
    client.wait_until(lambda: len(reply.body) >= len(answer), "echo")
    assert (reply.status, reply.body) == (200, answer)
    assert reply.value(b"sec-websocket-protocol") == b"chat"
    assert reply.value(b"sec-websocket-accept") is None
    client.library.send_data(stream, websocket_frame(TEXT, b"again", masked=True))
    client.flush()
    client.wait_until(lambda: reply.body.endswith(websocket_frame(TEXT, b"again")), "echo")
    assert client.fetch().status == 200
    client.library.end_stream(stream)
    client.flush()
    client.wait_until(lambda: reply.ended, "end")


def test_a_tunnel_that_the_server_refuses(client: LibraryClient) -> None:
    fields = [(b":protocol", b"websocket"), (b"sec-websocket-version", b"13")]
    client.wait_until(lambda: client.library.remote_settings.get(8) == 1, "settings")
    stream = client.library.get_next_available_stream_id()
    client.replies[stream] = Reply()
    head = [(b":method", b"CONNECT"), fields[0], (b":scheme", b"http")]
    client.library.send_headers(
        stream, [*head, (b":authority", b"ws.test"), (b":path", b"/refuse/401"), fields[1]]
    )
    client.flush()
    assert client.wait(stream).status == 401


def test_http2_on_both_sides(stage: Stage, client: LibraryClient) -> None:
    stream = client.ask(b"/echo", method=b"POST", host=b"two.test", ended=False)
    client.upload(stream, b"abc" * 1000)
    reply = client.wait(stream)
    assert (reply.status, b"abc" * 1000 in reply.body) == (200, True)
    trailers = client.fetch(b"/trailers", host=b"two.test").trailers
    assert trailers


def test_a_new_configuration_leaves_streams_alone(stage: Stage) -> None:
    with stage.client() as client:
        stream = client.ask(b"/gate")
        reply = client.replies[stream]
        client.wait_until(lambda: reply.body == b"abc", "first half")
        changed = {**stage.routes, "frontends": dict(stage.routes["frontends"])}
        changed["frontends"].pop("a")
        stage.proxy.apply(changed)
        try:
            assert client.fetch().status == 404
            stage.gate.open()
            assert client.wait(stream).body == b"abcdef"
            assert not client.goaways
        finally:
            stage.proxy.apply(stage.routes)
        assert client.fetch().status == 200


def test_the_end_of_the_program_is_announced(loop_thread: LoopThread) -> None:
    gate = Gate()
    answer = Answer((CHUNKED, b"3\r\nabc\r\n", gate, b"3\r\ndef\r\n0\r\n\r\n"))
    server = Backend(loop_thread, script={"/gate": answer})
    routes = {
        "backends": {"a": {"servers": {"s": {"url": server.url}}}},
        "frontends": {"a": {"backend": "a", "routes": {"r": {"rule": "Host:a.test"}}}},
    }
    proxy = ProxyProcess(routes, static={"lifeCycle": {"graceTimeOut": 10}})
    proxy.start()
    final = Goaway((NO_ERROR,))
    with FrameClient(proxy.port) as client, FrameClient(proxy.port) as idle:
        client.send(headers([*GET[:3], (b":path", b"/gate")]))
        client.expect(Body(3))
        idle.send(headers(GET))
        idle.expect(Ended())
        proxy.signal(signal.SIGTERM)
        for each in (client, idle):
            assert each.expect(final).payload[:4] == b"\x7f\xff\xff\xff"
            question = each.expect(Question())
            # A request that was on its way is still served.
            each.send(headers(GET, 3) + frame(PING, ACK, 0, question.payload))
            assert each.expect(final).payload[:4] == b"\0\0\0\3"
            each.expect(Ended(3))
        idle.wait_for_end()
        gate.open()
        client.expect(Body(3))
        client.expect(Ended())
        client.wait_for_end()
    assert proxy.wait_for_exit() == 0
    proxy.stop()
    server.stop()


@pytest.mark.parametrize("way", ["http", "https"])
def test_curl(stage: Stage, way: str) -> None:
    """A client of the world outside, with bodies both ways."""
    options = ["--http2-prior-knowledge"] if way == "http" else ["--http2", "--insecure"]
    url = f"{way}://127.0.0.1:{stage.proxy.ports[way]}/curl"
    command = ["curl", "--silent", "--show-error", "--max-time", "10", *options, "--data-binary"]
    command += ["@-", "--header", "Host: a.test", "--write-out", "\n%{http_version} %{http_code}"]
    done = subprocess.run([*command, url], input=LARGE, capture_output=True, check=False)
    assert done.stdout.endswith(b"\n2 200"), done.stderr
    assert LARGE in done.stdout


needs_nghttp = pytest.mark.skipif(
    shutil.which("nghttp") is None, reason="nghttp is missing: scripts/servers installs it"
)


def nghttp(
    stage: Stage, way: str, *options: str, paths: tuple[str, ...], host: str = "a.test"
) -> subprocess.CompletedProcess[bytes]:
    """Run the client of libnghttp2, which knows HTTP/2 in clear without being told."""
    urls = [f"{way}://127.0.0.1:{stage.proxy.ports[way]}{path}" for path in paths]
    command = ["nghttp", "--timeout=10", "--no-verify-peer", f"--header=:authority: {host}"]
    return subprocess.run([*command, *options, *urls], capture_output=True, timeout=60, check=False)


def answers(done: subprocess.CompletedProcess[bytes]) -> list[tuple[str, int, int]]:
    """Path, status and bytes of the body of each answer; ``--har=-`` has to be among the options.

    nghttp exits 0 whatever happens, and says on the error output what went wrong.
    """
    assert (done.returncode, done.stderr) == (0, b"")
    found = []
    for entry in json.loads(done.stdout)["log"]["entries"]:
        reply = entry["response"]
        assert reply["httpVersion"] == "HTTP/2.0"
        path = "/" + entry["request"]["url"].split("/", 3)[3]
        found.append((path, reply["status"], reply["content"]["size"]))
    return found


@needs_nghttp
@pytest.mark.parametrize("way", ["http", "https"])
def test_nghttp_asks_for_several_pages(stage: Stage, way: str) -> None:
    done = nghttp(stage, way, "--null-out", "--har=-", paths=("/large", "/204", "/chunked"))
    assert sorted(answers(done)) == [
        ("/204", 204, 0),
        ("/chunked", 200, 7),
        ("/large", 200, len(LARGE)),
    ]
    done = nghttp(stage, way, "--null-out", "--har=-", paths=("/x", "/y"), host="nobody.test")
    assert sorted(answers(done)) == [("/x", 404, 19), ("/y", 404, 19)]


NGHTTP_OPTIONS: dict[str, tuple[str, ...]] = {
    "a tree of priorities": (),
    "weights": ("--weight=1", "--weight=256"),
    "no tree": ("--no-dep",),
    "no old priorities": ("--no-rfc7540-pri",),
    "no push": ("--no-push",),
    "padding": ("--padding=200",),
    "CONTINUATION": ("--continuation",),
    "small windows": ("--window-bits=5", "--connection-window-bits=5"),
    "no table": ("--header-table-size=0", "--encoder-header-table-size=0"),
    "two table sizes": ("--header-table-size=0", "--header-table-size=1000"),
}


@needs_nghttp
@pytest.mark.parametrize("way", ["http", "https"])
@pytest.mark.parametrize("options", NGHTTP_OPTIONS.values(), ids=NGHTTP_OPTIONS.keys())
def test_nghttp_with_options(stage: Stage, options: tuple[str, ...], way: str) -> None:
    more = (*options, "--multiply=20", "--null-out", "--har=-")
    done = nghttp(stage, way, *more, paths=("/chunked", "/204"))
    assert sorted(answers(done)) == [("/204", 204, 0)] * 20 + [("/chunked", 200, 7)] * 20


@needs_nghttp
@pytest.mark.parametrize("way", ["http", "https"])
@pytest.mark.parametrize("length", [True, False], ids=["length", "chunked"])
def test_nghttp_sends_a_body_and_trailers(
    stage: Stage, tmp_path: Path, way: str, length: bool
) -> None:
    """Trailers go on where HTTP/1.1 has a place for them: not behind a body of a known length."""
    body = tmp_path / "body"
    body.write_bytes(LARGE)
    options = [f"--data={body}", "--trailer=x-sum: 1", "--expect-continue"]
    path = f"/nghttp-{way}-{length}"
    done = nghttp(stage, way, *options, *["--no-content-length"] * (not length), paths=(path,))
    assert (done.returncode, done.stderr) == (0, b"")
    head, _, echoed = done.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"POST %b HTTP/1.1" % path.encode())
    assert echoed == LARGE
    request = stage.server.requests_for(path)[-1]
    assert request.body == LARGE
    assert request.trailers == (() if length else ((b"X-Sum", b"1"),))


@needs_nghttp
def test_nghttp_is_not_followed_into_an_upgrade(stage: Stage) -> None:
    """RFC 9113 has no `Upgrade: h2c` any more: the answer is one of HTTP/1.1."""
    done = nghttp(stage, "http", "--upgrade", "--verbose", paths=("/upgrade",))
    assert b"upgrade: h2c\r\n" in done.stdout
    assert b"HTTP Upgrade response\nHTTP/1.1 404 Not Found\r\n" in done.stdout
    assert done.stderr.startswith(b"[ERROR] HTTP Upgrade failed\n")


@pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is missing: scripts/servers installs it"
)
@pytest.mark.parametrize("way", ["http", "https"])
@pytest.mark.parametrize("window", ["10", "30"])
def test_h2load_gets_every_answer(stage: Stage, way: str, window: str) -> None:
    """Connections full of streams; a window of 2^10 bytes makes every answer wait for it."""
    url = f"{way}://127.0.0.1:{stage.proxy.ports[way]}"
    command = ["h2load", "--requests=60", "--clients=4", "--max-concurrent-streams=32"]
    command += [f"--window-bits={window}", "--header=:authority: a.test"]
    done = subprocess.run(
        [*command, f"{url}/x", f"{url}/chunked", f"{url}/large"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "60 succeeded, 0 failed, 0 errored, 0 timeout" in done.stdout, done.stdout + done.stderr
    assert "status codes: 60 2xx" in done.stdout
