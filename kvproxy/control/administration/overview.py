"""What a supervisor knows, in one place, for those who tell it: control socket, API, metrics."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import kvproxy
from kvproxy.control.administration.status import (
    GenerationStatus,
    ProblemStatus,
    ProviderFreshness,
    QuarantineStatus,
    StatisticsStatus,
    Status,
)
from kvproxy.model.health import check_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kvproxy.control.control_plane import ControlPlane, Reloads
    from kvproxy.control.entry_points import EntryPoints
    from kvproxy.control.generations.generation import Generation
    from kvproxy.control.health.checks import HealthChecks, ServerHealth
    from kvproxy.control.reload import Reload
    from kvproxy.control.workers.breakers import BreakerStatus
    from kvproxy.control.workers.fleet import Fleet
    from kvproxy.model.messages import Statistics


class Overview:
    """Everything is what it is at the moment of the question. To be used inside the event loop."""

    def __init__(
        self,
        fleet: Fleet,
        plane: ControlPlane,
        points: EntryPoints,
        reload: Reload,
        started_at: float,
        state: Callable[[], str],
        health: HealthChecks,
    ) -> None:
        """``started_at``: ``time.time()``."""
        self.started_at = started_at
        self._health = health
        self._fleet = fleet
        self._plane = plane
        self._points = points
        self._reload = reload
        self._state = state

    @property
    def generation(self) -> Generation | None:
        """The newest generation."""
        return self._fleet.generation

    @property
    def providers(self) -> list[str]:
        """The providers whose configuration is served, an empty one included."""
        pipeline = self._plane.pipeline
        return [
            each.provider for each in (pipeline.providers() if pipeline else ()) if each.read_at
        ]

    @property
    def reloads(self) -> Reloads:
        """How often a configuration was applied or refused."""
        return self._plane.reloads

    def checked_servers(self) -> Iterator[tuple[str, str, ServerHealth]]:
        """Yield (provider, backend, health) of each server of the newest generation that is
        checked."""
        states = self._health.states()
        backends = {} if self.generation is None or not states else self.generation.backends
        for (provider, name), entry in backends.items():
            check = entry.backend.health_check
            for server in () if check is None else entry.backend.servers.values():
                state = states.get(check_key(server.url, check))
                if state is not None:
                    yield provider, name, state

    def breakers(self) -> list[BreakerStatus]:
        """Return the circuit breakers of the newest generation, as far as workers have them."""
        return self._fleet.breakers()

    def statistics(self) -> Statistics:
        """Return the totals of all workers, those that have ended included."""
        return self._fleet.statistics()

    def status(self) -> Status:
        """Return where everything stands."""
        generation = self.generation
        pipeline = self._plane.pipeline
        statistics = self.statistics()
        return Status(
            version=kvproxy.__version__,
            pid=os.getpid(),
            state=self._state(),
            started_at=self.started_at,
            generation=None
            if generation is None
            else GenerationStatus(
                number=generation.number,
                digest=generation.digest,
                created_at=generation.created_at,
                revisions=generation.revisions,
                frontends=len(generation.frontends),
                backends=len(generation.backends),
                certificates=len(generation.certificates),
                live=self._fleet.live,
            ),
            workers=self._fleet.status(),
            providers=[
                ProviderFreshness(
                    provider=each.provider,
                    revision=each.revision,
                    read_at=each.read_at,
                    fresh_at=self._plane.fresh_at(each.provider),
                    frontends=each.frontends,
                    backends=each.backends,
                    certificates=each.certificates,
                    stale=each.stale,
                    failed_since=each.failed_since,
                    held=each.held,
                )
                for each in (pipeline.providers() if pipeline else ())
            ],
            problems=[
                *(
                    ProblemStatus(provider=owner, text=str(each), fatal=each.fatal, since=0.0)
                    for owner, found in (
                        ("journal", self._plane.journal_problems),
                        ("settings", self._plane.static_problems),
                        ("settings", self._reload.problems or self._points.problems),
                    )
                    for each in found
                ),
                *(
                    ProblemStatus(
                        provider=each.provider,
                        text=str(each.problem),
                        fatal=each.problem.fatal,
                        since=each.since,
                    )
                    for each in (pipeline.problems() if pipeline else ())
                ),
            ],
            quarantined=[
                QuarantineStatus(
                    provider=each.provider,
                    section=each.section,
                    name=each.name,
                    reasons=[str(problem) for problem in each.problems],
                    since=each.since,
                    serving=each.serving,
                )
                for each in (pipeline.quarantined() if pipeline else ())
            ],
            entry_points=self._points.addresses,
            servers_down=[each for each in self._health.states().values() if not each.up],
            breakers=[each for each in self.breakers() if each.state != "standby"],
            statistics=StatisticsStatus(
                connections=statistics.connections,
                requests=statistics.requests,
                statuses=statistics.statuses,
            ),
        )
