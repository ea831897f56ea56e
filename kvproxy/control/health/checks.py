"""Health checks of servers: which there are, when each is due, what it found.

A check is named by what makes it one (`kvproxy.model.health`): the URL of a server and the
settings. However many backends, frontends and entry points use it, it runs once, and what it found
stays while any backend has it. Workers are told only of changes.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from kvproxy.control.health.request import HealthRequest, health_request, parsed
from kvproxy.log import pairs
from kvproxy.model.health import check_key
from kvproxy.model.messages import HealthChange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import yarl

    from kvproxy.control.generations.generation import Generation
    from kvproxy.model.messages import BackendEntry, EntryKey

MAXIMUM_RUNNING = 1000
"""Checks that wait for an answer at once; further ones are late."""

FIRST_CHECKS_PER_SECOND = 1000
"""New checks begin at once, but many of them one after the other."""

EARLIEST_SECOND_TURN = 0.1
"""The second turn of a check comes between this share of its interval and all of it."""

TURN_SECONDS = 0.05
"""Checks that are due within so short a time begin together: each turn of the loop has a price."""

_logger = logging.getLogger("kvproxy.control")


class Asker(Protocol):
    """Asks one server; `kvproxy.control.health.asker.HealthAsker`."""

    async def ask(self, request: HealthRequest, url: yarl.URL) -> str:
        """Return what is wrong; empty: the server is well."""
        ...


class ServerHealth(Struct, frozen=True, rename="camel"):
    """What a check found: ``reason`` is empty for a server that is up, ``since`` is ``time.time()``
    of the last change."""

    server: str
    url: str
    up: bool
    reason: str
    since: float


class _Check:
    """One check. ``late`` is the fraction of an interval by which its turns are shifted."""

    __slots__ = ("down", "key", "late", "reason", "request", "since", "url")

    def __init__(self, key: bytes, request: HealthRequest) -> None:
        self.key = key
        self.request = request
        self.url = parsed(request)
        self.late = int.from_bytes(key[:4], "big") / 2**32
        self.down = False
        self.reason = ""
        self.since = time.time()


class HealthChecks:
    """All checks of a supervisor. To be used inside the event loop."""

    def __init__(
        self,
        asker: Asker,
        default_interval: float,
        tell: Callable[[HealthChange], None],
        known_down: Iterable[bytes] = (),
    ) -> None:
        """``tell`` is called with each change, before anything else happens. ``known_down``: checks
        that a predecessor saw fail last."""
        self._asker = asker
        self._default_interval = default_interval
        self._tell = tell
        self._known_down = set(known_down)
        self._checks: dict[bytes, _Check] = {}
        self._users: Counter[bytes] = Counter()
        self._backends: Mapping[EntryKey, BackendEntry] = {}
        self._generation: int | None = None
        self._gone: list[bytes] = []
        self._due: list[tuple[float, int, _Check]] = []
        self._order = count()
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def down(self) -> list[bytes]:
        """Return the keys of the checks that fail."""
        return [check.key for check in self._checks.values() if check.down]

    def states(self) -> dict[bytes, ServerHealth]:
        """Return what is known of each checked server, by the key of the check."""
        return {
            key: ServerHealth(
                check.request.server, check.request.url, not check.down, check.reason, check.since
            )
            for key, check in self._checks.items()
        }

    def serve(self, generation: Generation) -> None:
        """Check what a generation names, from now on.

        To be called before the workers are told of the generation: a server that is known to be
        down is down in it from the start, even if it is checked in another way now.
        """
        before, self._backends = self._backends, generation.backends
        if generation.base == self._generation:
            changed: Iterable[EntryKey] = generation.changes.backends
        else:
            changed = before.keys() | self._backends.keys()
        self._generation = generation.number
        added: list[bytes] = []
        removed: list[bytes] = []
        for key in changed:
            old, new = before.get(key), self._backends.get(key)
            if old is not new:
                added += [] if new is None else self._add(new)
                removed += [] if old is None else self._keys(old)
        down: set[str] = set()
        if added:
            down = {check.request.server for check in self._checks.values() if check.down}
        self._remove(removed)
        self._begin([self._checks[key] for key in added if key in self._checks], down)

    def _keys(self, entry: BackendEntry) -> list[bytes]:
        check = entry.backend.health_check
        keys = (check_key(server.url, check) for server in entry.backend.servers.values())
        return [key for key in keys if key in self._users]

    def _add(self, entry: BackendEntry) -> list[bytes]:
        """Count a backend as user of its checks; returns those that did not exist."""
        options = entry.backend.health_check
        if options is None or not options.path:
            return []
        fresh = []
        for server in entry.backend.servers.values():
            key = check_key(server.url, options)
            if key not in self._checks:
                try:
                    request = health_request(server.url, options, self._default_interval)
                except ValueError as error:
                    _logger.warning(
                        "server is not checked %s", pairs(backend=entry.name, reason=error)
                    )
                    continue
                self._checks[key] = _Check(key, request)
                fresh.append(key)
            self._users[key] += 1
        return fresh

    def _remove(self, keys: Iterable[bytes]) -> None:
        self._users.subtract(keys)
        for key in [key for key in set(keys) if self._users[key] <= 0]:
            del self._users[key]
            if self._checks.pop(key).down:
                self._gone.append(key)

    def _begin(self, checks: list[_Check], down: set[str]) -> None:
        """Schedule new checks; those of servers that were down start as down."""
        now = time.monotonic()
        known_down = []
        for number, check in enumerate(checks):
            if check.request.server in down or check.key in self._known_down:
                check.down = True
                known_down.append(check.key)
            self._schedule(check, now + number / FIRST_CHECKS_PER_SECOND)
        self._known_down.clear()
        # Keys that nobody uses are forgotten by the workers in passing.
        gone, self._gone = self._gone, []
        if known_down or gone:
            self._tell(HealthChange(down=known_down, up=gone))

    def _schedule(self, check: _Check, when: float) -> None:
        heapq.heappush(self._due, (when, next(self._order), check))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif self._due[0][2] is check:
            self._wake.set()

    async def _run(self) -> None:
        """Start each check when it is due."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._due:
                await self._woken(None)
                continue
            when, _, check = self._due[0]
            wait = when - time.monotonic()
            if wait > 0:
                await self._woken(max(wait, TURN_SECONDS))
                continue
            if len(self._running) >= MAXIMUM_RUNNING:
                await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
                continue
            heapq.heappop(self._due)
            if self._checks.get(check.key) is check:
                task = loop.create_task(self._ask(check))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _woken(self, seconds: float | None) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _ask(self, check: _Check) -> None:
        first = check.late > 0
        began = time.monotonic()
        try:
            reason = await self._asker.ask(check.request, check.url)
        except Exception as error:
            _logger.exception("a health check failed in itself")
            reason = f"{type(error).__name__}: {error}"
        if self._checks.get(check.key) is not check:
            return
        # The second turn comes early by a share of its own, and spreads all that follow.
        shift, check.late = check.late, 0.0
        interval = check.request.interval
        share = EARLIEST_SECOND_TURN + (1 - EARLIEST_SECOND_TURN) * shift if first else 1.0
        self._schedule(check, began + interval * share)
        self._found(check, reason)

    def _found(self, check: _Check, reason: str) -> None:
        down = bool(reason)
        check.reason = reason
        if down == check.down:
            return
        check.down = down
        check.since = time.time()
        where = pairs(server=check.request.server, check=check.request.url)
        if down:
            self._tell(HealthChange(down=[check.key]))
            _logger.warning("server is down %s %s", where, pairs(reason=reason))
        else:
            self._tell(HealthChange(up=[check.key]))
            _logger.info("server is up %s", where)

    async def close(self) -> None:
        """Stop checking."""
        tasks = [*self._running, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
