"""Makes the middlewares of entry points and frontends in a worker."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from weakref import WeakSet

from kvproxy.http.answer import text_answer
from kvproxy.middleware.build import Builder, OptionError
from kvproxy.middleware.contract import Middleware
from kvproxy.proxy.upstream.fetch import ServerFetch
from kvproxy.proxy.upstream.server import Server

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping

    from kvproxy.middleware.contract import Outcome, Request
    from kvproxy.model.dynamic import Frontend
    from kvproxy.model.static import EntryPoint, StaticConfiguration
    from kvproxy.model.static import HostResolver as HostResolverOptions
    from kvproxy.proxy.clock import Clock
    from kvproxy.proxy.upstream.transport import TransportSettings

logger = logging.getLogger("kvproxy.proxy")


class Closed(Middleware):
    """Stands for options that cannot be put into effect: they may have been there to keep somebody
    out."""

    def request(self, request: Request) -> Outcome:
        """Let nothing pass."""
        return text_answer(503)


class Workshop:
    """The makers of all entry points, and the servers that middlewares ask."""

    def __init__(
        self, settings: StaticConfiguration, transport: TransportSettings, clock: Clock
    ) -> None:
        """``transport``: of all connections to servers."""
        self._entry_points: Mapping[str, EntryPoint] = settings.entry_points
        self._resolver = _resolver(settings.host_resolver)
        self._transport = transport
        self._clock = clock
        self._builders: dict[str, Builder] = {}
        self._asked: WeakSet[ServerFetch] = WeakSet()

    def use(self, entry_points: Mapping[str, EntryPoint]) -> None:
        """Make middlewares for other entry points from now on."""
        self._entry_points = entry_points
        for name in list(self._builders):
            if name in entry_points:
                self._builders[name].use(entry_points)
            else:
                del self._builders[name]

    @property
    def servers(self) -> Iterator[Server]:
        """The servers that middlewares ask."""
        return (fetch.server for fetch in self._asked)

    def entry_point(self, name: str) -> tuple[Middleware, ...]:
        """Return the middlewares of an entry point."""
        try:
            return self._builder(name).entry_point()
        except OptionError as error:
            logger.error("entryPoint=%s is closed: %s: %s", name, error.path, error)
            return (Closed(),)

    def protection(self, name: str) -> tuple[Middleware, ...]:
        """Return the middlewares that the proxy's own paths on an entry point have."""
        try:
            return self._builder(name).protection()
        except OptionError:
            return (Closed(),)

    def frontend(self, entry_point: str, options: Frontend) -> tuple[tuple[Middleware, ...], str]:
        """Return the middlewares of a frontend on an entry point, and why it is closed."""
        try:
            return self._builder(entry_point).frontend(options), ""
        except OptionError as error:
            return (Closed(),), f"{error.path}: {error}"

    def _builder(self, name: str) -> Builder:
        if name not in self._builders:
            self._builders[name] = Builder(name, self._entry_points, self._fetch, self._resolver)
        return self._builders[name]

    def _fetch(self, address: str, tls: ssl.SSLContext | None) -> ServerFetch:
        fetch = ServerFetch(Server(address, self._transport, tls), self._clock)
        self._asked.add(fetch)
        return fetch


def _resolver(options: HostResolverOptions | None) -> Middleware | None:
    """Return what finds out where hosts lead to, if it is switched on.

    Without it rules match fewer requests, so what is wrong with it is no reason to stop.
    """
    if options is None or not options.cname_flattening:
        return None
    # Imported when used: few switch it on.
    from kvproxy.middleware.host_resolver import HostResolver  # noqa: PLC0415

    try:
        return HostResolver(options.resolv_config, options.resolv_depth)
    except (OSError, ValueError) as error:
        logger.error("hosts are taken as they are: %s", error)
        return None
