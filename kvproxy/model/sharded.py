"""An immutable mapping that is cheap to change: many dictionaries, shared between versions.

A copy of a dictionary of 100,000 entries stops a process for milliseconds, because it touches the
reference count of every entry; here a change copies only the few hundred entries beside it. For the
same reason two versions are compared fast: the dictionaries that they share hold no difference.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
D = TypeVar("D")

_SHARDS: Final = 512
_MASK: Final = _SHARDS - 1
_NOTHING: Final[dict[Any, Any]] = {}


class ShardedMap(Mapping[K, V]):
    """A mapping; `changed` returns a new one, the old one stays. Iteration is in no order."""

    __slots__ = ("_length", "_shards")

    def __init__(self, shards: list[dict[K, V]] | None = None, length: int = 0) -> None:
        """Take shards that hold ``length`` keys, or start empty."""
        self._shards = [_NOTHING] * _SHARDS if shards is None else shards
        self._length = length

    @staticmethod
    def of(mapping: Mapping[K, V]) -> ShardedMap[K, V]:
        """Return a mapping of this kind with the content of ``mapping``: itself if it is one."""
        if isinstance(mapping, ShardedMap):
            return mapping
        if not mapping:
            return ShardedMap()
        shards: list[dict[K, V]] = [{} for _ in range(_SHARDS)]
        for key, value in mapping.items():
            shards[hash(key) & _MASK][key] = value
        return ShardedMap(shards, len(mapping))

    def differing(self, other: ShardedMap[K, V]) -> Iterator[tuple[dict[K, V], dict[K, V]]]:
        """Yield the parts of this mapping that are not the very same in ``other``, and those."""
        for own, theirs in zip(self._shards, other._shards, strict=True):
            if own is not theirs:
                yield own, theirs

    def __getitem__(self, key: K) -> V:
        """Return the value of ``key``; raises KeyError."""
        return self._shards[hash(key) & _MASK][key]

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: V | D, /) -> V | D: ...
    def get(self, key: K, default: V | D | None = None, /) -> V | D | None:
        """Return the value of ``key``, or ``default``."""
        return self._shards[hash(key) & _MASK].get(key, default)

    def __iter__(self) -> Iterator[K]:
        """Yield the keys."""
        for shard in self._shards:
            yield from shard

    def __len__(self) -> int:
        """Return the number of keys."""
        return self._length

    def changed(self, changes: Mapping[K, V | None]) -> ShardedMap[K, V]:
        """Return a mapping with the new values of ``changes``; None takes a key away."""
        shards = self._shards.copy()
        length = self._length
        for key, value in changes.items():
            number = hash(key) & _MASK
            shard = shards[number]
            if shard is self._shards[number]:
                shard = shards[number] = shard.copy()
            length -= len(shard)
            if value is None:
                shard.pop(key, None)
            else:
                shard[key] = value
            length += len(shard)
        return ShardedMap(shards, length)
