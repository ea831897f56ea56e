"""Weighted round robin whose weights follow the failure rates (specification section 7.3)."""

from __future__ import annotations

from array import array
from math import gcd
from statistics import median
from typing import TYPE_CHECKING

from kvproxy.balance.window import RollingCounts
from kvproxy.balance.wrr import WeightedRoundRobin

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = 1_000_000_000
FAILURES = range(500, 505)
"""Statuses that count as a failure of the server."""

BUCKETS = 10
"""Seconds of the rating."""

READY_SECONDS = 10
"""So many seconds with failures and with successes, added up, make a rating trustworthy."""

BACK_OFF = 10 * SECOND
"""Time between two changes of the weights, nanoseconds."""

GROWTH = 4
MAXIMUM_WEIGHT = 4096
SPLIT = 1.5
"""A rating is bad above so many times (median + median deviation)."""


class Rating:
    """The share of failures of one server in the last ten seconds."""

    __slots__ = ("_cells", "_counts", "_failing", "_other")

    def __init__(self) -> None:
        """Start without a request."""
        self._cells = array("q", bytes(8 * RollingCounts.cells_needed(BUCKETS, 2)))
        self._counts = RollingCounts(self._cells, 0, buckets=BUCKETS, period=SECOND, counters=2)
        self._failing = 0
        self._other = 0

    def record(self, status: int, now: int) -> None:
        """Count an answer; ``now``: monotonic nanoseconds."""
        at = self._counts.bucket(now)
        if status in FAILURES:
            if not self._cells[at] and self._failing < READY_SECONDS:
                self._failing += 1
            self._cells[at] += 1
        else:
            if not self._cells[at + 1] and self._other < READY_SECONDS:
                self._other += 1
            self._cells[at + 1] += 1

    @property
    def ready(self) -> bool:
        """Whether enough seconds had answers. It stays so."""
        return self._failing + self._other >= READY_SECONDS

    def value(self, now: int) -> float:
        """Return failures / answers, 0 when there were none."""
        failures, others = self._counts.sums(now)
        return failures / (failures + others) if failures else 0.0


class DynamicRoundRobin:
    """Yields positions like `WeightedRoundRobin`, and starves servers that fail.

    Good servers get four times their weight, again and again, while others are bad; when all are
    alike, the weights go back in the same steps. Each change starts the rotation anew.
    """

    __slots__ = ("_changed_until", "_configured", "_ratings", "next", "weights")

    def __init__(self, weights: Sequence[int], ratings: Sequence[Rating]) -> None:
        """``weights``: as configured, above 0; ``ratings``: one each, kept by the caller when
        servers come and go."""
        self._configured = tuple(weights)
        self._ratings = tuple(ratings)
        self._changed_until = 0
        self._apply(self._configured)

    def _apply(self, weights: tuple[int, ...]) -> None:
        self.weights = weights
        self.next = WeightedRoundRobin(weights).next

    def record(self, position: int, status: int, now: int) -> None:
        """Count the answer of the server at ``position`` and adjust the weights when it is time.

        ``status``: of the server, or what the proxy made of its failure.
        """
        self._ratings[position].record(status, now)
        self.adjust(now)

    def adjust(self, now: int) -> None:
        """Change the weights if the back-off is over and the ratings ask for it."""
        if (
            now <= self._changed_until
            or len(self._ratings) < 2
            or not all(rating.ready for rating in self._ratings)
        ):
            return
        good = split_ratings([rating.value(now) for rating in self._ratings])
        alike = all(good) or not any(good)
        weights = self._converged() if alike else self._favoured(good)
        divisor = gcd(*weights)
        changed = tuple(weight // divisor for weight in weights)
        # Configured weights with a common divisor come back as their smallest equals.
        if weights != self.weights and changed != self.weights:
            self._apply(changed)
            self._changed_until = now + BACK_OFF

    def _favoured(self, good: Sequence[bool]) -> tuple[int, ...]:
        return tuple(
            weight * GROWTH if is_good and weight * GROWTH <= MAXIMUM_WEIGHT else weight
            for weight, is_good in zip(self.weights, good, strict=True)
        )

    def _converged(self) -> tuple[int, ...]:
        return tuple(
            weight if weight == configured else max(configured, weight // GROWTH)
            for weight, configured in zip(self.weights, self._configured, strict=True)
        )


def split_ratings(ratings: Sequence[float]) -> list[bool]:
    """Return for each rating whether it is good compared with the others.

    Bad is what exceeds 1.5 times the sum of the median and the median absolute deviation; an even
    number of ratings is judged with a 0 beside them.
    """
    judged = [*ratings, 0.0] if len(ratings) % 2 == 0 else list(ratings)
    middle = median(judged)
    deviation = median(abs(rating - middle) for rating in judged)
    limit = SPLIT * (middle + deviation)
    return [rating <= limit for rating in ratings]
