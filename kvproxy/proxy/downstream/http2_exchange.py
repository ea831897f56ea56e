"""One request of an HTTP/2 client on its way: a stream, and the exchange that serves it.

It does for a stream what `kvproxy.proxy.downstream.http1.ClientConnection` does for a connection of
HTTP/1.1: decides, asks a server, passes bodies on. Heads are the same HTTP/1.1 bytes on the way;
only here they become frames.
"""

from __future__ import annotations

import asyncio
import logging
import os
from base64 import b64encode
from time import monotonic
from typing import TYPE_CHECKING

from kvproxy.http.answer import CONTINUE, Answer, text_answer
from kvproxy.http.blocks import encode_response, encode_trailers
from kvproxy.http.frames import CANCEL, INTERNAL_ERROR, NO_ERROR
from kvproxy.http.head import without
from kvproxy.http.http2_server import Request, ServerStream
from kvproxy.http.http2_stream import STREAM_WINDOW
from kvproxy.http.scan import (
    CHUNKED,
    EXPECT,
    HEAD,
    IDEMPOTENT,
    KEEP_ALIVE,
    PLAIN_PATH,
    UPGRADE,
    send,
)
from kvproxy.proxy.counters import SECONDS_CELL
from kvproxy.proxy.downstream.patience import EXPECT_SECONDS, LINGER_SECONDS
from kvproxy.proxy.exchange import ADDING
from kvproxy.proxy.request.decision import DIRECT_MASK, understand
from kvproxy.proxy.upstream.dial import start_dial

if TYPE_CHECKING:
    from kvproxy.http.http2_server import ServerConnection
    from kvproxy.proxy.clock import Clock
    from kvproxy.proxy.downstream.http2 import Http2Client
    from kvproxy.proxy.exchange import Upstream
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.upstream.server import DialError, Server

logger = logging.getLogger("kvproxy.proxy")

WAITING, ANSWERING, TUNNELLING, ENDED = range(4)
"""Phases of an exchange: without a final answer yet, its head is sent, after a 101, all over."""

FIRST_REFUSAL = 300
"""From this status on clients stop sending a request (curl, Go)."""

CLIENT_LEFT_CLASS = 4
"""A client that left before its answer began counts as 499, as in Traefik 1.7."""


class Http2Exchange(ServerStream):
    """One request; an `Exchange` that takes answers in the joined form, bodies without framing."""

    __slots__ = (
        "_chain",
        "_client",
        "_expect_timer",
        "_held",
        "_phase",
        "_prefix",
        "_started",
        "_status",
        "_trailers",
        "_upstream",
        "clock",
        "deadline",
        "flags",
    )

    decodes = True

    def __init__(
        self, client: Http2Client, connection: ServerConnection, number: int, request: Request
    ) -> None:
        """``client``: the connection that the stream belongs to."""
        # As in `ServerStream`, whose own method would be one more call for each request.
        self.connection = connection
        self.number = number
        self.remote_open = self.local_open = True
        self.receive_window = STREAM_WINDOW
        self.send_credit = self.unread = self.credit = 0
        self.expected = request.length
        self.outbox = None
        self.request = request
        self._client = client
        self.clock: Clock = client.clock
        self.flags = request.flags
        self.deadline = 0.0
        self._phase = WAITING
        self._chain: Chain | None = None
        self._upstream: Upstream | None = None
        self._prefix = b""
        self._started = 0.0
        self._status = 0
        self._trailers = b""
        self._held: bytearray | None = None
        self._expect_timer: asyncio.TimerHandle | None = None

    @property
    def sending(self) -> bool:
        """Whether more of the request is to come."""
        return self.remote_open

    # What the stream tells: the request.

    def start(self, ended: bool) -> None:
        """Serve the request. The common one is served in this one method, as in HTTP/1.1."""
        try:
            client, request = self._client, self.request
            listener = client.listener
            self._started = monotonic()
            self.deadline = listener.answer_deadline
            if not ended:
                self.flags &= ~KEEP_ALIVE
                self.deadline = self.clock.now + listener.read_seconds
            if self.deadline < client.deadline:
                client.deadline = self.deadline
            chain = listener.direct.get(request.host)
            if (
                chain is not None
                and request.flags & DIRECT_MASK == PLAIN_PATH
                and chain.priority > listener.floating_priority
                and (chain.request_lines is None or not request.flags & CHUNKED)
            ):
                prefix = request.prepared
                if prefix is None:
                    prefix = request.head + client.peer.plain_lines(request.host)
                    request.prepared = prefix
                if chain.request_lines is not None:
                    prefix = chain.request_lines.apply(prefix)
            else:
                decision = self._decide()
                if decision is None:
                    return
                chain, prefix = decision
            self._chain = chain
            if chain.response_lines is not None:
                self.flags |= ADDING
            server = chain.single or chain.next_server()
            if server is None:
                self.answer(text_answer(chain.no_server_status))
                return
            if ended:
                # Kept for one safe retry, should the connection turn out to be dead.
                self._prefix = prefix
            idle = server.idle
            if not idle:
                self._start_dial(prefix, server)
                return
            self._upstream = upstream = idle.pop()
            upstream.exchange = self
            out = prefix + (server.host_line if not chain.pass_host else request.host_line)
            if upstream.descriptor >= 0:
                sent = send(upstream.descriptor, out)
                if sent is not None:
                    upstream.write(out[sent:])
            else:
                upstream.write(out)
        except Exception:
            logger.exception("a request failed in the proxy")
            self._panic()

    def _decide(self) -> tuple[Chain, bytes] | None:
        """Decide what becomes of the request; None when it is seen to already."""
        client, request = self._client, self.request
        if request.status:
            status = request.status
            self.answer(Answer(status) if status == 417 else text_answer(status))
            return None
        head = request.head
        if request.flags & UPGRADE:
            # RFC 8441 has no key, RFC 6455 demands one.
            head += b"Sec-Websocket-Key: %b\r\n" % b64encode(os.urandom(16))
        if request.flags & EXPECT:
            self._expect_timer = asyncio.get_running_loop().call_later(
                EXPECT_SECONDS, self._continue
            )
        received = head + request.cut + request.host_line
        asked = understand(
            client.listener, received, head, request.host, request.target, self.flags
        )
        return client.listener.serving.begin(self, client.listener, client.peer, asked)

    def body_received(self, data: bytes, ended: bool) -> None:
        """Pass a piece of the request's body on, in the framing of HTTP/1.1."""
        if self._phase == ENDED:
            self.consumed(self.unread)
            return
        flags = self.flags
        if flags & UPGRADE:
            self._receive_tunnelled(data, ended)
            return
        out = data
        if flags & CHUNKED:
            if data:
                out = b"%x\r\n%b\r\n" % (len(data), data)
            if ended:
                out += b"0\r\n\r\n"
        self._pass_on(out, ended)

    def trailers_received(self, lines: bytes) -> None:
        """Pass the end of the request's body on, with its trailers."""
        self._pass_on(b"0\r\n%b\r\n" % lines if self.flags & CHUNKED else b"", True)

    def _pass_on(self, out: bytes, ended: bool) -> None:
        """Send a piece of the request to the server; the client may send more when it is taken."""
        if ended:
            self._body_ended()
        elif not self._client.listener.read_is_total:
            self.deadline = self.clock.now + self._client.listener.read_seconds
        upstream = self._upstream
        if upstream is not None and out:
            upstream.send_request(out)
            # It may have ended the exchange, or put another upstream in its place.
            upstream = self._upstream
        if upstream is None or upstream.writable:
            self.consumed(self.unread)

    def _body_ended(self) -> None:
        # The body is gone, so the request cannot be sent once more.
        self._prefix = b""
        if self._phase == WAITING:
            self.flags |= KEEP_ALIVE
            self.deadline = self.clock.now + self._client.listener.answer_seconds

    def _receive_tunnelled(self, data: bytes, ended: bool) -> None:
        """Pass on what a WebSocket client sends; before the server's 101 it is held back."""
        upstream = self._upstream
        if self._phase != TUNNELLING:
            self._held = self._held or bytearray()
            self._held += data
        elif upstream is not None:
            upstream.send_request(data)
            if upstream.writable:
                self.consumed(self.unread)
        if ended:
            self._end_tunnel()

    def _end_tunnel(self) -> None:
        """End with the client, after the server has been sent what the client said last."""
        upstream, self._upstream = self._upstream, None
        if self._phase == TUNNELLING and upstream is not None:
            upstream.close()
            self._phase = ENDED
            self.send_trailers(b"")
        elif self._phase == WAITING:
            self._upstream = upstream
            self._client_left()
            self.reset(CANCEL)

    def reset_received(self, code: int) -> None:
        """Give the request up."""
        self._client_left()

    def _client_left(self) -> None:
        if self._phase == ENDED:
            return
        if self._phase != TUNNELLING:
            self._count(self._status // 100 or CLIENT_LEFT_CLASS)
        upstream = self._upstream
        if self._phase == TUNNELLING and upstream is not None:
            self._upstream = None
            upstream.close()
        self._end()

    def answered_early(self) -> None:
        """Take the rest of a refused request for a moment, as in HTTP/1.1: curl 7.88 throws
        an answer away that a reset follows at once. It does go on sending after other answers."""
        if self._status < FIRST_REFUSAL:
            super().answered_early()
            return
        self.consumed(self.unread)
        self.deadline = self.clock.now + LINGER_SECONDS
        if self.deadline < self._client.deadline:
            self._client.deadline = self.deadline

    def source_paused(self, paused: bool) -> None:
        """Read the answer as fast as the client takes it."""
        upstream = self._upstream
        if not paused:
            self._moved()
        if upstream is None:
            return
        if paused:
            upstream.pause_reading()
        else:
            upstream.resume_reading()

    # What upstreams ask and tell: the answer.

    def routed(self, chain: Chain) -> None:
        """Let this chain count the answer."""
        self._chain = chain

    def host_line(self, server: Server) -> bytes:
        """Return the ``Host`` line that ``server`` is sent, and the end of the head."""
        if self._chain is not None and not self._chain.pass_host:
            return server.host_line
        return self.request.host_line

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """Return the server to be tried next (specification section 8.6)."""
        chain, upstream = self._chain, self._upstream
        if chain is None or tries >= chain.attempts:
            return None
        unreachable = None if upstream is None else upstream.server
        if unreachable is not None:
            self._client.listener.failure(unreachable.name, error.status, str(error))
        return chain.another(unreachable)

    def connected(self, upstream: Upstream) -> None:
        """Take the upstream of the request in progress."""
        self._upstream = upstream
        if self.outbox is not None and self.outbox.source_paused:
            upstream.pause_reading()

    def _start_dial(self, prefix: bytes, server: Server) -> None:
        start_dial(self, self._client.listener, server, prefix)

    def server_writable(self, writable: bool) -> None:
        """Let the client send more when the server has taken what there was."""
        if writable and self.unread and (self._phase == TUNNELLING or not self.flags & UPGRADE):
            self.consumed(self.unread)

    def response_whole(self, data: bytes) -> None:
        """Send a complete answer."""
        if self.flags & ADDING:
            data = self._with_lines(data)
        self._upstream = None
        self._phase = ENDED
        if self._expect_timer is not None:
            self._cancel_expect()
        if self.remote_open:
            self._status = int(data[9:12])
        self.send_whole(data)
        self._client.quiet_since = self.clock.now
        seconds = monotonic() - self._started
        chain = self._chain
        counters = chain.counters  # type: ignore[union-attr]
        counters[data[9] - 48] += 1
        counters[SECONDS_CELL] += seconds
        if seconds > 0.1:
            chain.count_slow(seconds)  # type: ignore[union-attr]

    def _with_lines(self, data: bytes) -> bytes:
        """Return an answer with the lines of its chain."""
        self.flags &= ~ADDING
        chain = self._chain
        assert chain is not None
        assert chain.response_lines is not None
        return chain.response_lines[self._client.peer.secure].insert(data)

    def response_informational(self, data: bytes, status: int) -> None:
        """Relay a 1xx answer."""
        if status == 100:
            if not self.flags & EXPECT:
                return
            self.flags &= ~EXPECT
            self._cancel_expect()
        self.send_head(encode_response(data)[0])

    def response_started(self, data: bytes, status: int) -> None:
        """Send the head of an answer and what came of its body."""
        if self.flags & ADDING:
            data = self._with_lines(data)
        self._status = status
        self._phase = ANSWERING
        self._cancel_expect()
        self._moved()
        block, end = encode_response(data)
        self.send_head(block)
        if len(data) > end:
            self.send_data(data[end:])

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Never called: this exchange does not ask for the split form."""
        raise NotImplementedError

    def response_data(self, data: bytes) -> None:
        """Send more of the body."""
        if self._phase != TUNNELLING and not self._client.listener.write_is_total:
            self._moved()
        self.send_data(data)

    def response_trailers(self, lines: bytes) -> None:
        """Keep the trailers for the end."""
        self._trailers = encode_trailers(lines)

    def response_ended(self) -> None:
        """Finish the answer."""
        if self._phase == WAITING:
            self.response_failed(502, "closed without an answer")
            return
        if self._phase == ANSWERING:
            self._count(self._status // 100)
        self._upstream = None
        self._phase = ENDED
        self._client.quiet_since = self.clock.now
        self.send_trailers(self._trailers)

    def response_failed(self, status: int, reason: str) -> None:
        """Tell the client, or reset the stream when an answer had already begun."""
        self._drop_upstream()
        self._client.listener.failure("", status, reason)
        if self._phase == WAITING:
            self.answer(text_answer(status))
        elif self._phase != ENDED:
            self._count(self._status // 100)
            self._end()
            self.reset(INTERNAL_ERROR)

    def response_stale(self) -> bool:
        """Ask once more on a new connection, if that is safe (specification section 8.5)."""
        prefix, self._prefix = self._prefix, b""
        upstream = self._upstream
        if not prefix or not self.flags & IDEMPOTENT or self._phase != WAITING:
            return False
        if upstream is None or upstream.server is None:
            return False
        self._start_dial(prefix, upstream.server)
        return True

    def switched(self, data: bytes) -> None:
        """Turn into a tunnel: the server said 101, the client is told 200 (RFC 8441, section 5)."""
        self._phase = TUNNELLING
        self._status = 101
        self._count(1)
        self.deadline = float("inf")
        head = b"HTTP/1.1 200 OK" + without(data, b"sec-websocket-accept")[data.index(b"\r\n") :]
        self.send_head(encode_response(head)[0])
        held, self._held = bytes(self._held or b""), None
        upstream = self._upstream
        if held and upstream is not None:
            upstream.send_request(held)
        self.consumed(self.unread)

    def answer(self, answer: Answer) -> None:
        """Send an answer of the proxy's own and finish the request."""
        self._drop_upstream()
        self._end()
        self._status = answer.status
        flags = self.flags
        self.send_whole(
            answer.encode(close=False, head_only=bool(flags & HEAD), date=self.clock.date)
        )
        self._client.listener.count(answer.status, self._chain, self._started)

    # Deadlines and ends.

    def expire(self) -> None:
        """Act on the passed ``deadline``."""
        if self._phase == WAITING:
            if self.remote_open and not self.unread:
                self.answer(text_answer(408))
            elif self._upstream is not None:
                self._upstream.time_out()
            else:
                self.answer(text_answer(504))
        else:
            self._client_left()
            self.reset(CANCEL if self.local_open else NO_ERROR)

    def _moved(self) -> None:
        self.deadline = self.clock.now + self._client.listener.write_seconds

    def _continue(self) -> None:
        """Ask for the body in the server's place."""
        self._expect_timer = None
        if self._phase == WAITING and self.flags & EXPECT:
            self.flags &= ~EXPECT
            self.send_head(encode_response(CONTINUE)[0])

    def _cancel_expect(self) -> None:
        if self._expect_timer is not None:
            self._expect_timer.cancel()
            self._expect_timer = None

    def _panic(self) -> None:
        """Answer 500 after an unforeseen error, whatever state it left."""
        if self._phase == WAITING:
            self.answer(text_answer(500))
        else:
            self._end()
            self.reset(INTERNAL_ERROR)

    def _end(self) -> None:
        self._phase = ENDED
        self._client.quiet_since = self.clock.now
        self._cancel_expect()
        self._drop_upstream()
        self._held = None

    def _drop_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def _count(self, status_class: int) -> None:
        if self._chain is not None:
            self._chain.count(status_class, monotonic() - self._started)
