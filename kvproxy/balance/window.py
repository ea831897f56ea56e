"""Counts over the last few periods of time, kept in plain numbers that can be shared memory."""

from __future__ import annotations

from typing import Protocol


class Cells(Protocol):
    """Numbers of 64 bits: an array, or a view of shared memory."""

    def __getitem__(self, index: int, /) -> int:
        """Return a number."""
        ...

    def __setitem__(self, index: int, value: int, /) -> None:
        """Replace a number."""
        ...


class RollingCounts:
    """Some counters over the last ``buckets`` periods, the present one included.

    Each bucket is the number of its period and the counters. Only one process writes into
    ``cells``; others may read at any time: a bucket gets its new number last, so what they read is
    that of the old period or nothing.
    """

    __slots__ = ("_buckets", "_cells", "_counters", "_period", "_start")

    def __init__(
        self,
        cells: Cells,
        start: int,
        *,
        buckets: int,
        period: int,
        counters: int,
    ) -> None:
        """``cells``: `cells_needed` from ``start`` on; ``period``: nanoseconds."""
        self._cells = cells
        self._start = start
        self._buckets = buckets
        self._period = period
        self._counters = counters

    @staticmethod
    def cells_needed(buckets: int, counters: int) -> int:
        """Return how many cells the counts take."""
        return buckets * (1 + counters)

    def bucket(self, now: int) -> int:
        """Return the cell of the first counter of the present period; a new period starts at 0.

        ``now``: monotonic nanoseconds.
        """
        number = now // self._period
        at = self._start + number % self._buckets * (1 + self._counters)
        cells = self._cells
        if cells[at] != number:
            for counter in range(at + 1, at + 1 + self._counters):
                cells[counter] = 0
            cells[at] = number
        return at + 1

    def sums(self, now: int) -> list[int]:
        """Return the sum of each counter over the window."""
        cells, width = self._cells, 1 + self._counters
        newest = now // self._period
        oldest = newest - self._buckets
        totals = [0] * self._counters
        for at in range(self._start, self._start + self._buckets * width, width):
            if oldest < cells[at] <= newest:
                for counter in range(self._counters):
                    totals[counter] += cells[at + 1 + counter]
        return totals

    def clear(self) -> None:
        """Forget everything."""
        for at in range(self._start, self._start + self._buckets * (1 + self._counters)):
            self._cells[at] = 0
