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
from kvproxy.proxy.request.attempts import Attempts
from kvproxy.proxy.request.link import Link

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Request
    from kvproxy.middleware.error_pages import Page
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.upstream.server import Server

_KEPT_FLAGS = 0xFFFF & ~(UPGRADE | EXPECT | CHUNKED)
"""Facts of the client's request that are true of the request for the page too."""


class PageWay(NamedTuple):
    """An entry of a frontend, and the way to the servers of its backend."""

    page: Page
    chain: Chain


class PageRequest(Link):
    """The request for a page: the upstream of a passage, the exchange of its attempts.

    The answer has the status of the one it replaces. Without a page the client gets ``instead``.
    """

    __slots__ = ("_begun", "_flags", "_instead", "_status")

    sending = False

    def __init__(self, exchange: Exchange, status: int, instead: Answer) -> None:
        """``status``: that of the answer that is replaced. `start` is called once."""
        super().__init__(exchange)
        self._flags = exchange.flags & _KEPT_FLAGS | IDEMPOTENT | SPLIT
        self._status = status
        self._instead = instead
        self._begun = False

    def start(self, way: PageWay, listener: Listener, request: Request, lines: bytes) -> None:
        """Ask; ``lines``: the forwarded headers."""
        head = way.page.head(request, self._status) + lines
        attempts = Attempts(self, listener, way.chain, request, head)
        self.connected(attempts)
        self.exchange.server_writable(True)
        attempts.start([])

    # What the passage asks of its upstream.

    @property
    def writable(self) -> bool:
        """The rest of the client's body is not wanted, so it may come."""
        return True

    def send_request(self, data: bytes) -> None:
        """Pass over the rest of the client's body."""

    def close(self) -> None:
        """Want no more of the page."""
        self.abort()

    # What the attempts tell their exchange.

    @property
    def flags(self) -> int:
        """Those of a request of its own: what its server does is not the client's connection."""
        return self._flags

    @flags.setter
    def flags(self, value: int) -> None:
        self._flags = value

    def routed(self, chain: Chain) -> None:
        """Never called: the answer counts for the frontend that was asked."""
        raise NotImplementedError

    def host_line(self, server: Server) -> bytes:
        """Return the server's own ``Host``."""
        return server.host_line

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

    def response_failed(self, status: int, reason: str) -> None:
        """Go without the page, or break one that has begun."""
        self._upstream = None
        if self._begun:
            self.exchange.response_failed(status, reason)
        else:
            self.exchange.answer(self._instead)

    def switched(self, data: bytes) -> None:
        """Never called: this request asks for no switch."""
        raise NotImplementedError

    def server_writable(self, writable: bool) -> None:
        """There is no more to be sent."""
