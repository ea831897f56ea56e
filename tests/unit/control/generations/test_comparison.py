from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.control.generations.comparison import compare_maps
from kvproxy.model.sharded import ShardedMap

CASES = {
    "nothing": ({}, {}, [], []),
    "first": ({}, {"a": 1, "b": 2}, ["a", "b"], []),
    "all-gone": ({"a": 1, "b": 2}, {}, [], ["a", "b"]),
    "same": ({"a": 1, "b": 2}, {"a": 1, "b": 2}, [], []),
    "changed": ({"a": 1, "b": 2}, {"a": 1, "b": 3}, ["b"], []),
    "appended": ({"a": 1}, {"a": 1, "b": 2}, ["b"], []),
    "inserted": ({"a": 1, "c": 3}, {"a": 1, "b": 2, "c": 3}, ["b"], []),
    "one-gone": ({"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 3}, [], ["b"]),
    "replaced-by-name": ({"a": 1, "b": 2}, {"a": 1, "c": 2}, ["c"], ["b"]),
    "reordered": ({"a": 1, "b": 2}, {"b": 2, "a": 1}, [], []),
    "reordered-and-changed": ({"a": 1, "b": 2, "c": 0}, {"b": 3, "a": 1}, ["b"], ["c"]),
    "none-is-a-value": ({"a": None}, {"a": None, "b": None}, ["b"], []),
}


@pytest.mark.parametrize(("old", "new", "changed", "gone"), CASES.values(), ids=CASES)
def test_names_what_differs(
    old: dict[str, int], new: dict[str, int], changed: list[str], gone: list[str]
) -> None:
    assert compare_maps(ShardedMap.of(old), ShardedMap.of(new)) == (changed, gone)


def test_another_object_of_equal_content_is_no_change() -> None:
    assert compare_maps(ShardedMap.of({"a": [1, 2]}), ShardedMap.of({"a": [1, 2]})) == ([], [])


def test_the_same_object_is_taken_for_equal_without_asking_it() -> None:
    class Unequal:
        def __eq__(self, other: object) -> bool:
            raise AssertionError("compared by content")

        __hash__ = None  # type: ignore[assignment]

    value = Unequal()
    old = dict.fromkeys(range(10_000), value)
    assert compare_maps(ShardedMap.of(old), ShardedMap.of(dict(old))) == ([], [])


def test_long_runs_are_compared_to_their_end() -> None:
    old = {number: object() for number in range(20_000)}
    new = {number: value for number, value in old.items() if number % 5000}
    new[4999] = new[19_999] = object()
    new[50_000] = object()
    assert compare_maps(ShardedMap.of(old), ShardedMap.of(new)) == (
        [4999, 19_999, 50_000],
        [0, 5000, 10_000, 15_000],
    )


@given(
    st.dictionaries(st.integers(0, 60), st.integers(0, 3), max_size=60),
    st.dictionaries(st.integers(0, 60), st.integers(0, 3), max_size=60),
)
def test_equals_the_plain_comparison(old: dict[int, int], new: dict[int, int]) -> None:
    changed, gone = compare_maps(ShardedMap.of(old), ShardedMap.of(new))
    assert changed == sorted(key for key in new if key not in old or old[key] != new[key])
    assert gone == sorted(old.keys() - new.keys())


@given(
    st.dictionaries(st.integers(0, 2000), st.integers(0, 3), max_size=60),
    st.dictionaries(st.integers(0, 2000), st.none() | st.integers(0, 3), max_size=20),
)
def test_versions_of_one_map_differ_in_what_was_changed(
    old: dict[int, int], changes: dict[int, int | None]
) -> None:
    before = ShardedMap.of(old)
    changed, gone = compare_maps(before, before.changed(changes))
    assert changed == sorted(
        key for key, value in changes.items() if value is not None and old.get(key) != value
    )
    assert gone == sorted(key for key, value in changes.items() if value is None and key in old)
