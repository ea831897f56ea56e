"""Following a store in tests: as a bare reader of keys, and as the proxy does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from kvproxy.control.sources.store_source import Pace, StoreSource
from kvproxy.provider import Changes, Compacted, Failure, Snapshot, StoreError, Tree

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from kvproxy.provider import Store

Result = TypeVar("Result")

DEADLINE = 20.0


async def within(awaitable: Awaitable[Result], seconds: float = DEADLINE) -> Result:
    """Return the result; TimeoutError after ``seconds``."""
    async with asyncio.timeout(seconds):
        return await awaitable


def applied(held: Mapping[str, bytes], found: Changes | Tree) -> dict[str, bytes]:
    """Return what a watcher that holds ``held`` knows after ``found``."""
    if isinstance(found, Tree):
        return dict(found.values)
    result = dict(held)
    for key, value in found.values.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


async def follow(store: Store, held: Tree, done: Callable[[Mapping[str, bytes]], bool]) -> Tree:
    """Follow the keys under ``t``, over failures and new reads, until they are ``done``."""
    version, values = held.version, dict(held.values)
    while not done(values):
        try:
            async for found in store.watch("t", version):
                version, values = found.version, applied(values, found)
                if done(values):
                    break
        except Compacted:
            tree = await retried(lambda: store.read("t"))
            version, values = tree.version, dict(tree.values)
        except StoreError:
            await asyncio.sleep(0.05)
    return Tree(version, values)


async def retried(ask: Callable[[], Awaitable[Result]]) -> Result:
    """Ask until the store answers."""
    while True:
        try:
            return await ask()
        except StoreError:
            await asyncio.sleep(0.05)


class ProxyView:
    """What a proxy knows of the store: the newest snapshot, and how often the store failed."""

    def __init__(self, store: Store, pace: Pace) -> None:
        """Start following the prefix ``t``."""
        self.source = StoreSource(store, "test", "t", pace=pace)
        self.snapshots = 0
        self.history: list[dict[str, str]] = []
        self.failures: list[str] = []
        self.rules: dict[str, str] = {}
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        async for found in self.source.snapshots():
            if isinstance(found, Failure):
                self.failures.append(str(found.problems[0]))
            elif isinstance(found, Snapshot):
                self.snapshots += 1
                self.rules = {
                    name: frontend.routes["main"].rule
                    for name, frontend in found.configuration.frontends.items()
                }
                self.history.append(self.rules)
            self._news.set()

    async def until(
        self, condition: Callable[[ProxyView], bool], seconds: float = DEADLINE
    ) -> None:
        """Wait until ``condition`` holds."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                await self._news.wait()
                self._news.clear()

    async def close(self) -> None:
        """Stop following; the store is closed too."""
        await self.source.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def frontend(name: str, host: str) -> dict[str, bytes]:
    """Return the keys of a frontend."""
    return {
        f"t/frontends/{name}/backend": b"web",
        f"t/frontends/{name}/routes/main/rule": f"Host:{host}".encode(),
    }
