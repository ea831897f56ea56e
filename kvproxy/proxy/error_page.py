"""A page of another backend in the place of an answer (specification section 9.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvproxy.http.answer import Answer, reason
from kvproxy.http.head import with_lines, without
from kvproxy.http.scan import (
    CHUNKED,
    EXPECT,
    HEAD,
    IDEMPOTENT,
    KEEP_ALIVE,
    NO_BODY,
    SPLIT,
    UPGRADE,
)
from kvproxy.proxy.attempts import Attempts

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Request
    from kvproxy.middleware.error_pages import Page
    from kvproxy.proxy.chain import Chain
    from kvproxy.proxy.clock import Clock
    from kvproxy.proxy.exchange import Exchange, Upstream
    from kvproxy.proxy.listener import Listener
    from kvproxy.proxy.server import DialError, Server

_KEPT_FLAGS = 0xFFFF & ~(UPGRADE | EXPECT | CHUNKED)
"""Facts of the client's request that are true of the request for the page too."""


class PageWay(NamedTuple):
    """An entry of a frontend, and the way to the servers of its backend."""

    page: Page
    chain: Chain


class PageRequest:
    """The request for a page: the upstream of a passage, the exchange of its attempts.

    The answer has the status of the one it replaces. Without a page the client gets ``instead``.
    """

    def __init__(self, exchange: Exchange, status: int, instead: Answer) -> None:
        """``status``: that of the answer that is replaced. `start` is called once."""
        self.exchange = exchange
        self.flags = exchange.flags & _KEPT_FLAGS | IDEMPOTENT | SPLIT
        self._status = status
        self._instead = instead
        self._begun = False
        self._upstream: Upstream | None = None

    def start(self, way: PageWay, listener: Listener, request: Request, lines: bytes) -> None:
        """Ask; ``lines``: the forwarded headers."""
        head = way.page.head(request, self._status) + lines
        attempts = Attempts(self, listener, way.chain, request, head)
        self._upstream = attempts
        self.exchange.server_writable(True)
        attempts.start([])

    # What the passage asks of its upstream.

    @property
    def server(self) -> Server | None:
        """The server that is asked for the page."""
        return None if self._upstream is None else self._upstream.server

    @property
    def writable(self) -> bool:
        """The rest of the client's body is not wanted, so it may come."""
        return True

    def send_request(self, data: bytes) -> None:
        """Pass over the rest of the client's body."""

    def pause_reading(self) -> None:
        """Bring no more of the page for now."""
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_reading(self) -> None:
        """Bring more of the page."""
        if self._upstream is not None:
            self._upstream.resume_reading()

    def time_out(self) -> None:
        """Wait no longer for the page."""
        if self._upstream is not None:
            self._upstream.time_out()

    def close(self) -> None:
        """Want no more of the page."""
        self.abort()

    def abort(self) -> None:
        """Want no more of the page."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    # What the attempts tell their exchange.

    sending = False

    @property
    def decodes(self) -> bool:
        """Whether chunked bodies are wanted without their framing."""
        return self.exchange.decodes

    @property
    def clock(self) -> Clock:
        """The worker's clock."""
        return self.exchange.clock

    def routed(self, chain: Chain) -> None:
        """Never called: the answer counts for the frontend that was asked."""
        raise NotImplementedError

    def host_line(self, server: Server) -> bytes:
        """Return the server's own ``Host``."""
        return server.host_line

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """Never called: the attempts see to that."""
        raise NotImplementedError

    def connected(self, upstream: Upstream) -> None:
        """Never called: the attempts see to that."""
        raise NotImplementedError

    def answer(self, answer: Answer) -> None:
        """Take note that there is no page."""
        self._upstream = None
        self.exchange.answer(self._instead)

    def response_informational(self, data: bytes, status: int) -> None:
        """Pass over it: it does not belong to the client's request."""

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Pass the page on under the status of what it replaces."""
        self._begun = True
        line_end = head.index(b"\r\n")
        head = b"HTTP/1.1 %d %b%b" % (self._status, reason(self._status), head[line_end:])
        if kind == NO_BODY and not self.flags & HEAD:
            # An empty page: 204 and 304 say nothing of a length, the status that is sent must.
            head = with_lines(without(head, b"content-length"), b"Content-Length: 0\r\n")
        if not self.flags & KEEP_ALIVE:
            self.exchange.flags &= ~KEEP_ALIVE
        if ended:
            self._upstream = None
        self.exchange.response_head(head, self._status, kind, length, piece, ended)

    def response_whole(self, data: bytes) -> None:
        """Never called: the flags ask for the split form."""
        raise NotImplementedError

    def response_started(self, data: bytes, status: int) -> None:
        """Never called: the flags ask for the split form."""
        raise NotImplementedError

    def response_data(self, data: bytes) -> None:
        """Pass more of the page on."""
        self.exchange.response_data(data)

    def response_trailers(self, lines: bytes) -> None:
        """Pass the trailers on."""
        self.exchange.response_trailers(lines)

    def response_ended(self) -> None:
        """Pass on that the page is complete."""
        self._upstream = None
        self.exchange.response_ended()

    def response_failed(self, status: int, reason: str) -> None:
        """Go without the page, or break one that has begun."""
        self._upstream = None
        if self._begun:
            self.exchange.response_failed(status, reason)
        else:
            self.exchange.answer(self._instead)

    def response_stale(self) -> bool:
        """Never called: the attempts see to that."""
        raise NotImplementedError

    def switched(self, data: bytes) -> None:
        """Never called: this request asks for no switch."""
        raise NotImplementedError

    def server_writable(self, writable: bool) -> None:
        """There is no more to be sent."""
