"""Token buckets in whole tokens and whole nanoseconds (specification section 9.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence


class Rate(NamedTuple):
    """``burst`` tokens at most, one more every ``interval`` nanoseconds."""

    interval: int
    burst: int


Level: TypeAlias = tuple[int, int]
"""Tokens in a bucket, and the monotonic time (nanoseconds) from which the next one counts."""


def rate_of(period: float, average: int, burst: int) -> Rate:
    """Return the rate of ``average`` requests in ``period`` seconds; all numbers above 0."""
    return Rate(max(1, round(period * 1e9) // average), burst)


def full(rate: Rate, now: int) -> Level:
    """Return the level of a source that was never seen."""
    return rate.burst, now


def take(rates: Sequence[Rate], levels: Sequence[Level], now: int) -> tuple[int, Sequence[Level]]:
    """Take one token from every bucket, or from none when one lacks it.

    Returns the delay in nanoseconds after which asking again makes sense (0: taken) and the new
    levels. The delay is that of a whole token, not shortened by the time since the last one.
    """
    delay = 0
    after = []
    for (interval, burst), (tokens, since) in zip(rates, levels, strict=True):
        came = (now - since) // interval
        if came > 0:
            # What is left of a token when one comes is lost.
            tokens, since = min(burst, tokens + came), now
        if not tokens and interval > delay:
            delay = interval
        after.append((tokens, since))
    if delay:
        return delay, after
    return 0, [(tokens - 1, since) for tokens, since in after]
