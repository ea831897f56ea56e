"""Counts over a window, compared with a list of everything that was ever counted."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.balance.window import RollingCounts

STEPS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 1)), max_size=40)


@given(STEPS, st.integers(0, 60), st.integers(1, 5), st.integers(1, 7), st.integers(0, 3))
def test_sums_are_those_of_the_periods_in_the_window(
    steps: list[tuple[int, int]], later: int, buckets: int, period: int, start: int
) -> None:
    cells = array("q", [-7] * start + [0] * RollingCounts.cells_needed(buckets, 2) + [-7])
    counts = RollingCounts(cells, start, buckets=buckets, period=period, counters=2)
    now = 1000
    seen: list[tuple[int, int]] = []
    for pause, counter in steps:
        now += pause
        cells[counts.bucket(now) + counter] += 1
        seen.append((now // period, counter))
    now += later
    newest = now // period
    expected = [
        sum(newest - buckets < number <= newest and each == counter for number, each in seen)
        for counter in range(2)
    ]
    assert counts.sums(now) == expected
    counts.clear()
    assert counts.sums(now) == [0, 0]
    assert set(cells[:start]) <= {-7} and cells[-1] == -7
