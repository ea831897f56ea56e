"""What is known of the client at the other end of a connection."""

from __future__ import annotations

import _ssl
import sys
from typing import TYPE_CHECKING, Any

from kvproxy.http.scan import FORWARDED
from kvproxy.proxy.downstream.forwarded import UNTRUSTED, ForwardedLines, client_address

if TYPE_CHECKING:
    import asyncio
    import ssl

    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.request.decision import Asked


_UNDERSCORE = ord("_")


class Peer:
    """One client (`kvproxy.middleware.contract.Client`) and the header lines that tell of it."""

    __slots__ = (
        "_host",
        "_lines",
        "_plain",
        "_transport",
        "_trusted",
        "address",
        "entry_point",
        "port",
        "secure",
    )

    def __init__(self, listener: Listener, transport: asyncio.BaseTransport) -> None:
        """``transport``: the client's, open."""
        name: tuple[Any, ...] | None = transport.get_extra_info("peername")
        self.address = client_address(name)
        self.port: int = name[1] if name else 0
        self.secure = transport.get_extra_info("ssl_object") is not None
        self.entry_point = listener.name
        self._transport = transport
        self._host = b""
        self._plain = b""
        self._trusted = listener.trust.includes(self.address)
        self._lines = ForwardedLines(
            self.address.encode(), b"https" if self.secure else b"http", listener.server_name
        )

    def certificates(self) -> tuple[bytes, ...]:
        """Return the certificates that the client sent, DER, its own first."""
        tls = self._transport.get_extra_info("ssl_object")
        return () if tls is None else sent_certificates(tls)

    def plain_lines(self, host: bytes) -> bytes:
        """Return the forwarded lines of a request that brought none of its own."""
        if host != self._host or not self._plain:
            self._host = host
            self._plain = self._lines.plain(host)
        return self._plain

    def believed(self, asked: Asked) -> dict[bytes, list[bytes]]:
        """Return a request's headers by lower-case name, without what this client cannot say of
        itself."""
        headers = asked.headers
        if not asked.flags & FORWARDED and _UNDERSCORE not in asked.head:
            return headers
        return {name: values for name, values in headers.items() if not self._hides(name)}

    def _hides(self, name: bytes) -> bool:
        """Tell whether nobody is to see a header: spelled with underscores it was cut already."""
        folded = name.replace(b"_", b"-")
        return folded in UNTRUSTED and (folded != name or not self._trusted)

    def lines(self, host: bytes, headers: dict[bytes, list[bytes]]) -> bytes:
        """Return the forwarded lines of a request with these headers, of those `believed`."""
        return self._lines.merged(host, headers, self._trusted)


def sent_certificates(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the certificates that the other side sent, DER, its own first."""
    if sys.version_info >= (3, 13):
        return tuple(tls.get_unverified_chain())
    # The public method came with Python 3.13; this is what it calls. Before, the list of a client
    # that showed nothing had a None in it.
    chain = tls._sslobj.get_unverified_chain() or ()  # type: ignore[attr-defined]
    return tuple(each.public_bytes(_ssl.ENCODING_DER) for each in chain if each is not None)
