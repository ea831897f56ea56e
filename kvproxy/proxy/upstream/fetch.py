"""A request of the proxy's own to a server, with an answer that is read as a whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from kvproxy.http.head import fields
from kvproxy.http.scan import IDEMPOTENT, KEEP_ALIVE, SPLIT
from kvproxy.middleware.fetching import Fetched, FetchError
from kvproxy.proxy.upstream.dial import Dial

if TYPE_CHECKING:
    from kvproxy.http.answer import Answer
    from kvproxy.proxy.clock import Clock
    from kvproxy.proxy.exchange import Upstream
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.upstream.server import DialError, Server

FETCH_SECONDS = 30.0
"""How long an answer may take in all (specification section 9.5)."""

MAX_FETCHED_BYTES = 1 << 20
"""Largest body of an answer that is read as a whole."""

_NOT_KEPT = frozenset((b"connection", b"content-length", b"date", b"transfer-encoding"))
"""Written anew when the answer goes on to a client."""


class ServerFetch:
    """Asks one server (`kvproxy.middleware.fetching.Fetch`), over connections that are kept."""

    def __init__(self, server: Server, clock: Clock) -> None:
        """``server``: used by nobody else; its connections end with this object."""
        self.server = server
        self._clock = clock
        server.users += 1

    def __del__(self) -> None:
        """Close what is idle, and the rest when it is."""
        self.server.users -= 1
        self.server.leave()

    async def __call__(self, head: bytes) -> Fetched:
        """See `kvproxy.middleware.fetching.Fetch`."""
        exchange = _Exchange(self._clock, self.server, head)
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                exchange.start()
                return await exchange.result
        except TimeoutError:
            raise FetchError(f"{self.server.name}: no answer within {FETCH_SECONDS:g} s") from None
        finally:
            exchange.abandon()


class _Exchange:
    """One such request (`kvproxy.proxy.exchange.Exchange`)."""

    decodes = True
    sending = False

    def __init__(self, clock: Clock, server: Server, head: bytes) -> None:
        self.clock = clock
        self.flags = KEEP_ALIVE | IDEMPOTENT | SPLIT
        self.result: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self._server = server
        self._head = head
        self._upstream: Upstream | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._answer: tuple[int, bytes] | None = None
        self._body = bytearray()

    def start(self) -> None:
        """Ask, over an idle connection if there is one."""
        idle = self._server.idle
        if not idle:
            self._dial()
            return
        upstream = idle.pop()
        self._upstream = upstream
        upstream.exchange = self
        upstream.send_request(self._head + self.host_line(self._server))

    def _dial(self) -> None:
        dial = Dial(self, self._server, self._head)
        self._upstream = dial
        self._dialling = asyncio.get_running_loop().create_task(dial.run())

    def abandon(self) -> None:
        """Want no (further) answer."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    def host_line(self, server: Server) -> bytes:
        """Return the server's own ``Host``."""
        return server.host_line

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """There is none."""
        return None

    def connected(self, upstream: Upstream) -> None:
        """Take the connection that was dialled."""
        self._upstream = upstream

    def routed(self, chain: Chain) -> None:
        """Never called: there is no chain."""
        raise NotImplementedError

    def answer(self, answer: Answer) -> None:
        """Never called: nothing between here and the server answers by itself."""
        raise NotImplementedError

    def response_whole(self, data: bytes) -> None:
        """Never called: the flags ask for the split form."""
        raise NotImplementedError

    def response_started(self, data: bytes, status: int) -> None:
        """Never called: the flags ask for the split form."""
        raise NotImplementedError

    def response_informational(self, data: bytes, status: int) -> None:
        """Pass over it."""

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Take the answer or its beginning."""
        self._answer = (status, head)
        self.response_data(piece)
        if ended:
            self.response_ended()

    def response_data(self, data: bytes) -> None:
        """Take more of the body; too much of it is no answer."""
        self._body += data
        if len(self._body) > MAX_FETCHED_BYTES:
            self._fail(f"{self._server.name}: the answer is larger than {MAX_FETCHED_BYTES} bytes")
            self.abandon()

    def response_trailers(self, lines: bytes) -> None:
        """Pass over them."""

    def response_ended(self) -> None:
        """Hand the answer over."""
        self._upstream = None
        if self._answer is None:
            self._fail(f"{self._server.name}: closed without an answer")
        elif not self.result.done():
            status, head = self._answer
            headers = tuple(field for field in fields(head) if field[0].lower() not in _NOT_KEPT)
            self.result.set_result(Fetched(status, headers, bytes(self._body)))

    def response_failed(self, status: int, reason: str) -> None:
        """Take note that there is no answer."""
        self._upstream = None
        self._fail(reason)

    def response_stale(self) -> bool:
        """Ask once more: these requests are safe."""
        if self._answer is not None or self.result.done():
            return False
        self._dial()
        return True

    def switched(self, data: bytes) -> None:
        """Never called: these requests ask for no switch."""
        raise NotImplementedError

    def server_writable(self, writable: bool) -> None:
        """There is no more to be sent."""

    def _fail(self, reason: str) -> None:
        if not self.result.done():
            self.result.set_exception(FetchError(reason))
