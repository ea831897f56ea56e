"""Single stories of the sans-IO client."""

from __future__ import annotations

import pytest

from kvproxy.http.http2 import Limits
from kvproxy.http.http2_client import ClientConnection, ClientStream
from tests.support.http2_frames import (
    CANCEL,
    DATA,
    END,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    GET,
    HEADERS,
    NO_ERROR,
    PING_FRAME,
    POST,
    PREFACE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    REFUSED_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    Fields,
    Frame,
    Goaway,
    Pong,
    Reset,
    block,
    data,
    frame,
    goaway,
    headers,
    number,
    rst_stream,
    settings,
    split,
    window_update,
)

OK: Fields = [(b":status", b"200")]


class Asked(ClientStream):
    """A request; remembers what came."""

    __slots__ = ("body", "ended", "heads", "pauses", "reset_code", "trailers")

    def __init__(self, connection: ClientConnection, *, bodiless: bool = False) -> None:
        super().__init__(connection, bodiless=bodiless)
        self.heads: list[tuple[int, bytes, int, bool]] = []
        self.body = b""
        self.trailers = b""
        self.ended = False
        self.reset_code: int | None = None
        self.pauses: list[bool] = []

    def head_received(self, status: int, lines: bytes, length: int, ended: bool) -> None:
        self.heads.append((status, lines, length, ended))
        self.ended |= ended

    def body_received(self, data: bytes, ended: bool) -> None:
        self.body += data
        self.consumed(len(data))
        self.ended |= ended

    def trailers_received(self, lines: bytes) -> None:
        self.trailers = lines
        self.ended = True

    def reset_received(self, code: int) -> None:
        self.reset_code = code

    def source_paused(self, paused: bool) -> None:
        self.pauses.append(paused)


class Unread(Asked):
    """A request whose answer nobody takes."""

    __slots__ = ()

    def body_received(self, data: bytes, ended: bool) -> None:
        self.body += data


class Client:
    """Both ends of a connection: `send` is the server's side, the rest the client's."""

    def __init__(
        self,
        *server_settings: tuple[int, int],
        limits: Limits | None = None,
        greets: bool = True,
    ) -> None:
        self.connection = ClientConnection(self, limits)
        self.failure: tuple[int, str] | None = None
        self.done = False
        self.ready = False
        self.received: list[Frame] = []
        self.connection.greet()
        self.greeting = self.connection.take_output()
        self.ready = False
        if greets:
            self.send(settings(*server_settings))
            self.received.clear()

    def output_ready(self) -> None:
        self.ready = True

    def connection_failed(self, code: int, reason: str) -> None:
        self.failure = (code, reason)

    def connection_done(self) -> None:
        self.done = True

    def send(self, received: bytes) -> list[Frame]:
        self.connection.receive(received)
        return self.take()

    def take(self) -> list[Frame]:
        frames: list[Frame] = []
        while self.ready:
            self.ready = False
            frames += split(self.connection.take_output())[0]
            self.connection.pump()
        self.received += frames
        return frames

    def ask(self, fields: Fields = GET, *, ended: bool = True, bodiless: bool = False) -> Asked:
        stream = Asked(self.connection, bodiless=bodiless)
        self.connection.open(stream, block(fields), ended=ended)
        return stream

    def expect(self, expected: Goaway | Reset | Pong) -> None:
        self.take()
        assert any(expected.matches(each) for each in self.received), self.received


def test_greeting() -> None:
    greeting = Client().greeting
    assert greeting.startswith(PREFACE)
    first, second = split(greeting.removeprefix(PREFACE))[0]
    assert (first.kind, second.kind) == (SETTINGS, WINDOW_UPDATE)
    assert first.payload[:6] == b"\0\2\0\0\0\0"


def test_exchange() -> None:
    client = Client()
    asked = client.ask(POST, ended=False)
    asked.send_data(b"abc")
    asked.send_trailers(block([(b"x", b"y")]))
    assert [(each.kind, each.flags) for each in client.take()] == [
        (HEADERS, END_HEADERS),
        (DATA, 0),
        (HEADERS, END),
    ]
    client.send(headers([(b":status", b"103"), (b"link", b"a")], flags=END_HEADERS))
    client.send(headers([*OK, (b"content-length", b"4")], flags=END_HEADERS))
    client.send(data(b"abcd", flags=0) + headers([(b"grpc-status", b"0")]))
    assert asked.heads == [
        (103, b"Link: a\r\n", -1, False),
        (200, b"Content-Length: 4\r\n", 4, False),
    ]
    assert (asked.body, asked.trailers, asked.ended) == (b"abcd", b"Grpc-Status: 0\r\n", True)
    assert not client.connection.streams


def test_streams_have_numbers_of_a_client() -> None:
    client = Client()
    assert [client.ask().number for _ in range(3)] == [1, 3, 5]


def test_room() -> None:
    client = Client((3, 2), limits=Limits(streams=10))
    assert client.connection.room == 2
    client.ask()
    client.ask()
    assert client.connection.room == 0
    client.send(headers(OK))
    assert client.connection.room == 1
    client.send(settings((3, 100)))
    assert client.connection.room == 9


def test_room_before_the_server_has_said_how_much() -> None:
    client = Client(greets=False)
    assert client.connection.room == 100
    client.send(settings((4, 1000)))
    assert client.connection.room == 128


def test_streams_that_nobody_reads_leave_the_connection_open() -> None:
    """Only the windows of streams hold a server back: other clients share the connection."""
    client = Client()
    streams = [Unread(client.connection, bodiless=False) for _ in range(40)]
    for stream in streams:
        client.connection.open(stream, block(GET), ended=True)
        client.send(headers(OK, stream.number, END_HEADERS))
        client.send(data(b"a" * 16_384, stream.number, flags=0) * 4)
    assert client.failure is None
    assert {len(each.body) for each in streams} == {65_536}
    client.send(data(b"a", streams[0].number, flags=0))
    client.expect(Reset((FLOW_CONTROL_ERROR,)))
    assert client.failure is None


def test_goaway_gives_back_what_the_server_has_not_seen() -> None:
    client = Client()
    first, second = client.ask(), client.ask()
    client.send(goaway(NO_ERROR, last=1))
    assert (first.reset_code, second.reset_code) == (None, REFUSED_STREAM)
    assert not client.connection.usable
    assert client.connection.room == 0
    assert not client.done
    client.send(headers(OK))
    assert first.ended
    assert client.done


ENDS: dict[str, bytes] = {
    "head": headers(OK),
    "body": headers(OK, flags=END_HEADERS) + data(b"abc"),
    "trailers": headers(OK, flags=END_HEADERS) + data(b"abc", flags=0) + headers([(b"a", b"b")]),
    "reset": rst_stream(1),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_connection_is_done_when_the_last_answer_ends_after_goaway(end: bytes) -> None:
    client = Client()
    asked = client.ask()
    client.send(goaway(NO_ERROR, last=1))
    assert not client.done
    client.send(end)
    assert asked.ended or asked.reset_code is not None
    assert client.done


def test_goaway_in_two_steps() -> None:
    client = Client()
    asked = client.ask()
    client.send(goaway(NO_ERROR, last=(1 << 31) - 1))
    assert asked.reset_code is None
    client.send(goaway(NO_ERROR, last=0))
    assert asked.reset_code == REFUSED_STREAM
    assert client.done


def test_who_finishes_is_done_when_the_streams_are() -> None:
    client = Client()
    client.ask()
    client.connection.finish()
    assert (client.done, client.connection.room) == (False, 0)
    client.send(headers(OK, flags=END_HEADERS) + data(b"abc"))
    assert client.done


def test_numbers_run_out() -> None:
    client = Client()
    client.connection._next_stream = (1 << 31) - 1
    client.ask()
    assert not client.connection.usable


@pytest.mark.parametrize("code", [REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM])
def test_reset_by_the_server(code: int) -> None:
    client = Client()
    asked = client.ask(POST, ended=False)
    client.send(rst_stream(1, code))
    assert asked.reset_code == code
    assert not client.connection.streams


def test_answer_before_the_end_of_the_request() -> None:
    client = Client()
    asked = client.ask(POST, ended=False)
    client.send(headers(OK))
    assert asked.ended
    assert asked.local_open
    client.send(rst_stream(1, NO_ERROR))
    assert not asked.local_open


def test_request_body_within_the_windows() -> None:
    client = Client((4, 10))
    asked = client.ask(POST, ended=False)
    asked.send_data(b"a" * 15, ended=True)
    assert [len(each.payload) for each in client.take() if each.kind == DATA] == [10]
    frames = client.send(window_update(100, 1))
    assert [(each.kind, each.flags, len(each.payload)) for each in frames] == [
        (DATA, END_STREAM, 5)
    ]


# id: (whether the request is HEAD, what the server sends, code of the reset or None)
LENGTHS: dict[str, tuple[bool, bytes, int | None]] = {
    "too little": (
        False,
        headers([*OK, (b"content-length", b"5")], flags=END_HEADERS) + data(b"abcd"),
        PROTOCOL_ERROR,
    ),
    "too much": (
        False,
        headers([*OK, (b"content-length", b"5")], flags=END_HEADERS) + data(b"abcdef", flags=0),
        PROTOCOL_ERROR,
    ),
    "none": (False, headers([*OK, (b"content-length", b"5")]), PROTOCOL_ERROR),
    "of HEAD": (True, headers([*OK, (b"content-length", b"5")]), None),
    "of 304": (False, headers([(b":status", b"304"), (b"content-length", b"5")]), None),
    "body of HEAD": (True, headers(OK, flags=END_HEADERS) + data(b"a"), PROTOCOL_ERROR),
    "body of 204": (
        False,
        headers([(b":status", b"204")], flags=END_HEADERS) + data(b"a"),
        PROTOCOL_ERROR,
    ),
    "trailers too early": (
        False,
        headers([*OK, (b"content-length", b"5")], flags=END_HEADERS) + headers([(b"x", b"y")]),
        PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize(("bodiless", "sent", "code"), LENGTHS.values(), ids=LENGTHS.keys())
def test_content_length(bodiless: bool, sent: bytes, code: int | None) -> None:
    client = Client()
    asked = client.ask(bodiless=bodiless)
    client.send(sent)
    assert asked.reset_code == code
    assert asked.ended == (code is None)


# id: frames of a server, code of the reset
MALFORMED: dict[str, bytes] = {
    "body before the head": data(b"a"),
    "1xx that ends": headers([(b":status", b"103")]),
    "101": headers([(b":status", b"101")], flags=END_HEADERS),
    "no status": headers([(b"x", b"y")]),
    "large head": headers([*OK, *[(b"x", b"")] * 200]),
    "trailers that do not end": (
        headers(OK, flags=END_HEADERS) + headers([(b"x", b"y")], flags=END_HEADERS)
    ),
    "status in trailers": headers(OK, flags=END_HEADERS) + headers(OK),
    "connection": headers([*OK, (b"connection", b"close")]),
    "window of 0": window_update(0, 1),
}


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_answers(sent: bytes) -> None:
    client = Client()
    asked = client.ask()
    client.send(sent + PING_FRAME)
    assert asked.reset_code == PROTOCOL_ERROR
    client.expect(Reset((PROTOCOL_ERROR,)))
    client.expect(Pong())


# id: (frames of a server, code)
VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "PUSH_PROMISE": (frame(PUSH_PROMISE, END_HEADERS, 1, number(2) + block(GET)), PROTOCOL_ERROR),
    "head of a stream that is not open": (headers(OK, 3), PROTOCOL_ERROR),
    "head of a stream of its own": (headers(OK, 2), PROTOCOL_ERROR),
    "head behind the end": (headers(OK) + headers(OK), STREAM_CLOSED),
    "body behind the end": (headers(OK) + data(b"a"), STREAM_CLOSED),
    "head that cannot be decoded": (frame(HEADERS, END, 1, b"\xbe"), 9),
    "flood": (PING_FRAME * 3000, ENHANCE_YOUR_CALM),
    "1xx without end": (
        headers([(b":status", b"103")], flags=END_HEADERS) * 3000,
        ENHANCE_YOUR_CALM,
    ),
}


@pytest.mark.parametrize(("sent", "code"), VIOLATIONS.values(), ids=VIOLATIONS.keys())
def test_violations(sent: bytes, code: int) -> None:
    client = Client()
    asked = client.ask()
    client.send(sent)
    client.expect(Goaway((code,)))
    assert client.failure is not None
    assert client.failure[0] == code
    assert asked.ended or asked.reset_code == CANCEL


def test_first_frame_must_be_settings() -> None:
    fresh = ClientConnection(Client())
    fresh.receive(PING_FRAME)
    assert fresh.closed


def test_late_frames_of_a_cancelled_stream() -> None:
    client = Client()
    client.connection.cancel(client.ask())
    client.send(headers(OK, flags=END_HEADERS) + data(b"a" * 1000))
    assert client.failure is None
    client.expect(Reset((CANCEL,)))
