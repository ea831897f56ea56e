"""The server's end of an HTTP/2 connection: takes requests of a client (RFC 9113), sans-IO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, cast

from kvproxy.http.blocks import encode_answer, encode_response, request_block
from kvproxy.http.flags import HTTP2, KEEP_ALIVE
from kvproxy.http.frames import (
    DEFAULT_WINDOW,
    ENABLE_CONNECT_PROTOCOL,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_HEADER_BYTES,
    FRAME_SIZE_ERROR,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
    MAX_WINDOW,
    NO_ERROR,
    NO_RFC7540_PRIORITIES,
    PREFACE,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    goaway,
    ping,
    rst_stream,
    settings,
    window_update,
)
from kvproxy.http.head import values
from kvproxy.http.http2 import CONNECTION_WINDOW, OUTPUT_LIMIT, Limits, Owner, ViolationError
from kvproxy.http.http2_reading import DEPENDS_ON_ITSELF, ReadingConnection
from kvproxy.http.http2_stream import STREAM_WINDOW, Stream
from kvproxy.http.priority import UNSPECIFIED, Priority, parse_priority

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY_REQUESTS: Final = 64
"""How many finished requests are remembered by the bytes of their header block."""

MEMORY_BLOCK_BYTES: Final = 1024
"""The largest block that is remembered."""

MAX_GAPS: Final = 64
"""Ranges of streams passed over by the client that are told from closed ones."""

_DRAINING_PING: Final = b"draining"


class Request:
    """A request head: what `kvproxy.http.blocks.BlockDecoder.request` says of it.

    ``host_line``: the ``Host`` line that goes with it, and the end of the head.
    ``status``: what it must be answered with when it is refused, else 0. ``prepared``: what
    whoever serves it made of the head; equal requests of a connection may share one object.
    """

    __slots__ = (
        "cut",
        "flags",
        "head",
        "host",
        "host_line",
        "length",
        "prepared",
        "priority",
        "status",
        "target",
    )

    def __init__(
        self,
        head: bytes,
        host: bytes,
        target: bytes,
        flags: int,
        length: int,
        cut: bytes,
        status: int = 0,
    ) -> None:
        """Keep the facts; the priority is read from the head."""
        self.head = head
        self.host = host
        self.host_line = b"Host: %b\r\n\r\n" % host
        self.target = target
        self.flags = flags
        self.length = length
        self.cut = cut
        self.status = status
        self.prepared: bytes | None = None
        self.priority = UNSPECIFIED
        if b"\r\nPriority: " in head:
            self.priority = parse_priority(b",".join(values(head, b"priority")))


class ServerOwner(Owner, Protocol):
    """Who serves the requests of a connection."""

    def send_at_once(self, frames: bytes) -> None:
        """Send the output, which is just this: nothing else is in progress."""

    @property
    def make_stream(self) -> Callable[[ServerConnection, int, Request], ServerStream]:
        """Makes the stream of a new request, whose `start` is called next."""
        ...


class ServerStream(Stream):
    """The stream of one request."""

    __slots__ = ("request",)

    connection: ServerConnection

    def __init__(self, connection: ServerConnection, number: int, request: Request) -> None:
        """``request``: what is asked for."""
        # As in `Stream`, whose own method would be one more call for each request.
        self.connection = connection
        self.number = number
        self.remote_open = self.local_open = True
        self.receive_window = STREAM_WINDOW
        self.send_credit = self.unread = self.credit = 0
        self.expected = request.length
        self.outbox = None
        self.request = request

    def start(self, ended: bool) -> None:
        """Begin to serve the request; ``ended``: it has no body."""

    def send_whole(self, data: bytes) -> None:
        """Send a whole answer in the form of HTTP/1.1, head and body: the common answer."""
        connection = self.connection
        answer = None
        if not (connection.schedule.levels or connection.paused or connection.table_update):
            room = connection.initial_window + self.send_credit
            if room > connection.send_window:
                room = connection.send_window
            answer = encode_answer(data, self.number, room)
        if answer is None:
            block, end = encode_response(data)
            self.send_head(block, ended=len(data) == end)
            if len(data) > end:
                self.send_data(data[end:], ended=True)
            return
        frames, size = answer
        connection.send_window -= size
        self.local_open = False
        plain = not (self.remote_open or self.unread or connection.finishing)
        if plain:
            streams = connection.streams
            del streams[self.number]
            connection.useful += 1
            if not (streams or connection.output or connection.corked or connection.closed):
                connection.send_at_once(frames)
                return
        connection.output_bytes += size
        if connection.output_bytes > OUTPUT_LIMIT:
            connection.paused = True
        connection.write(frames)
        if not plain:
            connection.sent_all(self)

    def answered_early(self) -> None:
        """Take note that the answer is complete and the request is not: the rest of it is not
        wanted (RFC 9113, section 8.1)."""
        self.reset(NO_ERROR)

    @property
    def priority(self) -> Priority:
        """What the client wishes: in the request, or later."""
        return self.connection.wishes.get(self.number) or self.request.priority

    def set_priority(self, priority: Priority) -> None:
        """Change what the client wishes (RFC 9218, section 7)."""
        outbox = self.outbox
        self.connection.wishes[self.number] = priority
        if outbox is not None:
            schedule = self.connection.schedule
            waiting = schedule.discard(self, outbox.priority)
            outbox.priority = priority
            if waiting:
                schedule.add(self, priority)


class ServerConnection(ReadingConnection):
    """Takes the requests of one client.

    The client's preface is part of what is received. `greet` is to be called first. ``corked``: the
    owner is about to take the output.
    """

    __slots__ = (
        "_final_stream",
        "_gaps",
        "_make_stream",
        "_memory",
        "_memory_with_body",
        "corked",
        "draining",
        "send_at_once",
        "wishes",
    )

    def __init__(
        self,
        owner: ServerOwner,
        limits: Limits | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """``owner``: serves the requests and moves the bytes."""
        super().__init__(owner, limits or Limits(), clock)
        self._make_stream = owner.make_stream
        self.send_at_once: Callable[[bytes], None] = owner.send_at_once
        self.corked = False
        self._memory: dict[bytes, Request] = {}
        self._memory_with_body: dict[bytes, Request] = {}
        self._gaps: list[tuple[int, int]] = []
        self.wishes: dict[int, Priority] = {}
        """What PRIORITY_UPDATE frames say, of requests that are in progress or to come."""
        self._preface = PREFACE
        # The last stream whose request is still served, once the client was told.
        self._final_stream = MAX_WINDOW
        self.draining = False

    def greet(self) -> None:
        """Say our settings."""
        self.write(
            settings(
                {
                    MAX_CONCURRENT_STREAMS: self.limits.streams,
                    INITIAL_WINDOW_SIZE: STREAM_WINDOW,
                    MAX_HEADER_LIST_SIZE: self.limits.header_bytes,
                    ENABLE_CONNECT_PROTOCOL: 1,
                    NO_RFC7540_PRIORITIES: 1,
                }
            )
            + window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW)
        )

    def drain(self) -> None:
        """Announce that no further request will be served (RFC 9113, section 6.8).

        The first GOAWAY names no stream, because requests may be on their way; when the client has
        answered the PING behind it, or `finish` is called, the second one names the last.
        """
        if not self.draining and not self.closed:
            self.draining = True
            self.write(goaway(MAX_WINDOW, NO_ERROR) + ping(_DRAINING_PING))

    def finish(self) -> None:
        """Serve the requests that are there, and no more."""
        if not self.finishing and not self.closed:
            self.draining = self.finishing = True
            self._final_stream = self.last_stream
            self.write(goaway(self.last_stream, NO_ERROR))
            self._look_whether_done()

    def forget_requests(self) -> None:
        """Free the memory of requests: nothing has come for a while."""
        self._memory.clear()
        self._memory_with_body.clear()

    def forget(self, stream: Stream) -> None:
        """Remove a stream."""
        super().forget(stream)
        self._look_whether_done()

    def sent_all(self, stream: Stream) -> None:
        """Take note that an answer is complete."""
        self.useful += 1
        if stream.remote_open:
            cast("ServerStream", stream).answered_early()
        elif stream.unread or self.finishing:
            self.forget(stream)
        else:
            del self.streams[stream.number]

    def _ping_answered(self, payload: bytes) -> None:
        if payload == _DRAINING_PING and self.draining:
            self.finish()

    def _is_idle(self, number: int) -> bool:
        return (
            number > self.last_stream
            or number % 2 == 0
            or any(start <= number < end for start, end in self._gaps)
        )

    def receive(self, data: bytes) -> bool:
        """See `ReadingConnection.receive`; requests without a body, which mostly are one frame that
        came as a whole, take a short way through it."""
        if self._awaited or self._buffer or self.draining or self.closed:
            return super().receive(data)
        position = 0
        number = self.last_stream + 1 | 1
        streams = self.streams
        try:
            while (block := request_block(data, position, number)) is not None:
                position += FRAME_HEADER_BYTES + len(block)
                request = self._memory.get(block) or self._decode_request(block, True)
                self.last_stream = number
                if request is None:
                    self._refuse(number, PROTOCOL_ERROR)
                elif len(streams) >= self.limits.streams:
                    self._refuse(number, REFUSED_STREAM)
                else:
                    streams[number] = stream = self._make_stream(self, number, request)
                    stream.remote_open = False
                    stream.start(True)
                if position == len(data) or self.closed:
                    return False
                number += 2
        except ViolationError as violation:
            self.fail(violation.code, str(violation))
            return False
        return super().receive(data[position:] if position else data)

    def _block_received(self, number: int, block: bytes, flags: int) -> None:
        if number <= self.last_stream or not number & 1:
            self._later_block_received(number, block, flags)
            return
        ended = bool(flags & END_STREAM)
        memory = self._memory if ended else self._memory_with_body
        request = memory.get(block) or self._decode_request(block, ended)
        if number != self.last_stream + 2 and len(self._gaps) < MAX_GAPS:
            self._gaps.append((self.last_stream + 1, number))
        self.last_stream = number
        if request is None or flags & DEPENDS_ON_ITSELF:
            self._refuse(number, PROTOCOL_ERROR)
            return
        if number > self._final_stream:
            self.remember_reset(number)
            return
        streams = self.streams
        if len(streams) >= self.limits.streams:
            self._refuse(number, REFUSED_STREAM)
            return
        streams[number] = stream = self._make_stream(self, number, request)
        if ended:
            stream.remote_open = False
        stream.start(ended)

    def _refuse(self, number: int, code: int) -> None:
        self.remember_reset(number)
        self.write(rst_stream(number, code))
        self.charge_reset()

    def _decode_request(self, block: bytes, ended: bool) -> Request | None:
        """Make a request of a block, None when it is malformed."""
        decoder, limits = self._decoder, self.limits
        before = decoder.changes
        answer = decoder.request(block, limits.header_bytes, limits.header_count, ended)
        changed = decoder.changes != before
        if changed and (self._memory or self._memory_with_body):
            self.forget_requests()
        if isinstance(answer, int):
            self._check_decoded(answer)
            if answer == PROTOCOL_ERROR:
                return None
            return Request(b"", b"", b"", KEEP_ALIVE | HTTP2, -1, b"", status=answer)
        request = Request(*answer)
        if not changed and len(block) <= MEMORY_BLOCK_BYTES:
            memory = self._memory if ended else self._memory_with_body
            if len(memory) >= MEMORY_REQUESTS:
                memory.clear()
            memory[block] = request
        return request

    def _later_block_received(self, number: int, block: bytes, flags: int) -> None:
        """Act on a block that opens no stream: trailers, or what must not be."""
        stream = self.streams.get(number)
        if stream is not None:
            self._trailers_received(stream, block, flags)
            return
        self._decode_trailers(block)
        self._unexpected(number, None, "HEADERS")

    def _decode_trailers(self, block: bytes) -> bytes | int:
        before = self._decoder.changes
        lines = super()._decode_trailers(block)
        if self._decoder.changes != before:
            self.forget_requests()
        return lines

    def _priority_update_received(self, flags: int, number: int, payload: bytes) -> None:
        super()._priority_update_received(flags, number, payload)
        if len(payload) < 4:
            raise ViolationError(FRAME_SIZE_ERROR, "PRIORITY_UPDATE")
        prioritised = int.from_bytes(payload[:4], "big") & MAX_WINDOW
        if prioritised % 2 == 0:
            raise ViolationError(PROTOCOL_ERROR, "PRIORITY_UPDATE of no request")
        priority = parse_priority(payload[4:])
        stream = self.streams.get(prioritised)
        if stream is not None:
            cast("ServerStream", stream).set_priority(priority)
        elif prioritised > self.last_stream:
            self.wishes[prioritised] = priority
        if len(self.wishes) > self.limits.streams:
            self.wishes = {
                number: wish
                for number, wish in self.wishes.items()
                if number in self.streams or number > self.last_stream
            }
            if len(self.wishes) > 2 * self.limits.streams:
                raise ViolationError(ENHANCE_YOUR_CALM, "priorities of too many requests")

    _READERS: ClassVar[dict[int, Callable[[Any, int, int, bytes], None]]] = {
        **ReadingConnection._READERS,
        PRIORITY_UPDATE: _priority_update_received,
    }
