"""One server of a backend as a worker sees it: its address, its idle connections, how to dial
it."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from kvproxy.proxy.upstream import UpstreamConnection

if TYPE_CHECKING:
    from kvproxy.proxy.transport import TransportSettings

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
TLS_HANDSHAKE_SECONDS = 10.0


class DialError(Exception):
    """A server could not be asked; ``status`` is what the client is told (spec section 8.5)."""

    def __init__(self, status: int, reason: str) -> None:
        """``reason`` is for the log."""
        super().__init__(reason)
        self.status = status


class Server:
    """Shared by every backend of a worker that names the same scheme, host, port and path.

    ``identity`` is that of spec section 7.1; ``users`` counts the backends that name
    it. ``idle`` holds open connections that wait for a request, the latest used last.
    ``host_line`` ends a request head
    with the server's own ``Host``.
    """

    __slots__ = (
        "_settings",
        "_tls",
        "host",
        "host_line",
        "identity",
        "idle",
        "port",
        "scheme",
        "users",
    )

    def __init__(
        self, url: str, settings: TransportSettings, tls: ssl.SSLContext | None = None
    ) -> None:
        """``url``: ``scheme://host[:port]``; its path and query are not used. ``tls``: in place of
        the context of ``settings``."""
        self._settings = settings
        self.idle: list[UpstreamConnection] = []
        self.users = 0
        scheme, host, port, authority = split_server_url(url)
        self.scheme, self.host, self.port = scheme, host, port
        self.identity = (scheme, authority, urlsplit(url).path)
        self.host_line = b"Host: %b\r\n\r\n" % authority.encode()
        self._tls = (tls or settings.tls_context) if scheme in ("https", "wss") else None

    @property
    def name(self) -> str:
        """The server as it is named in the log."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def accepts(self, websocket: bool) -> bool:
        """Tell whether the URL's scheme can carry this request (spec section 7.10)."""
        return self.scheme in ("http", "https") or (websocket and self.scheme in ("ws", "wss"))

    async def dial(self) -> UpstreamConnection:
        """Open a new connection. Raises `DialError`."""
        loop = asyncio.get_running_loop()
        connecting = loop.create_connection(
            lambda: UpstreamConnection(self),
            self.host,
            self.port,
            ssl=self._tls,
            server_hostname=self.host if self._tls else None,
            ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS if self._tls else None,
        )
        try:
            async with asyncio.timeout(self._settings.dial_seconds or None):
                _, connection = await connecting
        except TimeoutError as error:
            raise DialError(
                504, f"dial time-out after {self._settings.dial_seconds:g} s"
            ) from error
        except ssl.SSLError as error:
            raise DialError(500, f"TLS: {error}") from error
        except ConnectionAbortedError as error:
            raise DialError(504, f"TLS handshake: {error}") from error
        except (OSError, OverflowError, UnicodeError) as error:
            raise DialError(502, str(error)) from error
        if connection.transport.is_closing():
            raise DialError(502, "closed or spoke before it was asked")
        return connection

    def release(self, connection: UpstreamConnection) -> None:
        """Take a connection back for the next request, or close it when it is not needed."""
        if self.users:
            self.idle.append(connection)
        else:
            connection.close()

    def close_idle(self, before: float) -> None:
        """Close the connections last used before the monotonic time ``before``, and those beyond
        the limit."""
        surplus = max(0, len(self.idle) - self._settings.idle_limit)
        stale = [connection for connection in self.idle[surplus:] if connection.used_at < before]
        for connection in self.idle[:surplus] + stale:
            self.idle.remove(connection)
            connection.close()


def split_server_url(url: str) -> tuple[str, str, int, str]:
    """Split a server URL into scheme, host, port and the authority as written.

    Raises ValueError when there is no host. The port is not checked against 65535: dialling it
    fails.
    """
    parts = urlsplit(url)
    authority = parts.netloc.rpartition("@")[2]
    host, _, port_text = authority, "", ""
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        port_text = rest.removeprefix(":")
    elif ":" in authority:
        host, _, port_text = authority.rpartition(":")
    if not host:
        raise ValueError(f"no host in the server URL `{url}`")
    port = int(port_text) if port_text else PORTS.get(parts.scheme, 80)
    return parts.scheme, host, port, authority
