"""The cells in which a chain counts its answers (`kvproxy.proxy.request.chain`), and their sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvproxy.model.latency import LATENCY_CELLS

if TYPE_CHECKING:
    from collections.abc import Iterable

SECONDS_CELL = 10
HISTOGRAM_CELL = 11
RETRIES_CELL = HISTOGRAM_CELL + LATENCY_CELLS
COUNTER_CELLS = RETRIES_CELL + 1
"""Cells 1-9: answers by first digit of the status (servers do send 600 and more); 10: summed
seconds; from 11 on: histogram (first cell left implicit); the last one: attempts at another
server."""

STATUSES = 6
"""How many numbers statuses are told in: the last is of 500 and more."""


def new_cells() -> list[float]:
    """Return cells in which nothing is counted yet."""
    return [0.0] * COUNTER_CELLS


def add_cells(total: list[float], more: Iterable[float]) -> None:
    """Add to ``total``, in place."""
    total[:] = [held + added for held, added in zip(total, more, strict=True)]


def counted(cells: list[float], own: Iterable[int] = (0,) * STATUSES) -> dict[str, Any]:
    """Return the members of `kvproxy.model.messages.Counters`.

    ``own``: answers by first digit that the proxy made at once, without asking anybody.
    """
    answers = [*cells[: STATUSES - 1], sum(cells[STATUSES - 1 : SECONDS_CELL])]
    slow = [int(cell) for cell in cells[HISTOGRAM_CELL + 1 : RETRIES_CELL]]
    statuses = [int(cell) + more for cell, more in zip(answers, own, strict=True)]
    return {
        "statuses": statuses,
        "seconds": cells[SECONDS_CELL],
        "latencies": [sum(statuses) - sum(slow), *slow],
        "retries": int(cells[RETRIES_CELL]),
    }
