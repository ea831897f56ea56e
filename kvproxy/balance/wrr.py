"""Interleaved weighted round robin in the very order of Traefik 1.7 (specification section 7.2)."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class WeightedRoundRobin:
    """Yields positions of a list of weights, heavier ones more often.

    Each round lowers a threshold by the greatest common divisor of all weights, from the largest
    weight down; a position is taken when its weight reaches the threshold. ``(3, 1)`` gives
    0 0 0 1 0 0 0 1.
    """

    __slots__ = ("_current", "_divisor", "_maximum", "_position", "weights")

    def __init__(self, weights: Sequence[int]) -> None:
        """``weights``: one per server, 0 = never chosen, negative is not allowed."""
        if any(weight < 0 for weight in weights):
            raise ValueError("a weight is negative")
        self.weights = tuple(weights)
        self._divisor = gcd(*self.weights) if self.weights else 0
        self._maximum = max(self.weights, default=0)
        self._position = -1
        self._current = 0

    def next(self) -> int:
        """Return the next position, or -1 when every weight is 0 or there is none."""
        if not self._maximum:
            return -1
        weights = self.weights
        count = len(weights)
        while True:
            self._position = (self._position + 1) % count
            if self._position == 0:
                self._current -= self._divisor
                if self._current <= 0:
                    self._current = self._maximum
            if weights[self._position] >= self._current:
                return self._position
