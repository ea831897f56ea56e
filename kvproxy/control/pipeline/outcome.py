"""What the pipeline tells its caller: new generations, problems, and what to do next."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from kvproxy.control.generations.generation import Generation
from kvproxy.model.digest import Section
from kvproxy.model.problem import Problem


class Clock(Protocol):
    """The two times that the pipeline needs; the module ``time`` is one."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...


class Notice(Struct, frozen=True):
    """A problem of a provider; ``since``: when it was first seen, ``time.time()``."""

    provider: str
    problem: Problem
    since: float


class Held(Struct, frozen=True, kw_only=True):
    """A snapshot that would remove suspiciously much and waits for a second read that says the
    same.

    ``removes`` of ``serving`` frontends would go.
    """

    provider: str
    revision: str
    removes: int
    serving: int
    since: float


class Quarantined(Struct, frozen=True, kw_only=True):
    """An entry that was refused; ``serving``: whether its previous good version goes on."""

    provider: str
    section: Section
    name: str
    problems: tuple[Problem, ...]
    since: float
    serving: bool


class ProviderStatus(Struct, frozen=True, kw_only=True):
    """Where one provider stands.

    ``revision`` and ``read_at`` are those of what is served; ``stale``: it comes from the journal,
    the provider has not spoken since the start; ``failed_since``: the provider's source fails now;
    ``keys``: of a store, 0 when it is not known.
    """

    provider: str
    revision: str
    keys: int
    read_at: float
    frontends: int
    backends: int
    certificates: int
    stale: bool
    failed_since: float | None
    held: Held | None
    waits_for_throttle: bool


class Outcome(Struct, frozen=True, kw_only=True):
    """The result of one step of the pipeline.

    ``generation``: the new generation to send to workers, None when nothing that is served changed.
    ``confirm``: providers whose source must read again from its origin now and offer what it reads,
    even when it equals the last snapshot (a source that cannot be asked is started anew). ``found``
    and ``resolved``: problems that appeared and went away. ``wake_at``: call `Pipeline.tick` at
    this ``clock.monotonic()`` (None: nothing is waiting); replaces whatever an earlier outcome
    said.
    """

    generation: Generation | None = None
    confirm: tuple[str, ...] = ()
    found: tuple[Notice, ...] = ()
    resolved: tuple[Notice, ...] = ()
    wake_at: float | None = None
