"""Connections that come through a load balancer which announces their clients (PROXY protocol)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from kvproxy.http.proxy_protocol import ProxyProtocolError, read_header
from kvproxy.proxy.downstream.forwarded import Trust, client_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.proxy.downstream.listener import Listener


class AnnouncedTransport:
    """A transport whose peer is the announced client; everything else is the transport's own."""

    __slots__ = ("_peer", "_transport")

    def __init__(self, transport: asyncio.Transport, peer: tuple[str, int]) -> None:
        """``peer``: address and port of the client."""
        self._transport = transport
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection."""
        if name == "peername":
            return self._peer
        return self._transport.get_extra_info(name, default)

    def __getattr__(self, name: str) -> Any:
        """Do as the transport does."""
        return getattr(self._transport, name)


class AnnouncedConnection(asyncio.Protocol):
    """Reads the header, then leaves the connection to the next protocol.

    A header is read from everybody, as in Traefik 1.7, and believed from trusted peers only. A
    connection without header is served as it is.
    """

    __slots__ = ("_data", "_listener", "_next", "_trust", "deadline", "transport")

    def __init__(
        self, listener: Listener, trust: Trust, following: Callable[[], asyncio.Protocol]
    ) -> None:
        """``trust``: whose headers are believed; ``following`` makes the next protocol."""
        self._listener = listener
        self._trust = trust
        self._next = following
        self._data = b""
        self.deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the header, for so long."""
        self.transport = cast("asyncio.Transport", transport)
        self.deadline = self._listener.clock.now + self._listener.handshake_seconds
        self._listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Collect the header; the rest belongs to the next protocol."""
        if self.transport.is_closing():
            return
        data = self._data + data
        try:
            header = read_header(data)
        except ProxyProtocolError as error:
            self._listener.handshake_failed(f"PROXY protocol: {error}")
            self.transport.abort()
            return
        if header is None:
            self._data = data
            return
        transport = self.transport
        self._listener.connections.discard(self)
        following = self._next()
        transport.set_protocol(following)
        peer = client_address(transport.get_extra_info("peername"))
        if header.source is not None and self._trust.includes(peer):
            announced = AnnouncedTransport(transport, header.source)
            following.connection_made(cast("asyncio.Transport", announced))
        else:
            following.connection_made(transport)
        if len(data) > header.end:
            following.data_received(data[header.end :])

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        self._listener.connections.discard(self)

    def expire(self, now: float) -> None:
        """Give up a peer that says nothing."""
        self.transport.abort()

    def drain(self, now: float) -> None:
        """A request may follow at once: let it come."""

    @property
    def idle(self) -> bool:
        """No request is in progress."""
        return True
