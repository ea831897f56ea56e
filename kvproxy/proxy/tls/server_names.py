"""Which certificate is for a server name (specification sections 1.5 and 6.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Item = TypeVar("Item")

Rank = tuple[Any, ...]
"""What decides between certificates of the same name: the smaller one wins. All are different."""


def canonical_name(name: str) -> str:
    """Return a server name or a name of a certificate as it is compared.

    Case does not count, nor does the dot that ends a fully qualified name.
    """
    return name.strip().lower().removesuffix(".")


def candidates(name: str) -> Iterator[str]:
    """Yield the names in certificates that fit a canonical ``name``, the best one first.

    One or more leading labels may be ``*``; the fewer, the better.
    """
    yield name
    labels = name.split(".")
    for count in range(1, len(labels) + 1):
        yield ".".join(["*"] * count + labels[count:])


class ServerNames(Generic[Item]):
    """Certificates by their names. A change costs what the certificate's own names cost.

    A copy is cheap: it shares all but two tables.
    """

    __slots__ = ("_by_name", "_items")

    def __init__(self) -> None:
        """Start without certificates."""
        self._items: dict[Rank, tuple[Item, tuple[str, ...]]] = {}
        self._by_name: dict[str, tuple[Rank, ...]] = {}

    def copy(self) -> ServerNames[Item]:
        """Return one that can be changed without changing this one."""
        copied: ServerNames[Item] = ServerNames()
        copied._items = self._items.copy()
        copied._by_name = self._by_name.copy()
        return copied

    def __len__(self) -> int:
        """Return the number of certificates."""
        return len(self._items)

    def put(self, rank: Rank, item: Item, names: Iterable[str]) -> Item | None:
        """Add a certificate, or replace the one of the same ``rank``, which is returned."""
        replaced = self.remove(rank)
        canonical = tuple(dict.fromkeys(canonical_name(name) for name in names))
        self._items[rank] = (item, canonical)
        for name in canonical:
            ranks = self._by_name.get(name)
            self._by_name[name] = (rank,) if ranks is None else tuple(sorted((*ranks, rank)))
        return replaced

    def remove(self, rank: Rank) -> Item | None:
        """Take a certificate away and return it; None when there is none of this ``rank``."""
        held = self._items.pop(rank, None)
        if held is None:
            return None
        for name in held[1]:
            ranks = tuple(other for other in self._by_name[name] if other != rank)
            if ranks:
                self._by_name[name] = ranks
            else:
                del self._by_name[name]
        return held[0]

    def find(self, name: str) -> Item | None:
        """Return the certificate for a server name (in any spelling), None when none fits."""
        for candidate in candidates(canonical_name(name)):
            ranks = self._by_name.get(candidate)
            if ranks:
                return self._items[ranks[0]][0]
        return None
