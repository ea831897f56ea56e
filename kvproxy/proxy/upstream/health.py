"""Which servers are down, as the supervisor found out for all workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvproxy.model.messages import HealthChange


class Health:
    """The checks that fail. ``version`` grows with each change, so nobody needs to be told."""

    __slots__ = ("_down", "version")

    def __init__(self) -> None:
        """Everything is up until the supervisor says otherwise."""
        self.version = 0
        self._down: set[bytes] = set()

    def is_down(self, check: bytes) -> bool:
        """Tell whether the check of a server fails; an empty key is never down."""
        return check in self._down

    def update(self, change: HealthChange) -> None:
        """Take what the supervisor says."""
        if change.whole:
            self._down = set(change.down)
        else:
            self._down |= set(change.down)
            self._down -= set(change.up)
        self.version += 1
