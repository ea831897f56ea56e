"""The memory that all workers of a supervisor share: what must be exact over all of them.

It holds three tables (`kvproxy.balance.shared_counts`, `kvproxy.balance.shared_levels`): requests
in progress by key, the claims of circuit breakers with their blocks, and token buckets. All are of
fixed size, found by a keyed hash, so that no choice of keys by clients makes them grow or collide.
Pages that were never used take no memory.

The supervisor makes it and empties the columns of a worker that has died; a worker attaches itself
by the descriptor that it is sent.
"""

from __future__ import annotations

import mmap
import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Self

from kvproxy.balance.circuit_breaker import block_cells
from kvproxy.balance.shared_counts import SharedCounts
from kvproxy.balance.shared_levels import SharedLevels
from kvproxy.balance.shared_lock import HeldLock, NoLocks, RecordLocks

if TYPE_CHECKING:
    from kvproxy.balance.shared_lock import Locks

SECRET_BYTES = 32
KEYS_IN_PROGRESS = 65_536
"""Different keys of all connection limits that can have requests in progress at once."""

CLAIMS = 16_384
"""Comparisons in the expressions of all circuit breakers."""

SOURCES = 262_144
"""Token buckets of all rate limits."""

_PAGE = mmap.PAGESIZE


class SharedMemory:
    """The tables. ``slot`` is that of this worker; a supervisor has none (-1)."""

    def __init__(self, descriptor: int, slot: int, slots: int) -> None:
        """Map the file of `create`; with the descriptor -1 the memory is that of this process."""
        self.descriptor = descriptor
        self.slot = slot
        self.slots = slots
        self.locks: Locks = RecordLocks(descriptor) if descriptor >= 0 and slots > 1 else NoLocks()
        layout = _Layout(slots)
        self._map = mmap.mmap(descriptor, layout.end)
        if descriptor < 0:
            self._map[:SECRET_BYTES] = os.urandom(SECRET_BYTES)
        self._secret = bytes(self._map[:SECRET_BYTES])
        self.in_progress = SharedCounts(
            self._map,
            self.locks,
            layout.in_progress,
            entries=KEYS_IN_PROGRESS,
            slot=slot,
            slots=slots,
        )
        self.claims = SharedCounts(
            self._map, self.locks, layout.claims, entries=CLAIMS, slot=slot, slots=slots
        )
        self.levels = SharedLevels(self._map, self.locks, layout.levels, entries=SOURCES)
        self._blocks = layout.blocks

    @classmethod
    def create(cls, slots: int) -> Self:
        """Make the memory of a supervisor with ``slots`` workers; raises OSError."""
        descriptor = os.memfd_create("kvproxy", os.MFD_CLOEXEC)
        os.truncate(descriptor, _Layout(slots).end)
        os.pwrite(descriptor, os.urandom(SECRET_BYTES), 0)
        return cls(descriptor, -1, slots)

    @classmethod
    def alone(cls) -> Self:
        """Make the memory of a process that shares with nobody."""
        return cls(-1, 0, 1)

    def tag(self, owner: bytes, key: bytes, length: int = 16) -> bytes:
        """Return the bytes that stand for a key of ``owner``, a digest; clients cannot foresee
        them."""
        return blake2b(owner + key, key=self._secret, digest_size=length).digest()

    def block(self, number: int) -> memoryview[int]:
        """Return the block of cells that belongs to a claim."""
        length = 8 * block_cells(self.slots)
        start = self._blocks + number * length
        return memoryview(self._map)[start : start + length].cast("q")

    def claimed_block(self, tag: bytes) -> memoryview[int] | None:
        """Return the block that a worker has claimed by this tag, None when none has."""
        claim = self.claims.entry(tag)
        return None if claim < 0 else self.block(claim)

    def clear_block(self, number: int) -> None:
        """Make all cells of a block 0."""
        length = 8 * block_cells(self.slots)
        start = self._blocks + number * length
        self._map[start : start + length] = bytes(length)

    def block_lock(self, number: int) -> HeldLock:
        """Return the lock of a block."""
        return HeldLock(self.locks, self._blocks + number)

    def worker_died(self, slot: int) -> None:
        """Forget what the worker of a slot held; its successor must not have started yet."""
        self.in_progress.clear_slot(slot)
        self.claims.clear_slot(slot)

    def close(self) -> None:
        """Close the file; the mapping goes with the last object that uses it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class _Layout:
    """Where each part begins, and where the last one ends."""

    def __init__(self, slots: int) -> None:
        self.in_progress = _PAGE
        self.claims = self.in_progress + _pages(SharedCounts.bytes_needed(KEYS_IN_PROGRESS, slots))
        self.levels = self.claims + _pages(SharedCounts.bytes_needed(CLAIMS, slots))
        self.blocks = self.levels + _pages(SharedLevels.bytes_needed(SOURCES))
        self.end = self.blocks + CLAIMS * 8 * block_cells(slots)


def _pages(length: int) -> int:
    """Round up to whole pages."""
    return -(-length // _PAGE) * _PAGE
