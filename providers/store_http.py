"""HTTP to one of several equal store servers: fail-over, deadlines, errors in words."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from msgspec import Struct
from yarl import URL

from kvproxy.provider import StoreError

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Iterable, Mapping
    from typing import TypeVar

    _Result = TypeVar("_Result")

_CONNECT_SECONDS = 2.0
_KEEP_ALIVE = {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
"""After so many seconds of silence, then each so many, and so often before the peer is dead."""
_GRACE_SECONDS = 10.0
"""So much longer than a long question may be kept, its answer may take to arrive."""
_READ_BUFFER_BYTES = 1 << 20
"""So much of an answer is taken from a connection before the reader has to ask for more."""


class Answer(Struct, frozen=True):
    """One whole answer: where it came from, the status, the header fields, the body."""

    endpoint: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class Server:
    """One of the servers: where it is, and how often it has failed."""

    def __init__(self, base: str) -> None:
        """``base`` is scheme, host and port, such as ``http://127.0.0.1:2379``."""
        self.base = base
        self.name = base.partition("://")[2]
        self.failures = 0
        self.waiting: set[asyncio.Timeout] = set()

    def fail(self) -> None:
        """Count a failure and end what waits for this server without a deadline."""
        self.failures += 1
        now = asyncio.get_running_loop().time()
        for each in self.waiting:
            if not each.expired():
                each.reschedule(now)


class ConnectionLost(aiohttp.ClientError):
    """The connection was closed before an answer came."""


class StoreHttp:
    """Asks the server that answered last; when it fails, the next one.

    ``endpoints`` is ``host:port`` or a URL, several separated by commas. A server that fails a
    question loses the watches on it too: they would stay silent for ever.
    """

    def __init__(
        self, store: str, endpoints: str, default_port: int, context: ssl.SSLContext | None
    ) -> None:
        """Check the endpoints; nothing is asked yet. Raises `StoreError`."""
        self.store = store
        self._servers = [
            Server(base) for base in _bases(store, endpoints, default_port, context is not None)
        ]
        self._context = context
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    @property
    def bases(self) -> list[str]:
        """The servers as URLs; the one that is asked first stands first."""
        return [server.base for server in self._servers]

    async def ask(
        self,
        method: str,
        path: str,
        *,
        seconds: float,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool = True,
    ) -> Answer:
        """Return the answer of the first server that gives one within ``seconds``.

        ``path`` is encoded already. A question that is not ``repeatable`` is put to another server
        only if it cannot have reached the first. An answer of 500 or more counts as none while
        there is another server. Raises `StoreError` that names every server's reason.
        """
        reasons: list[str] = []
        answer: Answer | None = None
        for server in list(self._servers):
            asked_at = time.monotonic()
            unsent = False
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._opened().request(
                        method,
                        URL(server.base + path, encoded=True),
                        data=body,
                        headers=headers,
                        # Another place has no business with our token.
                        allow_redirects=False,
                    ) as response,
                ):
                    content = await response.read()
                    answer = Answer(server.name, response.status, response.headers, content)
            except aiohttp.ClientConnectorError as error:
                reasons.append(f"{server.name}: {describe(error)}")
                unsent = True
            except aiohttp.ConnectionTimeoutError:
                reasons.append(f"{server.name}: cannot connect within {_CONNECT_SECONDS:g} s")
                unsent = True
            except TimeoutError:
                reasons.append(f"{server.name}: no answer within {seconds:g} s")
            except (aiohttp.ClientError, OSError) as error:
                reasons.append(f"{server.name}: {describe(error)}")
            except asyncio.CancelledError:
                # Whoever asked gave up: this server must not be the first to be asked next time.
                if time.monotonic() - asked_at > _CONNECT_SECONDS:
                    self._failed(server)
                raise
            else:
                if answer.status < 500 or not repeatable:
                    return answer
            self._failed(server)
            if not unsent and not repeatable:
                raise StoreError(
                    f"{self.store} at {reasons[-1]}; it may have been written all the same"
                )
        if answer is not None:
            return answer
        raise StoreError(f"{self.store} at {'; '.join(reasons)}")

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, *, body: bytes, headers: Mapping[str, str]
    ) -> AsyncIterator[Stream]:
        """Open an answer without an end at the server that answered last."""
        server = self._servers[0]
        failures = server.failures
        response: aiohttp.ClientResponse | None = None
        try:
            response = await self.patient(
                server,
                failures,
                self._opened().request(
                    method,
                    URL(server.base + path, encoded=True),
                    data=body,
                    headers=headers,
                    allow_redirects=False,
                ),
            )
            yield Stream(self, server, failures, response)
        finally:
            if response is not None:
                response.close()

    async def long_poll(self, path: str, *, headers: Mapping[str, str], seconds: float) -> Answer:
        """Ask the server that answered last for something that it may keep for ``seconds``."""
        server = self._servers[0]

        async def poll() -> Answer:
            async with self._opened().get(
                URL(server.base + path, encoded=True),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds + _GRACE_SECONDS),
            ) as found:
                return Answer(server.name, found.status, found.headers, await found.read())

        return await self.patient(server, server.failures, poll())

    async def patient(self, server: Server, failures: int, waiting: Awaitable[_Result]) -> _Result:
        """Wait as long as it takes, or until another question finds that the server has failed.

        ``failures`` is the count that the server had when the watch began. Raises `StoreError`.
        """
        try:
            async with asyncio.timeout(None) as scope:
                if self._closed or server.failures != failures:
                    scope.reschedule(0.0)
                server.waiting.add(scope)
                try:
                    return await waiting
                finally:
                    server.waiting.discard(scope)
        except TimeoutError:
            reason = "no answer in time to a question of the watch"
            if self._closed:
                reason = "closed"
            elif scope.expired():
                reason = "the server failed, so the watch on it ended"
            else:
                self._failed(server)
            raise StoreError(f"{self.store} at {server.name}: {reason}") from None
        except (aiohttp.ClientError, OSError) as error:
            self._failed(server)
            raise StoreError(f"{self.store} at {server.name}: {describe(error)}") from error

    async def close(self) -> None:
        """Close every connection; what waits ends with `StoreError`."""
        self._closed = True
        for server in self._servers:
            server.fail()
        if self._session is not None:
            await self._session.close()

    def _failed(self, server: Server) -> None:
        """Ask ``server`` last from now on, and end its watches."""
        server.fail()
        if self._servers[0] is server:
            self._servers.append(self._servers.pop(0))

    def _opened(self) -> aiohttp.ClientSession:
        if self._closed:
            raise StoreError(f"{self.store}: closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, ssl=self._context or True, socket_factory=_kept_alive
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                # Compressing costs the server more time than the network saves.
                headers={"Accept-Encoding": "identity"},
                auto_decompress=False,
                read_bufsize=_READ_BUFFER_BYTES,
                middlewares=(_never_twice,),
                trust_env=False,
            )
        return self._session


class Stream:
    """An answer that goes on for ever, piece by piece."""

    def __init__(
        self, http: StoreHttp, server: Server, failures: int, response: aiohttp.ClientResponse
    ) -> None:
        """Only `StoreHttp.stream` makes these."""
        self._http = http
        self._server = server
        self._failures = failures
        self._response = response
        self.status = response.status
        self.endpoint = server.name

    async def piece(self) -> bytes:
        """Return what has arrived, waiting until something has; empty at the end."""
        return await self._http.patient(
            self._server, self._failures, self._response.content.readany()
        )


def _kept_alive(address: aiohttp.AddrInfoType) -> socket.socket:
    """Return a socket on which the kernel asks a silent peer for a sign of life.

    A watch may have nothing to say for hours. Without this a firewall between forgets the
    connection, and neither side is told.
    """
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        made.setsockopt(socket.IPPROTO_TCP, option, value)
    return made


async def _never_twice(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Let a lost connection be an error.

    aiohttp would send the request again by itself: a write might be done twice, and a blocking
    query would wait at a restored server for an index that it does not reach.
    """
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise ConnectionLost("the connection was closed") from error


def describe(error: BaseException) -> str:
    """Say in few words why a connection failed."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted: {_certificate_reason(error.certificate_error)}"
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        # asyncio's own text shows its internals; numbers below zero are those of name resolution.
        reason = os.strerror(number) if number > 0 else error.os_error.strerror
        return f"cannot connect: {reason or error.os_error}"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "the connection was closed"
    return str(error) or type(error).__name__


def _certificate_reason(error: BaseException) -> str:
    return str(getattr(error, "verify_message", "") or error)


def _bases(store: str, endpoints: str, default_port: int, tls: bool) -> Iterable[str]:
    parts = [part.strip() for part in endpoints.split(",") if part.strip()]
    if not parts:
        raise StoreError(f"`{store}.endpoint` is empty; expected host:port")
    return [_base(store, part, default_port, tls) for part in parts]


def _base(store: str, endpoint: str, default_port: int, tls: bool) -> str:
    """Return ``scheme://host:port`` of one endpoint."""
    option = f"`{store}.endpoint`"
    expected = "expected host:port, several separated by commas"
    if "@" in endpoint:
        raise StoreError(f"{option} holds a user or password; set them as options of their own")
    scheme, separator, _ = endpoint.partition("://")
    scheme = scheme.lower() if separator else ("https" if tls else "http")
    try:
        parts: Any = urlsplit(endpoint if separator else f"//{endpoint}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise StoreError(f"{option} `{endpoint}` is no address; {expected}") from None
    if (
        not re.fullmatch(r"[\w.-]+|[0-9a-fA-F:.]+(%\w+)?", host or "")
        or parts.path.strip("/")
        or parts.query
        or scheme not in ("http", "https")
    ):
        raise StoreError(f"{option} `{endpoint}` is no address; {expected}")
    if tls and scheme == "http":
        raise StoreError(f"{option} `{endpoint}` is plain http although `{store}.tls` is set")
    if ":" in host:
        host = f"[{host}]"
    return f"{scheme}://{host}:{port or default_port}"
