"""The connections and exchanges of entry points whose requests are logged.

They do what the ones that they are made of do, and note on the way what the record of the request
needs. What never becomes a request (a head that is refused) is not logged, as in Traefik 1.7; nor
are the proxy's own paths.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from kvproxy.http.scan import HEAD, HTTP10
from kvproxy.proxy.access_log.record import Record
from kvproxy.proxy.downstream.http1 import ClientConnection
from kvproxy.proxy.downstream.http2_exchange import Http2Exchange
from kvproxy.proxy.downstream.serving import Serving
from kvproxy.proxy.exchange import ADDING
from kvproxy.proxy.request import passage
from kvproxy.proxy.request.decision import Asked

if TYPE_CHECKING:
    from kvproxy.http.answer import Answer
    from kvproxy.http.http2_server import Request, ServerConnection
    from kvproxy.proxy.access_log.log import AccessLog
    from kvproxy.proxy.downstream.http2 import Http2Client
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.downstream.peer import Peer
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.plan.internal import Inside
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.upstream.server import DialError, Server


def serving(log: AccessLog) -> Serving:
    """Return what serves the requests of a listener that are logged in ``log``."""
    return Serving(partial(_begin, log), LoggedConnection, LoggedExchange)


def _begin(
    log: AccessLog,
    exchange: Exchange,
    listener: Listener,
    peer: Peer,
    asked: Asked | Answer | Inside,
) -> tuple[Chain, bytes] | None:
    """Begin a record, then decide on the request."""
    if not isinstance(asked, Asked):
        return passage.begin(exchange, listener, peer, asked)
    logged = cast("LoggedConnection | LoggedExchange", exchange)
    record = logged.record = Record(log, peer, asked, logged.protocol, log.number())
    decision = passage.begin(exchange, listener, peer, asked)
    record.forwarded(None if decision is None else decision[0])
    return decision


class LoggedConnection(ClientConnection):
    """A client of HTTP/1.1. ``record``: of the request in progress."""

    __slots__ = ("record",)

    def __init__(self, listener: Listener) -> None:
        """There is no request yet."""
        super().__init__(listener)
        self.record: Record | None = None

    @property
    def protocol(self) -> bytes:
        """What the client speaks."""
        return b"HTTP/1.0" if self.flags & HTTP10 else b"HTTP/1.1"

    def _log(self) -> None:
        record, self.record = self.record, None
        if record is not None:
            record.end()

    def routed(self, chain: Chain) -> None:
        """Note the chain."""
        super().routed(chain)
        if self.record is not None:
            self.record.chain = chain

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """Count the attempt."""
        server = super().another_server(tries, error)
        if server is not None and self.record is not None:
            self.record.retries += 1
        return server

    def response_whole(self, data: bytes) -> None:
        """Log a request that is answered; the next one may begin at once."""
        if self.flags & ADDING:
            data = self._with_lines(data)
        record, self.record = self.record, None
        if record is not None:
            record.answer_begins(self._upstream, data, int(data[9:12]), framed=True)
        super().response_whole(data)
        if record is not None:
            record.end()

    def response_started(self, data: bytes, status: int) -> None:
        """Note the head."""
        if self.flags & ADDING:
            data = self._with_lines(data)
        if self.record is not None:
            self.record.answer_begins(self._upstream, data, status, framed=True)
        super().response_started(data, status)

    def response_data(self, data: bytes) -> None:
        """Count the body."""
        if self.record is not None:
            self.record.count(data)
        super().response_data(data)

    def response_ended(self) -> None:
        """Log a request that is answered, or whose tunnel has ended."""
        super().response_ended()
        self._log()

    def response_failed(self, status: int, reason: str) -> None:
        """Note who failed."""
        if self.record is not None:
            self.record.note_server(self._upstream)
        super().response_failed(status, reason)

    def switched(self, data: bytes) -> None:
        """Note that a tunnel begins."""
        if self.record is not None:
            self.record.answer_begins(self._upstream, data, 101, framed=False)
        super().switched(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Log what ends with the client."""
        super().connection_lost(error)
        self._log()

    def _answer(self, answer: Answer, *, close: bool = False) -> None:
        if self.record is not None:
            self.record.answered(answer, head_only=bool(self.flags & HEAD))
        super()._answer(answer, close=close)
        self._log()


class LoggedExchange(Http2Exchange):
    """A request of HTTP/2 and its record."""

    __slots__ = ("record",)

    protocol = b"HTTP/2.0"

    def __init__(
        self, client: Http2Client, connection: ServerConnection, number: int, request: Request
    ) -> None:
        """Nothing is noted yet."""
        super().__init__(client, connection, number, request)
        self.record: Record | None = None

    def _log(self) -> None:
        record, self.record = self.record, None
        if record is not None:
            record.end()

    def routed(self, chain: Chain) -> None:
        """Note the chain."""
        super().routed(chain)
        if self.record is not None:
            self.record.chain = chain

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """Count the attempt."""
        server = super().another_server(tries, error)
        if server is not None and self.record is not None:
            self.record.retries += 1
        return server

    def response_whole(self, data: bytes) -> None:
        """Log a request that is answered."""
        if self.flags & ADDING:
            data = self._with_lines(data)
        if self.record is not None:
            self.record.answer_begins(self._upstream, data, int(data[9:12]), framed=False)
        super().response_whole(data)
        self._log()

    def response_started(self, data: bytes, status: int) -> None:
        """Note the head."""
        if self.flags & ADDING:
            data = self._with_lines(data)
        if self.record is not None:
            self.record.answer_begins(self._upstream, data, status, framed=False)
        super().response_started(data, status)

    def response_data(self, data: bytes) -> None:
        """Count the body."""
        if self.record is not None:
            self.record.count(data)
        super().response_data(data)

    def response_ended(self) -> None:
        """Log a request that is answered."""
        super().response_ended()
        self._log()

    def response_failed(self, status: int, reason: str) -> None:
        """Note who failed."""
        if self.record is not None:
            self.record.note_server(self._upstream)
        super().response_failed(status, reason)

    def switched(self, data: bytes) -> None:
        """Note that a tunnel begins."""
        if self.record is not None:
            self.record.answer_begins(self._upstream, data, 101, framed=False)
        super().switched(data)

    def answer(self, answer: Answer) -> None:
        """Log an answer of the proxy's own."""
        record, self.record = self.record, None
        if record is not None:
            record.answered(answer, head_only=bool(self.flags & HEAD))
        super().answer(answer)
        if record is not None:
            record.end()

    def _end_tunnel(self) -> None:
        super()._end_tunnel()
        self._log()

    def _end(self) -> None:
        """Log what is given up."""
        super()._end()
        self._log()
