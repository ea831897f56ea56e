"""Processes that write into a store while a test reads or watches it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from kvproxy.provider import Conflict, StoreError, Transaction

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kvproxy.provider import Store
    from tests.stores.harness import StoreHarness


class WriterProcess:
    """One running job; it has opened the store when the constructor returns."""

    def __init__(self, harness: StoreHarness, job: str, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, harness.open_store, harness.address, job, *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n", "the writer did not start"

    def finish(self, seconds: float = 30.0) -> None:
        """Wait until the job is done; it must have succeeded."""
        assert self._process.wait(seconds) == 0

    def kill(self) -> None:
        """End the process at once, wherever it is."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


async def pairs(store: Store, prefix: str) -> None:
    """Write the same number to two keys, for ever; one of them comes and goes."""
    number = 0
    while True:
        number += 1
        text = b"%d" % number
        put = {f"{prefix}/left": text, f"{prefix}/middle/{number % 7}": text, f"{prefix}/z": text}
        deleted = (f"{prefix}/middle/{(number - 1) % 7}",)
        await store.write(Transaction(put=put, delete=deleted))


async def unique(store: Store, prefix: str, name: str, count: str) -> None:
    """Write ``count`` pairs of keys that nobody else writes, each pair in one transaction."""
    for number in range(int(count)):
        text = b"%d" % number
        put = {f"{prefix}/{name}/{number}/a": text, f"{prefix}/{name}/{number}/b": text}
        await store.write(Transaction(put=put))


async def steady(store: Store, prefix: str) -> None:
    """Write growing numbers, for ever, the last 20 of them to be seen; each until it is written."""
    number = 0
    while True:
        number += 1
        text = b"%d" % number
        put = {f"{prefix}/{number % 20}": text, f"{prefix}/last": text}
        while True:
            try:
                await store.write(Transaction(put=put))
            except StoreError:
                await asyncio.sleep(0.02)
            else:
                break


async def increments(store: Store, key: str, count: str) -> None:
    """Add one to the number in ``key`` ``count`` times, by compare-and-set."""
    for _ in range(int(count)):
        while True:
            found = (await store.read(key)).values.get(key)
            put = {key: b"%d" % (int(found or b"0") + 1)}
            try:
                await store.write(Transaction(put=put, expect={key: found}))
            except Conflict:
                continue
            break


async def generations(store: Store, prefix: str, count: str) -> None:
    """Write the same number to ``count`` keys in each transaction, for ever."""
    number = 0
    while True:
        number += 1
        put = {f"{prefix}/{index}": b"%d" % number for index in range(int(count))}
        await store.write(Transaction(put=put))


async def announce(store: Store, key: str, value: str) -> None:
    """Announce a key and live on."""
    await store.announce(key, value.encode())
    await asyncio.Event().wait()


_JOBS: dict[str, Callable[..., Awaitable[None]]] = {
    "pairs": pairs,
    "unique": unique,
    "increments": increments,
    "steady": steady,
    "generations": generations,
    "announce": announce,
}


async def _main(open_store: str, address: str, job: str, *arguments: str) -> None:
    module, _, function = open_store.partition(":")
    store: Store = getattr(import_module(module), function)(address)
    await store.probe()
    print("ready", flush=True)
    await _JOBS[job](store, *arguments)
    await store.close()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
