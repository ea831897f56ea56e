"""Consul's keys as it shows them, and what changed between two looks at the same prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from kvproxy.provider import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable


class Entry(Struct, rename="pascal", gc=False):
    """One key of an answer; ``modify_index`` is the index of its last change."""

    key: str
    modify_index: int
    value: bytes | None = None


ENTRIES = msgspec.json.Decoder(list[Entry])


class Seen:
    """What a reader of a prefix has seen: at which index, and each key's own index.

    Values need not be kept to find what changed. It holds every key that Consul shows for the
    prefix, which compares only characters: also ``prefix-2``.
    """

    def __init__(self, index: int, keys: dict[str, int]) -> None:
        """``keys``: each key's index."""
        self.index = index
        self.keys = keys

    @classmethod
    def of(cls, index: int, entries: list[Entry]) -> Seen:
        """Return what a reader of ``entries`` has seen."""
        return cls(index, {entry.key: entry.modify_index for entry in entries})

    def copy(self) -> Seen:
        """Return the same, to be moved on by somebody else."""
        return Seen(self.index, dict(self.keys))

    def below(self, start: str) -> Seen:
        """Return what was seen of the keys that begin with ``start``."""
        keys = {key: index for key, index in self.keys.items() if key.startswith(start)}
        return Seen(self.index, keys)

    def difference(self, entries: list[Entry]) -> tuple[list[Entry], list[str]]:
        """Return the entries that are new or changed, and the keys that are no longer there."""
        known = self.keys
        changed = [entry for entry in entries if known.get(entry.key) != entry.modify_index]
        added = sum(entry.key not in known for entry in changed)
        if len(entries) - added == len(known):
            return changed, []
        shown = {entry.key for entry in entries}
        return changed, [key for key in known if key not in shown]

    def move_on(self, index: int, changed: list[Entry], vanished: Iterable[str]) -> None:
        """Take over what `difference` has found."""
        self.index = index
        self.keys.update((entry.key, entry.modify_index) for entry in changed)
        for key in vanished:
            del self.keys[key]


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


def values_of(prefix: str, entries: list[Entry]) -> dict[str, bytes]:
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
