"""Reading the frames of an HTTP/2 connection and acting on them (RFC 9113, sections 4 to 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Final

from kvproxy.http.blocks import BlockDecoder
from kvproxy.http.frames import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_SIZE,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_HEADER_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_TABLE_SIZE,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_FRAME_SIZE_LIMIT,
    MAX_WINDOW,
    NO_RFC7540_PRIORITIES,
    PADDED,
    PING,
    PRIORITISED,
    PRIORITY,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    ping,
    rst_stream,
    unpack_header,
    unpack_setting,
)
from kvproxy.http.http2 import Connection, Limits, Owner, ViolationError
from kvproxy.http.http2_stream import QUEUE_LIMIT, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CONTINUATIONS: Final = 64
"""CONTINUATION frames of one block."""

SETTINGS_COST: Final = 10
"""What a change of settings costs, in frames, and ten values more: each may touch every stream."""

_CONNECTION_CODES: Final = (COMPRESSION_ERROR, ENHANCE_YOUR_CALM)
_SWITCHES: Final = (ENABLE_PUSH, ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES)

_HEADERS_FLAGS: Final = END_HEADERS | PADDED | PRIORITISED

DEPENDS_ON_ITSELF: Final = 256
"""Beside the flags of a HEADERS frame: its priority names its own stream (RFC 7540, section
5.3.1)."""


class ReadingConnection(Connection):
    """A connection that acts on the frames it is given."""

    __slots__ = (
        "_awaited",
        "_block_bytes",
        "_block_flags",
        "_block_pieces",
        "_block_stream",
        "_buffer",
        "_decoder",
        "_preface",
    )

    def __init__(
        self, owner: Owner, limits: Limits, clock: Callable[[], float] | None = None
    ) -> None:
        """See `Connection`."""
        super().__init__(owner, limits, clock)
        self._decoder = BlockDecoder()
        self._buffer = b""
        self._preface = b""
        # What the next frame has to be: SETTINGS at the start, CONTINUATION within a block.
        self._awaited = SETTINGS
        self._block_stream = 0
        self._block_flags = 0
        self._block_bytes = 0
        self._block_pieces: list[bytes] = []

    def receive(self, data: bytes) -> bool:
        """Act on bytes that arrived; tells whether the rest of a frame, or of a header block, is to
        come next."""
        if self.closed:
            return False
        if self._preface:
            data = self._without_preface(data)
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        try:
            position = 0
            size = len(data)
            while size - position >= FRAME_HEADER_BYTES and not self.closed:
                head, flags, number = unpack_header(data, position)
                start = position + FRAME_HEADER_BYTES
                end = start + (head >> 8)
                if end - start > DEFAULT_FRAME_SIZE:
                    raise ViolationError(FRAME_SIZE_ERROR, "frame too large")
                if end > size:
                    break
                position = end
                kind = head & 0xFF
                number &= MAX_WINDOW
                if self._awaited and not self._is_awaited(kind, flags, number):
                    raise ViolationError(PROTOCOL_ERROR, "another frame was due")
                if kind == HEADERS:
                    if flags & _HEADERS_FLAGS == END_HEADERS and number:
                        self._block_received(number, data[start:end], flags)
                    else:
                        self._headers_received(flags, number, data[start:end])
                elif kind == DATA:
                    self._data_received(flags, number, data[start:end])
                else:
                    reader = self._READERS.get(kind)
                    if reader is None:
                        self._charge()
                    else:
                        reader(self, flags, number, data[start:end])
        except ViolationError as violation:
            self.fail(violation.code, str(violation))
            return False
        if position < size:
            self._buffer = data[position:]
        return bool(self._buffer or self._awaited)

    def _without_preface(self, data: bytes) -> bytes:
        """Return what is behind the client's preface, as far as that has come."""
        size = min(len(self._preface), len(data))
        if data[:size] != self._preface[:size]:
            self.fail(PROTOCOL_ERROR, "no preface of HTTP/2")
        self._preface = self._preface[size:]
        return data[size:]

    def _is_awaited(self, kind: int, flags: int, number: int) -> bool:
        """Whether a frame is the one that has to come now (RFC 9113, sections 3.4 and 6.10)."""
        if self._awaited == SETTINGS:
            if kind != SETTINGS or flags & ACK:
                return False
            self._awaited = 0
            return True
        return kind == CONTINUATION and number == self._block_stream

    def _charge(self, cost: int = 1) -> None:
        """Count a frame that asks for work and brings none."""
        if not self._may(self._frames, cost):
            raise ViolationError(ENHANCE_YOUR_CALM, "too many frames that say nothing")

    def _headers_received(self, flags: int, number: int, payload: bytes) -> None:
        """HEADERS: RFC 9113, section 6.2."""
        if number == 0:
            raise ViolationError(PROTOCOL_ERROR, "HEADERS on stream 0")
        if flags & PADDED:
            payload = _without_padding(payload)
        if flags & PRIORITISED:
            if len(payload) < 5:
                raise ViolationError(FRAME_SIZE_ERROR, "HEADERS too short")
            depends_on = int.from_bytes(payload[:4], "big") & MAX_WINDOW
            payload = payload[5:]
            if depends_on == number:
                flags |= DEPENDS_ON_ITSELF
        if flags & END_HEADERS:
            self._block_received(number, payload, flags)
            return
        self._awaited = CONTINUATION
        self._block_stream = number
        self._block_flags = flags
        self._block_pieces = [payload]
        self._block_bytes = len(payload)

    def _continuation_received(self, flags: int, number: int, payload: bytes) -> None:
        """CONTINUATION: RFC 9113, section 6.10."""
        if not self._awaited:
            raise ViolationError(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block_pieces.append(payload)
        self._block_bytes += len(payload)
        if (
            self._block_bytes > self.limits.header_bytes * 2
            or len(self._block_pieces) > MAX_CONTINUATIONS
        ):
            raise ViolationError(ENHANCE_YOUR_CALM, "header block too large")
        if not payload:
            self._charge()
        if flags & END_HEADERS:
            self._awaited = 0
            pieces, self._block_pieces = self._block_pieces, []
            self._block_received(number, b"".join(pieces), self._block_flags)

    def _block_received(self, number: int, block: bytes, flags: int) -> None:
        """Act on a whole header block. ``flags`` are those of its HEADERS frame."""
        raise NotImplementedError

    def _trailers_received(self, stream: Stream, block: bytes, flags: int) -> None:
        """Act on the second header block of a message (RFC 9113, section 8.1)."""
        lines = self._decode_trailers(block)
        if not stream.remote_open:
            self.misbehaved(stream, STREAM_CLOSED)
        elif isinstance(lines, int) or not flags & END_STREAM or stream.expected > 0:
            self.misbehaved(stream, PROTOCOL_ERROR)
        else:
            stream.remote_open = False
            if not stream.local_open:
                self.streams.pop(stream.number, None)
            stream.trailers_received(lines)
            self._look_whether_done()

    def _decode_trailers(self, block: bytes) -> bytes | int:
        """Read a block for its lines, or only for the sake of the table."""
        limits = self.limits
        lines = self._decoder.trailers(block, limits.header_bytes, limits.header_count)
        self._check_decoded(lines)
        return lines

    def _check_decoded(self, answer: bytes | int | tuple[object, ...]) -> None:
        """Look for errors of the connection in the answer of a decoder."""
        if isinstance(answer, int) and answer in _CONNECTION_CODES:
            raise ViolationError(answer, "header block that cannot be decoded")

    def _data_received(self, flags: int, number: int, payload: bytes) -> None:
        """DATA: RFC 9113, section 6.1."""
        size = len(payload)
        self._receive_window -= size
        if self._receive_window < 0:
            raise ViolationError(FLOW_CONTROL_ERROR, "connection window exceeded")
        stream = self.streams.get(number)
        if stream is None or not stream.remote_open:
            self.give_credit(size)
            self._unexpected(number, stream, "DATA")
            return
        stream.receive_window -= size
        if stream.receive_window < 0:
            self.give_credit(size)
            self.misbehaved(stream, FLOW_CONTROL_ERROR)
            return
        stream.unread += size
        if flags & PADDED:
            payload = _without_padding(payload)
            stream.consumed(size - len(payload))
        ended = bool(flags & END_STREAM)
        if payload:
            self.useful += 1
        elif not ended:
            self._charge()
        if stream.expected >= 0:
            stream.expected -= len(payload)
            if stream.expected < 0 or (ended and stream.expected):
                # RFC 9113, section 8.1.1: not what Content-Length says.
                self.misbehaved(stream, PROTOCOL_ERROR)
                return
        if ended:
            stream.remote_open = False
            if not stream.local_open:
                self.streams.pop(number, None)
        stream.body_received(payload, ended)
        if ended:
            self._look_whether_done()

    def _unexpected(self, number: int, stream: Stream | None, what: str) -> None:
        """Judge a frame of a stream that cannot have it (RFC 9113, section 5.1)."""
        if stream is not None:
            self.misbehaved(stream, STREAM_CLOSED)
        elif number in self._resets:
            if self._resets[number]:
                self.write(rst_stream(number, STREAM_CLOSED))
                self.charge_reset()
            else:
                self._charge()
        elif self._is_idle(number):
            raise ViolationError(PROTOCOL_ERROR, f"{what} on a stream that is not open")
        else:
            raise ViolationError(STREAM_CLOSED, f"{what} on a stream that is closed")

    def _is_idle(self, number: int) -> bool:
        """Whether the stream has never been opened."""
        raise NotImplementedError

    def _priority_received(self, flags: int, number: int, payload: bytes) -> None:
        """PRIORITY: RFC 9113, section 6.3. It has no meaning any more."""
        if number == 0:
            raise ViolationError(PROTOCOL_ERROR, "PRIORITY on stream 0")
        self._charge()
        depends_on = int.from_bytes(payload[:4], "big") & MAX_WINDOW
        if len(payload) != 5 or depends_on == number:
            code = FRAME_SIZE_ERROR if len(payload) != 5 else PROTOCOL_ERROR
            stream = self.streams.get(number)
            if stream is not None:
                self.misbehaved(stream, code)
            else:
                self.write(rst_stream(number, code))
                self.charge_reset()

    def _rst_stream_received(self, flags: int, number: int, payload: bytes) -> None:
        """RST_STREAM: RFC 9113, section 6.4."""
        if len(payload) != 4:
            raise ViolationError(FRAME_SIZE_ERROR, "RST_STREAM")
        stream = self.streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise ViolationError(PROTOCOL_ERROR, "RST_STREAM on a stream that is not open")
            self._charge()
            return
        self.remember_reset(number, by_peer=True)
        self.forget(stream)
        stream.reset_received(int.from_bytes(payload, "big"))
        self.charge_reset()

    def _settings_received(self, flags: int, number: int, payload: bytes) -> None:
        """SETTINGS: RFC 9113, section 6.5."""
        if number:
            raise ViolationError(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ViolationError(FRAME_SIZE_ERROR, "SETTINGS with ACK and a payload")
            self._charge()
            return
        if len(payload) % 6:
            raise ViolationError(FRAME_SIZE_ERROR, "SETTINGS")
        self._charge(SETTINGS_COST * (1 + len(payload) // 60))
        for setting, value in unpack_setting(payload):
            self._apply_setting(setting, value)
        self.write(SETTINGS_ACK)
        self._resume_streams()

    def _apply_setting(self, setting: int, value: int) -> None:
        """Act on one value; unknown settings have no meaning (RFC 9113, section 6.5.2)."""
        if setting == HEADER_TABLE_SIZE:
            self.table_update = True
        elif setting == INITIAL_WINDOW_SIZE:
            if value > MAX_WINDOW:
                raise ViolationError(FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE")
            self.initial_window = value
            if any(value + stream.send_credit > MAX_WINDOW for stream in self.streams.values()):
                raise ViolationError(FLOW_CONTROL_ERROR, "window of a stream")
        elif setting == MAX_FRAME_SIZE:
            if not DEFAULT_FRAME_SIZE <= value <= MAX_FRAME_SIZE_LIMIT:
                raise ViolationError(PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE")
            self.frame_size = min(value, QUEUE_LIMIT)
        elif setting == MAX_CONCURRENT_STREAMS:
            self.peer_streams = value
        elif setting in _SWITCHES and value > 1:
            raise ViolationError(PROTOCOL_ERROR, f"setting {setting} is not 0 or 1")

    def _resume_streams(self) -> None:
        """Schedule the streams whose window has opened."""
        for stream in self.streams.values():
            outbox = stream.outbox
            if outbox is not None and self.initial_window + stream.send_credit > 0:
                self.schedule.add(stream, outbox.priority)
        self.pump()

    def _push_promise_received(self, flags: int, number: int, payload: bytes) -> None:
        """PUSH_PROMISE: a client cannot send it, and a server is told not to (section 8.4)."""
        raise ViolationError(PROTOCOL_ERROR, "PUSH_PROMISE")

    def _ping_received(self, flags: int, number: int, payload: bytes) -> None:
        """PING: RFC 9113, section 6.7."""
        if number:
            raise ViolationError(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ViolationError(FRAME_SIZE_ERROR, "PING")
        self._charge()
        if flags & ACK:
            self._ping_answered(payload)
        else:
            self.write(ping(payload, ACK))

    def _ping_answered(self, payload: bytes) -> None:
        """Take note of the answer to a PING."""

    def _goaway_frame_received(self, flags: int, number: int, payload: bytes) -> None:
        """GOAWAY: RFC 9113, section 6.8."""
        if number:
            raise ViolationError(PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ViolationError(FRAME_SIZE_ERROR, "GOAWAY")
        self._charge()
        last = int.from_bytes(payload[:4], "big") & MAX_WINDOW
        self._goaway_received(last, int.from_bytes(payload[4:8], "big"))

    def _goaway_received(self, last_stream: int, code: int) -> None:
        """Take note that the other side wants no new streams."""

    def _window_update_received(self, flags: int, number: int, payload: bytes) -> None:
        """WINDOW_UPDATE: RFC 9113, section 6.9."""
        if len(payload) != 4:
            raise ViolationError(FRAME_SIZE_ERROR, "WINDOW_UPDATE")
        self._charge()
        increment = int.from_bytes(payload, "big") & MAX_WINDOW
        if number == 0:
            if increment == 0:
                raise ViolationError(PROTOCOL_ERROR, "WINDOW_UPDATE of 0")
            self.send_window += increment
            if self.send_window > MAX_WINDOW:
                raise ViolationError(FLOW_CONTROL_ERROR, "window of the connection")
            self.pump()
            return
        stream = self.streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise ViolationError(PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that is not open")
            return
        stream.send_credit += increment
        window = self.initial_window + stream.send_credit
        if increment == 0 or window > MAX_WINDOW:
            self.misbehaved(stream, FLOW_CONTROL_ERROR if increment else PROTOCOL_ERROR)
        elif stream.outbox is not None and window > 0:
            self.schedule.add(stream, stream.outbox.priority)
            self.pump()

    def _priority_update_received(self, flags: int, number: int, payload: bytes) -> None:
        """PRIORITY_UPDATE: RFC 9218, section 7.1. Only a server acts on it."""
        if number:
            raise ViolationError(PROTOCOL_ERROR, "PRIORITY_UPDATE on a stream")
        self._charge()

    _READERS: ClassVar[dict[int, Callable[[Any, int, int, bytes], None]]] = {
        PRIORITY: _priority_received,
        RST_STREAM: _rst_stream_received,
        SETTINGS: _settings_received,
        PUSH_PROMISE: _push_promise_received,
        PING: _ping_received,
        GOAWAY: _goaway_frame_received,
        WINDOW_UPDATE: _window_update_received,
        CONTINUATION: _continuation_received,
        PRIORITY_UPDATE: _priority_update_received,
    }


def _without_padding(payload: bytes) -> bytes:
    """The payload of a padded frame (RFC 9113, section 6.1)."""
    if not payload:
        raise ViolationError(FRAME_SIZE_ERROR, "no pad length")
    end = len(payload) - payload[0]
    if end < 1:
        raise ViolationError(PROTOCOL_ERROR, "more padding than payload")
    return payload[1:end]
