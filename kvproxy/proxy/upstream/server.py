"""One server of a backend as a worker sees it: its address, its idle connections, how to dial
it."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from kvproxy.proxy.upstream.http1 import UpstreamConnection
from kvproxy.proxy.upstream.http2 import Http2Upstream, Http2UpstreamConnection

if TYPE_CHECKING:
    from kvproxy.proxy.upstream.transport import TransportSettings

    AnyConnection = UpstreamConnection | Http2UpstreamConnection

PORTS = {"http": 80, "https": 443, "h2c": 80, "ws": 80, "wss": 443}
PLAIN_SCHEMES = ("http", "https", "h2c")
"""Schemes of servers that take requests other than WebSocket handshakes."""

TLS_HANDSHAKE_SECONDS = 10.0


class DialError(Exception):
    """A server could not be asked; ``status``: what the client gets (specification section 8.5)."""

    def __init__(self, status: int, reason: str) -> None:
        """``reason`` is for the log."""
        super().__init__(reason)
        self.status = status


class Server:
    """Shared by every backend of a worker that names the same scheme, host, port and path.

    ``identity`` is that of specification section 7.1; ``users`` counts the backends that name it.
    ``idle`` holds open connections of HTTP/1.1 that wait for a request, the latest used last;
    ``multiplexed`` those of HTTP/2, which take many. ``host_line`` ends a request head with the
    server's own ``Host``.
    """

    __slots__ = (
        "_dialling",
        "_settings",
        "_speaks_http2",
        "_tls",
        "_tls_http1",
        "_waiting",
        "host",
        "host_line",
        "identity",
        "idle",
        "multiplexed",
        "port",
        "scheme",
        "users",
    )

    def __init__(
        self, url: str, settings: TransportSettings, tls: ssl.SSLContext | None = None
    ) -> None:
        """``url``: ``scheme://host[:port]``; its path and query are not used. ``tls``: in place of
        the contexts of ``settings``."""
        self._settings = settings
        self.idle: list[UpstreamConnection] = []
        self.multiplexed: list[Http2UpstreamConnection] = []
        self.users = 0
        scheme, host, port, authority = split_server_url(url)
        self.scheme, self.host, self.port = scheme, host, port
        self.identity = (scheme, authority, urlsplit(url).path)
        self.host_line = b"Host: %b\r\n\r\n" % authority.encode()
        secure = scheme in ("https", "wss")
        self._tls_http1 = (tls or settings.tls_context) if secure else None
        offers_http2 = scheme == "https" and tls is None
        self._tls = settings.http2_tls_context if offers_http2 else self._tls_http1
        # None: not known yet.
        self._speaks_http2: bool | None = {"h2c": True, "https": None}.get(scheme, False)
        self._dialling: asyncio.Task[None] | None = None
        # Those who wait for a connection that many may share, in order.
        self._waiting: list[asyncio.Future[AnyConnection | None]] = []

    @property
    def name(self) -> str:
        """The server as it is named in the log."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, authority and path as configured, without user or password."""
        scheme, authority, path = self.identity
        return f"{scheme}://{authority}{path}"

    def accepts(self, websocket: bool) -> bool:
        """Tell whether the URL's scheme can carry this request (specification section 7.10)."""
        return self.scheme in (("http", "https", "ws", "wss") if websocket else PLAIN_SCHEMES)

    def stream(self) -> Http2Upstream | None:
        """Return the way for one more request on a connection that is there, if there is room."""
        for connection in self.multiplexed:
            if connection.room:
                return Http2Upstream(connection)
        return None

    async def dial(self, *, http1: bool = False) -> UpstreamConnection | Http2Upstream:
        """Open a connection, or a stream of one. Raises `DialError`.

        ``http1``: the request needs HTTP/1.1. While it is not known what the server speaks, and
        where it speaks HTTP/2, all who dial wait for one connection.
        """
        if http1:
            return self._single(await self._connect(self._tls_http1))
        while (stream := self.stream()) is None:
            if self._speaks_http2 is False:
                connection = await self._connect(self._tls)
                if isinstance(connection, UpstreamConnection):
                    return connection
                self._speaks_http2 = True
                continue
            gained = await self._wait_for_connection()
            if isinstance(gained, UpstreamConnection):
                return gained
            if gained is not None and gained.useless:
                gained.close()
                raise DialError(502, gained.lost or "takes no requests")
        return stream

    def _wait_for_connection(self) -> asyncio.Future[AnyConnection | None]:
        """Wait, with others, for a connection that many may share; None: it was not one of those,
        and has gone to somebody else."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[AnyConnection | None] = loop.create_future()
        self._waiting.append(waiting)
        if self._dialling is None:
            self._dialling = loop.create_task(self._connect_for_all())
        return waiting

    async def _connect_for_all(self) -> None:
        """Make one connection after the other, and wake as many as each has room for, until nobody
        waits. A failure is the failure of all."""
        try:
            while self._waiting:
                for each in [each for each in self.multiplexed if each.useless]:
                    each.close()
                connection = await self._connect(self._tls)
                self._speaks_http2 = isinstance(connection, Http2UpstreamConnection)
                if isinstance(connection, Http2UpstreamConnection):
                    for waiting in self._no_longer_waiting(max(1, connection.room)):
                        waiting.set_result(connection)
                    continue
                others = self._no_longer_waiting()
                if others:
                    others.pop(0).set_result(connection)
                else:
                    self.release(connection)
                for waiting in others:
                    waiting.set_result(None)
        except DialError as error:
            for waiting in self._no_longer_waiting():
                waiting.set_exception(DialError(error.status, str(error)))
        except Exception as error:
            for waiting in self._no_longer_waiting():
                waiting.set_exception(error)
        finally:
            self._dialling = None

    def _no_longer_waiting(
        self, limit: int | None = None
    ) -> list[asyncio.Future[AnyConnection | None]]:
        """Take those who have waited longest off the list."""
        self._waiting = [each for each in self._waiting if not each.done()]
        taken, self._waiting = self._waiting[:limit], self._waiting[limit or len(self._waiting) :]
        return taken

    @staticmethod
    def _single(connection: UpstreamConnection | Http2UpstreamConnection) -> UpstreamConnection:
        if isinstance(connection, Http2UpstreamConnection):
            connection.close()
            raise DialError(500, "speaks HTTP/2 where HTTP/1.1 was asked for")
        return connection

    async def _connect(
        self, tls: ssl.SSLContext | None
    ) -> UpstreamConnection | Http2UpstreamConnection:
        negotiation = _Negotiation(self)
        try:
            async with asyncio.timeout(self._settings.dial_seconds or None):
                await self._open(negotiation, tls)
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
        connection = negotiation.connection
        if connection is None or connection.transport.is_closing():
            raise DialError(502, "closed or spoke before it was asked")
        return connection

    async def _open(self, protocol: asyncio.Protocol, tls: ssl.SSLContext | None) -> None:
        """Make a connection, which ``protocol`` takes; with ``tls`` an encrypted one."""
        await asyncio.get_running_loop().create_connection(
            lambda: protocol,
            self.host,
            self.port,
            ssl=tls,
            server_hostname=self.host if tls else None,
            ssl_handshake_timeout=TLS_HANDSHAKE_SECONDS if tls else None,
        )

    def release(self, connection: UpstreamConnection | Http2Upstream) -> None:
        """Take a connection back for the next request, or close it when it is not needed."""
        if self.users and isinstance(connection, UpstreamConnection):
            self.idle.append(connection)
        else:
            connection.close()
            if not self.users:
                self.leave()

    def leave(self) -> None:
        """Close all connections, those in use when their requests have ended: nobody names this
        server any more."""
        self.close_idle(float("inf"))
        for shared in list(self.multiplexed):
            shared.finish()

    def close_idle(self, before: float) -> None:
        """Close the connections last used before the monotonic time ``before``, and those beyond
        the limit."""
        surplus = max(0, len(self.idle) - self._settings.idle_limit)
        stale = [connection for connection in self.idle[surplus:] if connection.used_at < before]
        for connection in self.idle[:surplus] + stale:
            self.idle.remove(connection)
            connection.close()
        for shared in [each for each in self.multiplexed if each.idle and each.used_at < before]:
            shared.close()


class _Negotiation(asyncio.Protocol):
    """Begins a connection and leaves it to the protocol that both sides speak (RFC 7301)."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.connection: UpstreamConnection | Http2UpstreamConnection | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        tls = transport.get_extra_info("ssl_object")
        http2 = (
            self._server.scheme == "h2c" if tls is None else tls.selected_alpn_protocol() == "h2"
        )
        kind = Http2UpstreamConnection if http2 else UpstreamConnection
        self.connection = kind(self._server)
        cast("asyncio.Transport", transport).set_protocol(self.connection)
        self.connection.connection_made(transport)


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
