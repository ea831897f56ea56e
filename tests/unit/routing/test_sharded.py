from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.routing.sharded import ShardedMap


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
