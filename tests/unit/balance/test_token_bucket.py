"""Token buckets (specification section 9.1), with the time told to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.balance.token_bucket import Level, Rate, full, rate_of, take

if TYPE_CHECKING:
    from collections.abc import Sequence

SECOND = 1_000_000_000

TABLE = {
    # Two rates: 4 in 60 s with a burst of 5, and 1 in 3 s with a burst of 2.
    "two rates": (
        [(60, 4, 5), (3, 1, 2)],
        [(0, 0), (0, 0), (0, 3), (0, 3), (0, 3), (4, 0), (7, 0), (10, 0), (13, 15)],
    ),
    "2 s, 2, burst 3": (
        [(2, 2, 3)],
        [(0, 0), (0, 0), (0, 0), (0, 1), (1.1, 0), (1.1, 1)],
    ),
    "10 s, 1, burst 1": ([(10, 1, 1)], [(0, 0), (0, 10)]),
    "1 s, 1, burst 1": ([(1, 1, 1)], [(0, 0), (0.2, 1), (0.9, 1), (1.0, 0)]),
    "idle for long": ([(1, 1, 1)], [(0, 0), (5, 0), (5, 1)]),
    "burst": ([(1, 3, 5)], [(0, 0)] * 5 + [(0, 0.333333333)]),
    # The third token would come at 2.0 s, had 0.5 s not been lost when the second came.
    "a fraction is lost": (
        [(1, 1, 2)],
        [(0, 0), (0, 0), (1.5, 0), (2.4, 1), (2.5, 0)],
    ),
}
"""Rates as (period, average, burst), then (time, delay) of each request, all in seconds."""


@pytest.mark.parametrize(("rates", "requests"), TABLE.values(), ids=TABLE)
def test_table(rates: list[tuple[float, int, int]], requests: list[tuple[float, float]]) -> None:
    buckets = [rate_of(*rate) for rate in rates]
    levels: Sequence[Level] = [full(bucket, 0) for bucket in buckets]
    seen = []
    for when, _ in requests:
        delay, levels = take(buckets, levels, round(when * SECOND))
        seen.append((when, delay / SECOND))
    assert seen == requests


def test_a_rate_faster_than_the_clock_has_the_shortest_interval() -> None:
    assert rate_of(1.0, 5 * SECOND, 1) == Rate(1, 1)


@given(
    st.integers(1, 20),
    st.integers(1, 5),
    st.lists(st.integers(0, 40), max_size=60),
)
def test_one_bucket_never_lets_more_through_than_its_rate(
    interval: int, burst: int, pauses: list[int]
) -> None:
    rate = Rate(interval, burst)
    now, levels = 100, [full(rate, 100)]
    passed: list[int] = []
    for pause in pauses:
        now += pause
        delay, new = take([rate], levels, now)
        levels = list(new)
        assert delay in (0, interval)
        if not delay:
            passed.append(now)
    for first, start in enumerate(passed):
        for last in range(first, len(passed)):
            assert last - first + 1 <= burst + (passed[last] - start) // interval + 1


@given(
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=3),
    st.lists(st.integers(0, 9), max_size=40),
)
def test_all_or_none(rates: list[tuple[int, int]], pauses: list[int]) -> None:
    """A plain model: every bucket apart, a request passes when each has a token."""
    buckets = [Rate(*rate) for rate in rates]
    now = 50
    levels = [full(bucket, now) for bucket in buckets]
    tokens = [bucket.burst for bucket in buckets]
    since = [now] * len(buckets)
    for pause in pauses:
        now += pause
        for number, bucket in enumerate(buckets):
            came = (now - since[number]) // bucket.interval
            if came:
                tokens[number] = min(bucket.burst, tokens[number] + came)
                since[number] = now
        lacking = [
            bucket.interval for bucket, held in zip(buckets, tokens, strict=True) if not held
        ]
        if not lacking:
            tokens = [held - 1 for held in tokens]
        delay, new = take(buckets, levels, now)
        levels = list(new)
        assert delay == max(lacking, default=0)
        assert [held for held, _ in levels] == tokens
