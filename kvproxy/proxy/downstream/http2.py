"""The connection of an HTTP/2 client: moves bytes between a socket and the codec, and watches over
what its streams may take of time and memory.

A stream is an exchange of its own (`kvproxy.proxy.downstream.http2_exchange`).
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, cast

from kvproxy.http.frames import ENHANCE_YOUR_CALM, INADEQUATE_SECURITY, INTERNAL_ERROR
from kvproxy.http.http2_server import ServerConnection
from kvproxy.http.scan import send
from kvproxy.proxy.downstream.patience import LINGER_SECONDS, QUIET_SECONDS
from kvproxy.proxy.downstream.peer import Peer

if TYPE_CHECKING:
    import ssl

    from kvproxy.proxy.downstream.http2_exchange import Http2Exchange
    from kvproxy.proxy.downstream.listener import Listener

logger = logging.getLogger("kvproxy.proxy")

BACKLOG_LIMIT = 1_048_576
"""Bytes that wait for the client before nothing more is read of it."""

FORGET_SECONDS = 5.0
"""How long a quiet connection remembers the requests that it may see again."""


class Http2Client(asyncio.Protocol):
    """One client; the owner of its codec. ``quiet_since``: when it last had something to do."""

    __slots__ = (
        "_codec",
        "_descriptor",
        "_drained_at",
        "_ending",
        "_incomplete_since",
        "_lingering",
        "_loop",
        "_plain_descriptor",
        "_reading_paused",
        "_write",
        "_write_paused",
        "clock",
        "deadline",
        "listener",
        "make_stream",
        "peer",
        "quiet_since",
        "transport",
    )

    def __init__(self, listener: Listener) -> None:
        """``listener``: the entry point's sockets in this worker, its index and its limits."""
        self.listener = listener
        self.clock = listener.clock
        self.deadline = 0.0
        self._loop = asyncio.get_running_loop()
        self._drained_at = 0.0
        self._ending = False
        self._incomplete_since = 0.0
        self._lingering = False
        self.quiet_since = 0.0
        self._reading_paused = False
        self._write_paused = False
        self.make_stream = partial(listener.serving.exchange, self)
        self._codec = ServerConnection(self, listener.http2_limits)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet the client."""
        listener = self.listener
        self.transport = cast("asyncio.Transport", transport)
        self._write = self.transport.write
        tls = transport.get_extra_info("ssl_object")
        if tls is None:
            # As in `kvproxy.proxy.downstream.http1`: the descriptor is used while nothing is queued
            # on it.
            self.transport.set_write_buffer_limits(0)
        self._plain_descriptor: int = (
            transport.get_extra_info("socket").fileno() if tls is None else -1
        )
        self._descriptor = self._plain_descriptor
        if tls is not None:
            # What `send_at_once` would do.
            self._codec.send_at_once = self._write
        self.peer = Peer(listener, transport)
        self.quiet_since = self.clock.now
        self.deadline = self.clock.now + listener.head_seconds
        # Until the preface is there, the client may be no client at all.
        self._incomplete_since = self.clock.now
        listener.connections.add(self)
        self._codec.greet()
        if tls is not None and not is_secure_enough(tls):
            self._codec.fail(INADEQUATE_SECURITY, "TLS 1.2 or its cipher suite")

    def connection_lost(self, error: Exception | None) -> None:
        """Give up all requests in progress."""
        self.listener.connections.discard(self)
        self._descriptor = self._plain_descriptor = -1
        self._ending = True
        self._codec.abandon()

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client."""
        codec = self._codec
        codec.corked = True
        try:
            incomplete = codec.receive(data)
        except Exception:
            logger.exception("a connection failed in the proxy")
            codec.fail(INTERNAL_ERROR, "a defect of the proxy")
            incomplete = False
        codec.corked = False
        if codec.output or self._ending:
            self._flush()
        if incomplete:
            if not self._incomplete_since:
                self._incomplete_since = self.clock.now
                deadline = self.clock.now + self.listener.head_seconds
                if deadline < self.deadline:
                    self.deadline = deadline
        else:
            self._incomplete_since = 0.0

    def eof_received(self) -> bool:
        """End with the client."""
        return False

    def pause_writing(self) -> None:
        """Hand out no more bodies: the client does not take them."""
        self._write_paused = True
        self._descriptor = -1
        self._codec.pause(True)

    def resume_writing(self) -> None:
        """Go on."""
        self._write_paused = False
        self._descriptor = self._plain_descriptor
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()
        self._codec.pause(False)

    # What the codec tells its owner.

    def send_at_once(self, frames: bytes) -> None:
        """Send what is all there is to send in this turn of the loop."""
        self._send(frames)

    def output_ready(self) -> None:
        """Send everything of this turn of the loop in one write, if there may be more."""
        if self._codec.corked:
            return
        if self._codec.streams:
            self._loop.call_soon(self._flush)
        else:
            self._flush()

    def connection_failed(self, code: int, reason: str) -> None:
        """Close, once the client has been told why."""
        self.listener.failure("", 400, f"HTTP/2 connection: {reason}")
        self._end()

    def connection_done(self) -> None:
        """Close a connection that was drained."""
        self._end()

    def _end(self) -> None:
        self._ending = True
        self.output_ready()

    def _flush(self) -> None:
        codec = self._codec
        data = codec.take_output()
        if data:
            self._send(data)
            if codec.schedule:
                codec.pump()
            if self._write_paused and not self._reading_paused:
                self._limit_backlog()
        if self._ending:
            self._close()

    def _send(self, data: bytes) -> None:
        if self._descriptor < 0:
            self._write(data)
            return
        sent = send(self._descriptor, data)
        if sent is None:
            return
        if sent == len(data):
            # The socket is dead, and sending has consumed its error.
            self.transport.abort()
        else:
            self._write(data[sent:])

    def _limit_backlog(self) -> None:
        """Read nothing that would only make more wait for a client that does not read."""
        transport = self.transport
        if transport.get_write_buffer_size() > BACKLOG_LIMIT and not transport.is_closing():
            self._reading_paused = True
            transport.pause_reading()

    def _close(self) -> None:
        """Close gently: what the client still sends must not destroy our last words."""
        if self._lingering or self.transport.is_closing():
            return
        self._lingering = True
        self.deadline = self.clock.now + LINGER_SECONDS
        self.transport.write_eof()

    # What the listener asks.

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return not self._codec.streams

    def expire(self, now: float) -> None:
        """Act on what has taken too long, and find out when to look again."""
        if self._ending:
            self.transport.abort()
            return
        listener, codec = self.listener, self._codec
        if self._incomplete_since and now - self._incomplete_since >= listener.head_seconds:
            codec.fail(ENHANCE_YOUR_CALM, "a frame that was not complete in time")
            return
        streams = [cast("Http2Exchange", each) for each in codec.streams.values()]
        late = [each for each in streams if each.deadline < now]
        if late and self._write_paused:
            # Whatever is to be said, this client does not read it.
            self.transport.abort()
            return
        for each in late:
            each.expire()
        if not streams and now - self.quiet_since >= listener.idle_seconds:
            codec.finish()
            return
        deadlines = [each.deadline for each in streams]
        if self._incomplete_since:
            deadlines.append(self._incomplete_since + listener.head_seconds)
        if not streams:
            if now - self.quiet_since >= FORGET_SECONDS:
                codec.forget_requests()
            else:
                deadlines.append(self.quiet_since + FORGET_SECONDS)
            deadlines.append(self.quiet_since + listener.idle_seconds)
        self.deadline = min(deadlines)

    def drain(self, now: float) -> None:
        """Let no new requests come; called again until the connection is gone."""
        codec = self._codec
        if not codec.draining:
            self._drained_at = now
            codec.drain()
        elif now - self._drained_at > QUIET_SECONDS:
            codec.finish()


def is_secure_enough(tls: ssl.SSLObject) -> bool:
    """Tell whether HTTP/2 may be spoken over this TLS (RFC 9113, section 9.2)."""
    name, version, _ = tls.cipher() or ("", "", 0)
    if version == "TLSv1.3":
        return True
    authenticated = "GCM" in name or "CHACHA20" in name
    return tls.version() == "TLSv1.2" and authenticated and "DHE-" in name
