"""The embedded store: a key-value store in one SQLite file, for one machine.

Any number of processes read, write and watch it. A watch costs next to nothing: inotify tells that
somebody wrote, SQLite's own counter tells whether it was a commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from kvproxy.model.static_providers import EMBEDDED_FILE
from kvproxy.provider import Changes, Plugin, Store, StoreError, Tree
from providers.embedded_database import (
    ANNOUNCEMENT_LIFE_SECONDS,
    RETAINED_DELETIONS,
    Database,
    Position,
)
from providers.path_observer import PathObserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kvproxy.model.static import EmbeddedProvider, StaticConfiguration
    from kvproxy.provider import Transaction

_IDLE_SECONDS = 0.5
"""How often a quiet watch looks by itself, in case the kernel did not tell."""
_SETTLE_SECONDS = (0.0003, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064)
"""Pauses after a sign of a write: the log is written a moment before the commit can be seen."""
_FOUND_SECONDS = (0.002, 0.016, 0.1)
"""Pauses after a commit was found: of another one just behind it, the sign may have come before."""
_ANNOUNCE_AGAIN_SECONDS = ANNOUNCEMENT_LIFE_SECONDS / 4

_Result = TypeVar("_Result")
_logger = logging.getLogger(__name__)


class EmbeddedStore:
    """A `Store` in the SQLite file at ``path``, which is created when it is missing.

    Reads and writes run in a thread each, so a write that waits for its turn delays no watch. A
    call that is cancelled may still be carried out.
    """

    name: ClassVar[str] = "embedded"

    def __init__(self, path: str | Path, retained_deletions: int = RETAINED_DELETIONS) -> None:
        """Use the file at ``path``; it is opened by the first call."""
        self._path = Path(path).absolute()
        self._reader = Database(self._path, retained_deletions)
        self._writer = Database(self._path, retained_deletions)
        self._read_thread = ThreadPoolExecutor(1, "embedded-read")
        self._write_thread = ThreadPoolExecutor(1, "embedded-write")
        self._observers: set[PathObserver] = set()
        self._owner = secrets.token_hex(8)
        self._announced: dict[str, bytes] = {}
        self._announcing: asyncio.Task[None] | None = None
        self._closed = False

    async def read(self, prefix: str) -> Tree:
        """Return all keys under ``prefix`` at one version."""
        await self._sweep()
        return await self._run(self._read_thread, self._reader.read, prefix.strip("/"))

    async def watch(self, prefix: str, version: int) -> AsyncIterator[Changes | Tree]:
        """Yield what happened after ``version``; writes that follow each other fast come as one."""
        position = Position(prefix.strip("/"), version)
        observer = PathObserver(
            self._path, self._path.with_name(self._path.name + "-wal"), "embedded store"
        )
        self._observers.add(observer)
        pauses = iter(_SETTLE_SECONDS)
        try:
            while not self._closed:
                found = await self._run(self._read_thread, self._reader.changes, position)
                if found is not None:
                    yield found
                    observer.ignore()
                    pauses = iter(_FOUND_SECONDS)
                pause = next(pauses, _IDLE_SECONDS)
                if await observer.wait(pause):
                    pauses = iter(_SETTLE_SECONDS)
                elif pause == _IDLE_SECONDS:
                    await self._sweep()
        finally:
            self._observers.discard(observer)
            observer.close()

    async def write(self, transaction: Transaction) -> int:
        """Write all or nothing and return the version; raises `Conflict`."""
        return await self._run(self._write_thread, self._writer.write, transaction)

    async def probe(self) -> int:
        """Return the version that the file holds now."""
        return await self._run(self._read_thread, self._reader.version)

    async def announce(self, key: str, value: bytes) -> None:
        """Keep ``key`` at ``value`` until this client is closed or no longer there."""
        await self._run(self._write_thread, self._writer.announce, {key: value}, self._owner)
        self._announced[key] = value
        if self._announcing is None:
            self._announcing = asyncio.create_task(self._keep_announced())

    async def close(self) -> None:
        """Release the file and withdraw what was announced; running watches end."""
        announcing, self._announcing = self._announcing, None
        if announcing is not None:
            announcing.cancel()
            with contextlib.suppress(StoreError):
                await self._run(self._write_thread, self._writer.withdraw, self._owner)
        if self._closed:
            return
        self._closed = True
        for observer in self._observers:
            observer.wake()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._read_thread, self._reader.close)
        await loop.run_in_executor(self._write_thread, self._writer.close)
        self._read_thread.shutdown(wait=False)
        self._write_thread.shutdown(wait=False)

    async def _sweep(self) -> None:
        """Delete announced keys of clients that are gone, unless the file cannot be written now."""
        try:
            await self._run(self._read_thread, self._reader.sweep)
        except StoreError as error:
            _logger.debug("announced keys are not looked after: %s", error)

    async def _keep_announced(self) -> None:
        """Say again and again that this client lives; announce anew what others took for ended."""
        while True:
            await asyncio.sleep(_ANNOUNCE_AGAIN_SECONDS)
            try:
                kept = await self._run(self._write_thread, self._writer.keep_announced, self._owner)
                if kept < len(self._announced):
                    await self._run(
                        self._write_thread,
                        self._writer.announce,
                        dict(self._announced),
                        self._owner,
                    )
            except StoreError as error:
                _logger.debug("announced keys cannot be kept for now: %s", error)

    async def _run(
        self,
        thread: ThreadPoolExecutor,
        function: Callable[..., _Result],
        *arguments: object,
    ) -> _Result:
        if self._closed:
            raise StoreError(f"embedded store `{self._path}`: closed")
        return await asyncio.get_running_loop().run_in_executor(thread, function, *arguments)


def _open_store(settings: EmbeddedProvider, static: StaticConfiguration) -> Store:
    if settings.path:
        return EmbeddedStore(settings.path)
    if not static.state_dir:
        raise StoreError("embedded store: neither `embedded.path` nor `stateDir` is set")
    return EmbeddedStore(Path(static.state_dir) / EMBEDDED_FILE)


plugin = Plugin(name="embedded", open_store=_open_store)
