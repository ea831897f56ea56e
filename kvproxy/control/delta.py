"""What a worker must be told so that it serves another generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from kvproxy.control.comparison import Listing, compare_maps
from kvproxy.control.generation import Changes
from kvproxy.model.messages import Apply

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.control.generation import ChangeMap, Generation
    from kvproxy.model.messages import BackendEntry, EntryKey, FrontendEntry

Entry = TypeVar("Entry", "FrontendEntry", "BackendEntry")

PART_BYTES = 256 * 1024
"""A part ends with the entry that takes it over this size (encoded), so that a worker that compiles
it is not kept from its requests for long, and no message grows without bound."""

_encode = msgspec.msgpack.Encoder().encode


def compare(base: Generation, target: Generation) -> Changes:
    """Return what differs between two generations.

    Costs what changed when ``target`` was made from ``base``; else one comparison of object
    identities per entry, because unchanged entries are the same objects.
    """
    if target.number == base.number and target.digest == base.digest:
        return Changes()
    if target.base == base.number:
        return target.changes
    return Changes(
        _changes(base.frontends, target.frontends),
        _changes(base.backends, target.backends),
    )


def delta(base: Generation, target: Generation, part_bytes: int = PART_BYTES) -> list[Apply]:
    """Return the messages that turn a worker's generation ``base`` into ``target``.

    Parts are of about ``part_bytes`` at most (one entry may be larger); the last one has ``last``
    set. There is always at least one.
    """
    changes = compare(base, target)
    return _parts(
        target,
        base.number,
        [entry for _, entry in changes.frontends.values() if entry is not None],
        [entry for _, entry in changes.backends.values() if entry is not None],
        [key for key, (_, entry) in changes.frontends.items() if entry is None],
        [key for key, (_, entry) in changes.backends.items() if entry is None],
        part_bytes,
    )


def full(target: Generation, part_bytes: int = PART_BYTES) -> list[Apply]:
    """Return the messages that make a worker serve ``target`` whatever it served before (base
    -1)."""
    return _parts(
        target,
        -1,
        target.frontends.values(),
        target.backends.values(),
        (),
        (),
        part_bytes,
    )


def _changes(old: dict[EntryKey, Entry], new: dict[EntryKey, Entry]) -> ChangeMap[Entry]:
    # Entries carry their digest, so generations that share no objects (one was read from the
    # journal) compare by content.
    changed, gone = compare_maps(Listing(old), Listing(new))
    changes: ChangeMap[Entry] = {key: (old.get(key), new[key]) for key in changed}
    changes.update((key, (old[key], None)) for key in gone)
    return changes


def _parts(
    target: Generation,
    base: int,
    frontends: Iterable[FrontendEntry],
    backends: Iterable[BackendEntry],
    removed_frontends: Iterable[EntryKey],
    removed_backends: Iterable[EntryKey],
    part_bytes: int,
) -> list[Apply]:
    parts: list[Apply] = []
    size = part_bytes

    def part_for(content: FrontendEntry | BackendEntry | EntryKey) -> Apply:
        nonlocal size
        if size >= part_bytes:
            parts.append(Apply(target.number, base, target.digest, last=False))
            size = 0
        size += len(_encode(content))
        return parts[-1]

    for key in removed_frontends:
        part_for(key).removed_frontends.append(key)
    for key in removed_backends:
        part_for(key).removed_backends.append(key)
    for backend in backends:
        part_for(backend).backends.append(backend)
    for frontend in frontends:
        part_for(frontend).frontends.append(frontend)
    if not parts:
        parts.append(Apply(target.number, base, target.digest))
    parts[-1] = replace(parts[-1], last=True)
    return parts
