"""Which entries of two maps differ, when hardly any do and 100,000 are the same objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from kvproxy.model.sharded import ShardedMap

Key = TypeVar("Key", str, tuple[str, str])
Value = TypeVar("Value")


def compare_maps(
    old: ShardedMap[Key, Value], new: ShardedMap[Key, Value]
) -> tuple[list[Key], list[Key]]:
    """Return the keys of ``new`` that ``old`` lacks or holds with another value, and the gone keys.

    Both lists are sorted. Values that are the same object are taken for equal. Versions of one map
    cost what differs between them.
    """
    changed: list[Key] = []
    gone: list[Key] = []
    for before, after in old.differing(new):
        for key, value in after.items():
            held = before.get(key)
            if held is value:
                # None may be a value.
                if held is None and key not in before:
                    changed.append(key)
            elif held != value:
                changed.append(key)
        gone += before.keys() - after.keys()
    return sorted(changed), sorted(gone)
