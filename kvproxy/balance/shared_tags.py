"""The tags of a hash table in shared memory: sets of `WAYS` entries, found by a keyed hash.

A tag stands for a key. It is evenly spread and unforeseeable, so its first bytes name its set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmap import mmap

TAG_BYTES = 16
WAYS = 32
"""Entries of a set; the number of entries of a table is a multiple of it."""


class Tags:
    """The tags of a table, ``entries`` times `TAG_BYTES` from ``start`` on."""

    __slots__ = ("_map", "_sets", "_start")

    def __init__(self, memory: mmap, start: int, entries: int) -> None:
        """The bytes are 0 at first."""
        self._map = memory
        self._start = start
        self._sets = entries // WAYS

    def first(self, tag: bytes) -> int:
        """Return the first entry of the set that a tag (or its beginning) belongs to."""
        return int.from_bytes(tag[:4], "little") % self._sets * WAYS

    def lock(self, first: int) -> int:
        """Return the position of the lock of a set."""
        return self._start + first

    def find(self, tag: bytes, first: int) -> int:
        """Return the entry of a tag in its set, -1 when it is not there."""
        start = self._start + first * TAG_BYTES
        end = start + WAYS * TAG_BYTES
        at = self._map.find(tag, start, end)
        while at >= 0 and (at - start) % TAG_BYTES:
            at = self._map.find(tag, at + 1, end)
        return -1 if at < 0 else first + (at - start) // TAG_BYTES

    def put(self, tag: bytes, entry: int) -> None:
        """Make an entry that of a tag."""
        start = self._start + entry * TAG_BYTES
        self._map[start : start + TAG_BYTES] = tag
