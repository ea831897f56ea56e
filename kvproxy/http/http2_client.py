"""The client's end of an HTTP/2 connection: sends requests to a server (RFC 9113), sans-IO."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from kvproxy.http.frames import (
    CANCEL,
    DEFAULT_WINDOW,
    ENABLE_PUSH,
    END_STREAM,
    INITIAL_WINDOW_SIZE,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS,
    settings,
    window_update,
)
from kvproxy.http.http2 import CONNECTION_WINDOW, Limits, Owner
from kvproxy.http.http2_reading import ReadingConnection
from kvproxy.http.http2_stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable


EARLY_STREAMS: Final = 100
"""How many streams are opened before the server has said how many it takes: it should not be fewer
(RFC 9113, section 6.5.2), and what it refuses cannot always be sent again."""


ANSWER_WINDOW: Final = 65_536
"""What the server may send on a stream before we have passed it on.

Streams of many clients share a connection, and a client that does not read must hold up none of the
others: the window of the connection is opened as data arrives, and the windows of the streams alone
bound what waits here.
"""


class ClientStream(Stream):
    """The stream of one request. Its number is 0 until it is opened."""

    window: ClassVar[int] = ANSWER_WINDOW

    __slots__ = ("answered", "bodiless")

    def __init__(self, connection: ClientConnection, *, bodiless: bool) -> None:
        """``bodiless``: the answer has no body, whatever its head says (it is one to HEAD)."""
        super().__init__(connection, 0)
        self.bodiless = bodiless
        self.answered = False

    def head_received(self, status: int, lines: bytes, length: int, ended: bool) -> None:
        """Take the head of an answer, also of a 1xx: status, lines of HTTP/1.1, Content-Length or
        -1."""


class ClientConnection(ReadingConnection):
    """Sends requests to one server. `greet` is to be called first."""

    __slots__ = ("_next_stream",)

    def __init__(
        self,
        owner: Owner,
        limits: Limits | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """``owner``: moves the bytes."""
        super().__init__(owner, limits or Limits(), clock)
        self._next_stream = 1

    def greet(self) -> None:
        """Say the preface and our settings."""
        self.write(
            PREFACE
            + settings(
                {
                    ENABLE_PUSH: 0,
                    INITIAL_WINDOW_SIZE: ANSWER_WINDOW,
                    MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
                }
            )
            + window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
        )

    def finish(self) -> None:
        """Open no further streams; the connection is done when those that are open have ended."""
        self.finishing = True
        self._look_whether_done()

    @property
    def usable(self) -> bool:
        """Whether further requests may be sent on this connection, now or later."""
        return not self.finishing and not self.closed and self._next_stream <= MAX_WINDOW

    @property
    def room(self) -> int:
        """How many streams may be opened now."""
        allowed = min(self.limits.streams, self.peer_streams)
        if self._awaited == SETTINGS:
            allowed = min(allowed, EARLY_STREAMS)
        return max(0, allowed - len(self.streams)) if self.usable else 0

    def open(self, stream: ClientStream, block: bytes, *, ended: bool) -> None:
        """Send the head of a request; there must be `room`."""
        stream.number = self._next_stream
        self._next_stream += 2
        self.streams[stream.number] = stream
        stream.send_head(block, ended=ended)

    def _is_idle(self, number: int) -> bool:
        return number >= self._next_stream or number % 2 == 0

    def _block_received(self, number: int, block: bytes, flags: int) -> None:
        stream = self.streams.get(number)
        if stream is None:
            self._decode_trailers(block)
            self._unexpected(number, None, "HEADERS")
            return
        assert isinstance(stream, ClientStream)
        if stream.answered:
            self._trailers_received(stream, block, flags)
            return
        limits = self.limits
        answer = self._decoder.response(block, limits.header_bytes, limits.header_count)
        self._check_decoded(answer)
        if isinstance(answer, int):
            self.misbehaved(stream, PROTOCOL_ERROR)
            return
        status, lines, length = answer
        ended = bool(flags & END_STREAM)
        if status < 200:
            if ended:
                self.misbehaved(stream, PROTOCOL_ERROR)
            else:
                self._charge()
                stream.head_received(status, lines, length, False)
            return
        stream.answered = True
        self.useful += 1
        without_body = stream.bodiless or status in (204, 304)
        if ended and length > 0 and not without_body:
            self.misbehaved(stream, PROTOCOL_ERROR)
            return
        stream.expected = 0 if without_body else length
        if ended:
            stream.remote_open = False
            if not stream.local_open:
                self.forget(stream)
        stream.head_received(status, lines, length, ended)

    def give_credit(self, size: int) -> None:
        """Do nothing: the server has been let send more when the data arrived."""

    def _data_received(self, flags: int, number: int, payload: bytes) -> None:
        super().give_credit(len(payload))
        stream = self.streams.get(number)
        if isinstance(stream, ClientStream) and not stream.answered and stream.remote_open:
            # RFC 9113, section 8.1: an answer starts with its head.
            self._receive_window -= len(payload)
            self.misbehaved(stream, PROTOCOL_ERROR)
            return
        super()._data_received(flags, number, payload)

    def _goaway_received(self, last_stream: int, code: int) -> None:
        """Send no more requests; those that the server has not seen may be sent elsewhere."""
        self.finishing = True
        for stream in [each for each in self.streams.values() if each.number > last_stream]:
            self.forget(stream)
            stream.reset_received(REFUSED_STREAM)
        self.finish()

    def forget(self, stream: Stream) -> None:
        """Remove a stream."""
        super().forget(stream)
        self._look_whether_done()

    def cancel(self, stream: ClientStream) -> None:
        """Give up a request."""
        stream.reset(CANCEL)
