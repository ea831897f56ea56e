from __future__ import annotations

import pytest

from kvproxy.control.pipeline.guard import CONFIRM_SECONDS, MassDeletionGuard


def names(count: int, start: int = 0) -> frozenset[str]:
    return frozenset(f"f{number}" for number in range(start, start + count))


FIRST_SIGHT = {
    "nothing-removed": (50, 0, 100, False, True),
    "one-of-one": (50, 1, 1, False, True),
    "nine-of-nine": (50, 9, 9, False, True),
    "ten-of-ten": (50, 10, 10, False, False),
    "half": (50, 50, 100, False, True),
    "more-than-half": (50, 51, 100, False, False),
    "another-percentage": (10, 11, 100, False, False),
    "within-another-percentage": (10, 10, 100, False, True),
    "all-allowed": (100, 100, 100, False, True),
    "off": (0, 100, 100, False, True),
    "last-one-empties": (50, 1, 1, True, True),
    "emptied": (50, 2, 2, True, False),
    "emptied-while-off": (0, 2, 2, True, True),
}


@pytest.mark.parametrize(
    ("percent", "removed", "serving", "empty", "passes"), FIRST_SIGHT.values(), ids=FIRST_SIGHT
)
def test_first_sight(percent: int, removed: int, serving: int, empty: bool, passes: bool) -> None:
    guard = MassDeletionGuard(percent)
    assert guard.passes(names(removed), serving, empty=empty, now=0.0) is passes
    assert guard.wake_at == (None if passes else CONFIRM_SECONDS)


def test_the_same_deletion_seen_after_the_pause_passes() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(80), 100, empty=False, now=0.0)
    assert guard.passes(names(80), 100, empty=False, now=CONFIRM_SECONDS)
    assert guard.wake_at is None


def test_the_same_deletion_seen_within_the_pause_is_no_second_sight() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(80), 100, empty=False, now=0.0)
    assert not guard.passes(names(80), 100, empty=False, now=CONFIRM_SECONDS / 2)
    assert guard.wake_at == CONFIRM_SECONDS
    assert guard.passes(names(80), 100, empty=False, now=CONFIRM_SECONDS)


def test_what_came_back_passes_at_once_and_is_forgotten() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(80), 100, empty=False, now=0.0)
    assert guard.passes(names(1), 100, empty=False, now=0.1)
    assert guard.wake_at is None
    assert not guard.passes(names(80), 100, empty=False, now=CONFIRM_SECONDS * 2)


def test_other_changes_meanwhile_do_not_delay_a_deletion_for_ever() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(80), 100, empty=False, now=0.0)
    assert guard.passes(names(82), 100, empty=False, now=CONFIRM_SECONDS)


def test_another_mass_that_vanished_later_is_seen_for_the_first_time() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(60), 100, empty=False, now=0.0)
    assert not guard.passes(names(100), 100, empty=False, now=CONFIRM_SECONDS)
    assert guard.wake_at == CONFIRM_SECONDS * 2
    assert guard.passes(names(100), 100, empty=False, now=CONFIRM_SECONDS * 2)


def test_another_mass_that_vanished_within_the_pause_waits_its_own_pause() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(60), 100, empty=False, now=0.0)
    assert not guard.passes(names(100), 100, empty=False, now=CONFIRM_SECONDS / 2)
    assert not guard.passes(names(100), 100, empty=False, now=CONFIRM_SECONDS)
    assert guard.passes(names(100), 100, empty=False, now=CONFIRM_SECONDS * 2)


def test_quite_another_deletion_is_held_anew() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(60), 100, empty=False, now=0.0)
    assert not guard.passes(names(60, start=60), 110, empty=False, now=CONFIRM_SECONDS - 0.1)
    assert guard.wake_at == CONFIRM_SECONDS * 2 - 0.1


def test_asks_for_a_second_read_with_growing_pauses_until_something_arrives() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(80), 100, empty=False, now=0.0)
    asked = [tenth / 10 for tenth in range(1000) if guard.due(tenth / 10)]
    assert asked == [1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0]
    assert guard.passes(names(80), 100, empty=False, now=100.0)
    assert not guard.due(1000.0)


def test_an_operator_releases_what_is_held() -> None:
    guard = MassDeletionGuard(50)
    assert not guard.passes(names(80), 100, empty=False, now=0.0)
    guard.release()
    assert guard.wake_at is None
    assert not guard.due(1000.0)
