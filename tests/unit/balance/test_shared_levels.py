"""Token buckets in shared memory, compared with the plain ones."""

from __future__ import annotations

from hashlib import blake2b
from mmap import mmap
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.balance.shared_levels import MAXIMUM_RATES, SharedLevels
from kvproxy.balance.shared_lock import NoLocks
from kvproxy.balance.shared_tags import WAYS
from kvproxy.balance.token_bucket import Level, Rate, full, take

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT = 1000


def table(entries: int = WAYS * 4) -> SharedLevels:
    memory = mmap(-1, 64 + SharedLevels.bytes_needed(entries))
    return SharedLevels(memory, NoLocks(), 64, entries=entries)


def tag(key: object) -> bytes:
    return blake2b(str(key).encode(), digest_size=15).digest()


RATES = st.lists(st.builds(Rate, st.integers(1, 9), st.integers(1, 4)), min_size=1, max_size=3)


@given(RATES, st.lists(st.tuples(st.integers(0, 5), st.integers(0, 12))))
def test_levels_are_those_of_the_plain_model(
    rates: list[Rate], requests: list[tuple[int, int]]
) -> None:
    shared = table()
    plain: dict[int, Sequence[Level]] = {}
    now = 500
    for key, pause in requests:
        now += pause
        levels = plain.get(key) or [full(rate, now) for rate in rates]
        expected, plain[key] = take(rates, levels, now)
        assert shared.take(tag(key), 1, rates, KEPT, now) == expected


def test_a_source_is_forgotten_when_it_was_not_seen_for_long() -> None:
    shared = table()
    rates = [Rate(10**9, 1)]
    assert shared.take(tag("a"), 1, rates, KEPT, 1) == 0
    assert shared.take(tag("a"), 1, rates, KEPT, 1000) > 0
    assert shared.take(tag("a"), 1, rates, KEPT, 2000) == 0


def test_a_flood_of_keys_takes_nothing_from_another_limit() -> None:
    shared = table(entries=WAYS)
    rates = [Rate(10**9, 1)]
    assert shared.take(tag("kept"), 1, rates, KEPT, 1) == 0
    for number in range(3 * WAYS):
        shared.take(tag(number), 2, rates, KEPT, 2 + number)
    assert shared.take(tag("kept"), 1, rates, KEPT, 500) > 0


def test_a_flood_does_not_keep_another_limit_from_starting() -> None:
    shared = table(entries=WAYS)
    rates = [Rate(10**9, 1)]
    for number in range(3 * WAYS):
        shared.take(tag(number), 2, rates, KEPT, number)
    assert shared.take(tag("new"), 1, rates, KEPT, 500) == 0
    for number in range(3 * WAYS):
        shared.take(tag(number), 2, rates, KEPT, 501)
    assert shared.take(tag("new"), 1, rates, KEPT, 502) > 0


def test_the_source_unused_for_longest_gives_way_in_a_flood() -> None:
    shared = table(entries=WAYS)
    rates = [Rate(10**9, 1)]
    for number in range(WAYS):
        shared.take(tag(number), 1, rates, KEPT, 1 + number)
    assert shared.take(tag(0), 1, rates, KEPT, 100) > 0
    shared.take(tag("new"), 1, rates, KEPT, 101)
    assert shared.take(tag(0), 1, rates, KEPT, 102) > 0
    assert shared.take(tag(1), 1, rates, KEPT, 103) == 0


def test_a_full_set_has_room_for_all_rates_of_a_source() -> None:
    shared = table(entries=WAYS)
    rates = [Rate(10**9, 1)] * MAXIMUM_RATES
    for number in range(2 * WAYS):
        assert shared.take(tag(number), 1, rates, KEPT, 1) == 0
        assert shared.take(tag(number), 1, rates, KEPT, 1) > 0
