"""A stream of an HTTP/2 connection: its states, its windows and what waits to be sent
(RFC 9113, sections 5 and 6.9)."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar, Final

from kvproxy.http.frames import (
    ENHANCE_YOUR_CALM,
    headers,
    rst_stream,
    window_update,
)
from kvproxy.http.priority import UNSPECIFIED, Priority

if TYPE_CHECKING:
    from kvproxy.http.http2 import Connection

STREAM_WINDOW: Final = 262_144
"""What the other side may send on a stream before we have passed it on."""

QUEUE_LIMIT: Final = 65_536
"""Bytes that wait on one stream before its source is asked to stop."""

HELD_LIMIT: Final = 4 * 1_048_576
"""Bytes that wait on a connection before all sources with something waiting are asked to stop."""


DATA_WORTH: Final = 2
"""Frames that the other side may say for each frame of a body: grpc-go, for one, sends a PING and a
WINDOW_UPDATE."""

SMALL_WINDOW: Final = 64
"""A window with less room than this is no reason to be thankful: opening it byte by byte makes us
work (CVE-2019-9511)."""


class Outbox:
    """What waits to be sent on one stream."""

    __slots__ = ("ended", "pieces", "priority", "size", "source_paused", "trailers")

    def __init__(self, priority: Priority) -> None:
        """Start empty."""
        self.pieces: deque[bytes | memoryview] = deque()
        self.size = 0
        self.priority = priority
        self.ended = False
        self.trailers = b""
        self.source_paused = False


class Stream:
    """One request and its answer. A subclass acts on what arrives.

    ``remote_open``: the other side may still send; ``local_open``: we may. A stream on which
    neither holds is forgotten by its connection. Bytes that arrived count against the windows
    until `consumed` is called.
    """

    window: ClassVar[int] = STREAM_WINDOW

    __slots__ = (
        "connection",
        "credit",
        "expected",
        "local_open",
        "number",
        "outbox",
        "receive_window",
        "remote_open",
        "send_credit",
        "unread",
    )

    def __init__(self, connection: Connection, number: int) -> None:
        """``number``: the stream's identifier."""
        self.connection = connection
        self.number = number
        self.remote_open = True
        self.local_open = True
        # Windows: what the other side may send; what it took less than its initial window.
        self.receive_window = self.window
        self.send_credit = 0
        # Bytes that arrived and are not consumed; bytes consumed that the other side has not been
        # told of.
        self.unread = 0
        self.credit = 0
        self.expected = -1
        self.outbox: Outbox | None = None

    # What a subclass does.

    def body_received(self, data: bytes, ended: bool) -> None:
        """Take a piece of the body, maybe empty; ``ended``: it was the last."""

    def trailers_received(self, lines: bytes) -> None:
        """Take the trailers as lines of HTTP/1.1; the body has ended."""

    def reset_received(self, code: int) -> None:
        """Take note that the stream has ended before its time, by whomever."""

    def source_paused(self, paused: bool) -> None:
        """Stop or go on to call `send_data`."""

    @property
    def priority(self) -> Priority:
        """When the stream may send, if several want to."""
        return UNSPECIFIED

    # What a subclass uses.

    def send_head(self, block: bytes, *, ended: bool = False) -> None:
        """Send a header block that is not a trailer."""
        connection = self.connection
        connection.write(
            headers(
                self.number,
                connection.first_block(block),
                ended=ended,
                frame_size=connection.frame_size,
            )
        )
        if ended:
            self._sent_all()

    def send_data(self, data: bytes, *, ended: bool = False) -> None:
        """Send a piece of the body, as soon as the windows and others let it pass."""
        connection = self.connection
        size = len(data)
        if (
            self.outbox is None
            and not connection.schedule
            and not connection.paused
            and size <= connection.frame_size
            and size <= connection.send_window
            and size <= connection.initial_window + self.send_credit
        ):
            if size or ended:
                connection.useful += DATA_WORTH
                connection.write_data(self, data, ended)
            if ended:
                self._sent_all()
            return
        self._queue(data, ended, b"")

    def send_trailers(self, block: bytes) -> None:
        """Send trailers behind what waits, and end the stream; an empty block just ends it."""
        if not block:
            self.send_data(b"", ended=True)
        elif self.outbox is None:
            self.send_head(block, ended=True)
        else:
            self._queue(b"", True, block)

    def reset(self, code: int) -> None:
        """End the stream now, telling the other side why."""
        connection = self.connection
        if self.local_open or self.remote_open:
            connection.write(rst_stream(self.number, code))
            connection.remember_reset(self.number)
            connection.forget(self)

    def consumed(self, size: int) -> None:
        """Let the other side send ``size`` more bytes: they are no longer in our hands."""
        size = min(size, self.unread)
        self.unread -= size
        self.connection.give_credit(size)
        if not self.remote_open:
            return
        self.credit += size
        if self.credit >= self.window // 2:
            self.receive_window += self.credit
            self.connection.write(window_update(self.number, self.credit))
            self.credit = 0

    # What a connection uses.

    def send_some(self) -> None:
        """Send one frame of what waits. Only called while the connection's window is open."""
        connection = self.connection
        outbox = self.outbox
        assert outbox is not None
        window = min(connection.initial_window + self.send_credit, connection.send_window)
        window = min(window, connection.frame_size)
        if outbox.pieces and window <= 0:
            connection.schedule.discard(self, outbox.priority)
            return
        data: bytes | memoryview = b""
        worth = DATA_WORTH
        if outbox.pieces:
            data = outbox.pieces.popleft()
            if len(data) > window:
                if window < SMALL_WINDOW:
                    worth = 0
                view = memoryview(data)
                outbox.pieces.appendleft(view[window:])
                data = view[:window]
            outbox.size -= len(data)
            connection.held -= len(data)
        last = not outbox.pieces
        ended = last and outbox.ended and not outbox.trailers
        if data or ended:
            connection.useful += worth
            connection.write_data(self, data, ended)
        if not last:
            if connection.initial_window + self.send_credit <= 0:
                connection.schedule.discard(self, outbox.priority)
            return
        connection.schedule.discard(self, outbox.priority)
        self.outbox = None
        if outbox.trailers:
            self.send_head(outbox.trailers, ended=True)
        elif ended:
            self._sent_all()
        elif outbox.source_paused:
            self.source_paused(False)

    def _queue(self, data: bytes, ended: bool, trailers: bytes) -> None:
        """Let bytes wait for their turn."""
        connection = self.connection
        if connection.held + len(data) > connection.limits.held_bytes:
            connection.misbehaved(self, ENHANCE_YOUR_CALM)
            return
        outbox = self.outbox
        if outbox is None:
            self.outbox = outbox = Outbox(self.priority)
        if data:
            outbox.pieces.append(data)
            outbox.size += len(data)
            connection.held += len(data)
        outbox.ended = ended
        outbox.trailers = trailers
        if not outbox.pieces or connection.initial_window + self.send_credit > 0:
            connection.schedule.add(self, outbox.priority)
            connection.pump()
        crowded = outbox.size > QUEUE_LIMIT or connection.held > HELD_LIMIT
        if crowded and self.outbox is outbox and not ended and not outbox.source_paused:
            outbox.source_paused = True
            self.source_paused(True)

    def _sent_all(self) -> None:
        """Take note that we have said all we had to say."""
        self.local_open = False
        self.connection.sent_all(self)
