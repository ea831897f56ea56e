"""Weights that follow failures (specification section 7.3)."""

from __future__ import annotations

from collections import Counter
from math import gcd
from statistics import median

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.balance.drr import SECOND, DynamicRoundRobin, Rating, split_ratings
from kvproxy.balance.wrr import WeightedRoundRobin

SPLITS = {
    "0,0": ([0, 0], []),
    "0,1": ([0], [1]),
    "0.1,0.1": ([0.1, 0.1], []),
    "0.15,0.1": ([0.15, 0.1], []),
    "0.012,0.01,1": ([0.012, 0.01], [1]),
    "0,0,1,1": ([0, 0], [1, 1]),
    "0,0.1,0.1,0": ([0, 0], [0.1, 0.1]),
    "0,0.01,0.1,0": ([0, 0], [0.01, 0.1]),
    "0,0.01,0.02,1": ([0, 0.01, 0.02], [1]),
    "0,0,0,0,0,0.01,0.02,1": ([0] * 5, [0.01, 0.02, 1]),
}


@pytest.mark.parametrize(("good", "bad"), SPLITS.values(), ids=SPLITS)
def test_split(good: list[float], bad: list[float]) -> None:
    ratings = good + bad
    assert split_ratings(ratings) == [True] * len(good) + [False] * len(bad)


def fill(rating: Rating, failures: int, requests: int, now: int) -> None:
    """Rate a server ``failures`` of ``requests`` within one second."""
    for number in range(requests):
        rating.record(500 if number < failures else 200, now)


def ready(now: int, *shares: int) -> list[Rating]:
    """Ratings of servers that failed ``shares`` of 100 requests in each of ten seconds."""
    ratings = [Rating() for _ in shares]
    for second in range(10):
        for rating, share in zip(ratings, shares, strict=True):
            fill(rating, share, 100, now + second * SECOND)
    return ratings


def refill(ratings: list[Rating], now: int, *shares: int) -> None:
    """Let the servers fail ``shares`` of 100 in each of the ten seconds that end with ``now``."""
    for second in range(10):
        for rating, share in zip(ratings, shares, strict=True):
            fill(rating, share, 100, now - (9 - second) * SECOND)


def test_table_of_weights() -> None:
    """Rows "0.3, 0, 0 repeated 6 times" and "then 0.3, 0.2, 0.2 repeated 6 times"."""
    now = 1000 * SECOND
    ratings = ready(now, 30, 0, 0)
    now += 9 * SECOND
    rotation = DynamicRoundRobin((1, 1, 1), ratings)
    seen = []
    for _ in range(6):
        rotation.adjust(now)
        seen.append(tuple(rotation.weights))
        now += 11 * SECOND
        refill(ratings, now, 30, 0, 0)
    assert seen == [
        (1, 4, 4),
        (1, 16, 16),
        (1, 64, 64),
        (1, 256, 256),
        (1, 1024, 1024),
        (1, 4096, 4096),
    ]
    rotation.adjust(now)
    assert tuple(rotation.weights) == (1, 4096, 4096)
    for _ in range(6):
        now += 11 * SECOND
        refill(ratings, now, 30, 20, 20)
        rotation.adjust(now)
    assert tuple(rotation.weights) == (1, 1, 1)


def test_small_differences_change_nothing() -> None:
    now = 1000 * SECOND
    rotation = DynamicRoundRobin((1, 1, 1), ready(now, 12, 13, 11))
    rotation.adjust(now + 9 * SECOND)
    assert tuple(rotation.weights) == (1, 1, 1)


def test_nothing_changes_before_every_server_is_ready() -> None:
    now = 1000 * SECOND
    ratings = ready(now, 100, 0)
    late = Rating()
    rotation = DynamicRoundRobin((1, 1, 1), [*ratings, late])
    for second in range(9):
        late.record(200, now + second * SECOND)
    rotation.adjust(now + 9 * SECOND)
    assert tuple(rotation.weights) == (1, 1, 1)
    rotation.record(2, 200, now + 9 * SECOND)
    assert tuple(rotation.weights) == (1, 4, 4)


def test_one_change_in_ten_seconds() -> None:
    now = 1000 * SECOND
    ratings = ready(now, 100, 0)
    now += 9 * SECOND
    rotation = DynamicRoundRobin((1, 1), ratings)
    rotation.adjust(now)
    assert tuple(rotation.weights) == (1, 4)
    refill(ratings, now + 10 * SECOND, 100, 0)
    rotation.adjust(now + 10 * SECOND)
    assert tuple(rotation.weights) == (1, 4)
    rotation.adjust(now + 10 * SECOND + 1)
    assert tuple(rotation.weights) == (1, 16)


def test_one_server_alone_is_never_starved() -> None:
    now = 1000 * SECOND
    rotation = DynamicRoundRobin((3,), ready(now, 100))
    rotation.adjust(now + 9 * SECOND)
    assert tuple(rotation.weights) == (3,)


def test_ratings_outlive_a_change_of_the_servers_and_weights_do_not() -> None:
    now = 1000 * SECOND
    ratings = ready(now, 100, 0)
    now += 9 * SECOND
    DynamicRoundRobin((1, 1), ratings).adjust(now)
    changed = DynamicRoundRobin((1, 1), ratings)
    assert tuple(changed.weights) == (1, 1)
    changed.adjust(now)
    assert tuple(changed.weights) == (1, 4)


def test_failures_are_the_statuses_500_to_504() -> None:
    rating = Rating()
    for status in (200, 404, 499, 505, 599):
        rating.record(status, 0)
    assert rating.value(0) == 0.0
    for status in (500, 501, 502, 503, 504):
        rating.record(status, 0)
    assert rating.value(0) == 0.5


def test_old_answers_are_forgotten() -> None:
    rating = Rating()
    fill(rating, 5, 5, 100 * SECOND)
    assert rating.value(109 * SECOND) == 1.0
    assert rating.value(110 * SECOND) == 0.0


class Model:
    """The same rules with lists of everything that happened."""

    def __init__(self, weights: list[int]) -> None:
        self.configured = list(weights)
        self.weights = list(weights)
        self.log: list[tuple[int, int, bool]] = []
        self.until = 0

    def record(self, server: int, status: int, now: int) -> None:
        self.log.append((server, now // SECOND, 500 <= status <= 504))
        self.adjust(now)

    def rating(self, server: int, now: int) -> float:
        recent = [
            failed
            for each, second, failed in self.log
            if each == server and now // SECOND - 10 < second <= now // SECOND
        ]
        return sum(recent) / len(recent) if recent else 0.0

    def is_ready(self, server: int) -> bool:
        seconds = Counter(failed for each, _, failed in {*self.log} if each == server)
        return min(10, seconds[True]) + min(10, seconds[False]) >= 10

    def adjust(self, now: int) -> None:
        servers = range(len(self.weights))
        if now <= self.until or len(servers) < 2 or not all(map(self.is_ready, servers)):
            return
        ratings = [self.rating(server, now) for server in servers]
        padded = ratings + [0.0] * (1 - len(ratings) % 2)
        middle = median(padded)
        limit = 1.5 * (middle + median(abs(each - middle) for each in padded))
        bad = [each > limit for each in ratings]
        new = list(self.weights)
        for server in servers:
            weight = self.weights[server]
            if any(bad) and not all(bad):
                if not bad[server] and weight * 4 <= 4096:
                    new[server] = weight * 4
            elif weight != self.configured[server]:
                new[server] = max(self.configured[server], weight // 4)
        if new == self.weights:
            return
        new = [weight // gcd(*new) for weight in new]
        if new != self.weights:
            self.weights = new
            self.until = now + 10 * SECOND


EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from((200, 404, 500, 502)), st.integers(1, 30)),
    max_size=120,
)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), EVENTS)
def test_weights_are_those_of_the_plain_model(
    weights: list[int], events: list[tuple[int, int, int]]
) -> None:
    model = Model(weights)
    rotation = DynamicRoundRobin(weights, [Rating() for _ in weights])
    now = 500 * SECOND
    for server, status, tenths in events:
        now += tenths * SECOND // 10
        model.record(server % len(weights), status, now)
        rotation.record(server % len(weights), status, now)
        assert list(rotation.weights) == model.weights
        plain = WeightedRoundRobin(model.weights)
        order = [plain.next() for _ in range(sum(model.weights))]
        rotation_order = DynamicRoundRobin(rotation.weights, [Rating() for _ in weights])
        assert [rotation_order.next() for _ in order] == order
