from __future__ import annotations

import itertools

from kvproxy.control.workers.crash_loop import FREE_DEATHS, LONGEST_DELAY_SECONDS, CrashLoop


def test_a_single_death_is_answered_at_once() -> None:
    assert CrashLoop().died(0.1) == 0.0


def test_quick_deaths_in_a_row_are_answered_ever_slower_but_always() -> None:
    history = CrashLoop()
    delays = [history.died(0.1) for _ in range(100)]
    assert delays[:FREE_DEATHS] == [0.0] * FREE_DEATHS
    slower = delays[FREE_DEATHS:]
    assert slower[:3] == [0.25, 0.5, 1.0]
    assert all(later >= earlier for earlier, later in itertools.pairwise(slower))
    assert slower[-1] == LONGEST_DELAY_SECONDS


def test_a_long_life_makes_up_for_quick_deaths() -> None:
    history = CrashLoop()
    for _ in range(20):
        history.died(0.1)
    assert history.died(60.0) == 0.0
    assert [history.died(0.1) for _ in range(FREE_DEATHS)] == [0.0] * FREE_DEATHS


def test_deaths_far_apart_are_no_loop() -> None:
    history = CrashLoop()
    assert {history.died(11.0) for _ in range(50)} == {0.0}
