"""Which entries of two maps differ, when hardly any do and 100,000 are the same objects."""

from __future__ import annotations

from itertools import filterfalse
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Key = TypeVar("Key")
Value = TypeVar("Value")

_SHORTEST_RUN = 16
_LONGEST_RUN = 4096


def compare_maps(old: Mapping[Key, Value], new: Mapping[Key, Value]) -> tuple[list[Key], list[Key]]:
    """Return the keys of ``new`` that ``old`` lacks or holds with another value, and the gone keys.

    Both lists are in the order of the maps. Values that are the same object are taken for equal.
    Maps in the same order, but for keys that were added or are gone, are compared in runs;
    comparing two lists of the same objects takes less than a nanosecond an entry, while looking up
    each key would wait for memory.
    """
    old_keys, new_keys = list(old), list(new)
    old_values, new_values = list(old.values()), list(new.values())
    changed: list[Key] = []
    gone: list[Key] = []
    run = _LONGEST_RUN
    at = there = 0
    while at < len(old_keys) and there < len(new_keys):
        keys = new_keys[there : there + run]
        if old_keys[at : at + run] == keys:
            common = len(keys)
            run = min(run * 4, _LONGEST_RUN)
        else:
            common = _common_length(old_keys[at : at + run], keys)
            run = _SHORTEST_RUN
        if common:
            before, after = old_values[at : at + common], new_values[there : there + common]
            if before != after:
                changed += [
                    key
                    for key, one, other in zip(keys, before, after, strict=False)
                    if one is not other and one != other
                ]
            at, there = at + common, there + common
        elif old_keys[at] not in new:
            gone.append(old_keys[at])
            at += 1
        elif new_keys[there] not in old:
            changed.append(new_keys[there])
            there += 1
        else:
            return _compare_in_any_order(old, new)
    return changed + new_keys[there:], gone + old_keys[at:]


def _common_length(one: list[Key], other: list[Key]) -> int:
    for length, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return length
    return min(len(one), len(other))


def _compare_in_any_order(
    old: Mapping[Key, Value], new: Mapping[Key, Value]
) -> tuple[list[Key], list[Key]]:
    changed = [
        key
        for key, value in new.items()
        if (before := old.get(key)) is not value and before != value
    ]
    return changed, list(filterfalse(new.__contains__, old))
