"""`providersThrottleDuration`: at most one change of a provider per duration, the newest kept."""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar("Item")


class Throttle(Generic[Item]):
    """One provider's throttle (Traefik 1.7 behaviour).

    What comes first passes at once. After an item was applied at time T, nothing passes before
    T + ``seconds``; of what comes meanwhile the newest is kept. 0 seconds: everything passes.
    Times are any clock's that never goes back.
    """

    def __init__(self, seconds: float) -> None:
        """Start open."""
        self._seconds = seconds
        self._closed_until: float | None = None
        self._waiting: Item | None = None

    def offer(self, item: Item, now: float) -> Item | None:
        """Return the item when it may pass now; else keep it in place of what waits and return
        None."""
        if self._closed_until is None or now >= self._closed_until:
            self._waiting = None
            return item
        self._waiting = item
        return None

    def due(self, now: float) -> Item | None:
        """Return what waited, once, when its time has come."""
        if self._waiting is None or self._closed_until is None or now < self._closed_until:
            return None
        item, self._waiting = self._waiting, None
        return item

    def applied(self, now: float) -> None:
        """Note that an item was applied: the next waits its turn."""
        if self._seconds > 0:
            self._closed_until = now + self._seconds

    @property
    def waiting(self) -> Item | None:
        """What waits for its turn."""
        return self._waiting

    @property
    def wake_at(self) -> float | None:
        """When `due` will return something; None when nothing waits."""
        return None if self._waiting is None else self._closed_until
