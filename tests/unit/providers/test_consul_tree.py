"""What changed between two answers of Consul, found without decoding them whole."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from providers.consul_tree import difference, entries_of, values_of

KEYS = st.text(min_size=1, max_size=5) | st.sampled_from(
    ['},{"LockIndex":', "},{", "a", "aa", "ab", '"', "\\", "t/a", "t/b"]
)
TREES = st.dictionaries(KEYS, st.tuples(st.integers(1, 3), st.binary(max_size=3)), max_size=6)


def answer(tree: dict[str, tuple[int, bytes]]) -> bytes:
    """Write ``tree`` (index and value of each key) as Consul does."""
    return json.dumps(
        [
            {
                "LockIndex": 0,
                "Key": key,
                "Flags": 0,
                "Value": base64.b64encode(value).decode() or None,
                "CreateIndex": 1,
                "ModifyIndex": index,
            }
            for key, (index, value) in sorted(tree.items())
        ],
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()


@given(TREES, TREES, st.booleans())
def test_the_difference_is_what_changed(
    before: dict[str, tuple[int, bytes]], new: dict[str, tuple[int, bytes]], little: bool
) -> None:
    after = {**before, **new} if little else new
    changed, vanished = difference(answer(before), answer(after))
    assert sorted(vanished) == sorted(before.keys() - after.keys())
    wanted = {k for k, (index, _) in after.items() if k not in before or before[k][0] != index}
    assert {entry.key for entry in changed} == wanted
    for entry in changed:
        assert (entry.modify_index, entry.value or b"") == after[entry.key]


def test_only_what_differs_is_decoded() -> None:
    tree = {f"t/{number:06}": (5, b"x" * 40) for number in range(20_000)}
    before = answer(tree)
    after = answer({**tree, "t/010000": (6, b"new")})
    # What both have in common may be anything, if only it is the same.
    broken = (
        before.replace(b'"Key":"t/000000"', b'"Key":t/000000,'),
        after.replace(b'"Key":"t/000000"', b'"Key":t/000000,'),
    )
    changed, vanished = difference(*broken)
    assert (values_of("t", changed), vanished) == ({"t/010000": b"new"}, [])


def test_answers_in_another_order_of_fields_are_compared_as_a_whole() -> None:
    def other(*keys: str, index: int) -> bytes:
        entries = [{"Key": key, "ModifyIndex": index, "LockIndex": 0} for key in keys]
        return json.dumps(entries).encode()

    changed, vanished = difference(other("a", "b", index=1), other("b", "c", index=2))
    assert ([entry.key for entry in changed], vanished) == (["b", "c"], ["a"])
    assert [entry.key for entry in entries_of(other("a", "b", index=1))] == ["a", "b"]
