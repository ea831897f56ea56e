"""How often each key is held by all workers together: exact, of fixed size, safe against kill -9.

An entry of the table has a tag (`kvproxy.balance.shared_tags`) and one count for each worker slot,
written by that worker alone. An entry whose counts are all 0 is free. Looking up and counting is
done under the lock of a set; giving back needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.balance.shared_tags import TAG_BYTES, WAYS, Tags

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    from kvproxy.balance.shared_lock import Locks

REFUSED = -1
"""The key is held as often as it may be."""

FULL = -2
"""There is no room for another key in its set."""


class SharedCounts:
    """The table."""

    __slots__ = ("_counts", "_entries", "_locks", "_slot", "_slots", "_tags")

    def __init__(
        self, memory: mmap, locks: Locks, start: int, *, entries: int, slot: int, slots: int
    ) -> None:
        """The table takes `bytes_needed` from ``start`` on, which are 0 at first; ``slot`` is that
        of this worker."""
        self._tags = Tags(memory, start, entries)
        self._locks = locks
        self._entries = entries
        self._slot = slot
        self._slots = slots
        end = start + self.bytes_needed(entries, slots)
        self._counts = memoryview(memory)[start + entries * TAG_BYTES : end].cast("I")

    @staticmethod
    def bytes_needed(entries: int, slots: int) -> int:
        """Return the size of a table."""
        return entries * (TAG_BYTES + 4 * slots)

    def hold(self, tag: bytes, most: int, fresh: Callable[[int], None] | None = None) -> int:
        """Hold a key once more unless it is held ``most`` times.

        Returns the number of its entry, to be given to `release`, or REFUSED or FULL. ``fresh`` is
        called with the entry, under the lock, when nobody held the key before.
        """
        first = self._tags.first(tag)
        lock = self._tags.lock(first)
        self._locks.take(lock)
        try:
            entry = self._tags.find(tag, first)
            held = sum(self._counts[entry :: self._entries]) if entry >= 0 else 0
            if held >= most:
                return REFUSED
            if entry < 0:
                entry = self._free(first)
                if entry < 0:
                    return FULL
                self._tags.put(tag, entry)
            if not held and fresh is not None:
                fresh(entry)
            self._counts[self._slot * self._entries + entry] += 1
        finally:
            self._locks.give(lock)
        return entry

    def release(self, entry: int) -> None:
        """Hold the key of an entry once less."""
        self._counts[self._slot * self._entries + entry] -= 1

    def entry(self, tag: bytes) -> int:
        """Return the entry of a key that is held, -1 when it is not."""
        entry = self._tags.find(tag, self._tags.first(tag))
        return entry if entry >= 0 and any(self._counts[entry :: self._entries]) else -1

    def held(self, tag: bytes) -> int:
        """Return how often a key is held now."""
        entry = self._tags.find(tag, self._tags.first(tag))
        return sum(self._counts[entry :: self._entries]) if entry >= 0 else 0

    def clear_slot(self, slot: int) -> None:
        """Forget everything that the worker of a slot held; there must be no such worker now."""
        start = slot * self._entries
        self._counts[start : start + self._entries] = memoryview(bytes(4 * self._entries)).cast("I")

    def _free(self, first: int) -> int:
        starts = range(first, first + self._slots * self._entries, self._entries)
        columns = [self._counts[start : start + WAYS] for start in starts]
        for way, counts in enumerate(zip(*columns, strict=True)):
            if not any(counts):
                return first + way
        return -1
