"""Writes keys of the embedded store from this process, as another program would."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from kvproxy.model.static import EmbeddedProvider, StaticConfiguration
from kvproxy.provider import Store, Transaction
from providers.embedded import plugin

if TYPE_CHECKING:
    from pathlib import Path


class StoreWriter:
    """A second client of the store."""

    def __init__(self, database: Path) -> None:
        """``database``: file of the embedded store."""
        self._database = database
        self._loop = asyncio.new_event_loop()
        self._store: Store

    def __enter__(self) -> StoreWriter:
        """Open the store."""
        if plugin.open_store is None:
            raise RuntimeError("the embedded provider is no store")
        settings = EmbeddedProvider(path=str(self._database))
        self._store = plugin.open_store(settings, StaticConfiguration())
        return self

    def __exit__(self, *error: object) -> None:
        """Close the store."""
        self._loop.run_until_complete(self._store.close())
        self._loop.close()

    def put(self, key: str, value: str) -> float:
        """Write one key; returns the monotonic time at which the write was begun."""
        began = time.monotonic()
        self._loop.run_until_complete(self._store.write(Transaction(put={key: value.encode()})))
        return began
