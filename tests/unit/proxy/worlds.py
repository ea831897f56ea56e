"""Listeners and plans for the tests of the data plane, and the messages that fill them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from kvproxy.balance.shared_memory import SharedMemory
from kvproxy.model.digest import add_digests, backend_digest, digest_text, frontend_digest
from kvproxy.model.dynamic import Backend, Frontend, Route
from kvproxy.model.dynamic import Server as ConfiguredServer
from kvproxy.model.messages import Apply, BackendEntry, FrontendEntry
from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.proxy.clock import Clock
from kvproxy.proxy.downstream.listener import Listener
from kvproxy.proxy.plan.plan import Plan
from kvproxy.proxy.upstream.transport import TransportSettings
from kvproxy.routing.request import RequestView

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def frontend(name: str, rule: str, to: str, provider: str = "p", **options: Any) -> FrontendEntry:
    """Return a frontend with one rule and its true digest."""
    content = Frontend(backend=to, routes={"r": Route(rule=rule)}, **options)
    entry = FrontendEntry(provider, name, b"", content)
    return FrontendEntry(provider, name, frontend_digest(entry), content)


def backend(
    name: str, servers: Mapping[str, int], provider: str = "p", **options: Any
) -> BackendEntry:
    """Return a backend, from URL to weight, with its true digest."""
    content = Backend(
        servers={url: ConfiguredServer(url=url, weight=weight) for url, weight in servers.items()},
        **options,
    )
    entry = BackendEntry(provider, name, b"", content)
    return BackendEntry(provider, name, backend_digest(entry), content)


def generation_digest(entries: Iterable[FrontendEntry | BackendEntry]) -> str:
    """Return the digest that a plan of exactly these entries has."""
    return digest_text(add_digests(0, [entry.digest for entry in entries]))


def whole(generation: int, *entries: FrontendEntry | BackendEntry, base: int = -1) -> Apply:
    """Return a message that sets ``entries``."""
    return Apply(
        generation,
        base,
        "",
        frontends=[entry for entry in entries if isinstance(entry, FrontendEntry)],
        backends=[entry for entry in entries if isinstance(entry, BackendEntry)],
    )


@cache
def _transport() -> TransportSettings:
    """Return default settings; reading the system's authorities anew takes a while."""
    return TransportSettings(StaticConfiguration(entry_points={}))


class World:
    """A plan with two entry points, as a worker has them."""

    def __init__(self, **settings: Any) -> None:
        self.settings = StaticConfiguration(
            entry_points={
                "http": EntryPoint(address=":0"),
                "other": EntryPoint(address=":0"),
            },
            default_entry_points=("http",),
            **settings,
        )
        self.clock = Clock()
        self.listeners = {
            name: Listener(name, entry_point, self.settings, clock=self.clock, server_name=b"edge")
            for name, entry_point in self.settings.entry_points.items()
        }
        self.plan = Plan(
            self.settings, _transport(), self.listeners, SharedMemory.alone(), self.clock
        )

    async def apply(self, *parts: Apply) -> list[str]:
        """Go to the next generation."""
        return await self.plan.apply(list(parts))

    def chain(self, host: str, path: str = "/", entry_point: str = "http") -> Any:
        """Return the chain that takes a GET, None for the default 404."""
        head = b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path.encode(), host.encode())
        view = RequestView(b"GET", host.encode(), path.encode(), b"", head)
        found = self.listeners[entry_point].index.find(view)
        return None if found is None else found.payload
