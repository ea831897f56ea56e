"""Writes keys of the embedded store from this process, as another program would."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from kvproxy.model.static import EmbeddedProvider, StaticConfiguration
from kvproxy.provider import Store, Transaction
from providers.embedded import plugin


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


def alternate(database: Path, key: str, values: list[str], seconds: float, gap: float) -> int:
    """Write ``values`` in turn, one each ``gap`` seconds; returns how many were written."""
    end = time.monotonic() + seconds
    count = 0
    with StoreWriter(database) as writer:
        while time.monotonic() < end:
            writer.put(key, values[count % len(values)])
            count += 1
            time.sleep(gap)
    return count


if __name__ == "__main__":
    print(
        alternate(
            Path(sys.argv[1]), sys.argv[2], sys.argv[5:], float(sys.argv[3]), float(sys.argv[4])
        )
    )
