"""What workers count, added up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvproxy.control.generations.generation import Changes, Generation
from kvproxy.control.workers.statistics import add, ended
from kvproxy.model.dynamic import Backend
from kvproxy.model.messages import (
    BackendCounters,
    BackendEntry,
    EntryPointCounters,
    Statistics,
)

numbers = st.integers(min_value=0, max_value=1000)
counters = st.fixed_dictionaries(
    {
        "statuses": st.lists(numbers, min_size=6, max_size=6),
        "seconds": numbers.map(float),
        "retries": numbers,
        "latencies": st.lists(numbers, min_size=5, max_size=5),
    }
)
names = st.sampled_from(["a", "b", "c"])


@st.composite
def statistics(draw: st.DrawFn) -> Statistics:
    points = draw(st.dictionaries(names, counters))
    backends = draw(st.dictionaries(st.tuples(names, names), counters))
    return Statistics(
        draw(numbers),
        draw(numbers),
        draw(st.lists(numbers, min_size=6, max_size=6)),
        [
            EntryPointCounters(name=name, connections=draw(numbers), **held)
            for name, held in points.items()
        ],
        [
            BackendCounters(provider=provider, name=name, **held)
            for (provider, name), held in backends.items()
        ],
    )


@given(statistics(), statistics())
def test_every_count_is_in_the_sum_once(one: Statistics, other: Statistics) -> None:
    total = add(one, other)
    assert total.connections == one.connections + other.connections
    assert total.requests == one.requests + other.requests
    assert [each.name for each in total.entry_points] == list(
        dict.fromkeys(each.name for each in [*one.entry_points, *other.entry_points])
    )
    for point in total.entry_points:
        parts = [e for e in [*one.entry_points, *other.entry_points] if e.name == point.name]
        assert point.connections == sum(each.connections for each in parts)
        assert point.seconds == sum(each.seconds for each in parts)
        assert point.retries == sum(each.retries for each in parts)
        assert sum(point.latencies) == sum(sum(each.latencies) for each in parts)
        assert point.statuses == [sum(c) for c in zip(*(e.statuses for e in parts), strict=True)]
    assert sum(sum(each.statuses) for each in total.backends) == sum(
        sum(each.statuses) for part in (one, other) for each in part.backends
    )
    assert len({(each.provider, each.name) for each in total.backends}) == len(total.backends)


@given(statistics())
def test_of_an_ended_worker_its_totals_are_kept(one: Statistics) -> None:
    generation = Generation(
        number=1,
        digest="",
        revisions={},
        frontends={},
        backends={("a", "a"): BackendEntry("a", "a", b"", Backend())},
        created_at=0.0,
        base=0,
        changes=Changes(),
    )
    kept = ended(one, generation)
    assert kept.connections == 0
    assert [each.connections for each in kept.entry_points] == [0] * len(one.entry_points)
    assert [each.statuses for each in kept.entry_points] == [e.statuses for e in one.entry_points]
    assert kept.backends == [
        each for each in one.backends if (each.provider, each.name) == ("a", "a")
    ]
    assert ended(one, None).backends == []
