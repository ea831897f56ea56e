from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.routing.tree import EMPTY, Entries, Entry, Node, entries_at, places, put

keys = st.lists(st.sampled_from([b"a", b"b", b"ab", b"ba"]), max_size=5).map(b"".join)


def entry(number: int) -> Entry[int]:
    return Entry(number, ("file", str(number)), False, (-number, str(number), "file", 0), None, ())


stored = st.tuples(
    st.lists(st.integers(0, 9), max_size=2, unique=True).map(sorted),
    st.lists(st.integers(0, 9), max_size=2, unique=True).map(sorted),
).map(lambda both: tuple(tuple(entry(number) for number in reversed(some)) for some in both))


def shape(node: Node[Any]) -> object:
    """Return all of a tree in a form that can be compared."""
    children = {first: shape(child) for first, child in node.children.items()}
    best = None if node.best is None else node.best.order
    return node.label, children, node.passing, node.ending, best


@given(st.lists(st.tuples(keys, stored), max_size=15), keys)
def test_a_tree_is_a_dictionary_that_knows_prefixes(
    steps: list[tuple[bytes, tuple[Entries[int], Entries[int]]]], path: bytes
) -> None:
    root: Node[int] = EMPTY
    content: dict[bytes, tuple[Entries[int], Entries[int]]] = {}
    versions = []
    for key, (passing, ending) in steps:
        root = put(root, key, passing, ending)
        content[key] = (passing, ending)
        versions.append((root, dict(content)))
    for version, expected in versions:
        for key, both in expected.items():
            assert entries_at(version, key) == both
        passed = [
            both[0] for key, both in sorted(expected.items()) if path.startswith(key) and both[0]
        ]
        ended = [expected[path][1]] if path in expected and expected[path][1] else []
        assert places(version, path) == passed + ended
        everything = [each for both in expected.values() for some in both for each in some]
        best = min((each.order for each in everything), default=None)
        assert (None if version.best is None else version.best.order) == best


@given(st.lists(st.tuples(keys, stored), max_size=12), st.randoms())
def test_the_shape_depends_on_the_content_alone(
    steps: list[tuple[bytes, tuple[Entries[int], Entries[int]]]], random: Any
) -> None:
    root: Node[int] = EMPTY
    for key, (passing, ending) in steps:
        root = put(root, key, passing, ending)
    content = dict(steps)
    shuffled = list(content.items())
    random.shuffle(shuffled)
    fresh: Node[int] = EMPTY
    for key, (passing, ending) in shuffled:
        if passing or ending:
            fresh = put(fresh, key, passing, ending)
    assert shape(root) == shape(fresh)
    for key in content:
        root = put(root, key, (), ())
    assert shape(root) == shape(EMPTY)
