"""Circuit breaker (specification section 7.5), with the time told to it."""

from __future__ import annotations

from array import array
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.balance.circuit_breaker import (
    MILLISECOND,
    RECOVERING,
    SECOND,
    STANDBY,
    TRIPPED,
    CircuitBreaker,
    block_cells,
    parse_condition,
)

START = 1000 * SECOND


def breakers(text: str, slots: int = 1) -> list[CircuitBreaker]:
    """The same breaker as each of some workers sees it."""
    condition = parse_condition(text)
    blocks = [array("q", bytes(8 * block_cells(slots))) for _ in condition.measures]
    return [
        CircuitBreaker(condition, blocks, nullcontext(), slot=slot, slots=slots)
        for slot in range(slots)
    ]


def breaker(text: str) -> CircuitBreaker:
    return breakers(text)[0]


Answers = list[tuple[int, float]]
"""Status and seconds of each."""

CODES = "ResponseCodeRatio(500, 600, 0, 600) > 0.5"
CONDITIONS: dict[str, tuple[str, Answers, bool]] = {
    "network errors above": ("NetworkErrorRatio() > 0.5", [(504, 0)] * 6 + [(200, 0)] * 4, True),
    "network errors below": ("NetworkErrorRatio() < 0.5", [(504, 0)] * 6 + [(200, 0)] * 4, False),
    "502 of a server counts": ("NetworkErrorRatio() > 0.5", [(502, 0)], True),
    "503 is no network error": ("NetworkErrorRatio() > 0.0", [(503, 0), (500, 0)], False),
    "latency above": ("LatencyAtQuantileMS(50.0) > 50", [(200, 0.051)], True),
    "latency below": ("LatencyAtQuantileMS(50.0) < 50", [(200, 0.051)], False),
    "latency is truncated": ("LatencyAtQuantileMS(50.0) == 50", [(200, 0.0509)], True),
    "no latency": ("LatencyAtQuantileMS(40.0) > 50", [(200, 0)], False),
    "quantile": (
        "LatencyAtQuantileMS(90.0) > 50",
        [(200, 0.001)] * 8 + [(200, 0.1)] * 2,
        True,
    ),
    "lower quantile": (
        "LatencyAtQuantileMS(80.0) > 50",
        [(200, 0.001)] * 8 + [(200, 0.1)] * 2,
        False,
    ),
    "quantile 0 is the fastest": (
        "LatencyAtQuantileMS(0.0) <= 1",
        [(200, 0.001)] + [(200, 0.1)] * 9,
        True,
    ),
    "quantile 100 is the slowest": (
        "LatencyAtQuantileMS(100.0) >= 100",
        [(200, 0.001)] * 9 + [(200, 0.1)],
        True,
    ),
    "quantile above 100": ("LatencyAtQuantileMS(1000.0) > 50", [(200, 0.001)], False),
    "codes above": (CODES, [(200, 0)] * 5 + [(500, 0)] * 6, True),
    "codes below": (CODES, [(200, 0)] * 5 + [(500, 0)] * 4, False),
    "no divisor": ("ResponseCodeRatio(500, 600, 100, 200) == 0.0", [(500, 0)], True),
    "upper bounds are not included": ("ResponseCodeRatio(0, 500, 0, 600) > 0.0", [(500, 0)], False),
    "and": (
        "NetworkErrorRatio() > 0.5 && LatencyAtQuantileMS(50.0) > 50",
        [(502, 0.01)],
        False,
    ),
    "or": ("NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(50.0) > 50", [(200, 0.06)], True),
    "the same function twice": (
        "ResponseCodeRatio(500, 600, 0, 600) > 0.2 && ResponseCodeRatio(500, 600, 0, 600) < 0.4",
        [(200, 0)] * 7 + [(500, 0)] * 3,
        True,
    ),
}


@pytest.mark.parametrize(("text", "answers", "trips"), CONDITIONS.values(), ids=CONDITIONS)
def test_condition(text: str, answers: Answers, trips: bool) -> None:
    """What the answers of one moment mean: the breaker looks for the first time after time 0."""
    one = breaker(text)
    for status, seconds in answers[:-1]:
        one.record(status, seconds, 0)
    one.record(*answers[-1], 1)
    assert (one.state == TRIPPED) is trips
    assert one.trips == int(trips)


def test_one_answer_is_enough() -> None:
    one = breaker("NetworkErrorRatio() > 0.5")
    assert one.allows(START)
    one.record(502, 0.0, START)
    assert one.state == TRIPPED
    assert not one.allows(START)
    assert not one.allows(START + 10 * SECOND - 1)


def test_the_condition_is_looked_at_every_100_ms() -> None:
    one = breaker("NetworkErrorRatio() > 0.5")
    one.record(200, 0.0, START)
    one.record(502, 0.0, START + 1)
    one.record(502, 0.0, START + 100 * MILLISECOND)
    assert one.state == STANDBY
    one.record(200, 0.0, START + 100 * MILLISECOND + 1)
    assert one.state == STANDBY
    one.record(502, 0.0, START + 201 * MILLISECOND)
    assert one.state == TRIPPED


def test_answers_older_than_the_window_do_not_count() -> None:
    one = breaker("NetworkErrorRatio() > 0.5")
    one.record(200, 0.0, START)
    for _ in range(5):
        one.record(504, 0.0, START + 1)
    one.record(200, 0.0, START + 10 * SECOND)
    assert one.state == STANDBY
    slow = breaker("LatencyAtQuantileMS(50.0) > 50")
    slow.record(200, 0.0, START)
    for _ in range(5):
        slow.record(200, 1.0, START + 1)
    slow.record(200, 0.0, START + 59 * SECOND)
    assert slow.state == TRIPPED


def trip(one: CircuitBreaker, now: int) -> None:
    one.record(502, 0.0, now)
    assert one.state == TRIPPED


def test_recovery() -> None:
    """The first request after the ten seconds is refused; then ever more pass, up to the half."""
    one = breaker("NetworkErrorRatio() > 0.5")
    trip(one, START)
    begins = START + 10 * SECOND
    assert not one.allows(begins)
    assert one.state == RECOVERING
    passed = []
    for tenth in range(1, 101):
        now = begins + tenth * SECOND // 10
        if one.allows(now):
            passed.append(tenth / 10)
            one.record(200, 0.0, now)
    assert 1.0 < passed[0] < 2.5
    assert sum(each < 5 for each in passed) < sum(each >= 5 for each in passed)
    assert len(passed) / 100 <= 0.5
    assert one.allows(begins + 10 * SECOND + 1)
    assert one.state == STANDBY


def test_a_failure_while_recovering_trips_again() -> None:
    """Row B31."""
    one = breaker("NetworkErrorRatio() > 0.5")
    trip(one, START)
    now = START + 10 * SECOND
    while not one.allows(now):
        now += SECOND // 10
    assert one.state == RECOVERING
    one.record(502, 0.0, now)
    assert one.state == TRIPPED
    assert not one.allows(now + 10 * SECOND - 1)
    assert one.trips == 2


def test_counts_are_void_after_a_trip() -> None:
    one = breaker("NetworkErrorRatio() > 0.5")
    for _ in range(50):
        one.record(502, 0.0, START)
    later = START + 10 * SECOND
    while not one.allows(later):
        later += SECOND // 10
    one.record(200, 0.0, later)
    assert one.state == RECOVERING


def test_workers_share_counts_and_state() -> None:
    first, second, third = breakers("ResponseCodeRatio(500, 600, 0, 600) > 0.5", 3)
    later = START + 150 * MILLISECOND
    first.record(200, 0.0, START)
    second.record(500, 0.0, START + 1)
    third.record(500, 0.0, later)
    assert [each.state for each in (first, second, third)] == [TRIPPED] * 3
    assert not first.allows(later)
    assert not second.allows(later + 10 * SECOND)
    assert first.state == RECOVERING
    # What one allowed counts for the ramp of the others, and the counts from before are void.
    now = later + 15 * SECOND
    allowed = [each.allows(now) for each in (first, second, third) * 20]
    assert 0.2 < sum(allowed) / 60 < 0.3
    second.record(200, 0.0, now)
    assert first.state == RECOVERING


class Model:
    """One breaker for ``NetworkErrorRatio() > 0.5`` that keeps everything in plain lists."""

    def __init__(self) -> None:
        self.state = STANDBY
        self.until = self.check_at = 0
        self.answers: list[tuple[int, bool]] = []
        self.allowed = self.denied = 0

    def allows(self, now: int) -> bool:
        if self.state == TRIPPED and now >= self.until:
            self.state, self.until = RECOVERING, now + 10 * SECOND
            self.allowed = self.denied = 0
        elif self.state == TRIPPED:
            return False
        elif self.state == RECOVERING and now > self.until:
            self.state = STANDBY
        if self.state == STANDBY:
            return True
        elapsed = (now - (self.until - 10 * SECOND)) / (10 * SECOND)
        if (self.allowed + 1) / (self.allowed + 1 + self.denied) < 0.5 * elapsed:
            self.allowed += 1
            return True
        self.denied += 1
        return False

    def record(self, status: int, now: int) -> None:
        self.answers.append((now // SECOND, status in (502, 504)))
        if now <= self.check_at:
            return
        self.check_at = now + 100 * MILLISECOND
        recent = [error for second, error in self.answers if second > now // SECOND - 10]
        if self.state != TRIPPED and sum(recent) / len(recent) > 0.5:
            self.state, self.until = TRIPPED, now + 10 * SECOND
            self.answers.clear()


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from((0, 30, 120, 900, 4000, 11000)), st.booleans()),
    max_size=150,
)


@settings(max_examples=100)
@given(STEPS)
def test_three_workers_behave_as_one_plain_model(steps: list[tuple[int, int, bool]]) -> None:
    workers = breakers("NetworkErrorRatio() > 0.5", 3)
    model = Model()
    now = START
    for worker, pause, fails in steps:
        now += pause * MILLISECOND
        allowed = workers[worker].allows(now)
        assert allowed == model.allows(now)
        if allowed:
            status = 504 if fails else 200
            workers[worker].record(status, 0.0, now)
            model.record(status, now)
        assert workers[0].state == model.state
