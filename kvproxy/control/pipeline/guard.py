"""The mass-deletion guard: emptiness is suspicious until a second read says the same.

A lost permission, a truncated file or a store restored empty looks like a deletion of everything.
So a snapshot that removes more than ``percent`` of the frontends that a provider serves, and at
least 10, or that holds nothing at all where more than one frontend is served, is not applied at
once:

1. **open**: the snapshot is within the limit and passes;
2. **held**: it is not. What is served goes on. `CONFIRM_SECONDS` later the source is asked to read
   again, and again with growing pauses until something arrives;
3. **confirmed**: a snapshot that arrives after the pause lacks the same frontends. These deletions
   have been seen twice and pass, unless yet more have vanished, which is judged like a first sight.
   A snapshot that is within the limit by itself (the frontends are back) passes at any time. Both
   lead to **open**.

An operator can confirm at any time. Deleting single frontends never waits.
"""

from __future__ import annotations

CONFIRM_SECONDS = 1.0
"""The pause before the second read: longer than an editor or a deployment takes to replace a
file."""

_LONGEST_PAUSE = 30.0
_SMALLEST_MASS = 10


class MassDeletionGuard:
    """The guard of one provider. Times are any clock's that never goes back."""

    def __init__(self, percent: int) -> None:
        """Hold what removes more than ``percent`` of the frontends; 0 turns the guard off."""
        self._percent = percent
        self._held: frozenset[str] = frozenset()
        self._confirm_from = 0.0
        self._pause = CONFIRM_SECONDS
        self._wake_at = 0.0

    @property
    def wake_at(self) -> float | None:
        """When `due` will ask for a second read; None when nothing is held."""
        return self._wake_at if self._held else None

    def passes(self, removed: frozenset[str], serving: int, *, empty: bool, now: float) -> bool:
        """Judge a snapshot that lacks the frontends ``removed`` of ``serving`` many.

        ``empty``: it holds nothing at all. False: the snapshot is held.
        """
        if not self._suspicious(len(removed), serving, empty):
            self.release()
            return True
        seen_twice = self._held & removed
        if seen_twice and now < self._confirm_from:
            self._held = seen_twice
            return False
        if seen_twice and not self._suspicious(
            len(removed) - len(seen_twice), serving - len(seen_twice), empty
        ):
            self.release()
            return True
        self._held = removed
        self._pause = CONFIRM_SECONDS
        self._confirm_from = self._wake_at = now + self._pause
        return False

    def due(self, now: float) -> bool:
        """Whether the source must be asked now to read again; the next time comes after a pause."""
        if not self._held or now < self._wake_at:
            return False
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        self._wake_at = now + self._pause
        return True

    def release(self) -> None:
        """Forget what is held: it was applied, confirmed by an operator or is void."""
        self._held = frozenset()

    def _suspicious(self, removed: int, serving: int, empty: bool) -> bool:
        if self._percent <= 0:
            return False
        if empty and removed > 1:
            return True
        return removed >= _SMALLEST_MASS and removed * 100 > self._percent * serving
