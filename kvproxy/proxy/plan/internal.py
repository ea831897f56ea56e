"""The proxy's own paths on an entry point: `/ping`, the API and the metrics.

They come before every frontend; a path or a method that they do not know is left to the frontends
(specification section 5.8). `/ping` is answered by the worker. All others are asked of the
supervisor, over its socket file, as any server is asked: the entry point's `auth` and `whiteList`
are the stages of that way, its `redirect` and `compress` are not.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kvproxy.http.answer import PLAIN_TEXT, Answer, redirect_answer
from kvproxy.model.listening import API_SOCKET
from kvproxy.proxy.counters import new_cells
from kvproxy.proxy.plan.workshop import Closed
from kvproxy.proxy.request.chain import Chain
from kvproxy.proxy.request.stages import Stages
from kvproxy.proxy.upstream.balancer import Balancer, Member
from kvproxy.proxy.upstream.health import Health
from kvproxy.proxy.upstream.server import Server
from kvproxy.rules.modifiers import NO_MODIFIERS
from kvproxy.unix_socket import short_name

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from kvproxy.model.static import StaticConfiguration
    from kvproxy.proxy.request.decision import Asked
    from kvproxy.proxy.upstream.transport import TransportSettings

    Ping = Callable[[], tuple[int, bytes]]

METHODS = (b"GET", b"HEAD")

PING = b"/ping"
METRICS = b"/metrics"
API = frozenset(
    (
        b"/api",
        b"/api/breakers",
        b"/api/providers",
        b"/api/servers",
        b"/api/status",
        b"/api/version",
        b"/health",
    )
)
PROVIDERS = b"/api/providers/"
"""What the API tells of one provider is below this path."""


class SupervisorServer(Server):
    """The supervisor as a server: reached over its socket file."""

    __slots__ = ("_path",)

    def __init__(self, path: Path, settings: TransportSettings) -> None:
        """``path``: of the socket file."""
        super().__init__("http://supervisor", settings)
        self._path = path
        # Its connections are kept for as long as there is the worker.
        self.users = 1

    @property
    def name(self) -> str:
        """The server as it is named in the log."""
        return f"unix:{self._path}"

    async def _open(self, protocol: asyncio.Protocol, tls: ssl.SSLContext | None) -> None:
        """Connect to the file; a unix socket answers at once."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            with short_name(self._path) as name:
                connection.connect(name)
        except OSError:
            connection.close()
            raise
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: protocol, sock=connection)


class Inside(NamedTuple):
    """A request for the proxy itself: the way to the supervisor, or an ``answer`` at once.

    Neither of them counts as a request of the entry point (specification section 5.8).
    """

    asked: Asked
    chain: Chain
    answer: Answer | None = None


class InternalPaths:
    """The paths of one entry point."""

    __slots__ = ("_api", "_chain", "_metrics", "_ping", "_server")

    def __init__(
        self,
        *,
        ping: Ping | None = None,
        api: bool = False,
        metrics: bool = False,
        server: SupervisorServer | None = None,
    ) -> None:
        """``ping``: returns status and body; ``api``, ``metrics``: which of them are here, asked of
        ``server``. Nobody may pass before `protect`."""
        self._ping = ping
        self._api = api
        self._metrics = metrics
        self._server = server
        self.protect(Stages((Closed(),)))

    def protect(self, stages: Stages) -> None:
        """Let what is asked of the supervisor pass these stages from now on."""
        members = () if self._server is None else (Member(self._server, self._server.name, 1),)
        self._chain = Chain(
            "internal",
            Balancer(members, Health()),
            modifiers=NO_MODIFIERS,
            pass_host=True,
            priority=0,
            attempts=1,
            counters=new_cells(),
            stages=stages,
        )

    def find(self, asked: Asked) -> Inside | None:
        """Return what becomes of a request, None when it is one for the frontends."""
        if asked.method not in METHODS:
            return None
        path = asked.path
        if path == PING and self._ping is not None:
            status, body = self._ping()
            return Inside(asked, self._chain, Answer(status, body, (PLAIN_TEXT,)))
        if self._api:
            if path in API or (path.startswith(PROVIDERS) and names_entry(path)):
                return Inside(asked, self._chain)
            if path == b"/api/":
                return Inside(asked, self._chain, redirect_answer(b"/api", asked.method))
        if self._metrics and path == METRICS:
            return Inside(asked, self._chain)
        return None


def names_entry(path: bytes) -> bool:
    """Tell whether a path below `PROVIDERS` names a provider, or a part of what it says."""
    parts = path[len(PROVIDERS) :].split(b"/")
    if not all(parts):
        return False
    kind = parts[1] if len(parts) > 1 else b""
    below = {b"": b"", b"backends": b"servers", b"frontends": b"routes"}.get(kind)
    if below is None:
        return False
    return len(parts) <= 3 or (len(parts) <= 5 and parts[3] == below)


def internal_paths(
    settings: StaticConfiguration, entry_point: str, ping: Ping, server: SupervisorServer | None
) -> InternalPaths | None:
    """Return the paths that ``settings`` want on an entry point, None when there are none.

    ``server``: see `supervisor_server`.
    """
    has_ping = settings.ping is not None and settings.ping.entry_point == entry_point
    has_api = settings.api is not None and settings.api.entry_point == entry_point
    exporter = None if settings.metrics is None else settings.metrics.prometheus
    has_metrics = exporter is not None and exporter.entry_point == entry_point
    if not (has_ping or has_api or has_metrics):
        return None
    return InternalPaths(
        ping=ping if has_ping else None,
        api=has_api,
        metrics=has_metrics,
        server=server if has_api or has_metrics else None,
    )


def supervisor_server(
    settings: StaticConfiguration, transport: TransportSettings
) -> SupervisorServer:
    """Return the supervisor of a worker with these settings, as found on the machine."""
    return SupervisorServer(Path(settings.state_dir) / API_SOCKET, transport)
