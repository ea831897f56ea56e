"""What is known of the client at the other end of a connection."""

from __future__ import annotations

import _ssl
import sys
from typing import TYPE_CHECKING, Any

from kvproxy.http.scan import FORWARDED
from kvproxy.proxy.forwarded import UNTRUSTED, ForwardedLines, client_address

if TYPE_CHECKING:
    import asyncio
    import ssl

    from kvproxy.proxy.listener import Listener


class Peer:
    """One client (`kvproxy.middleware.contract.Client`) and the header lines that tell of it."""

    __slots__ = ("_lines", "_transport", "_trusted", "address", "entry_point", "port", "secure")

    def __init__(self, listener: Listener, transport: asyncio.BaseTransport) -> None:
        """``transport``: the client's, open."""
        name: tuple[Any, ...] | None = transport.get_extra_info("peername")
        self.address = client_address(name)
        self.port: int = name[1] if name else 0
        self.secure = transport.get_extra_info("ssl_object") is not None
        self.entry_point = listener.name
        self._transport = transport
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
        return self._lines.plain(host)

    def believed(self, headers: dict[bytes, list[bytes]], flags: int) -> dict[bytes, list[bytes]]:
        """Return headers (by lower-case name) without what this client cannot say of itself."""
        if self._trusted or not flags & FORWARDED:
            return headers
        return {
            name: values
            for name, values in headers.items()
            if name.replace(b"_", b"-") not in UNTRUSTED
        }

    def lines(self, host: bytes, flags: int, headers: dict[bytes, list[bytes]]) -> bytes:
        """Return the forwarded lines of a request with these headers, of those `believed`."""
        if flags & FORWARDED:
            return self._lines.merged(host, headers, self._trusted)
        return self._lines.plain(host)


def sent_certificates(tls: ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the certificates that the other side sent, DER, its own first."""
    if sys.version_info >= (3, 13):
        return tuple(tls.get_unverified_chain())
    # The public method came with Python 3.13; this is what it calls.
    chain = tls._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
    return tuple(each.public_bytes(_ssl.ENCODING_DER) for each in chain or ())
