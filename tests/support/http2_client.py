"""HTTP/2 clients over sockets: one that sends frames as a test writes them, and one on the library
h2 that keeps the protocol."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events

from tests.support.closing import Closing
from tests.support.http2_frames import GOAWAY, PREFACE, Frame, Settings, settings, split

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from tests.support.http2_frames import Expected, Fields

SECONDS = 20.0


def connected(port: int, tls: ssl.SSLContext | None, name: str) -> socket.socket:
    """A socket to the proxy; over TLS with h2 negotiated."""
    plain = socket.create_connection(("127.0.0.1", port), SECONDS)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls is None:
        return plain
    secure = tls.wrap_socket(plain, server_hostname=name)
    assert secure.selected_alpn_protocol() == "h2"
    return secure


class _Connection(Closing):
    """What both clients share."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, name: str = "a.test") -> None:
        self.socket = connected(port, tls, name)

    def close(self) -> None:
        self.socket.close()

    def receive(self, end: float) -> bytes:
        """More bytes, empty at the end of the connection; TimeoutError at the time ``end``."""
        self.socket.settimeout(max(0.001, end - time.monotonic()))
        try:
            return self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return b""


class FrameClient(_Connection):
    """Sends any bytes, and waits for frames."""

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | None = None,
        name: str = "a.test",
        *,
        handshake: bool = True,
    ) -> None:
        super().__init__(port, tls, name)
        self.frames: list[Frame] = []
        self.passed: list[Frame] = []
        self._rest = b""
        self.ended = False
        if handshake:
            self.send(PREFACE + settings())
            self.expect(Settings())

    def send(self, data: bytes) -> None:
        """Send; what the proxy does not want to hear any more is dropped."""
        try:
            self.socket.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            self.ended = True

    def next(self, end: float) -> Frame | None:
        """The next frame, None at the end of the connection."""
        while not self.frames:
            data = self.receive(end)
            if not data:
                self.ended = True
                return None
            found, self._rest = split(self._rest + data)
            self.frames += found
        frame = self.frames.pop(0)
        self.passed.append(frame)
        return frame

    def expect(self, expected: Expected) -> Frame:
        """Wait for a frame; fails at the end of the connection, and at a GOAWAY before it."""
        end = time.monotonic() + SECONDS
        while True:
            try:
                frame = self.next(end)
            except TimeoutError:
                raise AssertionError(f"{expected} did not come: {self.passed}") from None
            if frame is None:
                raise AssertionError(f"closed before {expected}: {self.passed}")
            if expected.matches(frame):
                return frame
            assert frame.kind != GOAWAY, f"{frame} instead of {expected}"

    def wait_for_end(self) -> None:
        """Wait until the proxy closes."""
        end = time.monotonic() + SECONDS
        while self.next(end) is not None:
            pass


@dataclass
class Reply:
    """An answer, as far as it has come."""

    fields: Fields = field(default_factory=list)
    informational: list[Fields] = field(default_factory=list)
    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        """The status; KeyError when there is no head."""
        return int(dict(self.fields)[b":status"])

    def value(self, name: bytes) -> bytes | None:
        """The value of a field."""
        return dict(self.fields).get(name)


class LibraryClient(_Connection):
    """Keeps the protocol; windows are opened as bodies arrive unless ``reads`` is false."""

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | None = None,
        name: str = "a.test",
        *,
        reads: bool = True,
    ) -> None:
        super().__init__(port, tls, name)
        config = h2.config.H2Configuration(header_encoding=None)
        self.library = h2.connection.H2Connection(config)
        self.library.initiate_connection()
        self.replies: dict[int, Reply] = {}
        self.goaways: list[h2.events.ConnectionTerminated] = []
        self.reads = reads
        self.flush()

    def flush(self) -> None:
        """Send what the library has to send."""
        data = self.library.data_to_send()
        if data:
            self.socket.sendall(data)

    def ask(
        self,
        path: bytes = b"/",
        *more: tuple[bytes, bytes],
        method: bytes = b"GET",
        host: bytes = b"a.test",
        ended: bool = True,
    ) -> int:
        """Send the head of a request; the stream."""
        stream: int = self.library.get_next_available_stream_id()
        fields = [(b":method", method), (b":scheme", b"http"), (b":authority", host)]
        self.library.send_headers(stream, [*fields, (b":path", path), *more], end_stream=ended)
        self.replies[stream] = Reply()
        self.flush()
        return stream

    def upload(self, stream: int, body: bytes, *, ended: bool = True) -> None:
        """Send a body as fast as the windows open."""
        end = time.monotonic() + SECONDS
        while body:
            size = min(
                self.library.local_flow_control_window(stream),
                self.library.max_outbound_frame_size,
                len(body),
            )
            if size <= 0:
                self.step(end)
                continue
            self.library.send_data(stream, body[:size])
            body = body[size:]
            self.flush()
        if ended:
            self.library.end_stream(stream)
            self.flush()

    def step(self, end: float) -> bool:
        """Receive once; False at the end of the connection."""
        data = self.receive(end)
        if not data:
            return False
        for event in self.library.receive_data(data):
            self._take(event)
        self.flush()
        return True

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append(event)
            return
        reply = self.replies.get(getattr(event, "stream_id", None) or 0)
        if reply is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            reply.fields = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.InformationalResponseReceived):
            reply.informational.append([(bytes(n), bytes(v)) for n, v in event.headers])
        elif isinstance(event, h2.events.TrailersReceived):
            reply.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.DataReceived):
            reply.body += event.data
            if self.reads and event.flow_controlled_length:
                self.library.acknowledge_received_data(
                    event.flow_controlled_length, event.stream_id
                )
        elif isinstance(event, h2.events.StreamEnded):
            reply.ended = True
        elif isinstance(event, h2.events.StreamReset):
            reply.reset = int(event.error_code)

    def wait(self, stream: int) -> Reply:
        """Wait for a whole answer, or the end of its stream."""
        reply = self.replies[stream]
        self.wait_until(lambda: reply.ended or reply.reset is not None, f"stream {stream}")
        return reply

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Receive until something is so."""
        end = time.monotonic() + SECONDS
        while not condition():
            try:
                alive = self.step(end)
            except TimeoutError:
                raise AssertionError(f"{what}: nothing more, {self.replies}") from None
            assert alive or condition(), f"{what}: closed, {self.goaways}, {self.replies}"

    def fetch(self, path: bytes = b"/", *more: tuple[bytes, bytes], **options: bytes) -> Reply:
        """Send a request without a body, and wait for its answer."""
        return self.wait(self.ask(path, *more, **options))
