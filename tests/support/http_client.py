"""An HTTP/1.1 client that sends exactly the bytes it is given and hides nothing of the answer."""

from __future__ import annotations

import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Self

from tests.support.closing import Closing

DEFAULT_SECONDS = 20.0


class ConnectionEndedError(AssertionError):
    """The other side closed or reset the connection before the answer was complete."""

    def __init__(self, received: bytes, reset: bool) -> None:
        """Keep what had been ``received`` of the answer, and whether a reset ended it."""
        super().__init__(f"connection {'reset' if reset else 'closed'} after {received!r}")
        self.received = received
        self.reset = reset


class TooSlowError(AssertionError):
    """Nothing (more) came before the deadline."""


@dataclass(frozen=True)
class Response:
    """One answer as it stood on the wire.

    ``framing``: ``length``, ``chunked``, ``close`` or ``none``. ``raw`` holds the very bytes,
    head and framing included.
    """

    version: bytes
    status: int
    reason: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    framing: str = "none"
    raw: bytes = field(default=b"", repr=False)

    def values(self, name: str) -> list[bytes]:
        """Return all values of header ``name``, in order, whatever its case."""
        wanted = name.lower().encode()
        return [value for key, value in self.headers if key.lower() == wanted]

    def value(self, name: str) -> bytes | None:
        """Return the first value of header ``name``, or None."""
        return next(iter(self.values(name)), None)

    @property
    def head(self) -> bytes:
        """The status line and headers as received, with the empty line."""
        return self.raw[: self.raw.index(b"\r\n\r\n") + 4]


def parse_fields(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Split header lines into (name, value) pairs; AssertionError on a line without colon."""
    fields = []
    for line in block.split(b"\r\n"):
        if line:
            name, colon, value = line.partition(b":")
            assert colon, f"no colon in header line {line!r}"
            fields.append((name, value.strip(b" \t")))
    return tuple(fields)


def build_request(
    target: str | bytes = "/",
    *,
    host: str | bytes | None = "localhost",
    method: str = "GET",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    chunks: tuple[bytes, ...] | None = None,
    version: str = "HTTP/1.1",
) -> bytes:
    """Return the bytes of a request.

    ``host`` None leaves Host out. A ``body`` is sent with Content-Length, each of ``chunks`` as one
    chunk.
    """
    lines = [b" ".join((method.encode(), _bytes(target), version.encode()))]
    if host is not None:
        lines.append(b"Host: " + _bytes(host))
    lines.extend(f"{name}: {value}".encode("latin-1") for name, value in headers)
    if chunks is not None:
        lines.append(b"Transfer-Encoding: chunked")
        body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    elif body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


class RawConnection(Closing):
    """One client connection; every read has a deadline of ``seconds``."""

    def __init__(
        self,
        port: int,
        *,
        seconds: float = DEFAULT_SECONDS,
        receive_buffer: int | None = None,
    ) -> None:
        """Connect to ``port`` of this machine; ``receive_buffer``: the kernel's buffer in bytes."""
        connecting = socket.socket()
        if receive_buffer is not None:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connecting.settimeout(seconds)
        try:
            connecting.connect(("127.0.0.1", port))
        except OSError:
            connecting.close()
            raise
        self._adopt(connecting, seconds)

    def _adopt(self, connected: socket.socket, seconds: float) -> None:
        self.socket = connected
        self.socket.settimeout(seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.seconds = seconds
        self.pending = b""

    @classmethod
    def over(cls, connected: socket.socket, seconds: float = DEFAULT_SECONDS) -> Self:
        """Return a connection over a socket that is connected already."""
        connection = cls.__new__(cls)
        connection._adopt(connected, seconds)
        return connection

    def close(self) -> None:
        """Close the socket."""
        self.socket.close()

    def reset(self) -> None:
        """Abort the connection with a TCP reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def half_close(self) -> None:
        """Say that nothing more will be sent; answers can still be read."""
        self.socket.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        self.socket.sendall(data)

    def send_if_open(self, data: bytes) -> bool:
        """Send ``data``; False when it could not be sent whole, because either side has closed."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def request(self, data: bytes) -> Response:
        """Send a whole request and return its final answer."""
        self.send(data)
        return self.read_response(head_only=data.startswith(b"HEAD "))

    def read_until(self, mark: bytes) -> bytes:
        """Read up to and including ``mark``."""
        end = time.monotonic() + self.seconds
        while mark not in self.pending:
            self._more(end)
        before, _, self.pending = self.pending.partition(mark)
        return before + mark

    def _receive(self, end: float) -> bytes:
        self.socket.settimeout(max(0.001, end - time.monotonic()))
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            raise TooSlowError(
                f"nothing more within {self.seconds:g} s after {self.pending!r}"
            ) from None
        except (ConnectionResetError, BrokenPipeError):
            raise ConnectionEndedError(self.pending, reset=True) from None
        return data

    def _more(self, end: float) -> None:
        data = self._receive(end)
        if not data:
            raise ConnectionEndedError(self.pending, reset=False)
        self.pending += data

    def read_head(self, end: float | None = None) -> Response:
        """Read one status line with headers; its body stays unread."""
        end = end or time.monotonic() + self.seconds
        while b"\r\n\r\n" not in self.pending:
            self._more(end)
        head, _, rest = self.pending.partition(b"\r\n\r\n")
        status_line, _, block = head.partition(b"\r\n")
        version, _, rest_of_line = status_line.partition(b" ")
        status, _, reason = rest_of_line.partition(b" ")
        assert version.startswith(b"HTTP/"), f"not an answer: {self.pending!r}"
        self.pending = rest
        return Response(version, int(status), reason, parse_fields(block), raw=head + b"\r\n\r\n")

    def read_response(self, *, head_only: bool = False, informational: bool = False) -> Response:
        """Read one answer with its body; ``head_only`` for the answer to HEAD.

        1xx answers are skipped unless ``informational``. Raises `ConnectionEndedError` when
        it is cut short.
        """
        end = time.monotonic() + self.seconds
        while True:
            head = self.read_head(end)
            if informational or head.status >= 200 or head.status == 101:
                break
        if head_only or head.status < 200 or head.status in (204, 304):
            return head
        if head.value("Transfer-Encoding") is not None:
            return self._read_chunked(head, end)
        length = head.value("Content-Length")
        if length is not None:
            count = int(length)
            while len(self.pending) < count:
                self._more(end)
            body, self.pending = self.pending[:count], self.pending[count:]
            return self._with_body(head, body, "length", body)
        while data := self._receive(end):
            self.pending += data
        body, self.pending = self.pending, b""
        return self._with_body(head, body, "close", body)

    def _read_chunked(self, head: Response, end: float) -> Response:
        body = bytearray()
        wire = bytearray()
        while True:
            line = self._read_line(end)
            wire += line
            size = int(line.partition(b";")[0].strip(), 16)
            if size == 0:
                break
            while len(self.pending) < size + 2:
                self._more(end)
            body += self.pending[:size]
            assert self.pending[size : size + 2] == b"\r\n", "chunk without its line end"
            wire += self.pending[: size + 2]
            self.pending = self.pending[size + 2 :]
        block = bytearray()
        while (line := self._read_line(end)) != b"\r\n":
            block += line
        wire += block + b"\r\n"
        return self._with_body(
            head, bytes(body), "chunked", bytes(wire), parse_fields(bytes(block))
        )

    def _read_line(self, end: float) -> bytes:
        while b"\r\n" not in self.pending:
            self._more(end)
        line, _, self.pending = self.pending.partition(b"\r\n")
        return line + b"\r\n"

    @staticmethod
    def _with_body(
        head: Response,
        body: bytes,
        framing: str,
        wire: bytes,
        trailers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Response:
        return Response(
            head.version,
            head.status,
            head.reason,
            head.headers,
            body,
            trailers,
            framing,
            head.raw + wire,
        )

    def read_exactly(self, count: int) -> bytes:
        """Read ``count`` bytes that follow."""
        end = time.monotonic() + self.seconds
        while len(self.pending) < count:
            self._more(end)
        data, self.pending = self.pending[:count], self.pending[count:]
        return data

    def read_to_end(self) -> bytes:
        """Return everything until the other side closes (or resets: also an end)."""
        end = time.monotonic() + self.seconds
        try:
            while data := self._receive(end):
                self.pending += data
        except ConnectionEndedError:
            pass
        data, self.pending = self.pending, b""
        return data

    def assert_closed(self) -> None:
        """Fail unless the other side closes, sending nothing more, before the deadline."""
        rest = self.read_to_end()
        assert rest == b"", f"bytes before the end: {rest!r}"

    def silent_for(self, seconds: float) -> bool:
        """Tell whether neither bytes nor an end come within ``seconds``."""
        if self.pending:
            return False
        readable, _, _ = select.select([self.socket], [], [], seconds)
        return not readable


def fetch(port: int, data: bytes, *, seconds: float = DEFAULT_SECONDS) -> Response:
    """Send one request on a connection of its own and return the answer."""
    with RawConnection(port, seconds=seconds) as connection:
        return connection.request(data)


def read_all_responses(data: bytes) -> list[int]:
    """Return the statuses of the answers that stand one after the other in ``data``.

    Only for answers with Content-Length or without body, as the proxy's own refusals are.
    """
    statuses = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        assert separator, f"rest of an answer: {head!r}"
        status_line, _, block = head.partition(b"\r\n")
        statuses.append(int(status_line.split(b" ")[1]))
        lengths = [v for n, v in parse_fields(block) if n.lower() == b"content-length"]
        data = data[int(lengths[0]) if lengths else 0 :]
    return statuses
