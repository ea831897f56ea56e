"""Providers, pipeline and journal of a supervisor: from what stores say to what workers serve."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kvproxy.control.generations.journal import Journal
from kvproxy.control.pipeline.pipeline import Pipeline
from kvproxy.control.sources.runner import SourceRunner
from kvproxy.log import pairs
from kvproxy.provider import Failure, Snapshot, Unchanged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from kvproxy.control.generations.generation import Generation
    from kvproxy.control.pipeline.outcome import Notice, Outcome
    from kvproxy.control.sources.runner import Opener
    from kvproxy.control.sources.static_watch import StaticWatch
    from kvproxy.model.problem import Problem
    from kvproxy.model.static import StaticConfiguration

SILENCE_SECONDS = 0.3
"""How long the start waits for providers before the journal's configuration is served."""

_logger = logging.getLogger("kvproxy.control")


@dataclass
class Reloads:
    """Configurations since the start: ``applied``, and ``refused`` at least in part.

    ``applied_at``, ``refused_at``: ``time.time()`` of the last, 0.0 when there was none.
    """

    applied: int = 0
    applied_at: float = 0.0
    refused: int = 0
    refused_at: float = 0.0


class ControlPlane:
    """Runs the configured providers and hands every new generation to ``serve``."""

    def __init__(
        self,
        settings: StaticConfiguration,
        openers: Sequence[Opener],
        directory: Path,
        serve: Callable[[Generation], None],
        heard: Callable[[], None],
        static: StaticWatch | None = None,
    ) -> None:
        """``directory``: where the journal is. ``heard`` is called after each word of a provider.

        Both functions are called inside the event loop. ``static`` sees the static keys of the
        deciding store.
        """
        self.reloads = Reloads()
        self._settings = settings
        self._runners = {opener.name: SourceRunner(opener, self._offer) for opener in openers}
        self._directory = directory
        self._journal: Journal | None = None
        self._serve = serve
        self._heard = heard
        self._static = static
        self._pipeline: Pipeline | None = None
        self._decided = False
        self._restored = False
        self._mute = ""
        self._silent = set(self._runners)
        self._spoke = asyncio.Event()
        self._notices: dict[tuple[str, str], Notice] = {}
        self._frozen: dict[str, Snapshot | Unchanged | Failure] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline, from `start` on."""
        return self._pipeline

    @property
    def names(self) -> Sequence[str]:
        """The configured providers."""
        return list(self._runners)

    @property
    def stores(self) -> Sequence[str]:
        """The configured providers that have revisions to wait for."""
        return [runner.name for runner in self._runners.values() if runner.is_store]

    @property
    def journal_problems(self) -> tuple[Problem, ...]:
        """What is wrong with the journal."""
        return () if self._journal is None else self._journal.problems

    @property
    def static_problems(self) -> tuple[Problem, ...]:
        """Which static settings of the store are not in use."""
        return () if self._static is None else self._static.problems

    def fresh_at(self, provider: str) -> float:
        """Return when the origin of ``provider`` last proved what it said; 0.0: not known."""
        runner = self._runners.get(provider)
        return 0.0 if runner is None else runner.fresh_at

    def prove(self, provider: str) -> None:
        """Have a store prove soon up to which revision what it said last holds."""
        runner = self._runners.get(provider)
        if runner is not None:
            runner.prove()

    async def start(self, serving: Generation | None = None, mute: str = "") -> None:
        """Ask the providers; serve what they say, or the last known good, after `SILENCE_SECONDS`.

        ``serving``: what workers serve already; it is not replaced by nothing. ``mute``: a provider
        that was asked in vain just now; it is not waited for, and not asked before `start_mute`.
        """
        self._journal = Journal(self._directory)
        self._pipeline = pipeline = Pipeline(self._settings, self._journal, time)
        outcome = pipeline.restore(list(self._runners))
        self._restored = outcome.generation is not None
        self._take(outcome)
        self._mute = mute
        for name in self._runners:
            if name != mute:
                self._start_provider(name)
        awaited = self._silent - {mute}
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                while awaited & self._silent:
                    await self._spoke.wait()
                    self._spoke.clear()
        except TimeoutError:
            pass
        self._decided = True
        for notice in self._notices.values():
            _log_found(notice)
        stale = [status for status in pipeline.providers() if status.stale]
        for status in stale:
            _logger.warning(
                "STALE: the provider has not answered, its last known good configuration is served "
                "%s",
                pairs(
                    provider=status.provider,
                    revision=status.revision,
                    ageSeconds=round(time.time() - status.read_at, 1),
                    frontends=status.frontends,
                ),
            )
        nothing_known = not self._restored and len(self._silent) == len(self._runners)
        if serving is None or not nothing_known:
            self._serve_now(pipeline.generation)

    def start_mute(self) -> None:
        """Start the provider that `start` left out, if there is one."""
        if self._mute in self._runners:
            self._start_provider(self._mute)
        self._mute = ""

    def freeze(self) -> None:
        """Apply nothing more until `thaw`; the newest word of each provider is kept."""
        if self._frozen is None:
            self._frozen = {}

    def thaw(self) -> None:
        """Go on after `freeze`."""
        kept, self._frozen = self._frozen, None
        for event in (kept or {}).values():
            self._offer(event)

    async def close(self) -> None:
        """Stop the providers and close the journal, which then holds everything served."""
        self.freeze()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*(runner.stop() for runner in self._runners.values()))
        if self._journal is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._journal.close)
            self._journal = None

    @property
    def frozen(self) -> bool:
        """Whether nothing may change, because another supervisor takes over."""
        return self._frozen is not None

    def use_settings(self, settings: StaticConfiguration) -> None:
        """Judge everything by other static settings, of which the entry points may differ."""
        self._settings = settings
        if self._pipeline is not None:
            self._take(self._pipeline.use_settings(settings))

    @property
    def files(self) -> set[str]:
        """The files that certificates of providers are in."""
        return set() if self._pipeline is None else self._pipeline.files

    def files_changed(self, files: Collection[str]) -> None:
        """Read the certificates in these files again."""
        if self._pipeline is not None and not self.frozen:
            self._take(self._pipeline.files_changed(files))

    def confirm(self, provider: str) -> bool:
        """Apply the held snapshot of a provider; False when none is held."""
        if self._pipeline is None:
            return False
        outcome = self._pipeline.confirm(provider)
        self._take(outcome)
        return outcome.generation is not None

    def _start_provider(self, name: str) -> None:
        _logger.info("starting provider %s", pairs(provider=name))
        self._runners[name].start()

    def _offer(self, event: Snapshot | Unchanged | Failure) -> None:
        if self._frozen is not None:
            # What is to be served must not be lost behind what came after it.
            kept = self._frozen.get(event.provider)
            if isinstance(event, Snapshot) or not isinstance(kept, Snapshot):
                self._frozen[event.provider] = event
            return
        assert self._pipeline is not None
        outcome = self._pipeline.offer(event)
        self._silent.discard(event.provider)
        self._spoke.set()
        self._take(outcome)
        if self._static is not None and self._static.store == event.provider:
            self._runners[event.provider].compare(self._static)

    def _tick(self) -> None:
        self._timer = None
        if self._frozen is None and self._pipeline is not None:
            self._take(self._pipeline.tick())

    def _take(self, outcome: Outcome) -> None:
        if outcome.generation is not None and self._decided:
            self._serve_now(outcome.generation)
        if any(notice.problem.fatal for notice in outcome.found):
            self.reloads.refused += 1
            self.reloads.refused_at = time.time()
        for notice in outcome.resolved:
            if self._notices.pop(_key(notice), None) is not None and self._decided:
                _logger.info("resolved %s", pairs(provider=notice.provider, problem=notice.problem))
        for notice in outcome.found:
            self._notices[_key(notice)] = notice
            if self._decided:
                _log_found(notice)
        for name in outcome.confirm:
            runner = self._runners.get(name)
            if runner is not None:
                _logger.info("reading again %s", pairs(provider=name))
                runner.read_again()
        self._wake_at(outcome.wake_at)
        self._heard()

    def _serve_now(self, generation: Generation) -> None:
        if generation.number:
            revisions = (f"{name}:{text}" for name, text in generation.revisions.items())
            _logger.info(
                "new generation %s",
                pairs(
                    number=generation.number,
                    digest=generation.digest[:12],
                    revisions=",".join(revisions),
                    frontends=_counts(generation.changes.frontends),
                    backends=_counts(generation.changes.backends),
                    certificates=_counts(generation.changes.certificates),
                ),
            )
        else:
            _logger.info("no configuration yet, every request is answered 404")
        self.reloads.applied += 1
        self.reloads.applied_at = time.time()
        self._serve(generation)

    def _wake_at(self, when: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            delay = max(0.0, when - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)


def _key(notice: Notice) -> tuple[str, str]:
    return notice.provider, str(notice.problem)


def _log_found(notice: Notice) -> None:
    level = logging.ERROR if notice.problem.fatal else logging.WARNING
    _logger.log(level, "problem %s", pairs(provider=notice.provider, problem=notice.problem))


def _counts(changes: Mapping[Any, tuple[object, object]]) -> str:
    """Return ``+added~changed-removed``."""
    added = sum(before is None for before, _ in changes.values())
    removed = sum(after is None for _, after in changes.values())
    return f"+{added}~{len(changes) - added - removed}-{removed}"
