"""The ``X-Forwarded-*`` headers: whom to believe, and what servers are told (specification
section 8.3).

Trust is decided by the peer address alone. Traefik 1.7 also trusts any client that lists a trusted
address in its own ``X-Forwarded-For``, which lets everybody claim trust; that is not copied
(docs/compatibility.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvproxy.http.authority import port_of
from kvproxy.model.addresses import AddressRanges, parse_address

if TYPE_CHECKING:
    from kvproxy.model.static import ForwardedHeaders, ProxyProtocol

OVERWRITTEN = frozenset(
    (
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-forwarded-server",
        b"x-real-ip",
    )
)
"""Names that the proxy writes itself on every request."""

UNTRUSTED = OVERWRITTEN | {b"x-forwarded-uri", b"x-forwarded-method", b"x-forwarded-prefix"}
"""Names that an untrusted client cannot set."""


class Trust:
    """Decides whose forwarded headers are believed."""

    __slots__ = ("_everybody", "_networks")

    def __init__(self, settings: ForwardedHeaders | ProxyProtocol | None) -> None:
        """``settings`` None means everybody, the default of Traefik 1.7. Raises ValueError on a
        bad network."""
        self._everybody = settings is None or settings.insecure
        self._networks = AddressRanges(() if settings is None else settings.trusted_ips)

    def includes(self, address: str) -> bool:
        """Tell whether the peer ``address`` is believed (IPv4-mapped IPv6 counts as IPv4)."""
        if self._everybody:
            return True
        try:
            return parse_address(address) in self._networks
        except ValueError:
            return False


def client_address(peer: tuple[Any, ...] | None) -> str:
    """Return the address of a socket's peer as servers are told it, empty when there is none.

    The zone of a link-local address is left out; an IPv4 client of a socket for both families is
    an IPv4 client.
    """
    address: str = peer[0].partition("%")[0] if peer else ""
    return address.removeprefix("::ffff:") if "." in address else address


class ForwardedLines:
    """Writes the forwarded header lines of one connection."""

    __slots__ = ("_peer", "_prefix", "_scheme", "_server")

    def __init__(self, peer: bytes, scheme: bytes, server_name: bytes) -> None:
        """``peer``: client address without zone; ``scheme``: http or https; ``server_name``:
        this machine."""
        self._peer = peer
        self._scheme = scheme
        self._server = server_name
        self._prefix = (
            b"X-Forwarded-For: %b\r\nX-Real-Ip: %b\r\n"
            b"X-Forwarded-Proto: %b\r\nX-Forwarded-Server: %b\r\n"
            % (peer, peer, scheme, server_name)
        )

    def plain(self, host: bytes) -> bytes:
        """Return the lines for a request that brought no forwarded headers of its own."""
        default = b"443" if self._scheme == b"https" else b"80"
        port = port_of(host, default)
        return b"%bX-Forwarded-Port: %b\r\nX-Forwarded-Host: %b\r\n" % (self._prefix, port, host)

    def merged(self, host: bytes, headers: dict[bytes, list[bytes]], trusted: bool) -> bytes:
        """Return the lines for a request with forwarded headers.

        ``headers``: lower-case name to values, of the whole request; those in `UNTRUSTED` have been
        taken from what an untrusted client sent. Names of the family that the proxy does not write
        are kept; those that it writes are kept from the ``trusted`` alone.
        """
        kept = [
            b"%b: %b\r\n" % (name.title(), value)
            for name, values in headers.items()
            if name.startswith(b"x-forwarded-") and name not in OVERWRITTEN
            for value in values
        ]
        if not trusted:
            return self.plain(host) + b"".join(kept)

        def first(name: bytes) -> bytes:
            return next((value for value in headers.get(name, ()) if value), b"")

        chain = b", ".join([*headers.get(b"x-forwarded-for", ()), self._peer])
        scheme = first(b"x-forwarded-proto") or self._scheme
        default = b"443" if scheme in (b"https", b"wss") or self._scheme == b"https" else b"80"
        port = first(b"x-forwarded-port") or port_of(host, default)
        return b"".join(
            [
                b"X-Forwarded-For: %b\r\n" % chain,
                b"X-Real-Ip: %b\r\n" % (first(b"x-real-ip") or self._peer),
                b"X-Forwarded-Proto: %b\r\n" % scheme,
                b"X-Forwarded-Server: %b\r\n" % self._server,
                b"X-Forwarded-Port: %b\r\n" % port,
                b"X-Forwarded-Host: %b\r\n" % (first(b"x-forwarded-host") or host),
                *kept,
            ]
        )
