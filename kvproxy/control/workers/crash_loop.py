"""How long to wait before a worker that died is started again."""

from __future__ import annotations

QUICK_DEATH_SECONDS = 10.0
"""A worker that lived shorter died quickly."""

FREE_DEATHS = 3
"""So many quick deaths in a row are answered at once: they may be accidents."""

FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 30.0


class CrashLoop:
    """The history of one worker slot. It never gives up."""

    def __init__(self) -> None:
        """Start without a death."""
        self.quick_deaths = 0

    def died(self, lifetime: float) -> float:
        """Note a death after ``lifetime`` seconds; return the seconds until the next start."""
        if lifetime >= QUICK_DEATH_SECONDS:
            self.quick_deaths = 0
            return 0.0
        self.quick_deaths += 1
        beyond = self.quick_deaths - FREE_DEATHS
        if beyond <= 0:
            return 0.0
        return float(min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(beyond - 1, 20)))
