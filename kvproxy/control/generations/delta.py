"""What a worker must be told so that it serves another generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec.structs import replace

from kvproxy.control.generations.comparison import compare_maps
from kvproxy.control.generations.generation import Changes
from kvproxy.model.messages import Apply
from kvproxy.model.sharded import ShardedMap

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kvproxy.control.generations.generation import ChangeMap, Generation
    from kvproxy.model.messages import (
        BackendEntry,
        CertificateEntry,
        EntryKey,
        FrontendEntry,
    )

Entry = TypeVar("Entry", "FrontendEntry", "BackendEntry", "CertificateEntry")

if TYPE_CHECKING:
    _AnyEntry = FrontendEntry | BackendEntry | CertificateEntry

Content = TypeVar("Content")
_Listed = tuple[str, "Iterable[Content]"]
"""An attribute of `Apply` and what is to be in it."""

PART_BYTES = 256 * 1024
"""A part ends with the entry that takes it over this size (encoded), so that a worker that compiles
it is not kept from its requests for long, and no message grows without bound."""

_encode = msgspec.msgpack.Encoder().encode


def compare(base: Generation, target: Generation) -> Changes:
    """Return what differs between two generations.

    Costs what changed when both come from one line of generations, else one comparison per entry.
    """
    if target.number == base.number and target.digest == base.digest:
        return Changes()
    if target.base == base.number:
        return target.changes
    return Changes(
        _changes(base.frontends, target.frontends),
        _changes(base.backends, target.backends),
        _changes(base.certificates, target.certificates),
    )


def delta(base: Generation, target: Generation, part_bytes: int = PART_BYTES) -> list[Apply]:
    """Return the messages that turn a worker's generation ``base`` into ``target``.

    Parts are of about ``part_bytes`` at most (one entry may be larger); the last one has ``last``
    set. There is always at least one.
    """
    changes = compare(base, target)
    return _parts(target, base.number, _sets(changes), _removals(changes), part_bytes)


def full(target: Generation, part_bytes: int = PART_BYTES) -> list[Apply]:
    """Return the messages that make a worker serve ``target`` whatever it served before (base
    -1)."""
    everything: tuple[_Listed[_AnyEntry], ...] = (
        ("certificates", target.certificates.values()),
        ("backends", target.backends.values()),
        ("frontends", target.frontends.values()),
    )
    return _parts(target, -1, everything, (), part_bytes)


def _sets(changes: Changes) -> tuple[_Listed[_AnyEntry], ...]:
    """Return the entries to set, by the attribute of `Apply` that holds them."""
    return (
        ("certificates", [new for _, new in changes.certificates.values() if new is not None]),
        ("backends", [new for _, new in changes.backends.values() if new is not None]),
        ("frontends", [new for _, new in changes.frontends.values() if new is not None]),
    )


def _removals(changes: Changes) -> tuple[_Listed[EntryKey], ...]:
    """Return the names to remove, by the attribute of `Apply` that holds them."""
    return (
        ("removed_frontends", [key for key, (_, new) in changes.frontends.items() if new is None]),
        ("removed_backends", [key for key, (_, new) in changes.backends.items() if new is None]),
        (
            "removed_certificates",
            [key for key, (_, new) in changes.certificates.items() if new is None],
        ),
    )


def _changes(old: Mapping[EntryKey, Entry], new: Mapping[EntryKey, Entry]) -> ChangeMap[Entry]:
    # Entries carry their digest, so generations that share no objects (one was read from the
    # journal) compare by content.
    changed, gone = compare_maps(ShardedMap.of(old), ShardedMap.of(new))
    changes: ChangeMap[Entry] = {key: (old.get(key), new[key]) for key in changed}
    changes.update((key, (old[key], None)) for key in gone)
    return changes


def _parts(
    target: Generation,
    base: int,
    sets: Iterable[_Listed[_AnyEntry]],
    removals: Iterable[_Listed[EntryKey]],
    part_bytes: int,
) -> list[Apply]:
    parts: list[Apply] = []
    size = part_bytes
    listed: Iterable[tuple[str, Iterable[object]]] = (*removals, *sets)
    for attribute, contents in listed:
        for content in contents:
            if size >= part_bytes:
                parts.append(Apply(target.number, base, target.digest, last=False))
                size = 0
            size += len(_encode(content))
            getattr(parts[-1], attribute).append(content)
    if not parts:
        parts.append(Apply(target.number, base, target.digest))
    parts[-1] = replace(parts[-1], last=True)
    return parts
