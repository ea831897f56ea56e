"""Sums of what workers count."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from kvproxy.model.messages import Counters, Statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from kvproxy.control.generations.generation import Generation
    from kvproxy.model.messages import BackendCounters, EntryPointCounters

Counted = TypeVar("Counted", bound=Counters)


def add(one: Statistics, other: Statistics) -> Statistics:
    """Return the sum, entry point by entry point and backend by backend."""
    return Statistics(
        one.connections + other.connections,
        one.requests + other.requests,
        _sum(one.statuses, other.statuses),
        _merged(_point_key, one.entry_points, other.entry_points),
        _merged(_backend_key, one.backends, other.backends),
    )


def ended(statistics: Statistics, generation: Generation | None) -> Statistics:
    """Return what is kept of a worker that has ended: nothing open, no backends that are gone."""
    backends = {} if generation is None else generation.backends
    return replace(
        statistics,
        connections=0,
        entry_points=[replace(each, connections=0) for each in statistics.entry_points],
        backends=[each for each in statistics.backends if _backend_key(each) in backends],
    )


def _point_key(counters: EntryPointCounters) -> str:
    return counters.name


def _backend_key(counters: BackendCounters) -> tuple[str, str]:
    return counters.provider, counters.name


def _merged(
    key: Callable[[Counted], Hashable], one: Iterable[Counted], other: Iterable[Counted]
) -> list[Counted]:
    found = {key(each): each for each in one}
    for each in other:
        held = found.get(key(each))
        found[key(each)] = each if held is None else _both(held, each)
    return list(found.values())


def _both(one: Counted, other: Counted) -> Counted:
    return replace(
        one,
        connections=one.connections + other.connections,
        retries=one.retries + other.retries,
        statuses=_sum(one.statuses, other.statuses),
        seconds=one.seconds + other.seconds,
        latencies=_sum(one.latencies, other.latencies),
    )


def _sum(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [first + second for first, second in zip(one, other, strict=True)]
