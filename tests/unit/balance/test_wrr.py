"""The order of the interleaved weighted round robin (specification section 7.2)."""

from __future__ import annotations

from itertools import islice
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.balance.wrr import WeightedRoundRobin

SEQUENCES = {
    "equal": ((1, 1), "abab"),
    "a3-b1": ((3, 1), "aaabaaab"),
    "b1-a3": ((1, 3), "bbabbbab"),
    "with-zero": ((3, 2, 0), "aababaabab"),
    "common-divisor": ((10, 5), "aabaab"),
    "one": ((7,), "aaa"),
}


def sequence(rotation: WeightedRoundRobin, length: int) -> str:
    return "".join(chr(ord("a") + rotation.next()) for _ in range(length))


@pytest.mark.parametrize(("weights", "expected"), SEQUENCES.values(), ids=SEQUENCES)
def test_order(weights: tuple[int, ...], expected: str) -> None:
    assert sequence(WeightedRoundRobin(weights), len(expected)) == expected


@pytest.mark.parametrize("weights", [(), (0,), (0, 0, 0)])
def test_nothing_to_choose(weights: tuple[int, ...]) -> None:
    assert WeightedRoundRobin(weights).next() == -1


def test_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        WeightedRoundRobin((1, -1))


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(any))
def test_each_cycle_follows_the_weights(weights: list[int]) -> None:
    rotation = WeightedRoundRobin(weights)
    cycle = sum(weights) // gcd(*weights)
    for _ in range(2):
        chosen = list(islice(iter(rotation.next, None), cycle))
        assert [
            chosen.count(position) * gcd(*weights) for position in range(len(weights))
        ] == weights
