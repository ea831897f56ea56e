"""The harness of BoltDB: our reader, and bbolt itself as the writer that we do not have."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.provider import Conflict
from providers.boltdb import BoltdbStore
from providers.checks import check_transaction
from tests.support.bolt import BoltWriter

if TYPE_CHECKING:
    from kvproxy.provider import Store, Transaction

_MAXIMUM_KEY_BYTES = 4096
_MAXIMUM_VALUE_BYTES = 1 << 20


class WrittenBoltdb(BoltdbStore):
    """The store under test, with a ``write`` that lets bbolt write as libkv does."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._written = Path(path)
        self._writer: BoltWriter | None = None

    async def write(self, transaction: Transaction) -> int:
        check_transaction(transaction, _MAXIMUM_KEY_BYTES, _MAXIMUM_VALUE_BYTES)
        return await asyncio.to_thread(self._write, transaction)

    async def close(self) -> None:
        await super().close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, transaction: Transaction) -> int:
        if self._writer is None:
            self._writer = BoltWriter(self._written)
        prefixes = [prefix.strip("/") for prefix in transaction.delete_prefixes]
        answer = self._writer.write(
            put={f"/{key}": value for key, value in transaction.put.items()},
            expect={f"/{key}": value for key, value in transaction.expect.items()},
            delete=[f"/{key}" for key in transaction.delete],
            deletePrefixes=[f"/{prefix}" if prefix else "" for prefix in prefixes],
        )
        if "conflict" in answer:
            raise Conflict(f"key `{answer['conflict'].lstrip('/')}` is not as expected")
        assert "error" not in answer, answer
        return int(answer["version"])


def open_store(address: str) -> WrittenBoltdb:
    """Open the file at ``address``."""
    return WrittenBoltdb(address)


class BoltdbHarness:
    """A file in a temporary directory."""

    kind = "boltdb"
    open_store = "tests.stores.boltdb:open_store"
    maximum_value_bytes = _MAXIMUM_VALUE_BYTES
    transaction_keys = 10_000
    torn_read_tries = 10_000
    odd_keys = ("new\nline", "tab\there", "quote'\"`", "semicolon;--", "x" * 4000, "\u202eright")
    refused_keys = ("", "/", "/lead", "trail/", "a//b", "nul\0", "half \ud800", "x" * 5000)

    server = None
    secured = None

    def __init__(self, directory: Path) -> None:
        self._path = directory / "store.db"
        self._copy = directory / "copy.db"
        self.address = str(self._path)
        BoltWriter(self._path).close()

    async def compact(self, store: Store, prefix: str) -> bool:
        # A file has no history: a watch compares trees.
        return False

    async def remember(self) -> bool:
        shutil.copy(self._path, self._copy)
        return True

    async def restore_older(self) -> bool:
        self._copy.rename(self._path)
        return True

    async def reads(self) -> int | None:
        return None

    async def close(self) -> None:
        return None
