"""Connection limit, rate limit and circuit breaker as a request meets them."""

from __future__ import annotations

from array import array
from contextlib import nullcontext
from mmap import mmap

import pytest

from kvproxy.balance.circuit_breaker import CircuitBreaker, block_cells, parse_condition
from kvproxy.balance.shared_counts import SharedCounts
from kvproxy.balance.shared_lock import NoLocks
from kvproxy.balance.shared_memory import SharedMemory
from kvproxy.balance.shared_tags import WAYS
from kvproxy.balance.source import parse_source
from kvproxy.balance.token_bucket import rate_of
from kvproxy.middleware.circuit_breaker import CircuitBreakerStage
from kvproxy.middleware.connection_limit import ConnectionLimit
from kvproxy.middleware.rate_limit import RateLimitStage, refusal
from tests.unit.middleware.requests import Local, a_request, header, now

PLAIN = "text/plain; charset=utf-8"


def connection_limit(amount: int, source: str = "client.ip") -> ConnectionLimit:
    return ConnectionLimit(amount, parse_source(source), SharedMemory.alone(), b"owner")


def test_b18_as_many_as_the_amount_are_in_progress() -> None:
    limit = connection_limit(2)
    first, second, third = a_request(), a_request(), a_request()
    assert now(limit, first) is None
    assert now(limit, second) is None
    answer = now(limit, third)
    assert answer is not None
    assert (answer.status, answer.body) == (429, b"max connections reached: 2")
    assert header(answer, "Content-Type") == PLAIN
    assert header(answer, "Retry-After") is None
    limit.finished(first, 200, 0.1)
    assert now(limit, third) is None


def test_b19_another_key_is_counted_by_itself() -> None:
    limit = connection_limit(1, "request.header.X-Key")
    assert now(limit, a_request(headers=(("X-Key", "a"),))) is None
    assert now(limit, a_request(headers=(("X-Key", "a"),))) is not None
    assert now(limit, a_request(headers=(("X-Key", "b"),))) is None
    assert now(limit, a_request()) is None
    assert now(limit, a_request()) is not None


def test_ipv6_clients_are_told_apart_by_their_whole_address() -> None:
    limit = connection_limit(1)
    assert now(limit, a_request(client=Local("2001:db8::1"))) is None
    assert now(limit, a_request(client=Local("2001:db8::2"))) is None
    assert now(limit, a_request(client=Local("2001:db8::1"))) is not None


def test_a_negative_amount_refuses_everybody() -> None:
    answer = now(connection_limit(-1), a_request())
    assert answer is not None
    assert answer.body == b"max connections reached: -1"


def test_a_worker_limits_by_itself_when_there_is_no_room() -> None:
    memory = SharedMemory.alone()
    entries = WAYS
    memory.in_progress = SharedCounts(
        mmap(-1, SharedCounts.bytes_needed(entries, 1)),
        NoLocks(),
        0,
        entries=entries,
        slot=0,
        slots=1,
    )
    limit = ConnectionLimit(1, parse_source("request.header.X-Key"), memory, b"owner")
    requests = [a_request(headers=(("X-Key", str(number)),)) for number in range(WAYS + 1)]
    assert [now(limit, request) for request in requests] == [None] * (WAYS + 1)
    again = a_request(headers=(("X-Key", str(WAYS)),))
    assert now(limit, again) is not None
    limit.finished(requests[-1], 200, 0.0)
    assert now(limit, again) is None
    for request in (*requests[:-1], again):
        limit.finished(request, 200, 0.0)
    assert now(limit, requests[0]) is None


def rate_limit(*rates: tuple[float, int, int], source: str = "client.ip") -> RateLimitStage:
    return RateLimitStage(
        [rate_of(*rate) for rate in rates],
        max(rate[0] for rate in rates),
        parse_source(source),
        SharedMemory.alone(),
        b"an owner of 8 bytes or more",
    )


def test_the_burst_passes_and_the_next_is_refused() -> None:
    limit = rate_limit((600.0, 1, 3))
    assert [now(limit, a_request()) for _ in range(3)] == [None] * 3
    answer = now(limit, a_request())
    assert answer is not None
    assert (answer.status, answer.body) == (429, b"max rate reached: retry-in 10m0s")
    assert header(answer, "Retry-After") == "600"
    assert header(answer, "X-Retry-In") == "10m0s"
    assert header(answer, "Content-Type") == PLAIN
    assert now(limit, a_request(client=Local("192.0.2.9"))) is None


def test_keys_of_the_table() -> None:
    """Row "10 s/1 burst 1 by `request.header.X-K`" of section 9.1."""
    limit = rate_limit((10.0, 1, 1), source="request.header.X-K")
    statuses = []
    for key in ("a", "a", "b", None, None):
        answer = now(limit, a_request(headers=() if key is None else (("X-K", key),)))
        statuses.append(200 if answer is None else answer.status)
    assert statuses == [200, 429, 200, 200, 429]


DELAYS = {
    1_000_000_000: ("1", "1s"),
    1_500_000_000: ("2", "1.5s"),
    2_500_000_000: ("2", "2.5s"),
    333_333_333: ("0", "333.333333ms"),
    250_000: ("0", "250\u00b5s"),
}


@pytest.mark.parametrize(("delay", "texts"), DELAYS.items(), ids=map(str, DELAYS))
def test_delays_are_told(delay: int, texts: tuple[str, str]) -> None:
    answer = refusal(delay)
    assert header(answer, "Retry-After") == texts[0]
    assert answer.headers[1] == (b"X-Retry-In", texts[1].encode())


def test_a_breaker_refuses_with_503_once_it_has_tripped() -> None:
    breaker = CircuitBreaker(
        parse_condition("NetworkErrorRatio() > 0.5"),
        [array("q", bytes(8 * block_cells(1)))],
        nullcontext(),
    )
    stage = CircuitBreakerStage(breaker, "b")
    request = a_request()
    assert now(stage, request) is None
    stage.finished(request, 502, 0.1)
    answer = now(stage, a_request())
    assert answer is not None
    assert (answer.status, answer.body) == (503, b"Service Unavailable")
