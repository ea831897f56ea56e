"""Limits the rate of requests by key (specification section 9.1)."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from kvproxy.http.answer import PLAIN_TEXT, Answer
from kvproxy.middleware.contract import Middleware
from kvproxy.model.durations import NANOSECONDS, format_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvproxy.balance.shared_memory import SharedMemory
    from kvproxy.balance.token_bucket import Rate
    from kvproxy.middleware.contract import Request

KEPT_PERIODS = 10
KEPT_SECONDS = 1
"""A source is forgotten after so many of the longest period, and so many seconds, without use."""

TAG_BYTES = 15


class RateLimitStage(Middleware):
    """Token buckets, one for each rate and key, shared by all workers."""

    __slots__ = ("_kept", "_memory", "_number", "_owner", "_rates", "_source")

    title = "rate limit"

    def __init__(
        self,
        rates: Sequence[Rate],
        longest_period: float,
        source: Callable[[Request], bytes],
        memory: SharedMemory,
        owner: bytes,
    ) -> None:
        """``longest_period``: seconds; ``source`` takes the key; ``owner``: a digest that stands
        for this limit in ``memory``."""
        self._rates = tuple(rates)
        self._kept = round((KEPT_PERIODS * longest_period + KEPT_SECONDS) * NANOSECONDS)
        self._source = source
        self._memory = memory
        self._owner = owner
        self._number = int.from_bytes(owner[:8], "big", signed=True)

    def request(self, request: Request) -> Answer | None:
        """Answer 429 when a bucket of the key is empty."""
        tag = self._memory.tag(self._owner, self._source(request), TAG_BYTES)
        delay = self._memory.levels.take(tag, self._number, self._rates, self._kept, monotonic_ns())
        return refusal(delay) if delay else None


def refusal(delay: int) -> Answer:
    """Return the answer to a request that may come again in ``delay`` nanoseconds."""
    text = format_nanoseconds(delay).encode()
    headers = (
        (b"Retry-After", b"%d" % round(delay / NANOSECONDS)),
        (b"X-Retry-In", text),
        PLAIN_TEXT,
    )
    return Answer(429, b"max rate reached: retry-in " + text, headers)
