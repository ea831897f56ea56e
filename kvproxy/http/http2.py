"""What both ends of an HTTP/2 connection share: its streams, and what it sends (RFC 9113).

Sans-IO: a connection is given the bytes that arrive and collects the bytes to send. Reading frames
is in `kvproxy.http.http2_reading`, the server's end in `kvproxy.http.http2_server`, the client's in
`kvproxy.http.http2_client`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from kvproxy.http.allowance import Allowance
from kvproxy.http.frames import (
    CANCEL,
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    ENHANCE_YOUR_CALM,
    error_name,
    goaway,
    pack_header,
    window_update,
)
from kvproxy.http.priority import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.http.http2_stream import Stream

CONNECTION_WINDOW: Final = 1_048_576
"""What the other side may send on all streams together before we have passed it on."""

OUTPUT_LIMIT: Final = 131_072
"""Bytes of bodies handed out in one go; what waits behind them can still be put in order."""

REMEMBERED_RESETS: Final = 256
"""Streams that were reset whose late frames are told from those of streams that ended well."""


class Limits(NamedTuple):
    """What one connection may ask of us."""

    streams: int = 128
    """Streams open at a time (SETTINGS_MAX_CONCURRENT_STREAMS)."""
    header_bytes: int = 65_536
    """Fields of a message, as RFC 9113 (6.5.2) counts them."""
    header_count: int = 128
    """Fields of a message, pseudo-header fields among them."""
    held_bytes: int = 16 * 1_048_576
    """Bytes of bodies that wait to be sent; the stream that needs more is reset."""
    frames: int = 1000
    """Frames that ask for work and bring none (PING, SETTINGS, empty DATA, ...), at once; answers
    and bodies make up for them."""
    frames_per_second: int = 100
    """The same, all the time."""
    resets: int = 250
    """Streams that the other side resets, or makes us reset, at once."""
    resets_per_second: int = 100
    """The same, all the time."""


class ViolationError(Exception):
    """The other side broke the protocol in a way that ends the connection."""

    def __init__(self, code: int, reason: str) -> None:
        """``code`` as in RFC 9113, section 7."""
        super().__init__(reason)
        self.code = code


class Owner(Protocol):
    """Who moves the bytes of a connection."""

    def output_ready(self) -> None:
        """Take note that there is something to send: call `Connection.take_output` soon."""

    def connection_failed(self, code: int, reason: str) -> None:
        """Take note that the connection has ended with an error; send the output and close."""

    def connection_done(self) -> None:
        """Take note that a connection which was shut down has no stream left."""


class Connection:
    """One end of a connection.

    ``streams``: those that are open. ``paused``: the bytes handed out have to be taken first.
    """

    __slots__ = (
        "_credit",
        "_frames",
        "_owner",
        "_receive_window",
        "_reset_allowance",
        "_resets",
        "_write_paused",
        "closed",
        "finishing",
        "frame_size",
        "held",
        "initial_window",
        "last_stream",
        "limits",
        "output",
        "output_bytes",
        "paused",
        "peer_streams",
        "schedule",
        "send_window",
        "streams",
        "table_update",
        "useful",
    )

    def __init__(
        self, owner: Owner, limits: Limits, clock: Callable[[], float] | None = None
    ) -> None:
        """``clock`` gives seconds, for limits of what may be done in a time."""
        self.limits = limits
        self.streams: dict[int, Stream] = {}
        self.schedule = Schedule()
        self.output: list[bytes | memoryview] = []
        self.output_bytes = 0
        self.paused = False
        self.held = 0
        self.send_window = DEFAULT_WINDOW
        self.initial_window = DEFAULT_WINDOW
        self.frame_size = DEFAULT_FRAME_SIZE
        self.table_update = False
        self.closed = False
        self.finishing = False
        """Whether the connection is done when its streams are."""
        self.useful = 0
        """Work done since an allowance was last asked, in frames."""
        self.last_stream = 0
        self.peer_streams = 1 << 31
        """Streams that the other side lets us open at a time."""
        self._owner = owner
        self._receive_window = CONNECTION_WINDOW
        self._credit = 0
        # Streams that were reset: whether the other side did it.
        self._resets: dict[int, bool] = {}
        self._write_paused = False
        timed = (clock,) if clock is not None else ()
        self._frames = Allowance(limits.frames, limits.frames_per_second, *timed)
        self._reset_allowance = Allowance(limits.resets, limits.resets_per_second, *timed)

    # What an owner uses.

    def take_output(self) -> bytes:
        """Return the bytes to send now; to be followed by `pump` when they are sent."""
        output, self.output = self.output, []
        self.output_bytes = 0
        self.paused = self._write_paused
        return b"".join(output)

    def pause(self, paused: bool) -> None:
        """Stop or go on to hand out bodies: the way to the other side is full or not."""
        self._write_paused = paused
        self.paused = paused or self.output_bytes > OUTPUT_LIMIT
        if not self.paused:
            self.pump()

    def fail(self, code: int, reason: str) -> None:
        """End the connection with an error: GOAWAY, and the end of all streams."""
        if self.closed:
            return
        self.write(goaway(self.last_stream, code, reason.encode()))
        self.abandon()
        self._owner.connection_failed(code, f"{error_name(code)}: {reason}")

    def abandon(self, code: int = CANCEL) -> None:
        """Tell all streams that the connection is gone."""
        self.closed = True
        for stream in list(self.streams.values()):
            self.forget(stream)
            stream.reset_received(code)

    # What streams use.

    def write(self, frame: bytes | memoryview) -> None:
        """Add a frame to the output."""
        output = self.output
        if output:
            output.append(frame)
        elif not self.closed:
            output.append(frame)
            self._owner.output_ready()

    def write_data(self, stream: Stream, data: bytes | memoryview, ended: bool) -> None:
        """Add a DATA frame to the output, within the windows."""
        size = len(data)
        self.send_window -= size
        stream.send_credit -= size
        self.output_bytes += size
        self.write(pack_header(size << 8 | DATA, int(ended), stream.number))
        if size:
            self.output.append(data)
        if self.output_bytes > OUTPUT_LIMIT:
            self.paused = True

    def first_block(self, block: bytes) -> bytes:
        """Put before a header block what the other side has to be told first: that our table has
        size 0 (RFC 7541, section 4.2)."""
        if self.table_update:
            self.table_update = False
            return b"\x20" + block
        return block

    def pump(self) -> None:
        """Send what waits, as far as the windows let it pass."""
        schedule = self.schedule
        while schedule and not self.paused and not self.closed:
            stream = schedule.next()
            assert stream is not None
            if self.send_window <= 0 and stream.outbox is not None and stream.outbox.pieces:
                return
            stream.send_some()

    def give_credit(self, size: int) -> None:
        """Let the other side send more on the connection."""
        self._credit += size
        if self._credit >= CONNECTION_WINDOW // 2 and not self.closed:
            self._receive_window += self._credit
            self.write(window_update(0, self._credit))
            self._credit = 0

    def forget(self, stream: Stream) -> None:
        """Remove a stream, with everything that waits on it."""
        self.streams.pop(stream.number, None)
        stream.local_open = stream.remote_open = False
        outbox = stream.outbox
        if outbox is not None:
            self.schedule.discard(stream, outbox.priority)
            self.held -= outbox.size
            stream.outbox = None
        if stream.unread:
            unread, stream.unread = stream.unread, 0
            self.give_credit(unread)

    def remember_reset(self, number: int, *, by_peer: bool = False) -> None:
        """Judge frames of this stream that still arrive by who has ended it: those that were on
        their way when we did are passed over."""
        self._resets[number] = by_peer
        if len(self._resets) > REMEMBERED_RESETS:
            del self._resets[next(iter(self._resets))]

    def sent_all(self, stream: Stream) -> None:
        """Take note that a stream has nothing more to send."""
        if not stream.remote_open:
            self.forget(stream)

    def misbehaved(self, stream: Stream, code: int) -> None:
        """Reset a stream for what the other side did; the stream is told."""
        stream.reset(code)
        stream.reset_received(code)
        self.charge_reset()

    def charge_reset(self) -> None:
        """Count a reset against the other side."""
        if not self._may(self._reset_allowance):
            self.fail(ENHANCE_YOUR_CALM, "too many resets")

    def _look_whether_done(self) -> None:
        """Tell the owner when a connection that takes no new streams has none left."""
        if self.finishing and not self.streams and not self.closed:
            self.closed = True
            self._owner.connection_done()

    def _may(self, allowance: Allowance, cost: int = 1) -> bool:
        """Take something out of an allowance, after what useful work has put in."""
        if self.useful:
            self._frames.earn(self.useful)
            self._reset_allowance.earn(self.useful)
            self.useful = 0
        return allowance.spend(cost)
