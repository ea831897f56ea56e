"""Circuit breaker: expression, windows, states and ramp (specification section 7.5).

All of its state is in *blocks* of 64-bit cells, one block for each comparison of the expression, so
that the workers can share it: the first cells of the first block are the state, changed under a
lock; behind them is a row of counts for each worker, written by that worker alone and summed by
whoever judges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from kvproxy.balance.expression import (
    OPERATORS,
    Function,
    Term,
    compile_expression,
    parse_expression,
    terms_of,
)
from kvproxy.balance.window import RollingCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from kvproxy.balance.window import Cells

MILLISECOND = 1_000_000
SECOND = 1_000_000_000

STANDBY, TRIPPED, RECOVERING = range(3)
"""States: everything passes; nothing does; ever more does."""

CHECK_PERIOD = 100 * MILLISECOND
TRIPPED_TIME = 10 * SECOND
RECOVERY_TIME = 10 * SECOND
RECOVERY_SHARE = 0.5
"""Share of the requests that passes at the end of the recovery."""

NETWORK_ERRORS = (502, 504)
"""Statuses that count as network errors, whoever made them."""

FUNCTIONS = {
    "NetworkErrorRatio": Function((), float),
    "ResponseCodeRatio": Function((int, int, int, int), float),
    "LatencyAtQuantileMS": Function((float,), int),
}

_STATE, _UNTIL, _CHECK_AT, _EPOCH, _ALLOWED, _DENIED, _TRIPS, _HEADER_CELLS = range(8)
_COUNTERS = 3
_MAXIMUM_BUCKETS = 10
_ROW_CELLS = 1 + RollingCounts.cells_needed(_MAXIMUM_BUCKETS, _COUNTERS)
"""The epoch of the counts, and the counts."""


class _Measure(Protocol):
    """Counts answers for one comparison and judges the counts."""

    buckets: int
    period: int

    def counters(self, status: int, milliseconds: int) -> Sequence[int]:
        """Return which of the counters an answer belongs to."""
        ...

    def holds(self, sums: Sequence[int]) -> bool:
        """Judge the counts of the window."""
        ...


class _Ratio:
    """Answers of some statuses / answers of others, over ten seconds."""

    buckets = 10
    period = SECOND

    def __init__(self, part: range, whole: range | None, term: Term) -> None:
        self._part = part
        self._whole = whole
        self._compare = OPERATORS[term.operator]
        self._literal = term.literal

    def counters(self, status: int, milliseconds: int) -> Sequence[int]:
        found = [0] if status in self._part else []
        if self._whole is None or status in self._whole:
            found.append(1)
        return found

    def holds(self, sums: Sequence[int]) -> bool:
        part, whole = sums[0], sums[1]
        return self._compare(part / whole if whole else 0.0, self._literal)


class _Latency:
    """A quantile of the latency over a minute, compared with a constant.

    For that, it is enough to count the answers that were faster than the constant and those that
    were as fast, so the comparison is exact without keeping the latencies.
    """

    buckets = 6
    period = 10 * SECOND

    def __init__(self, term: Term) -> None:
        self._quantile = min(term.arguments[0], 100.0) / 100
        self._compare = OPERATORS[term.operator]
        self._literal = term.literal

    def counters(self, status: int, milliseconds: int) -> Sequence[int]:
        if milliseconds == self._literal:
            return (1, 2)
        return (0, 2) if milliseconds < int(self._literal) else (2,)

    def holds(self, sums: Sequence[int]) -> bool:
        below, equal, total = sums
        if not total:
            return self._compare(0, self._literal)
        rank = max(1, int(self._quantile * total + 0.5))
        side = -1 if rank <= below else 0 if rank <= below + equal else 1
        return self._compare(side, 0)


class Condition(NamedTuple):
    """When a breaker trips: what is counted, and the judgement of all counts."""

    measures: tuple[_Measure, ...]
    holds: Callable[[list[list[int]]], bool]


def parse_condition(text: str) -> Condition:
    """Return the condition of an expression; raises `ExpressionError`."""
    expression = parse_expression(text, FUNCTIONS)
    measures = tuple(_measure(term) for term in terms_of(expression))
    numbers = iter(range(len(measures)))

    def compile_term(term: Term) -> Callable[[list[list[int]]], bool]:
        number = next(numbers)
        holds = measures[number].holds
        return lambda sums: holds(sums[number])

    return Condition(measures, compile_expression(expression, compile_term))


def _measure(term: Term) -> _Measure:
    if term.function == "LatencyAtQuantileMS":
        return _Latency(term)
    if term.function == "NetworkErrorRatio":
        return _NetworkErrors(term)
    first, second, third, fourth = map(int, term.arguments)
    return _Ratio(range(first, second), range(third, fourth), term)


class _NetworkErrors(_Ratio):
    """Statuses 502 and 504 / all."""

    def __init__(self, term: Term) -> None:
        super().__init__(range(502, 505, 2), None, term)


def block_cells(slots: int) -> int:
    """Return how many cells a block has when ``slots`` workers share it."""
    return _HEADER_CELLS + slots * _ROW_CELLS


def state_of(block: Cells) -> int:
    """Return the state that a first block holds."""
    return block[_STATE]


def trips_of(block: Cells) -> int:
    """Return how often the breaker of a first block tripped."""
    return block[_TRIPS]


class CircuitBreaker:
    """The breaker of one chain, as one worker sees it. Times are monotonic nanoseconds."""

    __slots__ = ("__weakref__", "_condition", "_header", "_lock", "_rows", "_slot")

    def __init__(
        self,
        condition: Condition,
        blocks: Sequence[Cells],
        lock: AbstractContextManager[object],
        *,
        slot: int = 0,
        slots: int = 1,
    ) -> None:
        """``blocks``: one for each measure, of `block_cells`, zero at first; ``slot``: of this
        worker; ``lock`` keeps the other workers from changing the state."""
        self._condition = condition
        self._header = blocks[0]
        self._lock = lock
        self._slot = slot
        self._rows = [
            [_Row(block, _HEADER_CELLS + each * _ROW_CELLS, measure) for each in range(slots)]
            for block, measure in zip(blocks, condition.measures, strict=True)
        ]

    @property
    def state(self) -> int:
        """STANDBY, TRIPPED or RECOVERING, as the last request left it."""
        return self._header[_STATE]

    @property
    def trips(self) -> int:
        """How often it tripped."""
        return self._header[_TRIPS]

    def allows(self, now: int) -> bool:
        """Tell whether a request may pass. One that passes is to be told to `record`."""
        header = self._header
        if header[_STATE] == STANDBY:
            return True
        with self._lock:
            state = header[_STATE]
            if state == STANDBY:
                return True
            if state == TRIPPED:
                if now < header[_UNTIL]:
                    return False
                header[_ALLOWED] = header[_DENIED] = 0
                header[_UNTIL] = now + RECOVERY_TIME
                header[_STATE] = RECOVERING
            elif now > header[_UNTIL]:
                header[_STATE] = STANDBY
                return True
            return self._ramp_allows(now)

    def _ramp_allows(self, now: int) -> bool:
        header = self._header
        elapsed = now - (header[_UNTIL] - RECOVERY_TIME)
        allowed, denied = header[_ALLOWED], header[_DENIED]
        if (allowed + 1) / (allowed + 1 + denied) < RECOVERY_SHARE * elapsed / RECOVERY_TIME:
            header[_ALLOWED] = allowed + 1
            return True
        header[_DENIED] = denied + 1
        return False

    def record(self, status: int, seconds: float, now: int) -> bool:
        """Count the answer of a request that passed, and trip when the condition holds.

        ``status``: what the client was told; ``seconds``: how long it took. Returns whether it
        tripped now.
        """
        header = self._header
        epoch = header[_EPOCH]
        milliseconds = int(seconds * 1000)
        for rows in self._rows:
            rows[self._slot].count(status, milliseconds, now, epoch)
        if now <= header[_CHECK_AT]:
            return False
        with self._lock:
            return self._check(now)

    def _check(self, now: int) -> bool:
        header = self._header
        if now <= header[_CHECK_AT]:
            return False
        header[_CHECK_AT] = now + CHECK_PERIOD
        if header[_STATE] == TRIPPED:
            return False
        epoch = header[_EPOCH]
        sums = [
            [sum(column) for column in zip(*(row.sums(now, epoch) for row in rows), strict=True)]
            for rows in self._rows
        ]
        if not self._condition.holds(sums):
            return False
        header[_EPOCH] = epoch + 1
        header[_UNTIL] = now + TRIPPED_TIME
        header[_TRIPS] += 1
        header[_STATE] = TRIPPED
        return True


class _Row:
    """What one worker counted for one comparison.

    Counts of an older epoch (before the breaker last tripped) are void.
    """

    __slots__ = ("_at", "_cells", "_counts", "_measure")

    def __init__(self, cells: Cells, at: int, measure: _Measure) -> None:
        self._cells = cells
        self._at = at
        self._measure = measure
        self._counts = RollingCounts(
            cells, at + 1, buckets=measure.buckets, period=measure.period, counters=_COUNTERS
        )

    def count(self, status: int, milliseconds: int, now: int, epoch: int) -> None:
        cells = self._cells
        if cells[self._at] != epoch:
            self._counts.clear()
            cells[self._at] = epoch
        bucket = self._counts.bucket(now)
        for counter in self._measure.counters(status, milliseconds):
            cells[bucket + counter] += 1

    def sums(self, now: int, epoch: int) -> list[int]:
        if self._cells[self._at] != epoch:
            return [0] * _COUNTERS
        return self._counts.sums(now)
