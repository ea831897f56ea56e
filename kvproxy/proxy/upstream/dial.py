"""A request that waits for a new connection to a server."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kvproxy.http.scan import UPGRADE
from kvproxy.proxy.upstream.server import DialError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.upstream.http1 import UpstreamConnection
    from kvproxy.proxy.upstream.http2 import Http2Upstream
    from kvproxy.proxy.upstream.server import Server

logger = logging.getLogger("kvproxy.proxy")

BODY_LIMIT = 262_144
"""Bytes of a body that waits for its server before reading stops."""


def start_dial(
    exchange: Exchange, listener: Listener, server: Server, head: bytes, body: Iterable[bytes] = ()
) -> None:
    """Give the exchange an upstream: a new connection to ``server``, or a stream of one.

    ``head``: the outgoing head without its ``Host`` line; ``body``: what has come of the body.
    """
    dial = Dial(exchange, server, head)
    exchange.connected(dial)
    for data in body:
        dial.send_request(data)
    stream = None
    if server.multiplexed and not exchange.flags & UPGRADE:
        stream = server.stream()
    if stream is not None:
        dial.hand_over(stream)
    else:
        listener.start(dial.run())


class Dial:
    """Stands in the place of the upstream until there is one; keeps what is sent meanwhile."""

    __slots__ = (
        "_clock",
        "_head",
        "_pending",
        "_pending_bytes",
        "_reading_paused",
        "exchange",
        "server",
    )

    def __init__(self, exchange: Exchange, server: Server, head: bytes) -> None:
        """``head``: the outgoing head without its ``Host`` line. Nothing happens before `run`."""
        self.exchange: Exchange | None = exchange
        self.server = server
        self._clock = exchange.clock
        self._head = head
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._reading_paused = False

    async def run(self) -> None:
        """Connect to the server, or to others that the exchange names, and send the request."""
        try:
            await self._connect()
        except Exception:
            logger.exception("a request failed in the proxy")
            if self.exchange is not None:
                self.exchange.response_failed(500, "a defect of the proxy")

    async def _connect(self) -> None:
        tries = 0
        while True:
            server = self.server
            tries += 1
            try:
                upgrade = bool(self.exchange is not None and self.exchange.flags & UPGRADE)
                if not server.accepts(upgrade):
                    raise DialError(500, f"the scheme `{server.scheme}` cannot carry this request")
                connection = await (server.dial(http1=True) if upgrade else server.dial())
                break
            except DialError as error:
                exchange = self.exchange
                if exchange is None:
                    return
                following = exchange.another_server(tries, error)
                if following is None:
                    if self.exchange is not None:
                        self.exchange = None
                        exchange.response_failed(error.status, f"{server.name}: {error}")
                    return
                self.server = following
        self.hand_over(connection)

    def hand_over(self, connection: UpstreamConnection | Http2Upstream) -> None:
        """Leave the request to a connection."""
        exchange, server = self.exchange, self.server
        if exchange is None:
            connection.used_at = self._clock.now
            server.release(connection)
            return
        self.exchange = None
        connection.exchange = exchange
        exchange.connected(connection)
        connection.send_request(b"".join([self._head, exchange.host_line(server), *self._pending]))
        if self._reading_paused:
            connection.pause_reading()
        exchange.server_writable(connection.writable)

    @property
    def writable(self) -> bool:
        """Whether there is room for more of the body."""
        return self._pending_bytes <= BODY_LIMIT

    def send_request(self, data: bytes) -> None:
        """Keep body bytes for the server."""
        self._pending.append(data)
        self._pending_bytes += len(data)
        if not self.writable and self.exchange is not None:
            self.exchange.server_writable(False)

    def pause_reading(self) -> None:
        """Let the connection begin without reading."""
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Let the connection begin with reading."""
        self._reading_paused = False

    def time_out(self) -> None:
        """Wait no longer."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.response_failed(504, f"{self.server.name}: no connection in time")

    def close(self) -> None:
        """Wait no longer."""
        self.exchange = None

    abort = close
