"""How much of what costs us and nothing the other side may do."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Allowance:
    """A bucket that fills with time and with useful work, and is emptied by everything else.

    It holds at most ``capacity`` and gains ``rate`` a second. ``clock`` gives seconds; it is only
    asked when the bucket is empty, so that after a pause twice the capacity may pass at once.
    """

    __slots__ = ("_capacity", "_clock", "_filled_at", "_level", "_rate")

    def __init__(
        self, capacity: float, rate: float, clock: Callable[[], float] = monotonic
    ) -> None:
        """Start full."""
        self._capacity = capacity
        self._rate = rate
        self._clock = clock
        self._level = capacity
        self._filled_at = clock()

    def spend(self, cost: float = 1) -> bool:
        """Take something out; False when there is not enough."""
        self._level -= cost
        if self._level >= 0:
            return True
        now = self._clock()
        self._level += (now - self._filled_at) * self._rate
        self._filled_at = now
        self._level = min(self._level, self._capacity)
        return self._level >= 0

    def earn(self, amount: float = 1) -> None:
        """Put something back."""
        self._level = min(self._level + amount, self._capacity)
