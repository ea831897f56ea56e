"""What a supervisor tells about itself: the answer of the command ``status``
(`kvproxy.control.administration.control_socket`).
"""

from __future__ import annotations

from msgspec import Struct

from kvproxy.control.health.checks import ServerHealth
from kvproxy.control.pipeline.outcome import Held
from kvproxy.control.workers.breakers import BreakerStatus
from kvproxy.control.workers.fleet import WorkerStatus


class GenerationStatus(Struct, frozen=True, rename="camel", kw_only=True):
    """The newest generation; ``live``: every worker serves it."""

    number: int
    digest: str
    created_at: float
    revisions: dict[str, str]
    frontends: int
    backends: int
    certificates: int
    live: bool


class ProviderFreshness(Struct, frozen=True, rename="camel", kw_only=True):
    """Where a provider stands.

    ``revision`` and ``read_at`` are those of what is served. ``fresh_at``: when the origin last
    proved that this is what it holds (``time.time()``; 0: it has not yet). ``stale``: it comes from
    the journal and the provider has not spoken since the start. ``failed_since``: when its present
    failure began.
    """

    provider: str
    revision: str
    read_at: float
    fresh_at: float
    frontends: int
    backends: int
    certificates: int
    stale: bool
    failed_since: float | None
    held: Held | None


class ProblemStatus(Struct, frozen=True, rename="camel", kw_only=True):
    """Something that is wrong in what a provider says; ``text`` is the whole message for people."""

    provider: str
    text: str
    fatal: bool
    since: float


class QuarantineStatus(Struct, frozen=True, rename="camel", kw_only=True):
    """An entry that was refused; ``serving``: its previous good version goes on."""

    provider: str
    section: str
    name: str
    reasons: list[str]
    since: float
    serving: bool


class StatisticsStatus(Struct, frozen=True, rename="camel", kw_only=True):
    """Totals of all workers since the supervisor's start; ``statuses``: answers by first digit."""

    connections: int
    requests: int
    statuses: list[int]


class Status(Struct, frozen=True, rename="camel", kw_only=True):
    """The whole status. ``state``: starting, running, handing over or stopping.

    ``servers_down``: those whose health check fails; ``breakers``: those that are not in standby.
    """

    version: str
    pid: int
    state: str
    started_at: float
    generation: GenerationStatus | None
    workers: list[WorkerStatus]
    providers: list[ProviderFreshness]
    problems: list[ProblemStatus]
    quarantined: list[QuarantineStatus]
    entry_points: dict[str, list[str]]
    servers_down: list[ServerHealth]
    breakers: list[BreakerStatus]
    statistics: StatisticsStatus
