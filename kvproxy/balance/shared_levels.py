"""Token buckets of all workers together: exact, of fixed size whatever keys clients choose.

The tag of a source (a key of one rate limit) names its set in the table
(`kvproxy.balance.shared_tags`), and each rate of the limit has an entry there. An entry that was
not used for long enough is free. When a set has no free entry, the limit that has most of them in
the set gives up the one that would be free first: who floods one limit with keys takes nothing from
the others.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kvproxy.balance.shared_tags import TAG_BYTES, WAYS, Tags
from kvproxy.balance.token_bucket import full, take

if TYPE_CHECKING:
    from collections.abc import Sequence
    from mmap import mmap

    from kvproxy.balance.shared_lock import Locks
    from kvproxy.balance.token_bucket import Rate

MAXIMUM_RATES = 8
"""Rates of one limit."""

_COLUMNS = 4
_LONGEST = 1 << 62


class SharedLevels:
    """The table: a column each of tokens, reference times, times of being free, and owners."""

    __slots__ = ("_expires", "_locks", "_owners", "_since", "_tags", "_tokens")

    def __init__(self, memory: mmap, locks: Locks, start: int, *, entries: int) -> None:
        """The table takes `bytes_needed` from ``start`` on, which are 0 at first."""
        self._tags = Tags(memory, start, entries)
        self._locks = locks
        end = start + self.bytes_needed(entries)
        cells = memoryview(memory)[start + entries * TAG_BYTES : end].cast("q")
        self._tokens, self._since, self._expires, self._owners = (
            cells[number * entries : (number + 1) * entries] for number in range(_COLUMNS)
        )

    @staticmethod
    def bytes_needed(entries: int) -> int:
        """Return the size of a table."""
        return entries * (TAG_BYTES + 8 * _COLUMNS)

    def take(self, tag: bytes, owner: int, rates: Sequence[Rate], kept: int, now: int) -> int:
        """Take a token from every bucket of a source, or none.

        ``tag``: 15 bytes that stand for limit and key; ``owner``: a number that stands for the
        limit; ``rates``: `MAXIMUM_RATES` at most; ``kept``: how long a bucket is remembered after
        its last use, nanoseconds; ``now``: monotonic nanoseconds. Returns the delay until asking
        again makes sense, 0 when taken.
        """
        first = self._tags.first(tag)
        lock = self._tags.lock(first)
        self._locks.take(lock)
        try:
            entries = self._entries(tag, first, len(rates), now)
            tokens, since, expires = self._tokens, self._since, self._expires
            levels = [
                (tokens[entry], since[entry]) if expires[entry] > now else full(rate, now)
                for entry, rate in zip(entries, rates, strict=True)
            ]
            delay, after = take(rates, levels, now)
            until = min(now + kept, _LONGEST)
            for entry, level in zip(entries, after, strict=True):
                tokens[entry], since[entry] = level
                expires[entry] = until
                self._owners[entry] = owner
        finally:
            self._locks.give(lock)
        return delay

    def _entries(self, tag: bytes, first: int, count: int, now: int) -> list[int]:
        """Return the entry of each rate of a source, those found and those made."""
        tags = [tag + bytes((number,)) for number in range(count)]
        entries = [self._tags.find(each, first) for each in tags]
        for number, entry in enumerate(entries):
            if entry < 0:
                entries[number] = new = self._victim(first, entries, now)
                # Should this process die here, nobody must take one bucket for another.
                self._expires[new] = 0
                self._tags.put(tags[number], new)
        return entries

    def _victim(self, first: int, taken: Sequence[int], now: int) -> int:
        """Return the entry of a set to be used for another bucket, none of ``taken``."""
        expires = self._expires[first : first + WAYS].tolist()
        for entry in taken:
            if entry >= 0:
                expires[entry - first] = _LONGEST + 1
        soonest = min(expires)
        if soonest <= now:
            return first + expires.index(soonest)
        owners = self._owners[first : first + WAYS].tolist()
        usable = [way for way in range(WAYS) if expires[way] <= _LONGEST]
        largest = Counter(owners[way] for way in usable).most_common(1)[0][0]
        ways = [way for way in usable if owners[way] == largest]
        return first + min(ways, key=expires.__getitem__)
