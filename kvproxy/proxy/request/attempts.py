"""The attempts to get a request answered: limits, choice of a server, connection, retry.

Stands between an exchange that takes answers in the split form (a passage, for one) and the
connection of the server that is asked.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from kvproxy.http.answer import Answer, text_answer
from kvproxy.http.scan import CHUNKED, IDEMPOTENT
from kvproxy.proxy.request.link import Link
from kvproxy.proxy.upstream.dial import start_dial

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Request
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.request.stages import Finish
    from kvproxy.proxy.upstream.server import DialError, Server

CLIENT_LEFT = 499
"""What middlewares are told of a request whose client left before its answer began."""

MAXIMUM_REFUSALS = 16
"""How often in a row a limit is asked for one request: nothing waits between two times, and other
requests wait for all of them."""


class Attempts(Link):
    """One request towards the servers of a chain. `start` is called once."""

    __slots__ = (
        "_bodied",
        "_chain",
        "_cookie",
        "_ended",
        "_head",
        "_limits",
        "_listener",
        "_repeated",
        "_request",
        "_server",
        "_status",
        "_tries",
    )

    def __init__(
        self, exchange: Exchange, listener: Listener, chain: Chain, request: Request, head: bytes
    ) -> None:
        """``head``: the outgoing head without its ``Host`` line."""
        super().__init__(exchange)
        self._listener = listener
        self._chain = chain
        self._request = request
        self._head = head
        self._bodied = exchange.sending
        self._cookie = b""
        self._ended = False
        self._limits: list[tuple[Finish, float]] = []
        self._repeated = False
        self._server: Server | None = None
        self._status = 0
        self._tries = 0

    def start(self, body: list[bytes]) -> None:
        """Ask a server; ``body``: what has come of the request's body. May end at once."""
        self._bodied = self._bodied or bool(body)
        server = self._next_server()
        if server is None:
            return
        if not server.idle:
            self._dial(server, body)
            return
        upstream = server.idle.pop()
        upstream.exchange = self
        self.connected(upstream)
        upstream.send_request(b"".join([self._head, self.host_line(server), *body]))
        self.exchange.server_writable(upstream.writable)

    def _dial(self, server: Server, body: list[bytes]) -> None:
        start_dial(self, self._listener, server, self._head, body)

    def _next_server(self) -> Server | None:
        """Begin an attempt; None when it has ended in an answer of the proxy's own."""
        chain = self._chain
        unreachable, self._server = self._server, None
        refusals = 0
        while True:
            self._tries += 1
            self._request.answered_by = None
            refusal = self._take_limits()
            if refusal is None:
                break
            # A refusal by a limit is an attempt that failed (specification section 5.2).
            refusals += 1
            if self._tries >= chain.attempts or refusals == MAXIMUM_REFUSALS:
                self._answer(refusal)
                return None
        server = chain.single
        if server is None and chain.choose is not None:
            server, self._cookie = chain.choose(self._request, unreachable)
        elif server is None:
            server = chain.balancer.another(unreachable)
        self._server = self._request.server = server
        self._request.attempts += 1
        if server is None:
            self._answer(text_answer(chain.no_server_status))
        return server

    def _take_limits(self) -> Answer | None:
        for ask, finish in self._chain.limits.steps:
            refusal = None if ask is None else ask(self._request)
            if refusal is not None:
                self._request.answered_by = ask
                assert isinstance(refusal, Answer), "a limit answers at once"
                self._end_attempt(refusal.status)
                return refusal
            if finish is not None:
                self._limits.append((finish, monotonic()))
        return None

    # What the exchange asks of its upstream.

    def close(self) -> None:
        """End after everything sent has been taken."""
        super().close()
        self._end(self._status or CLIENT_LEFT)

    def abort(self) -> None:
        """End at once."""
        self._end(self._status or CLIENT_LEFT)

    # What the server's connection tells its exchange.

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """Begin another attempt after a server could not be reached."""
        if self._tries >= self._chain.attempts:
            return None
        if self.server is not None:
            self._listener.failure(self.server.name, error.status, str(error))
        self._end_attempt(error.status)
        self._chain.count_retry()
        return self._next_server()

    def answer(self, answer: Answer) -> None:
        """Take an answer of the proxy's own."""
        self._answer(answer)

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Pass on an answer or its beginning."""
        self._status = status
        if ended:
            self._upstream = None
            self._end(status)
        self.exchange.response_head(head + self._cookie, status, kind, length, piece, ended)

    def response_ended(self) -> None:
        """Pass on that the answer is complete."""
        self._upstream = None
        self._end(self._status)
        self.exchange.response_ended()

    def response_failed(self, status: int, reason: str) -> None:
        """Pass on that no (further) answer will come."""
        self._upstream = None
        self._end(self._status or status)
        self.exchange.response_failed(status, reason)

    def response_stale(self) -> bool:
        """Ask the same server on a new connection, if that is safe (specification section 8.5)."""
        upstream = self._upstream
        flags = self.exchange.flags
        safe = flags & IDEMPOTENT and not flags & CHUNKED and not self._bodied
        if not safe or self._repeated or self._status or upstream is None:
            return False
        if upstream.server is None:
            return False
        self._repeated = True
        self._dial(upstream.server, [])
        return True

    def switched(self, data: bytes) -> None:
        """Pass on that bytes flow both ways from now on."""
        self._status = 101
        self.exchange.switched(data + self._cookie)

    # The end.

    def _answer(self, answer: Answer) -> None:
        """End with an answer of the proxy's own."""
        self._end(answer.status)
        self.exchange.answer(answer)

    def _end_attempt(self, status: int) -> None:
        held, self._limits = self._limits, []
        now = monotonic()
        for finish, since in reversed(held):
            finish(self._request, status, now - since)
        if self._chain.answered is not None and self._server is not None:
            self._chain.answered(self._server, status)

    def _end(self, status: int) -> None:
        if self._ended:
            return
        self._ended = True
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()
        self._end_attempt(status)
