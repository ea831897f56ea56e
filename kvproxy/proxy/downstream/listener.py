"""An entry point in a worker: its sockets, its connections, its limits and the index of its
routes."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Container, Coroutine, Iterable, Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

from msgspec.structs import replace

from kvproxy.http.hpack import MAX_DECODED_BYTES
from kvproxy.http.http2 import Limits
from kvproxy.http.scan import KEEP_ALIVE, MAX_HEADERS
from kvproxy.proxy.downstream.announced import AnnouncedConnection
from kvproxy.proxy.downstream.forwarded import Trust
from kvproxy.proxy.downstream.http2 import Http2Client
from kvproxy.proxy.downstream.serving import PLAIN
from kvproxy.proxy.request.stages import NO_STAGES, Stages
from kvproxy.proxy.tls.connection import TLSConnection
from kvproxy.proxy.tls.entry_point import EntryPointTLS
from kvproxy.routing.index import RouteIndex
from kvproxy.rules.matchers import canonical_host

if TYPE_CHECKING:
    from kvproxy.model.static import EntryPoint, StaticConfiguration
    from kvproxy.model.tls import ServedTLS
    from kvproxy.proxy.clock import Clock
    from kvproxy.proxy.downstream.http1 import ClientConnection
    from kvproxy.proxy.downstream.serving import Serving
    from kvproxy.proxy.plan.internal import InternalPaths
    from kvproxy.proxy.request.chain import Chain

    RequestProtocol: TypeAlias = ClientConnection | Http2Client

logger = logging.getLogger("kvproxy.proxy")

HEAD_SECONDS = 60.0
"""Bound for a request head when ``respondingTimeouts.readTimeout`` is not set."""

STALL_SECONDS = 60.0
"""Bound for a request body that does not move when ``respondingTimeouts.readTimeout`` is not
set."""

ANSWER_SECONDS = 3600.0
"""Bound for a server that does not answer, or an answer that does not move, when nothing shorter
is set."""

CLIENT_KEEP_ALIVE_SECONDS = 180
"""TCP keep-alive of clients (specification section 8.10)."""

BACKLOG = 4096

ALL_FLAGS = -1

PSEUDO_FIELDS = 4
"""Fields of an HTTP/2 request that are no headers."""

HANDSHAKE_SECONDS = 10.0
"""Bound for a TLS handshake, from accept on, and for a PROXY protocol header (none in Go)."""

PROTOCOLS = ("h2", "http/1.1")
"""What TLS entry points offer by ALPN, the preferred protocol first."""


class Connection(Protocol):
    """What a listener wants of whatever serves a connection."""

    transport: asyncio.Transport
    deadline: float

    def expire(self, now: float) -> None:
        """Act on a passed ``deadline``."""
        ...

    def drain(self, now: float) -> None:
        """End as soon as nobody loses anything by it."""
        ...

    @property
    def idle(self) -> bool:
        """Whether no request is in progress."""
        ...


def _without_certificates(entry_point: EntryPoint) -> EntryPoint:
    """Return the settings without what can change under a connection."""
    tls = entry_point.tls
    if tls is not None:
        tls = replace(tls, certificates=(), default_certificate=None)
    return replace(entry_point, address="", tls=tls)


def _waiting(listening: socket.socket) -> Iterator[socket.socket]:
    """Accept the connections that are there already."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        connection.setblocking(False)
        yield connection


class _Listening(NamedTuple):
    """A socket that connections are accepted on."""

    slot: int
    address: str
    socket: socket.socket
    server: asyncio.Server


class Listener:
    """Everything that the connections of one entry point share.

    ``direct``: by host, as clients usually spell it, the chain that takes every plain request of
    the host unless a frontend without host has a priority as high (``floating_priority``). It says
    nothing that ``index`` does not say; it says it in one look-up. ``stages``: the middlewares of
    the entry point. ``kept_flags`` masks the facts of each request: a drain takes KEEP_ALIVE away.
    """

    def __init__(
        self,
        name: str,
        entry_point: EntryPoint,
        settings: StaticConfiguration,
        *,
        clock: Clock,
        server_name: bytes,
        tls: ServedTLS | None = None,
        ticket_secret: bytes = b"",
        serving: Serving = PLAIN,
    ) -> None:
        """``server_name``: this machine's name, for ``X-Forwarded-Server``. ``tls``: None serves
        without TLS; raises ssl.SSLError. ``serving``: what takes the requests."""
        timeouts = settings.responding_timeouts
        self.name = name
        self.clock = clock
        self.serving = serving
        self.server_name = server_name
        self.allow_unsafe_paths = settings.allow_unsafe_paths
        self.maximum_head_bytes = settings.max_header_bytes
        self.maximum_headers = settings.max_headers
        self.http2_limits = Limits(
            streams=settings.http2.max_concurrent_streams,
            held_bytes=settings.http2.max_connection_bytes,
            header_bytes=min(settings.max_header_bytes, MAX_DECODED_BYTES),
            header_count=min(settings.max_headers + PSEUDO_FIELDS, MAX_HEADERS),
        )
        self.idle_seconds = timeouts.idle_timeout or ANSWER_SECONDS
        self.read_is_total = timeouts.read_timeout > 0
        self.head_seconds = timeouts.read_timeout or HEAD_SECONDS
        self.handshake_seconds = min(self.head_seconds, HANDSHAKE_SECONDS)
        self.trust = Trust(entry_point.forwarded_headers)
        announcing = entry_point.proxy_protocol
        self._announcers = None if announcing is None else Trust(announcing)
        self.tls = None if tls is None else EntryPointTLS(name, tls, PROTOCOLS, ticket_secret)
        self._entry_point = entry_point
        self._successor: Listener | None = None
        self.read_seconds = timeouts.read_timeout or STALL_SECONDS
        self.write_is_total = timeouts.write_timeout > 0
        self.write_seconds = timeouts.write_timeout or ANSWER_SECONDS
        self.answer_seconds = settings.forwarding_timeouts.response_header_timeout or ANSWER_SECONDS
        self.answer_deadline = 0.0
        self.idle_deadline = 0.0
        self.tick()
        self.index: RouteIndex[Chain] = RouteIndex.empty(settings.keep_trailing_slash)
        self.direct: dict[bytes, Chain] = {}
        self.floating_priority = -1
        self.kept_flags = ALL_FLAGS
        self.internal: InternalPaths | None = None
        self.stages: Stages = NO_STAGES
        self.connections: set[Connection] = set()
        self.statuses = [0] * 6
        self._servers: list[_Listening] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: dict[tuple[str, int, str], int] = {}
        self._handshakes_failed: dict[str, int] = {}

    def differs(self, entry_point: EntryPoint) -> bool:
        """Tell whether anything but addresses and certificates is otherwise in ``entry_point``."""
        return _without_certificates(self._entry_point) != _without_certificates(entry_point)

    def configure(self, entry_point: EntryPoint, tls: ServedTLS | None) -> None:
        """Take other addresses and certificates; raises ssl.SSLError, and then changes nothing."""
        if self.tls is not None and tls is not None:
            self.tls.configure(tls)
        self._entry_point = entry_point

    def leave_to(self, successor: Listener) -> None:
        """Let another listener, of other settings, have the sockets and every new connection.

        The connections of this one end after their next request, which is judged as the successor
        judges.
        """
        successor._servers += self._servers
        self._servers = []
        self._successor = successor
        self.index, self.direct = successor.index, successor.direct
        self.floating_priority, self.stages = successor.floating_priority, successor.stages
        self.kept_flags = ALL_FLAGS & ~KEEP_ALIVE

    def install(self, index: RouteIndex[Chain], changed: Iterable[bytes]) -> None:
        """Make ``index`` the present one; ``changed`` are the literal hosts whose routes differ."""
        self.index = index
        # The proxy's own paths and the entry point's middlewares come before every frontend, and
        # who looks on must see every request: none may take the direct way then.
        guarded = self.internal is not None or self.stages or self.serving is not PLAIN
        self.floating_priority = sys.maxsize if guarded else index.floating_priority
        for host in changed:
            bucket = index.hosts.get(host)
            only = None if bucket is None else bucket.only
            # A configured name that is not its own canonical form (one with a port) never matches.
            if only is not None and only.direct and canonical_host(host) == host:
                self.direct[host] = only
            else:
                self.direct.pop(host, None)

    async def serve(self, listening: socket.socket, slot: int, address: str = "") -> None:
        """Accept connections on a bound socket that belongs to a worker slot.

        ``address`` as configured: by it the socket is found in `leave`.
        """
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, CLIENT_KEEP_ALIVE_SECONDS)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._accept, sock=listening, backlog=BACKLOG)
        self._servers.append(_Listening(slot, address, listening, server))

    def _accept(self) -> asyncio.Protocol:
        """Return what takes a new connection."""
        if self._successor is not None:
            return self._successor._accept()
        if self._announcers is None:
            return self._begin()
        return AnnouncedConnection(self, self._announcers, self._begin)

    def _begin(self) -> asyncio.Protocol:
        """Return what takes the client's own bytes."""
        return self.protocol_for(None) if self.tls is None else TLSConnection(self, self.tls)

    def protocol_for(self, negotiated: str | None) -> RequestProtocol:
        """Return what takes the requests of a TLS connection; ``negotiated`` by ALPN, if at all."""
        return Http2Client(self) if negotiated == "h2" else self.serving.connection(self)

    def release(self, slot: int) -> None:
        """Leave the sockets of a slot, and what waits in their queues, to the slot's own worker."""
        for each in [each for each in self._servers if each.slot == slot]:
            self._servers.remove(each)
            each.server.close()

    async def leave(self, addresses: Container[str]) -> None:
        """Stop accepting on the sockets of all but these addresses; see `stop_accepting`."""
        left = [each for each in self._servers if each.address not in addresses]
        if left:
            self._servers = [each for each in self._servers if each not in left]
            await self._close(left)

    async def stop_accepting(self) -> None:
        """Close the listening sockets of this worker; the supervisor's copies stay open.

        What waits in their queues is accepted first: when nobody else holds the sockets, the kernel
        would reset these connections.
        """
        servers, self._servers = self._servers, []
        await self._close(servers)

    async def _close(self, servers: list[_Listening]) -> None:
        loop = asyncio.get_running_loop()
        queues = [each.socket.dup() for each in servers]
        for each in servers:
            each.server.close()
        # The loop closes its own descriptors at the end of this turn. Nothing may run between the
        # last accept and the close of ours: who comes in between is reset.
        await asyncio.sleep(0)
        waiting: list[socket.socket] = []
        for queue in queues:
            waiting += _waiting(queue)
            queue.close()
        for connection in waiting:
            await loop.connect_accepted_socket(self._accept, connection)

    def drain(self) -> None:
        """Close idle connections, and busy ones after their request; to be called again until
        all are gone."""
        self.kept_flags = ALL_FLAGS & ~KEEP_ALIVE
        now = monotonic()
        for connection in list(self.connections):
            connection.drain(now)

    def tick(self) -> None:
        """Work out the deadlines that requests of this moment get."""
        self.answer_deadline = self.clock.now + self.answer_seconds
        self.idle_deadline = self.clock.now + self.idle_seconds

    def sweep(self, now: float) -> None:
        """Act on passed deadlines and write the failures of the last moments to the log."""
        self.tick()
        for connection in [each for each in self.connections if each.deadline < now]:
            try:
                connection.expire(now)
            except Exception:
                # One connection must not keep the others from their deadlines.
                logger.exception("a deadline could not be acted on")
                connection.transport.abort()
        failures, self._failures = self._failures, {}
        for (server, status, reason), times in failures.items():
            logger.warning(
                "answered %d entryPoint=%s server=%s times=%d reason=%s",
                status,
                self.name,
                server or "-",
                times,
                reason,
            )
        handshakes, self._handshakes_failed = self._handshakes_failed, {}
        for reason, times in handshakes.items():
            logger.info(
                "handshakes failed entryPoint=%s times=%d reason=%s", self.name, times, reason
            )

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work that belongs to a connection, keeping a reference until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def count(self, status: int, chain: Chain | None, since: float) -> None:
        """Count an answer made by the proxy itself.

        ``chain``: the way of the request, where one was found; ``since``: when it began.
        """
        if chain is None:
            self.statuses[status // 100] += 1
        else:
            chain.count(status // 100, monotonic() - since)

    def failure(self, server: str, status: int, reason: str) -> None:
        """Note why a request failed; equal failures are logged once a moment with their count."""
        key = (server, status, reason)
        if key in self._failures or len(self._failures) < 100:
            self._failures[key] = self._failures.get(key, 0) + 1

    def handshake_failed(self, reason: str) -> None:
        """Note why no request could come from a connection; logged like `failure`."""
        if reason in self._handshakes_failed or len(self._handshakes_failed) < 20:
            self._handshakes_failed[reason] = self._handshakes_failed.get(reason, 0) + 1

    @property
    def busy(self) -> int:
        """How many connections have a request in progress or a tunnel open."""
        return sum(not connection.idle for connection in self.connections)
