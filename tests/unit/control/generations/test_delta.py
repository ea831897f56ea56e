from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.control.generations.delta import compare, delta, full
from kvproxy.control.generations.generation import EMPTY, Changes, Generation
from kvproxy.control.generations.merger import Merger
from kvproxy.control.pipeline.quarantine import Served
from kvproxy.model.digest import add_digests, digest_text, entry_digest
from kvproxy.model.messages import Apply, BackendEntry, EntryKey, FrontendEntry
from tests.unit.control.entries import backend, frontend


def frontend_entry(provider: str, name: str, version: int) -> FrontendEntry:
    content = frontend(rule=f"Host:v{version}")
    return FrontendEntry(
        provider, name, entry_digest("frontends", provider, name, content), content
    )


def backend_entry(provider: str, name: str, version: int) -> BackendEntry:
    content = backend(f"http://v{version}")
    return BackendEntry(provider, name, entry_digest("backends", provider, name, content), content)


class Worker:
    """What a worker does with the messages."""

    def __init__(self) -> None:
        self.generation = 0
        self.frontends: dict[EntryKey, FrontendEntry] = {}
        self.backends: dict[EntryKey, BackendEntry] = {}

    def take(self, parts: list[Apply]) -> None:
        assert [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
        # Over the wire, as it really comes.
        parts = msgspec.msgpack.decode(msgspec.msgpack.encode(parts), type=list[Apply])
        assert all(part.base in (-1, self.generation) for part in parts)
        if parts[0].base == -1:
            self.frontends, self.backends = {}, {}
        for part in parts:
            for key in part.removed_frontends:
                del self.frontends[key]
            for key in part.removed_backends:
                del self.backends[key]
            self.frontends.update(((each.provider, each.name), each) for each in part.frontends)
            self.backends.update(((each.provider, each.name), each) for each in part.backends)
        self.generation = parts[-1].generation
        assert self.digest() == parts[-1].digest

    def digest(self) -> str:
        digests = [entry.digest for entry in self.frontends.values()]
        digests += [entry.digest for entry in self.backends.values()]
        return digest_text(add_digests(0, digests))


_STEP = st.tuples(
    st.sampled_from(["file", "etcd"]),
    st.dictionaries(st.sampled_from("abcd"), st.none() | st.integers(0, 3)),
    st.dictionaries(st.sampled_from("xyz"), st.none() | st.integers(0, 3)),
)


@given(st.lists(_STEP, max_size=12), st.data())
def test_delta_applied_to_base_is_target(
    steps: list[tuple[str, dict[str, int | None], dict[str, int | None]]], data: st.DataObject
) -> None:
    merger = Merger(1)
    generations = [merger.generation]
    for provider, frontends, backends in steps:
        now = merger.generation
        served = Served(
            {
                name: None if version is None else frontend_entry(provider, name, version)
                for name, version in frontends.items()
                if version is not None or (provider, name) in now.frontends
            },
            {
                name: None if version is None else backend_entry(provider, name, version)
                for name, version in backends.items()
                if version is not None or (provider, name) in now.backends
            },
        )
        made = merger.merge({provider: served}, {provider: "1"}, 0.0)
        if made is not None:
            generations.append(made)
    worker = Worker()
    part_bytes = data.draw(st.sampled_from([1, 300, 1 << 20]))
    for _ in range(4):
        base = next(each for each in generations if each.number == worker.generation)
        target = data.draw(st.sampled_from(generations))
        whole = data.draw(st.booleans())
        worker.take(full(target, part_bytes) if whole else delta(base, target, part_bytes))
        assert worker.frontends == target.frontends
        assert worker.backends == target.backends
        assert worker.generation == target.number


def generation(number: int, base: int, versions: dict[str, int], changes: Changes) -> Generation:
    frontends = {("file", name): frontend_entry("file", name, v) for name, v in versions.items()}
    return Generation(
        number=number,
        digest=digest_text(add_digests(0, [entry.digest for entry in frontends.values()])),
        revisions={},
        frontends=frontends,
        backends={},
        created_at=0.0,
        base=base,
        changes=changes,
    )


def test_the_next_generation_is_not_compared_at_all() -> None:
    one = generation(1, 0, {"a": 1}, Changes())
    recorded = Changes({("file", "b"): (None, frontend_entry("file", "b", 2))})
    two = generation(2, 1, {"a": 1, "b": 2}, recorded)
    assert compare(one, two) is recorded


def test_generations_without_common_objects_compare_by_content() -> None:
    one = generation(1, -1, {"a": 1, "b": 1, "c": 1}, Changes())
    two = generation(7, -1, {"a": 1, "b": 2, "d": 1}, Changes())
    changes = compare(one, two)
    assert {
        name: (bool(old), bool(new)) for (_, name), (old, new) in changes.frontends.items()
    } == {
        "b": (True, True),
        "c": (True, False),
        "d": (False, True),
    }
    assert not changes.backends


def test_nothing_to_say_is_still_one_message() -> None:
    one = generation(1, 0, {"a": 1}, Changes())
    (part,) = delta(one, one)
    assert part == Apply(1, 1, one.digest)
    (part,) = full(EMPTY)
    assert (part.generation, part.base, part.last) == (0, -1, True)


def test_parts_are_bounded() -> None:
    many = generation(1, 0, {f"f{number}": 1 for number in range(500)}, Changes())
    limit = 10_000
    parts = full(many, limit)
    sizes = [len(msgspec.msgpack.encode(part)) for part in parts]
    assert sum(len(part.frontends) for part in parts) == 500
    largest_entry = max(len(msgspec.msgpack.encode(entry)) for entry in many.frontends.values())
    assert max(sizes) < limit + largest_entry + 500
    assert len(parts) > 5
    removed = delta(many, generation(2, -1, {}, Changes()), limit)
    assert max(len(msgspec.msgpack.encode(part)) for part in removed) < limit + 500
