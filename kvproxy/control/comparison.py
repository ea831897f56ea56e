"""Which entries of two maps differ, when hardly any do and 100,000 are the same objects."""

from __future__ import annotations

from itertools import filterfalse
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

Key = TypeVar("Key")
Value = TypeVar("Value")

_SHORTEST_RUN = 16
_LONGEST_RUN = 1024


class Listing(Generic[Key, Value]):
    """A map with its keys and values as lists, to compare it more than once; neither may change."""

    __slots__ = ("entries", "keys", "runs", "values")

    def __init__(self, entries: Mapping[Key, Value]) -> None:
        """List the map."""
        self.entries = entries
        self.keys = list(entries)
        self.values = list(entries.values())
        self.runs = [
            self.values[start : start + _LONGEST_RUN]
            for start in range(0, len(self.values), _LONGEST_RUN)
        ]


def compare_maps(old: Listing[Key, Value], new: Listing[Key, Value]) -> tuple[list[Key], list[Key]]:
    """Return the keys of ``new`` that ``old`` lacks or holds with another value, and the gone keys.

    Both lists are in the order of the maps. Values that are the same object are taken for equal.
    Two lists of the same objects are compared without looking at the objects, which takes less than
    a nanosecond an entry, while looking up each key would wait for memory.
    """
    if old.keys == new.keys:
        return _changed_in_place(old, new), []
    old_keys, new_keys = old.keys, new.keys
    old_values, new_values = old.values, new.values
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
                changed += _changed_in_run(keys[:common], before, after)
            at, there = at + common, there + common
        elif old_keys[at] not in new.entries:
            gone.append(old_keys[at])
            at += 1
        elif new_keys[there] not in old.entries:
            changed.append(new_keys[there])
            there += 1
        else:
            return _compare_in_any_order(old.entries, new.entries)
    return changed + new_keys[there:], gone + old_keys[at:]


def _changed_in_place(old: Listing[Key, Value], new: Listing[Key, Value]) -> list[Key]:
    changed: list[Key] = []
    for number, (before, after) in enumerate(zip(old.runs, new.runs, strict=True)):
        if before != after:
            start = number * _LONGEST_RUN
            keys = new.keys[start : start + _LONGEST_RUN]
            changed += _changed_in_run(keys, before, after)
    return changed


def _changed_in_run(keys: list[Key], before: list[Value], after: list[Value]) -> list[Key]:
    return [
        key
        for key, one, other in zip(keys, before, after, strict=True)
        if one is not other and one != other
    ]


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
