"""What the tests of the configuration pipeline are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.model.dynamic import Backend, Configuration, Frontend, Route, Server
from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.provider import Snapshot

if TYPE_CHECKING:
    from kvproxy.control.generations.generation import Generation
    from kvproxy.model.problem import Problem

SETTINGS = StaticConfiguration(
    entry_points={"http": EntryPoint(address=":80"), "https": EntryPoint(address=":443")},
    default_entry_points=("http",),
)

BAD_RULE = "Hots:example.com"
BAD_URL = "10.0.0.1:80"


class ManualClock:
    """A clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now + 1_700_000_000

    def monotonic(self) -> float:
        return self.now


def frontend(backend: str = "one", rule: str = "Host:example.com", **options: object) -> Frontend:
    return Frontend(backend=backend, routes={"main": Route(rule=rule)}, **options)  # type: ignore[arg-type]


def backend(url: str = "http://10.0.0.1:80", weight: int = 1) -> Backend:
    return Backend(servers={"server": Server(url=url, weight=weight)})


def configuration(
    frontends: dict[str, Frontend] | None = None, backends: dict[str, Backend] | None = None
) -> Configuration:
    return Configuration(frontends=frontends or {}, backends=backends or {})


def snapshot(
    frontends: dict[str, Frontend] | None = None,
    backends: dict[str, Backend] | None = None,
    *,
    provider: str = "file",
    revision: str = "1",
    problems: tuple[Problem, ...] = (),
) -> Snapshot:
    return Snapshot(
        provider=provider,
        revision=revision,
        configuration=configuration(frontends, backends),
        problems=problems,
        read_at=1_700_000_000.0,
    )


def many(count: int, provider: str = "file", revision: str = "1") -> Snapshot:
    """Return a snapshot with ``count`` frontends and one backend."""
    return snapshot(
        {f"f{number}": frontend(rule=f"Host:h{number}") for number in range(count)},
        {"one": backend()} if count else {},
        provider=provider,
        revision=revision,
    )


def rules(generation: Generation) -> dict[tuple[str, str], str]:
    """Return what a generation serves in short: frontend key to its rule and its servers."""
    served = {}
    for (provider, name), entry in generation.frontends.items():
        servers = generation.backends[provider, entry.frontend.backend].backend.servers
        urls = ",".join(server.url for server in servers.values())
        rule = " & ".join(route.rule for route in entry.frontend.routes.values())
        served[provider, name] = f"{rule} -> {urls}"
    return served
