"""The source above any store: what every key-value provider does with its key tree.

One consistent read at the start, then changes as the store tells them. A change costs the store no
read at all, except that a switched alias costs one (of the new tree). When a watch breaks, it goes
on from the version that is held; the tree is read again only when the store no longer knows that
version, or to prove now and then that a watch which has been silent for long is not a dead one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from kvproxy.control.sources.entry_tree import EntryTree
from kvproxy.model.problem import Problem
from kvproxy.provider import Compacted, Failure, Snapshot, StoreError, Tree, Unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

    from kvproxy.provider import Changes, Store

_THREADED_KEYS = 2000
"""Work on more keys than this is done in a thread, so that the event loop goes on turning."""

_Answer = TypeVar("_Answer")
_logger = logging.getLogger(__name__)


class Pace(Struct, frozen=True, kw_only=True):
    """How often the store is asked; all in seconds.

    A quiet store is probed each ``probe``, and a probe may take ``patience``. After an error the
    first pause is ``first_pause``, doubled each time up to ``longest_pause``, each +-50 % at
    random: a store that is back is noticed within 5 s. A tree is read for proof at most once in
    ``proof``, and only when the store has moved on meanwhile (which includes writes elsewhere)
    without the watch saying anything.
    """

    probe: float = 3.0
    patience: float = 5.0
    first_pause: float = 0.05
    longest_pause: float = 3.0
    proof: float = 300.0


def problem_of(name: str, error: StoreError) -> Problem:
    """Return the problem of a store that cannot be opened or read."""
    message = str(error)
    # Most stores begin with their name: once is enough.
    named = message.startswith((f"{name} ", f"{name}:", f"`{name}."))
    return Problem(message=message, where="" if named else name)


class StoreSource:
    """Yields snapshots of the configuration below ``prefix`` in ``store``.

    ``<prefix>/alias`` names another prefix to be used instead, as in Traefik 1.7; it is followed
    once. With ``watch`` False the tree is read once. ``fresh_at`` is the ``time.time()`` at which
    the store last proved what is held (0.0: never); ``reads`` counts whole reads.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        prefix: str,
        *,
        watch: bool = True,
        pace: Pace | None = None,
    ) -> None:
        """Ask nothing yet; the source closes the store in `close`."""
        self.name = name
        self.fresh_at = 0.0
        self.reads = 0
        self._store = store
        self._watch = watch
        self._pace = pace or Pace()
        self._signal = asyncio.Event()
        self._closing = False
        self._base = _Branch(prefix.strip("/"))
        self._target: _Branch | None = None
        self._alias_problems: tuple[Problem, ...] = ()
        self._must_read = True
        self._proof_wanted = False
        self._proven = 0
        self._moved_at = 0.0
        self._errors = 0

    async def snapshots(self) -> AsyncIterator[Snapshot | Unchanged | Failure]:
        """Yield the configuration now and after each change, and each new error once.

        A change of the store that means no change of the configuration is an `Unchanged`.
        """
        reported = ""
        while not self._closing:
            try:
                async with aclosing(self._settled()) as news:
                    async for event in news:
                        if not isinstance(event, Problem):
                            reported = ""
                            yield event
                        elif reported != str(event):
                            reported = str(event)
                            yield self._failure(event)
            except StoreError as error:
                compacted = isinstance(error, Compacted)
                if compacted:
                    self._must_read = True
                    _logger.info("%s: reading everything again: %s", self.name, error)
                elif not self._closing and reported != str(error):
                    reported = str(error)
                    yield self._failure(problem_of(self.name, error))
                await self._pause(needless=compacted)

    def prove(self) -> None:
        """Prove soon, by a read if need be, that what is held is what the store holds now.

        The proof is an event with the store's present revision. For a revision whose write changed
        nothing below the prefix: of such a write a watch says nothing.
        """
        self._proof_wanted = True
        self._signal.set()

    @property
    def static_changes(self) -> int:
        """How often static keys have changed so far, the first read included."""
        return self._base.tree.static_changes

    def static_values(self) -> Mapping[str, bytes]:
        """Return the static keys that the store holds, by key below the prefix.

        They do not follow the alias, as in Traefik 1.7.
        """
        return self._base.tree.static_values()

    async def close(self) -> None:
        """End the iterator and close the store."""
        self._closing = True
        self._signal.set()
        await self._store.close()

    async def _settled(self) -> AsyncGenerator[Snapshot | Unchanged | Problem, None]:
        """Yield whenever there is news; a problem says why the alias cannot be followed.

        Raises `StoreError` when the store or its watch fails; called again, it goes on from there.
        """
        await self._connect()
        alias_problem = await self._settle_alias()
        await self._refresh()
        yield alias_problem or self._snapshot()
        started = time.monotonic()
        try:
            while not self._closing:
                self._start_watching()
                if not await self._signalled():
                    if not self._watch or not await self._missed_something():
                        continue
                    alias_problem = await self._settle_alias()
                    yield alias_problem or self._snapshot()
                    continue
                revision = self._revision()
                before = self._told(alias_problem)
                await self._absorb()
                alias_problem = await self._settle_alias()
                touched = await self._refresh()
                if self._proof_wanted:
                    self._proof_wanted = False
                    version = await self._probe()
                    if self._watch and version > self._revision():
                        touched |= await self._read_to_prove(version)
                        alias_problem = await self._settle_alias()
                if touched or before != self._told(alias_problem):
                    yield alias_problem or self._snapshot()
                elif revision != self._revision() and alias_problem is None:
                    yield self._unchanged()
                for branch in self._branches():
                    if branch.error is not None:
                        raise branch.error
        finally:
            await self._stop_watching()
            if time.monotonic() - started > self._pace.longest_pause:
                self._errors = 0

    async def _connect(self) -> None:
        """Read what is not held yet, or prove that the store still knows the version that is."""
        self._moved_at = time.monotonic()
        if self._must_read:
            self._proven = 0
            await self._read_all()
            self._must_read = False
        else:
            await self._probe()

    async def _read_all(self) -> None:
        for branch in self._branches():
            await self._fill(branch)

    async def _fill(self, branch: _Branch) -> None:
        """Make a branch hold all the keys that the store has under its prefix."""
        if branch.inside:
            tree = Tree(self._base.version, self._base.tree.values)
        else:
            self.reads += 1
            tree = await self._asked(self._store.read(branch.prefix))
            self._confirm()
        await _in_thread_when_large(len(tree.values), lambda: branch.take(tree))

    async def _refresh(self) -> bool:
        """Decode what was touched of the tree that is used; False when nothing was."""
        tree = self._active().tree
        return await _in_thread_when_large(tree.waiting, tree.refresh)

    async def _signalled(self) -> bool:
        """Wait for news from a watch; False when there were none for the time of a probe."""
        try:
            async with asyncio.timeout(self._pace.probe):
                await self._signal.wait()
        except TimeoutError:
            return False
        self._signal.clear()
        return True

    async def _missed_something(self) -> bool:
        """Prove that what is held is right; True when a silent watch had missed something."""
        version = await self._probe()
        now = time.monotonic()
        if version <= self._version():
            self._moved_at = now
        if now - self._moved_at < self._pace.proof:
            return False
        self._moved_at = now
        await self._stop_watching()
        await self._absorb()
        touched = await self._refresh()
        missed = await self._read_to_prove(version)
        if missed:
            _logger.warning("%s: the watch had missed changes", self.name)
        return touched or missed

    async def _read_to_prove(self, version: int) -> bool:
        """Read once more, and hold what was read; False when that is what was held already.

        A read that begins now holds what was written up to ``version``, which the store has named.
        """
        await self._stop_watching()
        await self._read_all()
        self._proven = version
        return await self._refresh()

    async def _settle_alias(self) -> Problem | None:
        """Hold the tree that the alias names, read when it is new; return why it cannot be."""
        base = self._base.tree
        self._alias_problems = ()
        found = base.alias()
        if found is None:
            await self._drop_target()
            return None
        key, value = found
        try:
            prefix = value.decode().strip().strip("/")
        except UnicodeDecodeError:
            message = "the alias is not UTF-8; what was served before goes on being served"
            return Problem(message=message, where=key)
        if prefix in ("", base.prefix):
            reason = "points to the prefix itself (it is cyclic)" if prefix else "is empty"
            self._alias_problems = (
                Problem(
                    message=f"the alias {reason} and is not followed",
                    where=key,
                    expected="another prefix",
                ),
            )
            await self._drop_target()
            return None
        if self._target is None or self._target.prefix != prefix:
            inside = not base.prefix or prefix.startswith(base.prefix + "/")
            target = _Branch(prefix, inside=inside)
            await self._fill(target)
            await self._drop_target()
            self._target = target
        if not self._target.tree.values:
            # More likely a slip than the wish to serve nothing; keys that appear there are seen.
            message = (
                f"the alias points to `{prefix}`, where there are no keys; what was served before "
                "goes on being served"
            )
            return Problem(message=message, where=key, expected="keys below it, or no alias")
        self._alias_problems = self._describe_target(self._target.tree)
        return None

    def _describe_target(self, target: EntryTree) -> tuple[Problem, ...]:
        further = target.alias()
        if further is None:
            return ()
        onward = further[1].decode("utf-8", "replace").strip().strip("/")
        cyclic = onward in (self._base.prefix, target.prefix)
        message = f"a second alias, to `{onward}`, is not followed"
        if cyclic:
            message = f"the alias is cyclic: `{target.prefix}` points on to `{onward}`"
        return (Problem(message=message, where=further[0], fatal=cyclic),)

    async def _drop_target(self) -> None:
        if self._target is not None:
            await self._target.stop()
            self._target = None

    async def _absorb(self) -> None:
        """Move what the watches brought into the trees."""
        for branch in self._branches():
            arrived = branch.absorb()
            if arrived is None:
                continue
            self._confirm()
            self._moved_at = time.monotonic()
            self._errors = 0
            if branch is self._base and self._target is not None and self._target.inside:
                self._target.follow(arrived, self._base.version)

    def _start_watching(self) -> None:
        if not self._watch:
            return
        for branch in self._branches():
            if branch.task is None and not branch.inside:
                branch.error = None
                branch.task = asyncio.create_task(self._pump(branch))

    async def _pump(self, branch: _Branch) -> None:
        try:
            async for found in self._store.watch(branch.prefix, branch.version):
                branch.collect(found)
                self._signal.set()
            branch.error = StoreError("the watch ended")
        except StoreError as error:
            branch.error = error
        except Exception as error:
            # A defect of a plugin is handled as a store that does not work.
            _logger.exception("%s: the watch failed", self.name)
            branch.error = StoreError(f"{type(error).__name__}: {error}")
        self._signal.set()

    async def _stop_watching(self) -> None:
        for branch in self._branches():
            await branch.stop()

    async def _probe(self) -> int:
        try:
            async with asyncio.timeout(self._pace.patience):
                version = await self._asked(self._store.probe())
        except TimeoutError:
            raise StoreError(f"no answer within {self._pace.patience:g} s") from None
        if version < self._version():
            raise Compacted(f"the store went back from version {self._version()} to {version}")
        self._confirm()
        return version

    async def _asked(self, question: Awaitable[_Answer]) -> _Answer:
        try:
            return await question
        except StoreError:
            raise
        except Exception as error:
            _logger.exception("%s: the store failed", self.name)
            raise StoreError(f"{type(error).__name__}: {error}") from error

    async def _pause(self, *, needless: bool) -> None:
        """Wait before the store is asked again; not when ``needless`` and nothing failed lately."""
        errors, self._errors = self._errors, self._errors + 1
        if needless and errors == 0:
            return
        seconds = min(self._pace.longest_pause, self._pace.first_pause * 2 ** min(errors, 30))
        try:
            async with asyncio.timeout(seconds * random.uniform(0.5, 1.5)):
                await self._until_closed()
        except TimeoutError:
            return

    async def _until_closed(self) -> None:
        while not self._closing:
            self._signal.clear()
            await self._signal.wait()

    def _confirm(self) -> None:
        self.fresh_at = time.time()

    def _active(self) -> _Branch:
        return self._target or self._base

    def _branches(self) -> tuple[_Branch, ...]:
        return (self._base,) if self._target is None else (self._base, self._target)

    def _version(self) -> int:
        """Return the newest version of the store that any word of it has named."""
        return max(self._proven, *(branch.version for branch in self._branches()))

    def _revision(self) -> int:
        """Return the version up to which the tree that is used is known.

        Two watches tell each their own: news of the base say nothing about the tree that the alias
        names.
        """
        return max(self._proven, self._active().version)

    def _told(self, alias_problem: Problem | None) -> tuple[object, ...]:
        """Return what news are about besides entries."""
        branch = self._active()
        return branch, branch.tree.problems, self._alias_problems, alias_problem

    def _snapshot(self) -> Snapshot:
        tree = self._active().tree
        return Snapshot(
            provider=self.name,
            revision=str(self._revision()),
            configuration=tree.configuration,
            problems=(*self._alias_problems, *tree.problems),
            read_at=self.fresh_at,
            keys=len(tree.values),
        )

    def _unchanged(self) -> Unchanged:
        return Unchanged(
            provider=self.name,
            revision=str(self._revision()),
            read_at=self.fresh_at,
            keys=len(self._active().tree.values),
        )

    def _failure(self, problem: Problem) -> Failure:
        return Failure(provider=self.name, problems=(problem,), failed_at=time.time())


class _Branch:
    """One watched tree, and what its watch has brought that nobody has looked at yet."""

    def __init__(self, prefix: str, *, inside: bool = False) -> None:
        """Start empty. ``inside``: the tree is part of another branch and not watched by itself."""
        self.prefix = prefix
        self.inside = inside
        self.tree = EntryTree(prefix)
        self.version = 0
        self.task: asyncio.Task[None] | None = None
        self.error: StoreError | None = None
        self._arrived_tree: Tree | None = None
        self._arrived: dict[str, bytes | None] = {}
        self._arrived_version: int | None = None

    def take(self, tree: Tree) -> None:
        """Hold exactly the keys of ``tree`` that are under the prefix."""
        values = tree.values
        if self.inside:
            values = {key: value for key, value in values.items() if self._covers(key)}
        self.tree.replace(values)
        self.version = tree.version
        self._arrived_tree, self._arrived, self._arrived_version = None, {}, None

    def collect(self, found: Changes | Tree) -> None:
        """Keep what a watch brought; later values of a key take the place of earlier ones."""
        if isinstance(found, Tree):
            self._arrived_tree = found
            self._arrived.clear()
        else:
            self._arrived.update(found.values)
        self._arrived_version = found.version

    def absorb(self) -> dict[str, bytes | None] | None:
        """Move what was collected into the tree; return what changed, None when nothing came."""
        if self._arrived_version is None:
            return None
        changes: dict[str, bytes | None] = {}
        if self._arrived_tree is not None:
            changes = self.tree.replace(self._arrived_tree.values)
        self.tree.apply(self._arrived)
        changes.update(self._arrived)
        self.version = self._arrived_version
        self._arrived_tree, self._arrived, self._arrived_version = None, {}, None
        return changes

    def follow(self, changes: dict[str, bytes | None], version: int) -> None:
        """Take over changes of the branch that this one is inside of."""
        self.tree.apply({key: value for key, value in changes.items() if self._covers(key)})
        self.version = version

    async def stop(self) -> None:
        """End the watch; what it has brought stays collected."""
        if self.task is not None:
            task, self.task = self.task, None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _covers(self, key: str) -> bool:
        return key == self.prefix or key.startswith(self.prefix + "/")


async def _in_thread_when_large(keys: int, work: Callable[[], _Answer]) -> _Answer:
    if keys < _THREADED_KEYS:
        return work()
    return await asyncio.to_thread(work)
