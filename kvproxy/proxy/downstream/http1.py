"""The connection of an HTTP/1.1 client: reads requests, routes them, streams bodies, writes
answers.

This is the request path. The common request (plain path, no body, a pooled server connection) costs
one scan of its head, one dictionary look-up, one send; everything else is in the methods below
`ClientConnection.data_received`.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, cast

from kvproxy.http.answer import CONTINUE, MISSING_HOST, Answer, text_answer
from kvproxy.http.chunked import ChunkedError, ChunkedReader
from kvproxy.http.scan import (
    CHUNKED,
    CHUNKED_BODY,
    EXPECT,
    HEAD,
    HTTP10,
    IDEMPOTENT,
    KEEP_ALIVE,
    LENGTH,
    PLAIN_PATH,
    scan_request,
    send,
)
from kvproxy.proxy.counters import SECONDS_CELL
from kvproxy.proxy.downstream.patience import EXPECT_SECONDS, LINGER_SECONDS, QUIET_SECONDS
from kvproxy.proxy.downstream.peer import Peer
from kvproxy.proxy.exchange import ADDING
from kvproxy.proxy.request.decision import DIRECT_MASK, understand
from kvproxy.proxy.upstream.dial import start_dial

if TYPE_CHECKING:
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.exchange import Upstream
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.upstream.server import DialError, Server

logger = logging.getLogger("kvproxy.proxy")

IDLE, READING_HEAD, ACTIVE, LINGERING, TUNNELLING = range(5)
"""Phases of a connection. Up to READING_HEAD the next bytes belong to a request head."""

PREFACE_START = b"PRI * HTTP/2.0\r\n"
"""How a client of HTTP/2 begins (RFC 9113, section 3.4)."""

PIPELINE_LIMIT = 65_536
"""Bytes of following requests that wait for the present answer before reading stops."""

HALF_CLOSED_SECONDS = 60.0
"""How long a client that closed its sending side is served at most."""


class ClientConnection(asyncio.Protocol):
    """One client; serves its requests one after the other and is the `Exchange` of each.

    Takes answers in the joined form.
    """

    decodes = False

    __slots__ = (
        "_body",
        "_body_left",
        "_buffer",
        "_chain",
        "_chunks",
        "_descriptor",
        "_ended",
        "_expect_timer",
        "_forwarded",
        "_host",
        "_kept",
        "_listener",
        "_peer",
        "_phase",
        "_plain_descriptor",
        "_prefix",
        "_reading_paused",
        "_response_status",
        "_started",
        "_upstream",
        "_waiting",
        "_write",
        "_write_paused",
        "clock",
        "deadline",
        "flags",
        "sending",
        "transport",
    )

    def __init__(self, listener: Listener) -> None:
        """``listener``: the entry point's sockets in this worker, its index and its limits."""
        self._listener = listener
        self.clock = listener.clock
        self.flags = KEEP_ALIVE
        self.sending = False
        self.deadline = 0.0
        self._phase = IDLE
        self._buffer = b""
        self._body = 0
        self._body_left = 0
        self._chunks: ChunkedReader | None = None
        self._chain: Chain | None = None
        self._upstream: Upstream | None = None
        self._prefix = b""
        self._host = b""
        self._forwarded = b""
        self._expect_timer: asyncio.TimerHandle | None = None
        self._started = 0.0
        self._response_status = 0
        self._write_paused = False
        self._reading_paused = False
        self._ended = False
        self._waiting = False
        self._kept = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport and what is constant for this client."""
        listener = self._listener
        self.transport = cast("asyncio.Transport", transport)
        self._write = self.transport.write
        plain = transport.get_extra_info("ssl_object") is None
        if plain:
            # The descriptor may be used past the transport only while its queue is empty; with a
            # limit of 0, pause_writing and resume_writing tell exactly when that is.
            self.transport.set_write_buffer_limits(0)
        self._plain_descriptor: int = transport.get_extra_info("socket").fileno() if plain else -1
        self._descriptor = self._plain_descriptor
        self._peer = Peer(listener, transport)
        self._forwarded = self._peer.plain_lines(b"")
        self.deadline = listener.clock.now + listener.idle_seconds
        listener.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Give up the request in progress."""
        self._listener.connections.discard(self)
        # The number of the descriptor may soon be that of another connection.
        self._descriptor = self._plain_descriptor = -1
        if self._phase == ACTIVE:
            # Traefik 1.7 counts a client that left before its answer began as 499.
            self._count(self._response_status // 100 or 4)
        upstream = self._upstream
        if self._phase == TUNNELLING and upstream is not None:
            # What the client said last is still delivered.
            self._upstream = None
            upstream.close()
        self._phase = LINGERING
        self._buffer = b""
        self._drop_upstream()
        self._cancel_expect()

    def eof_received(self) -> bool:
        """Serve a half-closed client its answer; anything else ends here."""
        if self._phase != ACTIVE or self.sending:
            if self._phase == ACTIVE:
                self.transport.abort()
            return False
        self._ended = True
        if not self._buffer:
            self.flags &= ~KEEP_ALIVE
        self.deadline = min(self.deadline, self.clock.now + HALF_CLOSED_SECONDS)
        return True

    def expire(self, now: float) -> None:
        """Act on a passed deadline: the sweep calls this once ``deadline`` is before ``now``."""
        if self._write_paused:
            # Whatever is to be said, this client does not read it.
            self.transport.abort()
        elif self._phase == ACTIVE and not self._response_status:
            if self.sending and not self._reading_paused:
                self._answer(text_answer(408), close=True)
            elif self._upstream is not None:
                self._upstream.time_out()
            else:
                self._answer(text_answer(504), close=True)
        elif self._phase == READING_HEAD:
            self.flags = 0
            self._answer(text_answer(408), close=True)
        elif self._phase == IDLE:
            self.transport.close()
        else:
            self.transport.abort()
        self.deadline = now + LINGER_SECONDS

    def drain(self, now: float) -> None:
        """Announce the close with the next answer; close at once only what has been idle for a
        while.

        A client in full swing may have its next request on the way: closing under it would lose
        that request.
        """
        self.flags &= ~KEEP_ALIVE
        idle_since = self.deadline - self._listener.idle_seconds
        if self._phase == IDLE and not self._buffer and now - idle_since > QUIET_SECONDS:
            self.transport.close()

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        return self._phase == IDLE

    def data_received(self, data: bytes) -> None:
        """Take bytes of the client: of a head up to READING_HEAD, else of what follows it.

        The common request is served in this one method, because each further call costs about as
        much as the scan of its head.
        """
        try:
            if self._phase:
                if self._phase > READING_HEAD:
                    self._receive_more(data)
                    return
                if (whole := self._gather_head(data)) is None:
                    return
                data = whole
            listener = self._listener
            result = scan_request(data, listener.maximum_head_bytes, listener.maximum_headers)
            if result.__class__ is not tuple:
                self._no_head(data, result)  # type: ignore[arg-type]
                return
            head, host, target, flags, length, end = result
            self._phase = ACTIVE
            self._started = monotonic()
            self.flags = flags = flags & listener.kept_flags
            self.deadline = listener.answer_deadline
            if length or flags & CHUNKED:
                self._expect_body(length)
            if len(data) > end:
                self._buffer = data[end:]

            chain = listener.direct.get(host)
            if (
                chain is not None
                and flags & DIRECT_MASK == PLAIN_PATH
                and chain.priority > listener.floating_priority
                and (chain.request_lines is None or not flags & CHUNKED)
            ):
                if host != self._host:
                    self._host = host
                    self._forwarded = self._peer.plain_lines(host)
                prefix = head + self._forwarded
                if chain.request_lines is not None:
                    prefix = chain.request_lines.apply(prefix)
            else:
                decision = self._decide(data, head, host, target, end)
                if decision is None:
                    if self.sending and self._buffer:
                        self._receive_rest()
                    return
                chain, prefix = decision
            self._chain = chain
            if chain.response_lines is not None:
                self.flags |= ADDING
            server = chain.single or chain.next_server()
            if server is None:
                self._answer(text_answer(chain.no_server_status))
                return
            idle = server.idle
            if idle:
                self._upstream = upstream = idle.pop()
                upstream.exchange = self
                # Kept for one safe retry, should the pooled connection turn out to be dead.
                self._prefix = prefix
                out = prefix + (server.host_line if not chain.pass_host else self.host_line(server))
                if upstream.descriptor >= 0:
                    sent = send(upstream.descriptor, out)
                    if sent is not None:
                        upstream.write(out[sent:])
                else:
                    upstream.write(out)
            else:
                self._prefix = prefix
                self._start_dial(prefix, server)
            if self.sending and self._buffer:
                self._receive_rest()
        except Exception:
            logger.exception("a request failed in the proxy")
            self._panic()

    def _gather_head(self, data: bytes) -> bytes | None:
        """Add bytes to an incomplete head; returns all of it once it may be complete.

        Scanning again is only worth it when the end may have come: that bounds the cost of tiny
        reads.
        """
        ended = b"\r\n\r\n" in self._buffer[-3:] + data
        data = self._buffer + data
        if ended or len(data) >= self._listener.maximum_head_bytes:
            self._buffer = b""
            return data
        self._buffer = data
        return None

    def _expect_body(self, length: int) -> None:
        """Prepare for a request body of ``length`` bytes, or chunked when that is 0.

        Until it has come, the connection cannot be kept: an early answer must say so.
        """
        self.sending = True
        self._kept = self.flags & KEEP_ALIVE
        self.flags &= ~KEEP_ALIVE
        self.deadline = self._listener.clock.now + self._listener.read_seconds
        if length:
            self._body = LENGTH
            self._body_left = length
        else:
            self._body = CHUNKED_BODY
            self._chunks = ChunkedReader()

    def _receive_rest(self) -> None:
        """Take what came of the body together with the head."""
        rest, self._buffer = self._buffer, b""
        self._receive_body(rest)

    def routed(self, chain: Chain) -> None:
        """Let this chain count the answer."""
        self._chain = chain

    def host_line(self, server: Server) -> bytes:
        """Return the ``Host`` line that ``server`` is sent, and the end of the head.

        HTTP/1.0 clients may have sent none.
        """
        if self._chain is not None and self._chain.pass_host and self._host:
            return b"Host: %b\r\n\r\n" % self._host
        return server.host_line

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """Return the server to be tried next (specification section 8.6)."""
        chain, upstream = self._chain, self._upstream
        if chain is None or tries >= chain.attempts:
            return None
        unreachable = None if upstream is None else upstream.server
        if unreachable is not None:
            self._listener.failure(unreachable.name, error.status, str(error))
        return chain.another(unreachable)

    def connected(self, upstream: Upstream) -> None:
        """Take the upstream of the request in progress."""
        self._upstream = upstream
        if self._write_paused:
            upstream.pause_reading()

    def _start_dial(self, prefix: bytes, server: Server) -> None:
        start_dial(self, self._listener, server, prefix)

    def _no_head(self, data: bytes, result: int | None) -> None:
        """Wait for the rest of a head, or refuse what can never become one."""
        if result is None:
            if self._phase == IDLE:
                self._phase = READING_HEAD
                self._started = monotonic()
                self.deadline = self._started + self._listener.head_seconds
            self._buffer = data
            return
        if result == 505 and data.startswith(PREFACE_START) and self._may_switch:
            self._switch_to_http2(data)
            return
        self._phase = ACTIVE
        self._chain = None
        self._started = monotonic()
        self._host = b""
        self._buffer = data
        self.flags = 0
        if result == 400 and data.startswith((b"GET ", b"HEAD ", b"POST ")) and not has_host(data):
            self._answer(MISSING_HOST)
        elif result == 417:
            self._answer(Answer(417))
        else:
            self._answer(text_answer(result))

    @property
    def _may_switch(self) -> bool:
        """Whether these are the first bytes of the connection, without TLS."""
        return not self._host and self._plain_descriptor >= 0

    def _switch_to_http2(self, data: bytes) -> None:
        """Leave the connection to HTTP/2: the client knows that it is spoken here (RFC 9113,
        section 3.3)."""
        self._listener.connections.discard(self)
        protocol = self._listener.protocol_for("h2")
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.data_received(data)

    def _decide(
        self, data: bytes, head: bytes, host: bytes, target: bytes, end: int
    ) -> tuple[Chain, bytes] | None:
        """Decide what becomes of the request; None when it is seen to already."""
        # Until there is another one: that of the request before must not count this one.
        self._chain = None
        if host != self._host:
            self._host = host
            self._forwarded = self._peer.plain_lines(host)
        if self.flags & EXPECT:
            self._expect_timer = asyncio.get_running_loop().call_later(
                EXPECT_SECONDS, self._continue
            )
        asked = understand(self._listener, data[:end], head, host, target, self.flags)
        return self._listener.serving.begin(self, self._listener, self._peer, asked)

    def _receive_more(self, data: bytes) -> None:
        """Take bytes that come while a request is in progress."""
        if self._phase == TUNNELLING:
            if self._upstream is not None:
                self._upstream.send_request(data)
        elif self._phase == ACTIVE:
            if self.sending:
                self._receive_body(data)
            else:
                self._buffer += data
                if len(self._buffer) > PIPELINE_LIMIT:
                    self._pause_reading()

    def _receive_body(self, data: bytes) -> None:
        """Pass body bytes on to the server; keep what belongs to the next request."""
        if self._body == LENGTH:
            if len(data) >= self._body_left:
                self._buffer = data[self._body_left :]
                data = data[: self._body_left]
                self._body_left = 0
                self._body_ended()
            else:
                self._body_left -= len(data)
        else:
            chunks = cast("ChunkedReader", self._chunks)
            try:
                data, rest = chunks.feed(data)
            except ChunkedError as error:
                self.response_failed(400, f"request body: {error}")
                return
            if chunks.finished:
                self._buffer = rest
                self._chunks = None
                self._body_ended()
        if self.sending and not self._listener.read_is_total:
            self.deadline = self.clock.now + self._listener.read_seconds
        if not data:
            return
        if self._upstream is not None:
            self._upstream.send_request(data)

    def _body_ended(self) -> None:
        self.sending = False
        self._body = 0
        # The body is gone, so the request cannot be sent once more.
        self._prefix = b""
        if self._write_paused:
            self._pause_reading()
        if not self._response_status:
            self.flags |= self._kept
            self.deadline = self.clock.now + self._listener.answer_seconds

    def _continue(self) -> None:
        """Ask for the body in the server's place."""
        self._expect_timer = None
        if self._phase == ACTIVE and not self._response_status and self.flags & EXPECT:
            self.flags &= ~EXPECT
            self._send(CONTINUE)

    def _cancel_expect(self) -> None:
        if self._expect_timer is not None:
            self._expect_timer.cancel()
            self._expect_timer = None

    def response_whole(self, data: bytes) -> None:
        """Send a complete answer and take the next request."""
        if self.flags & ADDING:
            data = self._with_lines(data)
        self._upstream = None
        if self._descriptor >= 0:
            sent = send(self._descriptor, data)
            if sent is not None:
                self._write_rest(data, sent)
        else:
            self._write(data)
        chain = self._chain
        seconds = monotonic() - self._started
        counters = chain.counters  # type: ignore[union-attr]
        counters[data[9] - 48] += 1
        counters[SECONDS_CELL] += seconds
        if seconds > 0.1:
            chain.count_slow(seconds)  # type: ignore[union-attr]
        if self.flags & KEEP_ALIVE and not self._buffer and not self._reading_paused:
            self._phase = IDLE
            self.deadline = self._listener.idle_deadline
        else:
            self._finish()

    def _with_lines(self, data: bytes) -> bytes:
        """Return an answer with the lines of its chain."""
        self.flags &= ~ADDING
        lines = cast("Chain", self._chain).response_lines
        assert lines is not None
        return lines[self._peer.secure].insert(data)

    def response_informational(self, data: bytes, status: int) -> None:
        """Relay a 1xx answer; HTTP/1.0 clients do not know them (RFC 9110 section 15.2)."""
        if status == 100:
            if not self.flags & EXPECT:
                return
            self.flags &= ~EXPECT
            self._cancel_expect()
        if not self.flags & HTTP10:
            self._send(data)

    def response_started(self, data: bytes, status: int) -> None:
        """Send the head of an answer and what came of its body."""
        if self.flags & ADDING:
            data = self._with_lines(data)
        self._response_status = status
        self.deadline = self.clock.now + self._listener.write_seconds
        self._cancel_expect()
        self._send(data)

    def response_data(self, data: bytes) -> None:
        """Send more of the body."""
        if self._phase != TUNNELLING and not self._listener.write_is_total:
            self.deadline = self.clock.now + self._listener.write_seconds
        self._send(data)

    def response_trailers(self, lines: bytes) -> None:
        """Pass over them: HTTP/1.0 knows none, and HTTP/1.1 has them in the framing."""

    def response_ended(self) -> None:
        """Finish the answer."""
        if self._phase == TUNNELLING:
            self._upstream = None
            self.deadline = self.clock.now + HALF_CLOSED_SECONDS
            self.transport.close()
            return
        if not self._response_status:
            self.response_failed(502, "closed without an answer")
            return
        self._upstream = None
        self._count(self._response_status // 100)
        self._finish()

    def response_failed(self, status: int, reason: str) -> None:
        """Tell the client, or break the connection when an answer had already begun."""
        self._drop_upstream()
        self._listener.failure("", status, reason)
        if self._response_status or self._phase != ACTIVE:
            self.transport.abort()
        else:
            self._answer(text_answer(status))

    def response_stale(self) -> bool:
        """Ask once more on a new connection, if that is safe (specification section 8.5)."""
        prefix, self._prefix = self._prefix, b""
        safe = self.flags & IDEMPOTENT and not self.flags & CHUNKED and not self._body
        if not prefix or not safe or self._phase != ACTIVE or self._response_status:
            return False
        upstream = self._upstream
        if upstream is None or upstream.server is None:
            return False
        self._start_dial(prefix, upstream.server)
        return True

    def switched(self, data: bytes) -> None:
        """Turn into a tunnel: the server said 101. Bytes sent before that were held back."""
        self._phase = TUNNELLING
        self._response_status = 101
        self._count(1)
        self.deadline = float("inf")
        self._send(data)
        held, self._buffer = self._buffer, b""
        upstream = self._upstream
        if held and upstream is not None:
            upstream.send_request(held)
        self._resume_reading()

    def server_writable(self, writable: bool) -> None:
        """Read the request as fast as the server takes it."""
        if writable:
            self._resume_reading()
        else:
            self._pause_reading()

    def _send(self, data: bytes) -> None:
        if self._descriptor >= 0:
            sent = send(self._descriptor, data)
            if sent is not None:
                self._write_rest(data, sent)
        else:
            self._write(data)

    def _write_rest(self, data: bytes, sent: int) -> None:
        """Queue what the socket did not take; give up a dead one.

        Sending has consumed its error, so the loop would see a half-closed client and go on.
        """
        if sent == len(data):
            self.transport.abort()
        else:
            self._write(data[sent:])

    def pause_writing(self) -> None:
        """Stop reading the answer, and further requests: the client does not take more."""
        self._write_paused = True
        self._descriptor = -1
        if self._upstream is not None:
            self._upstream.pause_reading()
        if not self._may_read:
            self._pause_reading()

    def resume_writing(self) -> None:
        """Read the answer again, then the next request."""
        self._write_paused = False
        self._descriptor = self._plain_descriptor
        if self._upstream is not None:
            self._upstream.resume_reading()
        if self._phase == LINGERING:
            self.deadline = self.clock.now + LINGER_SECONDS
        elif self._waiting:
            self._waiting = False
            self._take_next()
        else:
            self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self.transport.is_closing():
            self._reading_paused = True
            self.transport.pause_reading()

    @property
    def _may_read(self) -> bool:
        """Whether there is room for more bytes of the client."""
        phase = self._phase
        if phase == LINGERING:
            return True
        if self._write_paused and not self.sending and phase != TUNNELLING:
            return False
        if phase == ACTIVE and len(self._buffer) > PIPELINE_LIMIT:
            return False
        return self._upstream is None or self._upstream.writable

    def _resume_reading(self) -> None:
        if self._reading_paused and self._may_read and not self.transport.is_closing():
            self._reading_paused = False
            self.transport.resume_reading()

    def answer(self, answer: Answer) -> None:
        """Send an answer of the proxy's own and finish the request."""
        self._answer(answer)

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Never called: this exchange does not ask for the split form."""
        raise NotImplementedError

    def _answer(self, answer: Answer, *, close: bool = False) -> None:
        self._drop_upstream()
        if close or self.sending:
            self.flags &= ~KEEP_ALIVE
        flags = self.flags
        self._send(
            answer.encode(
                close=not flags & KEEP_ALIVE, head_only=bool(flags & HEAD), date=self.clock.date
            )
        )
        self._listener.count(answer.status, self._chain, self._started)
        self._finish()

    def _finish(self) -> None:
        """Go on with the next request, or close: gently when the client may still be sending."""
        self._cancel_expect()
        self._chain = None
        if self.transport.is_closing():
            return
        now = self.clock.now
        self._response_status = 0
        if self.flags & KEEP_ALIVE and not self.sending:
            self._phase = IDLE
            self.deadline = now + self._listener.idle_seconds
            if self._buffer or self._reading_paused or self._write_paused:
                self._take_next()
            return
        self._phase = LINGERING
        unread = self.sending or bool(self._buffer)
        self._buffer = b""
        if unread:
            # Closing with unread bytes would reset the connection and may destroy the answer on
            # its way.
            self.deadline = now + (
                self._listener.write_seconds if self._write_paused else LINGER_SECONDS
            )
            self._resume_reading()
            self.transport.write_eof()
        else:
            self.deadline = now + self._listener.write_seconds
            self.transport.close()

    def _take_next(self) -> None:
        """Start the next pipelined request in a turn of its own: bounds recursion, lets others
        go first.

        A client that does not read its answers gets no more of them.
        """
        self._phase = ACTIVE
        if self._write_paused:
            self._waiting = True
            self.deadline = self.clock.now + self._listener.write_seconds
        else:
            asyncio.get_running_loop().call_soon(self._start_next)

    def _start_next(self) -> None:
        if self._phase != ACTIVE or self.transport.is_closing():
            return
        self._phase = IDLE
        data, self._buffer = self._buffer, b""
        if data:
            self.data_received(data)
        self._resume_reading()
        if not self._ended:
            return
        if self._phase <= READING_HEAD:
            self.transport.close()
        elif self.sending:
            self.transport.abort()
        elif not self._buffer:
            self.flags &= ~KEEP_ALIVE

    def _panic(self) -> None:
        """Answer 500 after an unforeseen error, whatever state it left."""
        if self._response_status or self._phase != ACTIVE:
            self._drop_upstream()
            self.transport.abort()
            return
        self._answer(text_answer(500), close=True)

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _count(self, status_class: int) -> None:
        if self._chain is not None:
            self._chain.count(status_class, monotonic() - self._started)


def has_host(head: bytes) -> bool:
    """Tell whether a refused head had a Host header: the answer names that fault."""
    return b"\nhost:" in head[:65536].lower()
