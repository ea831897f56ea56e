"""From what providers say to the generation that is served.

Pure logic: no clock and no disk of its own (but the journal, which writes in its own thread), so
every order of events can be tested. One snapshot passes in this order:

throttle (`kvproxy.control.pipeline.throttle`) -> comparison with the snapshot before ->
mass-deletion guard (`kvproxy.control.pipeline.guard`) -> validation and quarantine of what changed
(`kvproxy.control.pipeline.quarantine`) -> merge into the next generation
(`kvproxy.control.generations.merger`) -> journal (`kvproxy.control.generations.journal`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from kvproxy.control.collection import without_collection
from kvproxy.control.generations.merger import Merger
from kvproxy.control.pipeline.guard import MassDeletionGuard
from kvproxy.control.pipeline.outcome import Held, Outcome, ProviderStatus
from kvproxy.control.pipeline.quarantine import ProviderEntries
from kvproxy.control.pipeline.throttle import Throttle
from kvproxy.control.validation.validator import Validator
from kvproxy.model.problem import Problem
from kvproxy.provider import Failure, Snapshot, Unchanged

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from kvproxy.control.generations.generation import Generation
    from kvproxy.control.generations.journal import Journal, LastGood
    from kvproxy.control.pipeline.outcome import Clock, Notice, Quarantined
    from kvproxy.control.pipeline.quarantine import Difference, Served
    from kvproxy.model.static import StaticConfiguration

_STALE = Problem(
    message="serves the last known good configuration from the journal: "
    "the provider has not answered since the start",
    fatal=False,
)


class _Provider:
    """The state of one provider."""

    def __init__(self, name: str, validator: Validator, settings: StaticConfiguration) -> None:
        self.name = name
        self.entries = ProviderEntries(name, validator)
        self.throttle: Throttle[Snapshot] = Throttle(settings.providers_throttle_duration)
        self.guard = MassDeletionGuard(settings.mass_deletion_guard)
        self.revision = ""
        self.keys = 0
        self.read_at = 0.0
        # Whether anything was applied: before that, the journal may know better.
        self.applied = False
        self.stale = False
        self.failed_since: float | None = None
        self.held: Held | None = None
        self.held_snapshot: Snapshot | None = None

    def confirm(self, event: Unchanged) -> None:
        """Note the revision at which the newest snapshot still holds."""
        if self.held_snapshot is not None:
            self.held_snapshot = _renamed(self.held_snapshot, event)
        elif self.applied and not self.stale:
            self.revision, self.keys, self.read_at = event.revision, event.keys, event.read_at


class Pipeline:
    """Takes what providers say, gives generations. Not to be used from two threads."""

    def __init__(
        self, settings: StaticConfiguration, journal: Journal | None, clock: Clock
    ) -> None:
        """Start with generation 0, in which nothing is served.

        Numbers go on where the journal ends. ``clock`` is the module ``time`` outside of tests.
        """
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._validator = Validator(settings)
        self._providers: dict[str, _Provider] = {}
        self._merger = Merger(1 + (journal.last_number if journal is not None else 0))

    @property
    def generation(self) -> Generation:
        """The newest generation."""
        return self._merger.generation

    def offer(self, event: Snapshot | Unchanged | Failure) -> Outcome:
        """Take what a provider says.

        A `Failure` changes nothing that is served. A `Snapshot` is applied at once, or waits for
        the throttle, or is held by the mass-deletion guard. An `Unchanged` renames the newest
        snapshot, wherever it is.
        """
        provider = self._provider(event.provider)
        problems = provider.entries.problems
        if isinstance(event, Failure):
            if provider.failed_since is None:
                provider.failed_since = event.failed_at
            problems.replace("failure", event.problems, self._clock.time())
            return self._outcome(None)
        provider.failed_since = None
        problems.replace("failure", (), self._clock.time())
        if isinstance(event, Unchanged):
            waiting = provider.throttle.waiting
            if waiting is None:
                provider.confirm(event)
                return self._outcome(None)
            event = _renamed(waiting, event)
        snapshot = provider.throttle.offer(event, self._clock.monotonic())
        return self._outcome(None if snapshot is None else self._take(provider, snapshot))

    def tick(self) -> Outcome:
        """Do what is due: apply what waited for the throttle, ask for second reads."""
        now = self._clock.monotonic()
        newest = None
        for provider in self._providers.values():
            snapshot = provider.throttle.due(now)
            if snapshot is not None:
                newest = self._take(provider, snapshot) or newest
        confirm = tuple(
            name for name, provider in self._providers.items() if provider.guard.due(now)
        )
        return self._outcome(newest, confirm)

    def restore(self, providers: Iterable[str]) -> Outcome:
        """Serve the last known good entries of these providers, as far as they have not spoken.

        To be called at start, before or while providers are asked, with every configured provider:
        the guard then also protects the first snapshots. What is restored is stale until its
        provider's first snapshot is applied. Without a journal, or when it holds nothing good,
        nothing happens.
        """
        if self._journal is None:
            return self._outcome(None)
        with without_collection():
            return self._restore(self._journal.restore(providers))

    def _restore(self, known: LastGood) -> Outcome:
        served = {}
        now = self._clock.time()
        for good in known.providers:
            provider = self._provider(good.provider)
            if provider.applied:
                continue
            served[good.provider] = provider.entries.restore(good)
            provider.applied = provider.stale = True
            provider.revision, provider.read_at = good.revision, good.read_at
            provider.entries.problems.replace("stale", (_STALE,), now)
        return self._outcome(self._merge(served, known_as=(known.number, known.digest)))

    def use_settings(self, settings: StaticConfiguration) -> Outcome:
        """Judge everything again: other entry points are there, or none of a name any more."""
        self._settings = settings
        self._validator = Validator(settings)
        now = self._clock.time()
        served = {}
        with without_collection():
            for name, provider in self._providers.items():
                judged = provider.entries.judge_again(self._validator, now)
                if provider.applied:
                    served[name] = judged
            return self._outcome(self._merge(served))

    @property
    def files(self) -> set[str]:
        """The files that certificates of providers are in."""
        return set().union(*(each.entries.files for each in self._providers.values()))

    def files_changed(self, files: Collection[str]) -> Outcome:
        """Read the certificates in these files again."""
        now = self._clock.time()
        served = {
            name: provider.entries.read_again(files, now)
            for name, provider in self._providers.items()
            if provider.applied
        }
        return self._outcome(self._merge(served))

    def confirm(self, provider: str) -> Outcome:
        """Apply the held snapshot of a provider because an operator says so; nothing held: no
        effect."""
        state = self._providers.get(provider)
        if state is None or state.held_snapshot is None:
            return self._outcome(None)
        return self._outcome(self._apply(state, state.held_snapshot))

    def problems(self) -> list[Notice]:
        """Return everything that is wrong now, refused entries and warnings, by provider."""
        return [notice for state in self._providers.values() for notice in state.entries.problems]

    def quarantined(self) -> list[Quarantined]:
        """Return the entries that are refused now."""
        return [
            entry for state in self._providers.values() for entry in state.entries.quarantined()
        ]

    def providers(self) -> list[ProviderStatus]:
        """Return where each provider stands, in the order in which they first spoke."""
        return [
            ProviderStatus(
                provider=state.name,
                revision=state.revision,
                keys=state.keys,
                read_at=state.read_at,
                frontends=len(state.entries.frontends),
                backends=len(state.entries.backends),
                certificates=len(state.entries.certificates),
                stale=state.stale,
                failed_since=state.failed_since,
                held=state.held,
                waits_for_throttle=state.throttle.wake_at is not None,
            )
            for state in self._providers.values()
        ]

    def _provider(self, name: str) -> _Provider:
        state = self._providers.get(name)
        if state is None:
            state = self._providers[name] = _Provider(name, self._validator, self._settings)
        return state

    def _take(self, provider: _Provider, snapshot: Snapshot) -> Generation | None:
        """Apply a snapshot unless the guard holds it."""
        with without_collection():
            return self._judge(provider, snapshot)

    def _judge(self, provider: _Provider, snapshot: Snapshot) -> Generation | None:
        entries = provider.entries
        difference = entries.compare(snapshot.configuration, snapshot.problems)
        removed = entries.removed_frontends(difference)
        serving = len(entries.frontends)
        now = self._clock.monotonic()
        if provider.guard.passes(removed, serving, empty=difference.empty, now=now):
            return self._apply(provider, snapshot, difference)
        since = self._clock.time() if provider.held is None else provider.held.since
        provider.held_snapshot = snapshot
        provider.held = Held(
            provider=provider.name,
            revision=snapshot.revision,
            removes=len(removed),
            serving=serving,
            since=since,
        )
        problem = Problem(
            message=f"the new configuration would remove {len(removed)} of {serving} frontends; "
            "it is held until a second read says the same",
            fatal=False,
        )
        entries.problems.replace("held", (problem,), self._clock.time())
        return None

    def _apply(
        self, provider: _Provider, snapshot: Snapshot, difference: Difference | None = None
    ) -> Generation | None:
        now = self._clock.time()
        entries = provider.entries
        provider.guard.release()
        provider.held = provider.held_snapshot = None
        provider.applied, provider.stale = True, False
        provider.revision, provider.keys = snapshot.revision, snapshot.keys
        provider.read_at = snapshot.read_at
        for owner in ("held", "stale"):
            entries.problems.replace(owner, (), now)
        if difference is None:
            difference = entries.compare(snapshot.configuration, snapshot.problems)
        generation = self._merge({provider.name: entries.apply(difference, now)})
        if generation is not None:
            provider.throttle.applied(self._clock.monotonic())
        return generation

    def _merge(
        self, served: Mapping[str, Served], known_as: tuple[int, str] | None = None
    ) -> Generation | None:
        applied = [state for state in self._providers.values() if state.applied]
        revisions = {state.name: state.revision for state in applied}
        generation = self._merger.merge(served, revisions, self._clock.time(), known_as)
        known = known_as is not None and generation is not None and generation.number == known_as[0]
        if generation is not None and self._journal is not None and not known:
            self._journal.record(generation, {state.name: state.read_at for state in applied})
        return generation

    def _outcome(self, generation: Generation | None, confirm: tuple[str, ...] = ()) -> Outcome:
        found: list[Notice] = []
        resolved: list[Notice] = []
        wake_at: float | None = None
        for state in self._providers.values():
            came, went = state.entries.problems.drain()
            found += came
            resolved += went
            for time in (state.throttle.wake_at, state.guard.wake_at):
                if time is not None and (wake_at is None or time < wake_at):
                    wake_at = time
        return Outcome(
            generation=generation,
            confirm=confirm,
            found=tuple(found),
            resolved=tuple(resolved),
            wake_at=wake_at,
        )


def _renamed(snapshot: Snapshot, event: Unchanged) -> Snapshot:
    return msgspec.structs.replace(
        snapshot, revision=event.revision, keys=event.keys, read_at=event.read_at
    )
