"""Counts by key over several workers, compared with a plain counter."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from mmap import mmap

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.balance.shared_counts import FULL, REFUSED, SharedCounts
from kvproxy.balance.shared_lock import NoLocks
from kvproxy.balance.shared_tags import WAYS

SLOTS = 3
START = 4096


def workers(entries: int = WAYS * 2) -> list[SharedCounts]:
    """The same table as each worker sees it."""
    memory = mmap(-1, START + SharedCounts.bytes_needed(entries, SLOTS))
    return [
        SharedCounts(memory, NoLocks(), START, entries=entries, slot=slot, slots=SLOTS)
        for slot in range(SLOTS)
    ]


def tag(number: int) -> bytes:
    return blake2b(str(number).encode(), digest_size=16).digest()


ACTIONS = st.lists(st.tuples(st.integers(0, SLOTS - 1), st.integers(0, 5), st.booleans()))


@given(ACTIONS, st.integers(1, 4))
def test_counts_are_those_of_the_plain_model(
    actions: list[tuple[int, int, bool]], most: int
) -> None:
    tables = workers()
    held: Counter[int] = Counter()
    entries: dict[tuple[int, int], list[int]] = {}
    for slot, key, give_back in actions:
        mine = entries.setdefault((slot, key), [])
        if give_back:
            if mine:
                tables[slot].release(mine.pop())
                held[key] -= 1
        else:
            entry = tables[slot].hold(tag(key), most)
            assert (entry == REFUSED) == (held[key] == most)
            if entry >= 0:
                mine.append(entry)
                held[key] += 1
        for table in tables:
            assert table.held(tag(key)) == held[key]
    # A worker that dies takes with it what it held, and nothing else.
    tables[1].clear_slot(0)
    for key in range(6):
        assert tables[1].held(tag(key)) == held[key] - len(entries.get((0, key), ()))


def test_a_full_set_takes_no_other_key_until_one_is_free() -> None:
    table = workers(entries=WAYS)[0]
    entries = [table.hold(tag(number), 1) for number in range(WAYS)]
    assert sorted(entries) == list(range(WAYS))
    assert table.hold(tag(WAYS), 1) == FULL
    assert table.hold(tag(3), 2) == entries[3]
    table.release(entries[7])
    assert table.hold(tag(WAYS), 1) == entries[7]


def test_a_tag_between_two_entries_is_not_found() -> None:
    """Bytes that only happen to be those of a tag, at the seam of two others."""
    table = workers(entries=WAYS)[0]
    table.hold(b"a" * 8 + b"b" * 8, 1)
    table.hold(b"c" * 8 + b"d" * 8, 1)
    assert table.held(b"b" * 8 + b"c" * 8) == 0


def test_the_first_holder_is_told() -> None:
    first, second, _ = workers()
    told: list[int] = []
    entry = first.hold(tag(1), 9, told.append)
    second.hold(tag(1), 9, told.append)
    assert told == [entry]
    first.release(entry)
    first.hold(tag(1), 9, told.append)
    assert told == [entry]
    first.release(entry)
    second.release(entry)
    second.hold(tag(1), 9, told.append)
    assert told == [entry, entry]
