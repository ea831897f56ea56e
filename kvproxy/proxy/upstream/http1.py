"""The connection to an HTTP/1.1 server: sends one request at a time, relays its answer, goes back
to the pool."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from kvproxy.http.chunked import ChunkedError, ChunkedReader
from kvproxy.http.scan import (
    CHUNKED_BODY,
    CLOSE,
    HTTP10,
    INFORMATIONAL,
    KEEP_ALIVE,
    LENGTH,
    SPLIT,
    SWITCHING,
    scan_response,
    send,
)
from kvproxy.proxy.upstream.unread import unread

if TYPE_CHECKING:
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.upstream.server import Server

MAXIMUM_INFORMATIONAL = 32
"""How many 1xx answers a server may send before its final one."""

INFORMATIONAL_UNIT = 1 << 20
"""The 1xx answers of a request are counted in the flags of its exchange, above those of the head
scan: flags begin anew with each request, whatever way its final answer takes."""

UNREAD_SECONDS = 60.0
"""How long a closed connection may wait for a server that does not take its last bytes."""

TUNNEL = 100
"""Value of ``body`` after a 101: bytes flow until one side closes."""


class UpstreamConnection(asyncio.Protocol):
    """One connection to a server; the `Upstream` of the exchange that it serves.

    ``descriptor`` is that of the socket while nothing is queued on it and it is not TLS, else -1:
    only then may bytes be sent past the transport. ``pooled``: it waits for a request when it has
    none.
    """

    __slots__ = (
        "_body",
        "_broken",
        "_buffer",
        "_chunks",
        "_plain_descriptor",
        "_reading_paused",
        "_remaining",
        "_reusable",
        "_write_paused",
        "descriptor",
        "exchange",
        "server",
        "transport",
        "used_at",
        "write",
    )

    pooled = True

    def __init__(self, server: Server) -> None:
        """``server``: where an idle connection returns to."""
        self.server = server
        self.exchange: Exchange | None = None
        self.used_at = 0.0
        self._buffer = b""
        self._body = 0
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._reading_paused = False
        self._reusable = False
        self._broken = False
        self._write_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport. Without TLS, heads are sent on the bare descriptor."""
        self.transport = cast("asyncio.Transport", transport)
        self.write = self.transport.write
        plain = transport.get_extra_info("ssl_object") is None
        if plain:
            # The descriptor may be used past the transport only while its queue is empty; with a
            # limit of 0, pause_writing and resume_writing tell exactly when that is.
            self.transport.set_write_buffer_limits(0)
        self._plain_descriptor: int = transport.get_extra_info("socket").fileno() if plain else -1
        self.descriptor = self._plain_descriptor

    def send_request(self, data: bytes) -> None:
        """Send request bytes, queueing what the socket does not take."""
        if self.descriptor >= 0:
            sent = send(self.descriptor, data)
            if sent == len(data):
                # The socket is dead, and sending has consumed its error: the loop will see an end
                # that looks like a regular one. What the server had said before can still be read.
                self._broken = True
            elif sent is not None:
                self.write(data[sent:])
        else:
            self.write(data)

    @property
    def writable(self) -> bool:
        """Whether nothing is queued that the server has yet to take."""
        return not self._write_paused

    def close(self) -> None:
        """Close after everything queued is written, or after a while that it was not."""
        self.exchange = None
        transport = self.transport
        if not transport.is_closing():
            transport.close()
            if self._write_paused:
                asyncio.get_running_loop().call_later(UNREAD_SECONDS, transport.abort)

    def abort(self) -> None:
        """Close at once."""
        self.exchange = None
        self.transport.abort()

    def time_out(self) -> None:
        """Give up a server that does not answer."""
        exchange = self.exchange
        if exchange is not None:
            self._fail(exchange, 504, "no answer in time")

    def pause_reading(self) -> None:
        """Stop reading: the client does not take more."""
        if not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if self._reading_paused and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """Stop reading the request: the server does not take more."""
        self._write_paused = True
        self.descriptor = -1
        if self.exchange is not None:
            self.exchange.server_writable(False)

    def resume_writing(self) -> None:
        """Read the request again."""
        self._write_paused = False
        self.descriptor = self._plain_descriptor
        if self.exchange is not None:
            self.exchange.server_writable(True)

    def data_received(self, data: bytes) -> None:
        """Relay the answer of the exchange in progress."""
        exchange = self.exchange
        if exchange is None:
            # Unsolicited bytes on an idle connection would become the answer of the next request.
            self._leave_pool()
            self.abort()
            return
        if self._body:
            self._receive_body(exchange, data)
            return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        result = scan_response(data, exchange.flags, exchange.clock.date)
        if result.__class__ is bytes:
            self.exchange = None
            self.used_at = exchange.clock.now
            server = self.server
            if server.users and not self._write_paused:
                server.idle.append(self)
            else:
                self.close()
            exchange.response_whole(result)
        elif result is None:
            self._buffer = data
        elif isinstance(result, int):
            self._fail(exchange, result, "malformed answer")
        else:
            self._receive_head(exchange, data, result)  # type: ignore[arg-type]

    def _receive_head(
        self, exchange: Exchange, data: bytes, result: tuple[bytes, int, int, int, int, int]
    ) -> None:
        out, kind, remaining, end, reuse, status = result
        if kind == INFORMATIONAL:
            exchange.flags += INFORMATIONAL_UNIT
            if exchange.flags >= (MAXIMUM_INFORMATIONAL + 1) * INFORMATIONAL_UNIT:
                self._fail(exchange, 502, "too many 1xx answers")
                return
            exchange.response_informational(out, status)
            if len(data) > end and self.exchange is exchange:
                self.data_received(data[end:])
                if self.exchange is None:
                    # Sending the 1xx may have stopped the reading of what is idle now.
                    self.resume_reading()
            return
        if kind == SWITCHING:
            self._body = TUNNEL
            exchange.switched(out)
            if len(data) > end and self.exchange is exchange:
                exchange.response_data(data[end:])
            return
        self._reusable = bool(reuse)
        self._remaining = remaining
        if exchange.flags & SPLIT:
            self._receive_split(exchange, out, kind, status, data[end:])
        elif kind == LENGTH and remaining:
            self._body = LENGTH
            exchange.response_started(out, status)
        elif kind == CHUNKED_BODY:
            self._body = CHUNKED_BODY
            self._chunks = ChunkedReader(decode=decodes(exchange))
            exchange.response_started(out, status)
            if len(data) > end and self.exchange is exchange:
                self._receive_body(exchange, data[end:])
        elif kind == CLOSE:
            self._body = CLOSE
            exchange.flags &= ~KEEP_ALIVE
            exchange.response_started(out, status)
        else:
            exchange.response_started(out, status)
            if self.exchange is exchange:
                self._end(exchange)

    def _receive_split(
        self, exchange: Exchange, head: bytes, kind: int, status: int, data: bytes
    ) -> None:
        """Hand over head, framing and what came of the body; ``data``: all behind the head."""
        length = self._remaining
        ended = False
        if kind == LENGTH:
            ended = len(data) >= length
            if len(data) > length:
                data = data[:length]
                self._reusable = False
            self._remaining = length - len(data)
            self._body = LENGTH
        elif kind == CHUNKED_BODY:
            self._body = CHUNKED_BODY
            self._chunks = chunks = ChunkedReader(decode=decodes(exchange))
            try:
                data, rest = chunks.feed(data)
            except ChunkedError as error:
                self._fail(exchange, 502, f"chunked body: {error}")
                return
            ended = chunks.finished
            if rest:
                self._reusable = False
            if ended and chunks.trailers and decodes(exchange):
                exchange.response_head(head, status, kind, length, data, False)
                if self.exchange is exchange:
                    self._end_with(exchange, chunks.trailers)
                return
        elif kind == CLOSE:
            self._body = CLOSE
            exchange.flags &= ~KEEP_ALIVE
        else:
            data = b""
            ended = True
        if ended:
            self._release(exchange)
        exchange.response_head(head, status, kind, length, data, ended)

    def _receive_body(self, exchange: Exchange, data: bytes) -> None:
        body = self._body
        if body == LENGTH:
            if len(data) < self._remaining:
                self._remaining -= len(data)
                exchange.response_data(data)
                return
            if len(data) > self._remaining:
                data = data[: self._remaining]
                self._reusable = False
            exchange.response_data(data)
            if self.exchange is exchange:
                self._end(exchange)
        elif body == CHUNKED_BODY:
            chunks = cast("ChunkedReader", self._chunks)
            try:
                out, rest = chunks.feed(data)
            except ChunkedError as error:
                self._fail(exchange, 502, f"chunked body: {error}")
                return
            if out:
                exchange.response_data(out)
            if chunks.finished and self.exchange is exchange:
                if rest:
                    self._reusable = False
                if chunks.trailers and decodes(exchange):
                    self._end_with(exchange, chunks.trailers)
                else:
                    self._end(exchange)
        else:
            exchange.response_data(data)

    def _end_with(self, exchange: Exchange, trailers: bytes) -> None:
        """Finish the answer with its trailers."""
        self._release(exchange)
        exchange.response_trailers(trailers)
        exchange.response_ended()

    def _end(self, exchange: Exchange) -> None:
        """Finish the answer."""
        self._release(exchange)
        exchange.response_ended()

    def _release(self, exchange: Exchange) -> None:
        """Leave the exchange; keep the connection when both sides said all they had to say."""
        self.exchange = None
        self._body = 0
        self._chunks = None
        if self._reusable and not exchange.sending and not self._write_paused:
            self.used_at = exchange.clock.now
            # The client may have stopped this side's reading; an idle connection must read to
            # see its end.
            self.resume_reading()
            self.server.release(self)
        else:
            self.close()

    def _fail(self, exchange: Exchange, status: int, reason: str) -> None:
        self.abort()
        exchange.response_failed(status, f"{self.server.name}: {reason}")

    def _leave_pool(self) -> None:
        if self in self.server.idle:
            self.server.idle.remove(self)

    def eof_received(self) -> None:
        """Let no request use a connection that the server has closed, from this moment on."""
        if self.exchange is None:
            self._leave_pool()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the exchange in progress, or leave the pool."""
        if error is not None and self.exchange is not None:
            self._receive_last()
        # The number of the descriptor may soon be that of another connection.
        self.descriptor = self._plain_descriptor = -1
        exchange = self.exchange
        if exchange is None:
            self._leave_pool()
            return
        self.exchange = None
        if self._body == CLOSE:
            if error is None and not self._broken:
                exchange.response_ended()
            else:
                reason = str(error or "reset")
                exchange.response_failed(502, f"{self.server.name}: {reason}")
        elif self._body == TUNNEL:
            exchange.response_ended()
        elif self._unheard(exchange) and exchange.response_stale():
            return
        else:
            what = (
                "closed in the middle of its answer"
                if self._body or self._buffer
                else "closed without an answer"
            )
            exchange.response_failed(502, f"{self.server.name}: {what}")

    def _receive_last(self) -> None:
        """Take what the server said before the connection broke."""
        # Nothing returns to the pool from here.
        self._write_paused = True
        for data in unread(self._plain_descriptor):
            self.data_received(data)
            if self.exchange is None:
                return

    def _unheard(self, exchange: Exchange) -> bool:
        """Whether a connection from the pool ended without a word on the request."""
        return bool(
            self.used_at
            and not self._body
            and not self._buffer
            and exchange.flags < INFORMATIONAL_UNIT
        )


def decodes(exchange: Exchange) -> bool:
    """Tell whether a chunked body goes to the exchange without its framing."""
    return exchange.decodes or bool(exchange.flags & HTTP10)
