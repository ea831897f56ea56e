"""A BoltDB file as a store that can only be read: for keys that Traefik 1.7 has written.

Traefik's layout: one bucket, keys as they were given (the leading slash of the prefix included),
and before each value a counter of 8 bytes. The version is the number of the file's transaction.
"""

from __future__ import annotations

import asyncio
import re
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeVar

from kvproxy.provider import Changes, Compacted, Plugin, ReadOnly, Store, StoreError, Tree
from providers.bbolt_file import BadFile, BboltFile, BusyFile
from providers.path_observer import PathObserver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from kvproxy.model.static import StaticConfiguration
    from kvproxy.model.static_providers import BoltdbProvider
    from kvproxy.provider import Transaction
    from providers.bbolt_file import Meta

BUCKET = b"traefik"
"""The only bucket that Traefik 1.7 uses."""
COUNTER_BYTES = 8
"""What stands before each value."""
_LOOK_SECONDS = 0.5
"""How often a quiet watch looks by itself, in case the kernel did not tell."""
_KEPT_TREES = 4
"""So many prefixes are remembered as they were last read, to tell what has changed."""

_ADDRESS = re.compile(r"[^/]*:\d+")
_Result = TypeVar("_Result")


class _State(NamedTuple):
    """Which state of which file (device and inode)."""

    meta: Meta
    identity: tuple[int, int]


class _Known(NamedTuple):
    """The keys under a prefix in one state, and when the file was last modified."""

    state: _State
    modified: int
    values: Mapping[str, bytes]


class BoltdbStore:
    """A `Store` in the BoltDB file at ``path``; it never waits for who writes the file."""

    name: ClassVar[str] = "boltdb"

    def __init__(self, path: str | Path, bucket: bytes = BUCKET) -> None:
        """Use the file at ``path``; it is opened by each call."""
        self._path = Path(path).absolute()
        self._bucket = bucket
        self._file = BboltFile(self._path)
        self._thread = ThreadPoolExecutor(1, "boltdb")
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._observers: set[PathObserver] = set()
        self._closed = False

    async def read(self, prefix: str) -> Tree:
        """Return all keys under ``prefix`` at one transaction."""
        prefix = prefix.strip("/")
        known = await self._run(self._read, prefix)
        self._remember(prefix, known)
        return Tree(known.state.meta.transaction, dict(known.values))

    async def watch(self, prefix: str, version: int) -> AsyncIterator[Changes | Tree]:
        """Yield what happened after ``version``.

        A version that this client has not read itself gives a whole tree first, if anything was
        written after it.
        """
        prefix = prefix.strip("/")
        known = self._known.get(prefix)
        if known is not None and known.state.meta.transaction != version:
            known = None
        observer = PathObserver(self._path, self._path, "boltdb")
        self._observers.add(observer)
        quiet = False
        try:
            while not self._closed:
                state, modified = await self._run(self._look)
                # Pages are written before the transaction counts: no reason to read yet. But one
                # database copied over another may differ in nothing that `state` has.
                touched = known is not None and quiet and modified != known.modified
                if known is None or state != known.state or touched:
                    self._check(state, known, version)
                    found = await self._run(self._read, prefix)
                    self._check(found.state, known, version)
                    news = _news(known, found, version)
                    if touched and news is not None and found.state == state:
                        raise self._replaced()
                    known, version = found, found.state.meta.transaction
                    self._remember(prefix, known)
                    if news is not None:
                        yield news
                quiet = not await observer.wait(_LOOK_SECONDS)
        finally:
            self._observers.discard(observer)
            observer.close()

    async def write(self, transaction: Transaction) -> int:
        """Refuse."""
        raise self._read_only()

    async def probe(self) -> int:
        """Return the number of the transaction that the file holds now."""
        state, _ = await self._run(self._look)
        return state.meta.transaction

    async def announce(self, key: str, value: bytes) -> None:
        """Refuse."""
        raise self._read_only()

    async def close(self) -> None:
        """End running watches."""
        self._closed = True
        for observer in self._observers:
            observer.wake()
        self._thread.shutdown(wait=False)

    def _look(self) -> tuple[_State, int]:
        meta, status = self._file.meta()
        return _State(meta, (status.st_dev, status.st_ino)), status.st_mtime_ns

    def _read(self, prefix: str) -> _Known:
        content, status = self._file.content()
        try:
            items = list(content.items(self._bucket))
        except KeyError:
            others = content.buckets()
            if others:
                names = ", ".join(f"`{name.decode(errors='backslashreplace')}`" for name in others)
                raise BadFile(
                    f"there is no bucket `{self._bucket.decode()}` in it, but {names}"
                ) from None
            # Nothing has ever been written.
            items = []
        values: dict[str, bytes] = {}
        # A key with a leading slash, which is Traefik's default, wins over one without.
        for name, value in sorted(items, key=lambda item: item[0].startswith(b"/")):
            key = name.decode(errors="backslashreplace").lstrip("/")
            if prefix and key != prefix and not key.startswith(prefix + "/"):
                continue
            if len(value) < COUNTER_BYTES:
                raise BadFile(
                    f"the value of key `{key}` is too short: Traefik 1.7 writes "
                    f"{COUNTER_BYTES} bytes before each"
                )
            values[key] = value[COUNTER_BYTES:]
        state = _State(content.meta, (status.st_dev, status.st_ino))
        return _Known(state, status.st_mtime_ns, values)

    def _check(self, state: _State, known: _Known | None, version: int) -> None:
        """Raise `Compacted` when the file did not become what it is by transactions alone."""
        transaction = state.meta.transaction
        if transaction < version:
            raise Compacted(
                f"boltdb `{self._path}`: the file is at transaction {transaction}, before {version}"
            )
        if known is None:
            return
        replaced = state.identity != known.state.identity
        if replaced or (transaction == version and state.meta != known.state.meta):
            raise self._replaced()

    def _replaced(self) -> Compacted:
        return Compacted(f"boltdb `{self._path}`: the file has been replaced")

    def _remember(self, prefix: str, known: _Known) -> None:
        self._known[prefix] = known
        self._known.move_to_end(prefix)
        while len(self._known) > _KEPT_TREES:
            self._known.popitem(last=False)

    def _read_only(self) -> ReadOnly:
        return ReadOnly(
            f"boltdb `{self._path}`: kvproxy only reads BoltDB files; "
            "the embedded store (`--embedded`) can be written"
        )

    async def _run(self, function: Callable[..., _Result], *arguments: object) -> _Result:
        """Call a function in the store's thread; raises `StoreError`."""
        if self._closed:
            raise StoreError(f"boltdb `{self._path}`: closed")
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, function, *arguments)
        except (BadFile, BusyFile) as error:
            raise StoreError(f"boltdb `{self._path}`: {error}") from None
        except OSError as error:
            raise StoreError(f"boltdb `{self._path}`: {error.strerror or error}") from error


def _news(known: _Known | None, found: _Known, version: int) -> Changes | Tree | None:
    """Return what ``found`` has that was not there at ``version``."""
    transaction = found.state.meta.transaction
    if known is None:
        return Tree(transaction, dict(found.values)) if transaction > version else None
    before, after = known.values, found.values
    changes: dict[str, bytes | None] = {
        key: value for key, value in after.items() if before.get(key) != value
    }
    changes.update(dict.fromkeys(before.keys() - after.keys()))
    return Changes(transaction, changes) if changes else None


def _open_store(settings: BoltdbProvider, static: StaticConfiguration) -> Store:
    endpoint = settings.endpoint.strip()
    if not endpoint or (_ADDRESS.fullmatch(endpoint) and not Path(endpoint).exists()):
        raise StoreError(
            f"boltdb: the endpoint `{endpoint}` is no file; expected a path such as "
            "`/var/lib/traefik/traefik.db`"
        )
    if "," in endpoint and not Path(endpoint).exists():
        raise StoreError(f"boltdb: the endpoint `{endpoint}` names several files; one is read")
    return BoltdbStore(endpoint)


plugin = Plugin(name="boltdb", open_store=_open_store)
