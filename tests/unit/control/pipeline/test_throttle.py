from __future__ import annotations

import pytest

from kvproxy.control.pipeline.throttle import Throttle


def test_without_a_duration_everything_passes_at_once() -> None:
    throttle: Throttle[str] = Throttle(0.0)
    for item in ("a", "b", "c"):
        assert throttle.offer(item, 5.0) == item
        throttle.applied(5.0)
    assert throttle.wake_at is None


def test_the_first_passes_at_once_and_the_newest_of_the_rest_after_the_duration() -> None:
    throttle: Throttle[str] = Throttle(2.0)
    assert throttle.offer("a", 10.0) == "a"
    throttle.applied(10.0)
    assert [throttle.offer(item, 10.5) for item in ("b", "c", "d")] == [None, None, None]
    assert throttle.wake_at == 12.0
    assert throttle.due(11.9) is None
    assert throttle.due(12.0) == "d"
    assert throttle.due(12.0) is None
    assert throttle.wake_at is None


def test_what_was_not_applied_does_not_close_the_throttle() -> None:
    throttle: Throttle[str] = Throttle(2.0)
    assert throttle.offer("a", 10.0) == "a"
    assert throttle.offer("b", 10.1) == "b"


def test_after_the_duration_the_newest_replaces_what_waited() -> None:
    throttle: Throttle[str] = Throttle(2.0)
    throttle.offer("a", 10.0)
    throttle.applied(10.0)
    assert throttle.offer("b", 11.0) is None
    assert throttle.offer("c", 12.0) == "c"
    assert throttle.due(20.0) is None


# Five configurations 10 ms apart, throttle 30 ms: two within 50 ms, one more later, the last one is
# not lost.
@pytest.mark.parametrize("case", ["N01"])
def test_specified_case(case: str) -> None:
    throttle: Throttle[int] = Throttle(0.030)
    applied: list[tuple[int, int]] = []

    def apply(item: int | None, millisecond: int) -> None:
        if item is not None:
            applied.append((millisecond, item))
            throttle.applied(millisecond / 1000)

    for millisecond in range(0, 200, 10):
        apply(throttle.due(millisecond / 1000), millisecond)
        if millisecond < 50:
            apply(throttle.offer(millisecond // 10, millisecond / 1000), millisecond)
    assert applied == [(0, 0), (30, 2), (60, 4)], case
