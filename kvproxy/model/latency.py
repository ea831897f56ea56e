"""The histogram of how long answers take."""

from __future__ import annotations

LATENCY_BOUNDS = (0.1, 0.3, 1.2, 5.0)
"""Upper bounds, seconds (the default buckets of Traefik 1.7)."""

LATENCY_CELLS = len(LATENCY_BOUNDS) + 1
"""One for each bound, one for what takes longer."""
