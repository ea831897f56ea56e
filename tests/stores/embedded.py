"""The harness of the embedded store."""

from __future__ import annotations

import shutil
import sqlite3
from typing import TYPE_CHECKING

from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore
from providers.embedded_database import MAXIMUM_VALUE_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from kvproxy.provider import Store

_RETAINED_DELETIONS = 200


def open_store(address: str) -> EmbeddedStore:
    """Open the file; a short memory of deletions makes compaction cheap to reach."""
    return EmbeddedStore(address, retained_deletions=_RETAINED_DELETIONS)


class EmbeddedHarness:
    """A database file in a temporary directory."""

    kind = "embedded"
    open_store = "tests.stores.embedded:open_store"
    maximum_value_bytes = MAXIMUM_VALUE_BYTES
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

    async def compact(self, store: Store, prefix: str) -> bool:
        keys = [f"{prefix}/filler/{number}" for number in range(_RETAINED_DELETIONS + 1)]
        for key in keys:
            await store.write(Transaction(put={key: b""}))
            await store.write(Transaction(delete=(key,)))
        return True

    async def remember(self) -> bool:
        with sqlite3.connect(self._path) as source, sqlite3.connect(self._copy) as target:
            source.backup(target)
        return True

    async def restore_older(self) -> bool:
        # As the administrator of a running machine should do it: rename over, and drop the old log.
        replacement = self._copy.with_suffix(".new")
        shutil.copy(self._copy, replacement)
        replacement.rename(self._path)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return True

    async def reads(self) -> int | None:
        return None

    async def close(self) -> None:
        return None
