"""The allowance for what brings nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http.allowance import Allowance


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now


def test_a_full_one_is_spent_at_once() -> None:
    allowance = Allowance(3, 1, Clock())
    assert [allowance.spend() for _ in range(5)] == [True, True, True, False, False]


def test_time_fills_it() -> None:
    clock = Clock()
    allowance = Allowance(10, 2, clock)
    assert allowance.spend(10)
    assert not allowance.spend()
    clock.now += 1
    assert allowance.spend()
    assert not allowance.spend(2)


def test_after_a_pause_twice_its_capacity_may_pass_and_no_more() -> None:
    clock = Clock()
    allowance = Allowance(10, 2, clock)
    clock.now += 1000
    assert [allowance.spend() for _ in range(25)] == [True] * 21 + [False] * 4


def test_work_fills_it() -> None:
    allowance = Allowance(2, 0, Clock())
    assert allowance.spend(2)
    allowance.earn()
    assert allowance.spend()
    allowance.earn(100)
    assert allowance.spend(2)
    assert not allowance.spend()


def test_the_clock_is_only_asked_when_it_is_empty() -> None:
    clock = Clock()
    allowance = Allowance(5, 1, clock)
    asked = clock.asked
    for _ in range(5):
        allowance.spend()
    assert clock.asked == asked


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5)), max_size=100))
def test_never_more_than_capacity_and_rate_allow(steps: list[tuple[float, int]]) -> None:
    clock = Clock()
    allowance = Allowance(20, 4, clock)
    spent = 0
    for seconds, cost in steps:
        clock.now += seconds
        if allowance.spend(cost):
            spent += cost
        assert spent <= 20 + (clock.now - 1000) * 4 + 1e-6
