"""A service that answers requests of an HTTP/2 connection without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.flags import HEAD
from kvproxy.http.http2_server import Request, ServerConnection, ServerStream
from tests.support.http2_frames import PREFACE, Frame, settings, split

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.http.http2 import Limits
    from tests.support.http2_frames import Expected

BODY = b"0123456789" * 20


class ServiceStream(ServerStream):
    """Answers at the end of the request, except on `/hold`; remembers what came."""

    __slots__ = ("body", "ended", "pauses", "reset_code", "trailers")

    def __init__(self, connection: ServerConnection, number: int, request: Request) -> None:
        super().__init__(connection, number, request)
        self.body = b""
        self.trailers = b""
        self.ended = False
        self.reset_code: int | None = None
        self.pauses: list[bool] = []

    def start(self, ended: bool) -> None:
        if self.request.status:
            self.answer(self.request.status)
        elif ended:
            self.finish()

    def body_received(self, data: bytes, ended: bool) -> None:
        self.body += data
        if not self.request.target.startswith(b"/hold"):
            self.consumed(len(data))
        if ended:
            self.finish()

    def trailers_received(self, lines: bytes) -> None:
        self.trailers = lines
        self.finish()

    def finish(self) -> None:
        self.ended = True
        if not self.request.target.startswith(b"/hold"):
            self.answer(200)

    def answer(self, status: int, body: bytes = BODY) -> None:
        head = b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self.send_whole(head if self.request.flags & HEAD else head + body)

    def reset_received(self, code: int) -> None:
        self.reset_code = code

    def source_paused(self, paused: bool) -> None:
        self.pauses.append(paused)


class Service:
    """Both ends of a connection: `send` is the client's side, the rest the server's."""

    def __init__(
        self,
        limits: Limits | None = None,
        clock: Callable[[], float] | None = None,
        *,
        handshake: bool = True,
    ) -> None:
        self.connection = ServerConnection(self, limits, clock)
        self.streams: dict[int, ServiceStream] = {}
        self.failure: tuple[int, str] | None = None
        self.done = False
        self.ready = False
        self.received: list[Frame] = []
        self.connection.greet()
        if handshake:
            self.send(PREFACE + settings())
            self.received.clear()

    def make_stream(
        self, connection: ServerConnection, number: int, request: Request
    ) -> ServiceStream:
        self.streams[number] = stream = ServiceStream(connection, number, request)
        return stream

    def send_at_once(self, frames: bytes) -> None:
        self.connection.write(frames)

    def output_ready(self) -> None:
        assert not self.ready
        self.ready = True

    def connection_failed(self, code: int, reason: str) -> None:
        self.failure = (code, reason)

    def connection_done(self) -> None:
        self.done = True

    def send(self, data: bytes) -> list[Frame]:
        """Give the connection bytes; the frames it has sent since the last call."""
        self.connection.receive(data)
        return self.take()

    def take(self) -> list[Frame]:
        """The frames that the connection has to send."""
        frames: list[Frame] = []
        while self.ready:
            self.ready = False
            found, rest = split(self.connection.take_output())
            assert not rest
            frames += found
            self.connection.pump()
        assert not self.connection.output
        self.received += frames
        return frames

    def expect(self, expected: Expected) -> Frame:
        """Find a frame among those received, and drop it and those before it."""
        for position, frame in enumerate(self.received):
            if expected.matches(frame):
                del self.received[: position + 1]
                return frame
        raise AssertionError(f"{expected} is not among {self.received}, {self.failure}")
