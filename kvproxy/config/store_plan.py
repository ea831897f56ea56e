"""What has to change in a store so that it says what is wanted: keys compared, nothing written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from kvproxy.model.decode import SECTIONS
from kvproxy.model.key_options import option_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Edit(Struct, frozen=True):
    """Changes of keys below one prefix.

    ``put``: new values; ``delete``: keys to delete; ``before``: the value of each of these keys
    now, None where it does not exist.
    """

    put: Mapping[str, bytes]
    delete: tuple[str, ...]
    before: Mapping[str, bytes | None]

    def __bool__(self) -> bool:
        """Tell whether anything changes."""
        return bool(self.put or self.delete)


def edit(held: Mapping[str, bytes], wanted: Mapping[str, bytes], delete: Iterable[str]) -> Edit:
    """Return what makes ``held`` hold ``wanted``, without the keys ``delete``."""
    put = {key: value for key, value in wanted.items() if held.get(key) != value}
    gone = tuple(sorted(set(delete) & held.keys()))
    return Edit(put, gone, {key: held.get(key) for key in (*put, *gone)})


def plan_static(
    held: Mapping[str, bytes], wanted: Mapping[str, bytes], *, prune: bool
) -> tuple[Edit, list[str]]:
    """Compare the static keys of a store with those that are wanted.

    Keys that would keep a wanted one from counting are deleted: other spellings of it, and what is
    left of a list that is shorter now. All others that are not wanted are returned as stale, or
    deleted with ``prune``.
    """
    sections = {part for key in wanted for part in _sections_above(key)}
    in_the_way: list[str] = []
    stale: list[str] = []
    for key in held:
        if key in wanted or (key.endswith("/") and not held[key]):
            continue
        option = option_of(key)
        replaced = option.key in wanted or (
            option.list and option.list.rpartition("/")[0] in sections
        )
        (in_the_way if replaced else stale).append(key)
    gone = [*in_the_way, *stale] if prune else in_the_way
    return edit(held, wanted, gone), sorted(stale)


def plan_dynamic(
    held: Mapping[str, bytes], wanted: Mapping[str, bytes], *, prune: bool
) -> tuple[Edit, list[str]]:
    """Compare the dynamic keys of a store with those that are wanted.

    An entry (a frontend, a backend, a certificate) that is wanted is replaced as a whole. Keys of
    other entries are returned as stale, or deleted with ``prune``.
    """
    entries = {_entry(key) for key in wanted}
    replaced = [key for key in held if key not in wanted and _entry(key) in entries]
    stale = sorted(key for key in held if key not in wanted and _entry(key) not in entries)
    return edit(held, wanted, [*replaced, *stale] if prune else replaced), stale


def is_dynamic(key: str) -> bool:
    """Tell whether a key below the prefix belongs to a frontend, a backend or a certificate."""
    return key.strip("/").partition("/")[0].lower() in SECTIONS


def _sections_above(key: str) -> Iterator[str]:
    while key:
        key = key.rpartition("/")[0]
        yield key


def _entry(key: str) -> tuple[str, str]:
    section, _, rest = key.strip("/").partition("/")
    return section.lower(), rest.lstrip("/").partition("/")[0]
