"""Connections to HTTP/2 servers: many requests on each, every one an `Upstream` of its exchange.

Heads are the same HTTP/1.1 bytes as on the way to any other server; only here they become frames,
and the frames of an answer become what an HTTP/1.1 server would have said.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, cast

from kvproxy.http.answer import reason
from kvproxy.http.blocks import encode_request, encode_trailers
from kvproxy.http.chunked import ChunkedReader
from kvproxy.http.frames import CANCEL, NO_ERROR, REFUSED_STREAM, error_name
from kvproxy.http.head import values
from kvproxy.http.http2_client import ClientConnection, ClientStream
from kvproxy.http.scan import (
    CHUNKED_BODY,
    HTTP10,
    INFORMATIONAL,
    SPLIT,
    scan_response,
)
from kvproxy.proxy.upstream.unread import unread

if TYPE_CHECKING:
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.upstream.server import Server

logger = logging.getLogger("kvproxy.proxy")

LAST_CHUNK = b"0\r\n\r\n"


class Http2Upstream(ClientStream):
    """One request to an HTTP/2 server. Nothing is sent before the first `send_request`."""

    __slots__ = (
        "_body_left",
        "_chunked",
        "_chunks",
        "_head",
        "_link",
        "_reading_paused",
        "_started",
        "exchange",
        "used_at",
    )

    descriptor = -1
    pooled = False

    def __init__(self, link: Http2UpstreamConnection) -> None:
        """``link``: a connection that has room."""
        super().__init__(link.machine, bodiless=False)
        self._link = link
        self.exchange: Exchange | None = None
        self.used_at = 0.0
        self._body_left = 0
        self._chunks: ChunkedReader | None = None
        self._chunked = False
        self._head: tuple[bytes, int, int, int] | None = None
        self._reading_paused = False
        self._started = False

    @property
    def server(self) -> Server:
        """The server that is asked."""
        return self._link.server

    # What the exchange asks of its upstream.

    def send_request(self, data: bytes) -> None:
        """Send the head, which comes first and whole, then the body."""
        if self.number:
            self._send_body(data)
            return
        end = data.index(b"\r\n\r\n") + 4
        head = data[:end]
        length = values(head, b"content-length")
        if values(head, b"transfer-encoding"):
            self._chunks = ChunkedReader(decode=True)
        elif length:
            self._body_left = int(length[0])
        self.bodiless = head.startswith(b"HEAD ")
        ended = self._chunks is None and not self._body_left
        machine = self._link.machine
        machine.open(self, encode_request(head, self._link.scheme), ended=ended)
        if not self.server.users:
            machine.finish()
        if len(data) > end:
            self._send_body(data[end:])

    def _send_body(self, data: bytes) -> None:
        if not self.local_open:
            return
        if self._chunks is None:
            self._body_left -= len(data)
            self.send_data(data, ended=self._body_left <= 0)
            return
        # The exchange has read these bytes as a chunked body before it passed them on.
        data, _ = self._chunks.feed(data)
        if not self._chunks.finished:
            self.send_data(data)
        elif self._chunks.trailers:
            self.send_data(data)
            self.send_trailers(encode_trailers(self._chunks.trailers))
        else:
            self.send_data(data, ended=True)

    @property
    def writable(self) -> bool:
        """Whether the server takes what is sent as it comes."""
        return self.outbox is None or not self.outbox.source_paused

    def write(self, data: bytes) -> None:
        """Send bytes of the request."""
        self.send_request(data)

    def pause_reading(self) -> None:
        """Let the server send no more than its window."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Let the server go on."""
        self._reading_paused = False
        self.consumed(self.unread)

    def time_out(self) -> None:
        """Give up a server that does not answer."""
        exchange = self.exchange
        self.abort()
        if exchange is not None:
            exchange.response_failed(504, f"{self.server.name}: no answer in time")

    def close(self) -> None:
        """End; what has been sent cannot be waited for."""
        self.abort()

    def abort(self) -> None:
        """End at once."""
        self.exchange = None
        self._head = None
        if self.number:
            self.reset(CANCEL)

    # What the stream tells: the answer.

    def head_received(self, status: int, lines: bytes, length: int, ended: bool) -> None:
        """Make of it what an HTTP/1.1 server would have said."""
        exchange = self.exchange
        if exchange is None:
            return
        framing = b""
        if status >= 200 and length < 0 and not self.bodiless and status not in (204, 304):
            framing = b"Content-Length: 0\r\n" if ended else b"Transfer-Encoding: chunked\r\n"
        said = b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason(status), lines, framing)
        result = scan_response(said, exchange.flags | SPLIT, exchange.clock.date)
        if not isinstance(result, tuple):
            self._fail(500, "malformed answer")
            return
        head, kind, remaining, _, _, _ = result
        if kind == INFORMATIONAL:
            exchange.response_informational(_closed(exchange, head), status)
            return
        self._chunked = (
            kind == CHUNKED_BODY and not exchange.decodes and not exchange.flags & HTTP10
        )
        self._head = (head, status, kind, remaining)
        if ended:
            self._deliver(b"", True)
        else:
            self._link.begun.append(self)

    def body_received(self, data: bytes, ended: bool) -> None:
        """Pass on a piece of the body."""
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            if ended:
                data += LAST_CHUNK
        self._deliver(data, ended)
        if not self._reading_paused:
            self.consumed(self.unread)

    def trailers_received(self, lines: bytes) -> None:
        """Pass on the trailers; the body has ended."""
        if self._chunked:
            self._deliver(b"0\r\n%b\r\n" % lines, True)
            return
        self.deliver_head()
        exchange = self.exchange
        if exchange is not None:
            self._finish(exchange)
            exchange.response_trailers(lines)
            exchange.response_ended()

    def deliver_head(self) -> None:
        """Pass on a head for which no body has come yet."""
        if self._head is not None:
            self._deliver(b"", False)

    def _deliver(self, data: bytes, ended: bool) -> None:
        """Pass on what came, the head first if it waits."""
        exchange = self.exchange
        if exchange is None:
            return
        if ended:
            self._finish(exchange)
        if self._head is None:
            if data:
                exchange.response_data(data)
            if ended:
                exchange.response_ended()
            return
        (head, status, kind, length), self._head = self._head, None
        self._started = True
        if exchange.flags & SPLIT:
            exchange.response_head(head, status, kind, length, data, ended)
        elif ended:
            exchange.response_whole(head + b"\r\n" + data)
        else:
            exchange.response_started(head + b"\r\n" + data, status)

    def _finish(self, exchange: Exchange) -> None:
        """Leave the exchange; a request that is not wanted any more is not sent to its end."""
        self.exchange = None
        self._link.used_at = exchange.clock.now
        if self.local_open:
            self.reset(NO_ERROR)

    def reset_received(self, code: int) -> None:
        """Tell the exchange, or ask once more where the server has not seen the request."""
        exchange = self.exchange
        if exchange is None:
            return
        self.exchange = None
        unheard = not self._started and self._head is None
        self._head = None
        unseen = code == REFUSED_STREAM or self._link.lost
        if unseen and unheard and exchange.response_stale():
            return
        if self._link.lost:
            exchange.response_failed(502, f"{self.server.name}: {self._link.lost}")
        else:
            exchange.response_failed(500, f"{self.server.name}: stream reset: {error_name(code)}")

    def source_paused(self, paused: bool) -> None:
        """Tell the exchange whether more of the request may come."""
        if self.exchange is not None:
            self.exchange.server_writable(not paused)

    def _fail(self, status: int, reason: str) -> None:
        exchange = self.exchange
        self.abort()
        if exchange is not None:
            exchange.response_failed(status, f"{self.server.name}: {reason}")


class Http2UpstreamConnection(asyncio.Protocol):
    """One connection to an HTTP/2 server.

    ``lost``: why it ended, empty while it has not. ``begun``: streams whose head may be waiting for
    the body that came with it. ``used_at``: monotonic time at which it was made, or the last
    request ended.
    """

    __slots__ = (
        "_flushing",
        "begun",
        "lost",
        "machine",
        "scheme",
        "server",
        "transport",
        "used_at",
    )

    def __init__(self, server: Server) -> None:
        """``server``: whose pool it joins when it is connected."""
        self.server = server
        self.scheme = b"https" if server.scheme == "https" else b"http"
        self.machine = ClientConnection(self)
        self.begun: list[Http2Upstream] = []
        self.lost = ""
        self.used_at = monotonic()
        self._flushing = False

    @property
    def room(self) -> int:
        """How many requests may be added now."""
        return self.machine.room

    @property
    def useless(self) -> bool:
        """Whether it has no request and takes none: the server allows no streams, or has left."""
        return self.idle and not (self.room and self in self.server.multiplexed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say the preface."""
        self.transport = cast("asyncio.Transport", transport)
        self.server.multiplexed.append(self)
        self.machine.greet()

    def data_received(self, data: bytes) -> None:
        """Act on frames; heads go on together with the bodies that came with them."""
        self.machine.receive(data)
        begun, self.begun = self.begun, []
        for stream in begun:
            stream.deliver_head()

    def eof_received(self) -> None:
        """The server says nothing more: `connection_lost` follows."""
        self._leave_pool()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell all requests in progress."""
        if error is not None and self.transport.get_extra_info("ssl_object") is None:
            for data in unread(self.transport.get_extra_info("socket").fileno()):
                self.data_received(data)
        self._leave_pool()
        self.lost = str(error or "closed the connection")
        self.machine.abandon()

    def pause_writing(self) -> None:
        """Hold bodies back: the server does not take more."""
        self.machine.pause(True)

    def resume_writing(self) -> None:
        """Go on."""
        self.machine.pause(False)

    # What the machine tells its owner.

    def output_ready(self) -> None:
        """Send what this turn of the loop brings in one go."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def connection_failed(self, code: int, reason: str) -> None:
        """The server broke the protocol: send the GOAWAY and close."""
        logger.warning("a connection to %s ended: %s", self.server.name, reason)
        self._leave_pool()
        self._flush()
        self.transport.close()

    def connection_done(self) -> None:
        """The server has said GOAWAY and every request has ended."""
        self._leave_pool()
        self.transport.close()

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return not self.machine.streams

    def finish(self) -> None:
        """Close when the last request has ended, or at once."""
        self._leave_pool()
        self.machine.finish()

    def close(self) -> None:
        """Close; only to be called while `idle`."""
        self._leave_pool()
        self.transport.close()

    def _flush(self) -> None:
        self._flushing = False
        if self.transport.is_closing():
            return
        output = self.machine.take_output()
        if output:
            self.transport.write(output)
        self.machine.pump()

    def _leave_pool(self) -> None:
        if self in self.server.multiplexed:
            self.server.multiplexed.remove(self)


def _closed(exchange: Exchange, head: bytes) -> bytes:
    """Return an open head in the form that the exchange wants."""
    return head if exchange.flags & SPLIT else head + b"\r\n"
