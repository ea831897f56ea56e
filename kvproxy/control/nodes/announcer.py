"""Says in a store what this node serves (`kvproxy.control.nodes.announcement`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

import kvproxy
from kvproxy.control.nodes.announcement import Announcement, encode, node_key, nodes_prefix
from kvproxy.log import pairs
from kvproxy.provider import ReadOnly, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from kvproxy.control.control_plane import ControlPlane
    from kvproxy.control.sources.runner import Opener
    from kvproxy.control.workers.fleet import Fleet
    from kvproxy.provider import Store

CLOSE_SECONDS = 2.0
"""How long the end of a node waits for a store to take its announcement back."""

_logger = logging.getLogger("kvproxy.control")


class Rhythm(Struct, frozen=True, kw_only=True):
    """When announcements are written; all in seconds.

    What comes more than ``busy`` after the last write is written at once. Else it is written as
    soon as nothing more has come for ``quiet``, or ``busy`` after the last write: a fast stream of
    changes costs few writes, and the last of it waits no longer than ``quiet``. A write may take
    ``patience``. After an error the first pause is ``first_pause``, doubled each time up to
    ``longest_pause``, each +-50 % at random.
    """

    quiet: float = 0.1
    busy: float = 0.5
    patience: float = 5.0
    first_pause: float = 0.5
    longest_pause: float = 30.0


class Served(Struct, frozen=True):
    """What is served, as far as one provider knows."""

    revision: int
    keys: int
    generation: int
    digest: str
    problems: int


class Announcer:
    """Keeps one node's announcement in one store, from `start` to `close`.

    It uses a client of its own: the provider's may be closed and opened again at any time.
    """

    def __init__(
        self,
        provider: str,
        prefix: str,
        node: str,
        open_store: Callable[[], Store],
        served: Callable[[], Served | None],
        changed: Callable[[], Awaitable[None]],
        rhythm: Rhythm | None = None,
    ) -> None:
        """``served`` returns what is served by every worker, None while nothing is.

        ``changed`` waits until it may have become another.
        """
        self._provider = provider
        self._node = node
        self._key = node_key(prefix, node)
        self._open_store = open_store
        self._served = served
        self._changed = changed
        self._rhythm = rhythm or Rhythm()
        self._reported = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start; to be called once, inside the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Take the announcement back, as far as the store lets us."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)

    async def _run(self) -> None:
        # A store that does not answer need not be opened, its plugin may not even be loaded.
        while self._served() is None:
            await self._changed()
        try:
            store = self._open_store()
        except StoreError as error:
            self._report(str(error))
            return
        try:
            await self._announce_all(store)
        except ReadOnly:
            _logger.info("not announced, the store is read-only %s", pairs(provider=self._provider))
        finally:
            with contextlib.suppress(StoreError):
                await store.close()

    async def _announce_all(self, store: Store) -> None:
        """Announce each thing that is served, or at least the last of a fast stream."""
        written: Served | None = None
        written_at = -self._rhythm.busy
        errors = 0
        while True:
            if self._served() in (None, written):
                await self._changed()
                continue
            await self._pause_in_a_stream(written_at)
            served = self._served()
            if served is None or served == written:
                continue
            reason = await self._write(store, served)
            self._report(reason)
            if reason:
                await self._pause_after_error(errors)
                errors += 1
            else:
                written, written_at, errors = served, time.monotonic(), 0

    async def _pause_in_a_stream(self, written_at: float) -> None:
        """Wait until changes pause, or `Rhythm.busy` after the last write."""
        while (left := written_at + self._rhythm.busy - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(min(self._rhythm.quiet, left)):
                    await self._changed()
            except TimeoutError:
                return

    async def _pause_after_error(self, errors: int) -> None:
        seconds = min(self._rhythm.longest_pause, self._rhythm.first_pause * 2 ** min(errors, 30))
        await asyncio.sleep(seconds * random.uniform(0.5, 1.5))

    async def _write(self, store: Store, served: Served) -> str:
        """Return why it failed, or nothing; raises `ReadOnly`."""
        try:
            async with asyncio.timeout(self._rhythm.patience):
                await store.announce(self._key, encode(self._announcement(served)))
        except ReadOnly:
            raise
        except TimeoutError:
            return f"no answer within {self._rhythm.patience:g} s"
        except StoreError as error:
            return str(error)
        except Exception as error:
            # A defect of a plugin must not end what the node serves.
            _logger.exception("the announcement failed %s", pairs(provider=self._provider))
            return f"{type(error).__name__}: {error}"
        return ""

    def _report(self, reason: str) -> None:
        """Log the first of equal errors, and their end."""
        if reason and reason != self._reported:
            _logger.warning(
                "this node cannot announce what it serves; `announce = false` turns it off %s",
                pairs(provider=self._provider, key=self._key, reason=reason),
            )
        elif self._reported and not reason:
            _logger.info("announced again %s", pairs(provider=self._provider))
        self._reported = reason

    def _announcement(self, served: Served) -> Announcement:
        return Announcement(
            node=self._node,
            pid=os.getpid(),
            version=kvproxy.__version__,
            since=round(time.time(), 3),
            **msgspec.structs.asdict(served),
        )


def announcers(
    openers: Sequence[Opener], plane: ControlPlane, fleet: Fleet, node: str
) -> list[Announcer]:
    """Return an announcer for each store that the configuration comes from."""
    found = []
    for opener in openers:
        if opener.open_store is None:
            continue
        if not nodes_prefix(opener.prefix):
            _logger.warning(
                "not announced: the whole store is the configuration, there is no place beside it "
                "%s",
                pairs(provider=opener.name),
            )
            continue
        found.append(
            Announcer(
                opener.name,
                opener.prefix,
                node,
                opener.open_store,
                partial(served_of, opener.name, plane, fleet),
                fleet.changed,
            )
        )
    return found


def served_of(provider: str, plane: ControlPlane, fleet: Fleet) -> Served | None:
    """Return what every worker serves and which revision of ``provider`` it is."""
    generation, pipeline = fleet.generation, plane.pipeline
    if generation is None or pipeline is None or not fleet.live:
        return None
    for status in pipeline.providers():
        if status.provider == provider and not status.stale and status.revision.isdigit():
            return Served(
                revision=int(status.revision),
                keys=status.keys,
                generation=generation.number,
                digest=generation.digest,
                problems=len(pipeline.problems()),
            )
    return None
