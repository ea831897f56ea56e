"""Servers that are shown the certificate of an entry point (deprecated ``passTLSCert``,
specification section 9.7)."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from kvproxy.proxy.tls.context import load_certificate
from kvproxy.proxy.upstream.server import Server

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Sequence

    from kvproxy.model.tls import ServedTLS
    from kvproxy.proxy.upstream.balancer import Balancer, Member
    from kvproxy.proxy.upstream.transport import TransportSettings

Key = tuple[str, tuple[str, str, str]]
"""Entry point, identity of the server."""


class PresentingServers:
    """Connections that show a certificate are kept apart from all others, by entry point."""

    def __init__(self, transport: TransportSettings) -> None:
        """``transport``: for everything but certificate and trust."""
        self._transport = transport
        self._contexts: dict[str, tuple[ServedTLS, ssl.SSLContext]] = {}
        self._servers: dict[Key, Server] = {}
        self._held: weakref.WeakSet[Balancer] = weakref.WeakSet()

    @property
    def servers(self) -> Iterable[Server]:
        """All of them."""
        return self._servers.values()

    def members(self, entry_point: str, tls: ServedTLS, members: Sequence[Member]) -> list[Member]:
        """Return members of a backend as this entry point asks them; raises ssl.SSLError."""
        context = self._context(entry_point, tls)
        found = []
        for member in members:
            key = (entry_point, member.server.identity)
            server = self._servers.get(key)
            if server is None:
                server = self._servers[key] = Server(member.url, self._transport, context)
            found.append(member._replace(server=server))
        return found

    def hold(self, entry_point: str, balancer: Balancer) -> None:
        """Keep connections to the members of a balancer for as long as there is that balancer."""
        if balancer in self._held:
            return
        self._held.add(balancer)
        keys = [(entry_point, member.server.identity) for member in balancer.members]
        for member in balancer.members:
            member.server.users += 1
        weakref.finalize(balancer, self._let_go, keys)

    def _let_go(self, keys: list[Key]) -> None:
        for key in keys:
            server = self._servers[key]
            server.users -= 1
            if not server.users:
                server.leave()
                del self._servers[key]

    def _context(self, entry_point: str, tls: ServedTLS) -> ssl.SSLContext:
        """Return the context: the entry point's first certificate, and trust in the authorities of
        its clients where it names any."""
        known = self._contexts.get(entry_point)
        if known is not None and known[0] is tls:
            return known[1]
        context = self._transport.context(tls.client_authorities)
        load_certificate(context, tls.certificates[0] if tls.certificates else tls.default)
        self._contexts[entry_point] = (tls, context)
        return context
