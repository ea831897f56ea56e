"""How the benchmark compares windows with and without changes."""

from __future__ import annotations

import pytest

from bench.impact import compare, impact_of, is_changing
from bench.paced import Sample

START = 1000.0


def window(number: int, latency: float, worst: float) -> list[Sample]:
    """100 requests in one window of a second, of which the last two wait for ``worst``."""
    first = START + number
    return [
        Sample(first + 0.1 + each * 0.009, worst if each >= 98 else latency) for each in range(100)
    ]


def test_windows_take_turns_so_that_a_drift_falls_upon_both_kinds() -> None:
    order = [is_changing(number) for number in range(8)]
    assert order == [False, True, True, False, False, True, True, False]


def test_neighbours_are_compared() -> None:
    worst = [1.0, 2.0, 30.0, 10.0, 4.0, 2.0]
    samples = [each for at, last in enumerate(worst) for each in window(at, 0.1, last)]
    quiet, changing = compare(samples, START, 3, 1.0)
    assert (quiet, changing) == ([1.0, 10.0, 4.0], [2.0, 30.0, 2.0])


def test_what_is_in_no_window_or_at_the_very_beginning_of_one_does_not_count() -> None:
    samples = [*window(0, 0.1, 1.0), *window(1, 0.1, 2.0)]
    for due in (-0.01, 0.0, 0.09, 1.0, 1.09, 2.0, 2.5):
        samples += [Sample(START + due, 99.0)] * 50
    assert compare(samples, START, 1, 1.0) == ([1.0], [2.0])


def test_a_window_without_a_request_is_an_error() -> None:
    with pytest.raises(ValueError, match="without a request"):
        compare(window(0, 0.1, 1.0), START, 1, 1.0)


def test_the_middle_pair_decides_and_a_pause_of_the_machine_does_not() -> None:
    quiet = [1.0, 1.0, 50.0, 1.0, 2.0, 1.0, 1.0]
    changing = [1.5, 1.4, 1.6, 99.0, 3.0, 1.6, 1.3]
    found = impact_of(quiet, changing, 70)
    assert (found.quiet, found.changing, found.ratio) == (1.0, 1.6, 1.5)
    assert (found.ratio_low, found.ratio_high, found.changes) == (1.3, 1.6, 70)


def test_one_pair_is_its_own_middle() -> None:
    found = impact_of([2.0], [3.0], 1)
    assert (found.ratio_low, found.ratio, found.ratio_high) == (1.5, 1.5, 1.5)
