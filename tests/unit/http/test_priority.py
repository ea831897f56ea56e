"""Priorities of RFC 9218: the field, and the order of streams."""

from __future__ import annotations

from typing import NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http.http2_stream import Stream
from kvproxy.http.priority import Priority, Schedule, parse_priority

# id: (value, priority)
VALUES: dict[str, tuple[bytes, Priority]] = {
    "nothing": (b"", Priority(3, False)),
    "urgency": (b"u=5", Priority(5, False)),
    "incremental": (b"i", Priority(3, True)),
    "both": (b"u=0, i", Priority(0, True)),
    "without a space": (b"i,u=7", Priority(7, True)),
    "explicitly": (b"u=1, i=?1", Priority(1, True)),
    "explicitly not": (b"u=1, i=?0", Priority(1, False)),
    "the last one counts": (b"u=1, u=2, i, i=?0", Priority(2, False)),
    "urgency out of range": (b"u=8", Priority(3, False)),
    "negative urgency": (b"u=-1", Priority(3, False)),
    "urgency of letters": (b"u=high", Priority(3, False)),
    "fraction": (b"u=1.5", Priority(3, False)),
    "i of another type": (b"i=1", Priority(3, False)),
    "parameters": (b"u=2;a=b;c, i;d", Priority(2, True)),
    "unknown members": (b'x="y", u=4, z', Priority(4, False)),
    "no dictionary": (b"\xff\xff", Priority(3, False)),
}


@pytest.mark.parametrize(("value", "priority"), VALUES.values(), ids=VALUES.keys())
def test_values(value: bytes, priority: Priority) -> None:
    assert parse_priority(value) == priority


@given(st.binary(max_size=30))
def test_any_bytes_give_a_priority(value: bytes) -> None:
    urgency, incremental = parse_priority(value)
    assert 0 <= urgency <= 7
    assert incremental in (True, False)


class Waiting(NamedTuple):
    """What a schedule knows of a stream."""

    number: int


def order(waiting: dict[int, Priority], last: dict[int, int]) -> int:
    """The stream whose turn it is, in the plainest way; ``last``: when each had its last turn."""

    def rank(number: int) -> tuple[int, bool, int]:
        urgency, incremental = waiting[number]
        return urgency, incremental, last[number] if incremental else number

    return min(waiting, key=rank)


_PRIORITIES = st.builds(Priority, st.integers(0, 7), st.booleans())


@given(st.lists(st.tuples(st.integers(1, 9), st.sampled_from("aadnn"), _PRIORITIES), max_size=60))
def test_order(steps: list[tuple[int, str, Priority]]) -> None:
    schedule = Schedule()
    streams = {number: cast("Stream", Waiting(number)) for number in range(10)}
    waiting: dict[int, Priority] = {}
    last: dict[int, int] = {}
    for turn, (number, step, priority) in enumerate(steps):
        if step == "a" and number not in waiting:
            waiting[number] = priority
            last[number] = turn
            schedule.add(streams[number], priority)
            schedule.add(streams[number], priority)
        elif step == "d":
            known = waiting.pop(number, None)
            assert schedule.discard(streams[number], known or priority) == (known is not None)
        elif step == "n":
            found = schedule.next()
            if found is None:
                assert not waiting
            else:
                assert found.number == order(waiting, last)
                last[found.number] = turn
        assert bool(schedule) == bool(waiting)
