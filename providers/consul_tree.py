"""Consul's keys as it shows them, and what changed between two looks at the same keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from kvproxy.provider import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

NOTHING = b"[]"
"""The answer where there are no keys."""

_BETWEEN = b'},{"LockIndex":'
"""What stands between two entries, and never inside one: a quote in a string is escaped.

Should a later Consul write its fields in another order, answers are compared as a whole.
"""
_BLOCK_BYTES = 1 << 16


class Entry(Struct, rename="pascal", gc=False):
    """One key of an answer; ``modify_index`` is the index of its last change."""

    key: str
    modify_index: int
    value: bytes | None = None


_ENTRIES = msgspec.json.Decoder(list[Entry])


class Seen(Struct, frozen=True):
    """An answer that was taken over: the index that it had, and the answer itself."""

    index: int
    answer: bytes


def entries_of(answer: bytes) -> list[Entry]:
    """Return the entries of an answer; raises `msgspec.DecodeError`."""
    return _ENTRIES.decode(answer)


def difference(before: bytes, after: bytes) -> tuple[list[Entry], list[str]]:
    """Return the entries that are new or changed, and the keys that are no longer there.

    Answers are long and changes are small: only what lies between the common start and the common
    end of both is decoded. Raises `msgspec.DecodeError`.
    """
    found = before.rfind(_BETWEEN, 0, _common_start(before, after))
    start = found + 2 if found >= 0 else 1
    rest = _common_end(before, after, min(len(before), len(after)) - start)
    found = before.find(_BETWEEN, len(before) - rest)
    rest = len(before) - found - 1 if found >= 0 else 1
    old = _ENTRIES.decode(b"[%b]" % before[start : len(before) - rest])
    try:
        new = _ENTRIES.decode(b"[%b]" % after[start : len(after) - rest])
    except msgspec.DecodeError:
        # The error is to name the place in the whole answer.
        _ENTRIES.decode(after)
        raise
    known = {entry.key: entry.modify_index for entry in old}
    changed = [entry for entry in new if known.get(entry.key) != entry.modify_index]
    shown = {entry.key for entry in new}
    return changed, [key for key in known if key not in shown]


def belongs(prefix: str, key: str) -> bool:
    """Whether ``key`` equals ``prefix`` or is below it."""
    return not prefix or key == prefix or key.startswith(prefix + "/")


def is_directory(prefix: str, entries: list[Entry]) -> bool:
    """Whether there are keys below ``prefix`` and none that equals it."""
    below = prefix + "/"
    return (
        prefix != ""
        and any(entry.key.startswith(below) for entry in entries)
        and all(entry.key != prefix for entry in entries)
    )


def values_of(prefix: str, entries: Iterable[Entry]) -> dict[str, bytes]:
    """Return the keys under ``prefix``; folders (as the web interface makes them) are none."""
    below = prefix + "/" if prefix else ""
    return {
        entry.key: entry.value or b""
        for entry in entries
        if (entry.key.startswith(below) or entry.key == prefix)
        and (entry.value or not entry.key.endswith("/"))
    }


def tree_of(index: int, prefix: str, entries: list[Entry]) -> Tree:
    """Return the tree under ``prefix``."""
    changed = (entry.modify_index for entry in entries if belongs(prefix, entry.key))
    return Tree(index, values_of(prefix, entries), changed=max(changed, default=0))


def _common_start(one: bytes, other: bytes) -> int:
    """Return how many bytes both begin with alike."""
    limit = min(len(one), len(other))

    def alike(start: int, end: int) -> bool:
        return one[start:end] == other[start:end]

    start = 0
    while start + _BLOCK_BYTES <= limit and alike(start, start + _BLOCK_BYTES):
        start += _BLOCK_BYTES
    end = min(start + _BLOCK_BYTES, limit)
    while start < end:
        middle = (start + end + 1) // 2
        if alike(start, middle):
            start = middle
        else:
            end = middle - 1
    return start


def _common_end(one: bytes, other: bytes, limit: int) -> int:
    """Return how many bytes, ``limit`` at most, both end with alike."""
    first, second = len(one), len(other)

    def alike(nearer: int, further: int) -> bool:
        return one[first - further : first - nearer] == other[second - further : second - nearer]

    rest = 0
    while rest + _BLOCK_BYTES <= limit and alike(rest, rest + _BLOCK_BYTES):
        rest += _BLOCK_BYTES
    end = min(rest + _BLOCK_BYTES, limit)
    while rest < end:
        middle = (rest + end + 1) // 2
        if alike(rest, middle):
            rest = middle
        else:
            end = middle - 1
    return rest
