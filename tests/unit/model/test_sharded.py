from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.model.sharded import ShardedMap


@given(
    st.lists(
        st.dictionaries(st.integers(0, 50), st.none() | st.integers(), max_size=20), max_size=6
    )
)
def test_is_a_dictionary_that_remembers_its_versions(steps: list[dict[int, int | None]]) -> None:
    mapping: ShardedMap[int, int] = ShardedMap()
    plain: dict[int, int] = {}
    versions = [(mapping, plain)]
    for changes in steps:
        mapping = mapping.changed(changes)
        merged = plain | changes
        plain = {key: value for key, value in merged.items() if value is not None}
        versions.append((mapping, plain))
    for version, expected in versions:
        assert dict(version) == expected
        assert len(version) == len(expected)
        for key in range(51):
            assert version.get(key) == expected.get(key)
            assert (key in version) == (key in expected)


def test_a_missing_key() -> None:
    mapping = ShardedMap[str, int]().changed({"a": 1})
    assert mapping["a"] == 1
    assert mapping.get("b") is None
    assert mapping.get("b", 7) == 7
    with pytest.raises(KeyError):
        mapping["b"]


@given(st.dictionaries(st.integers(), st.integers(), max_size=50))
def test_is_made_of_any_mapping_and_of_itself_for_nothing(plain: dict[int, int]) -> None:
    mapping = ShardedMap.of(plain)
    assert dict(mapping) == plain
    assert len(mapping) == len(plain)
    assert ShardedMap.of(mapping) is mapping


def test_what_two_versions_share_does_not_differ() -> None:
    mapping = ShardedMap.of(dict.fromkeys(range(10_000), 1))
    assert list(mapping.differing(mapping)) == []
    after = mapping.changed({7: 2})
    ((new, old),) = after.differing(mapping)
    assert new[7] == 2
    assert old[7] == 1
    assert len(new) < 100
