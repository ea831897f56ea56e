"""The source above a store: reads, identity, problems, alias, outages. On a real embedded store."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, ClassVar

import pytest
from msgspec.structs import replace

from kvproxy.control.sources.store_source import Pace, StoreSource
from kvproxy.provider import Changes, Failure, Snapshot, StoreError, Transaction, Tree, Unchanged
from providers.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DEADLINE = 10.0
FAST = Pace(probe=0.05, patience=0.5, first_pause=0.01, longest_pause=0.05, proof=0.3)


class TroubledStore:
    """An embedded store that can be cut off, silenced or made to tell whole trees."""

    name: ClassVar[str] = "embedded"

    def __init__(self, path: Path) -> None:
        self._store = EmbeddedStore(path)
        self.reads: list[str] = []
        self.probes = 0
        self.error: Exception | None = None
        self.silent = False
        self.whole_trees = False
        self._cut = asyncio.Event()

    def cut(self, error: Exception) -> None:
        """Every call fails, and running watches end, until `mend`."""
        self.error = error
        self._cut.set()

    def mend(self) -> None:
        self.error = None
        self._cut.clear()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error

    async def read(self, prefix: str) -> Tree:
        self.reads.append(prefix)
        self._check()
        return await self._store.read(prefix)

    async def watch(self, prefix: str, version: int) -> AsyncIterator[Changes | Tree]:
        self._check()
        async with aclosing(self._store.watch(prefix, version)) as watch:  # type: ignore[type-var]
            while True:
                news = asyncio.ensure_future(anext(watch))
                cut = asyncio.ensure_future(self._cut.wait())
                try:
                    await asyncio.wait({news, cut}, return_when=asyncio.FIRST_COMPLETED)
                    self._check()
                    found = await news
                finally:
                    cut.cancel()
                    news.cancel()
                    await asyncio.gather(news, cut, return_exceptions=True)
                if self.silent:
                    continue
                yield await self._store.read(prefix) if self.whole_trees else found

    async def write(self, transaction: Transaction) -> int:
        return await self._store.write(transaction)

    async def probe(self) -> int:
        self.probes += 1
        self._check()
        return await self._store.probe()

    async def announce(self, key: str, value: bytes) -> None:
        await self._store.announce(key, value)

    async def close(self) -> None:
        await self._store.close()


class Reader:
    """Takes one snapshot or failure after the other, each with a deadline."""

    def __init__(self, source: StoreSource) -> None:
        self.source = source
        self._items = source.snapshots()

    async def next(self) -> Snapshot | Failure:
        async with asyncio.timeout(DEADLINE):
            return await anext(self._items)

    async def snapshot(self) -> Snapshot:
        found = await self.next()
        assert isinstance(found, Snapshot), found
        return found

    async def failure(self) -> Failure:
        found = await self.next()
        assert isinstance(found, Failure), found
        return found

    async def nothing_for(self, seconds: float) -> None:
        waiting = asyncio.ensure_future(anext(self._items))
        done, _ = await asyncio.wait({waiting}, timeout=seconds)
        assert not done, waiting.result()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        self._items = self.source.snapshots()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[TroubledStore]:
    made = TroubledStore(tmp_path / "store.db")
    yield made
    await made.close()


@pytest.fixture
async def reader(store: TroubledStore) -> AsyncIterator[Reader]:
    made = Reader(StoreSource(store, "kv", "kvproxy", pace=FAST))
    yield made
    await made.source.close()


async def put(store: TroubledStore, values: dict[str, bytes | None], base: str = "kvproxy") -> int:
    return await store.write(
        Transaction(
            put={f"{base}/{key}": value for key, value in values.items() if value is not None},
            delete=tuple(f"{base}/{key}" for key, value in values.items() if value is None),
        )
    )


def web(name: str = "web", backend: bytes = b"b") -> dict[str, bytes | None]:
    return {
        f"frontends/{name}/backend": backend,
        f"frontends/{name}/routes/r/rule": b"Host:" + name.encode(),
    }


async def test_the_first_snapshot_is_one_read(store: TroubledStore, reader: Reader) -> None:
    version = await put(store, {**web(), "backends/b/servers/s/url": b"http://127.0.0.1:1"})
    found = await reader.snapshot()
    assert found.provider == "kv"
    assert found.revision == str(version)
    assert found.problems == ()
    assert found.configuration.frontends["web"].backend == "b"
    assert found.configuration.frontends["web"].pass_host_header
    assert found.configuration.frontends["web"].routes["r"].rule == "Host:web"
    assert found.configuration.backends["b"].servers["s"].url == "http://127.0.0.1:1"
    assert store.reads == ["kvproxy"]
    assert reader.source.reads == 1
    assert found.read_at == pytest.approx(time.time(), abs=DEADLINE)


async def test_an_empty_store_is_an_empty_snapshot(reader: Reader) -> None:
    found = await reader.snapshot()
    assert not found.configuration.frontends
    assert found.problems == ()


async def test_changes_cost_no_read_and_touch_nothing_else(
    store: TroubledStore, reader: Reader
) -> None:
    for number in range(20):
        await put(store, web(f"f{number}"))
    await put(store, {"backends/b/servers/s/url": b"http://127.0.0.1:1"})
    before = await reader.snapshot()
    for number in range(30):
        version = await put(store, web("f3", b"new%d" % number))
        after = await reader.snapshot()
        assert after.revision == str(version)
        assert after.configuration.frontends["f3"].backend == f"new{number}"
        assert after.configuration.backends is before.configuration.backends
        for name, frontend in before.configuration.frontends.items():
            assert (after.configuration.frontends[name] is frontend) == (name != "f3")
        before = after
    assert store.reads == ["kvproxy"]


async def test_a_deleted_entry_goes_and_a_partly_deleted_one_is_decoded_again(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, {**web("a"), **web("b"), "frontends/a/priority": b"7"})
    assert (await reader.snapshot()).configuration.frontends["a"].priority == 7
    await put(store, {"frontends/a/priority": None})
    assert (await reader.snapshot()).configuration.frontends["a"].priority == 0
    await put(store, dict.fromkeys(web("a")))
    assert set((await reader.snapshot()).configuration.frontends) == {"b"}


async def test_the_same_value_again_moves_the_revision_alone(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, web())
    before = await reader.snapshot()
    version = await put(store, web())
    after = await reader.snapshot()
    assert after.revision == str(version)
    assert after.configuration is before.configuration


async def test_keys_that_belong_to_no_entry_make_no_snapshot(
    store: TroubledStore, reader: Reader
) -> None:
    """Static options, locks and acknowledgements live below the same prefix."""
    await put(store, web())
    await reader.snapshot()
    await put(store, {"loglevel": b"DEBUG", "acks/node1": b"1"})
    await put(store, {"x": b"1"}, base="elsewhere")
    await put(store, {"x": b"1"}, base="kvproxy-old")
    version = await put(store, web("second"))
    assert (await reader.snapshot()).revision == str(version)


async def test_waiting_changes_become_one_snapshot(store: TroubledStore, reader: Reader) -> None:
    await put(store, web())
    await reader.snapshot()
    # The generator stands still between two snapshots; what comes meanwhile is merged.
    await put(store, web("first"))
    await reader.snapshot()
    for number in range(50):
        version = await put(store, {**web("x", b"b%d" % number), **web(f"y{number}")})
    items = [await reader.snapshot()]
    while items[-1].revision != str(version):
        items.append(await reader.snapshot())
    assert len(items) < 10
    assert items[-1].configuration.frontends["x"].backend == "b49"
    assert len(items[-1].configuration.frontends) == 2 + 51


async def test_whole_trees_are_compared_with_what_is_held(
    store: TroubledStore, reader: Reader
) -> None:
    store.whole_trees = True
    await put(store, {**web("a"), **web("b"), **web("c")})
    before = await reader.snapshot()
    await put(store, {**web("b", b"other"), **dict.fromkeys(web("c"))})
    after = await reader.snapshot()
    assert set(after.configuration.frontends) == {"a", "b"}
    assert after.configuration.frontends["a"] is before.configuration.frontends["a"]
    assert after.configuration.frontends["b"].backend == "other"


BAD_VALUES = {
    "not-utf-8": ({"frontends/bad/priority": b"\xff\xfe"}, "kvproxy/frontends/bad/priority"),
    "truncated-utf-8": ({"frontends/bad/backend": b"caf\xc3"}, "kvproxy/frontends/bad/backend"),
    "not-a-number": ({"frontends/bad/priority": b"high"}, "kvproxy/frontends/bad/priority"),
    "spelled-otherwise": ({"Frontends/bad/Priority": b"high"}, "kvproxy/Frontends/bad/Priority"),
    "tree-in-place-of-value": (
        {"frontends/bad/priority/x/y": b"1"},
        "kvproxy/frontends/bad/priority",
    ),
}


@pytest.mark.parametrize(("values", "where"), BAD_VALUES.values(), ids=BAD_VALUES)
async def test_a_bad_value_is_named_and_everything_else_lives(
    store: TroubledStore, reader: Reader, values: dict[str, bytes | None], where: str
) -> None:
    await put(store, {**web("good"), **values})
    found = await reader.snapshot()
    assert "good" in found.configuration.frontends
    problem = next(problem for problem in found.problems if problem.where.startswith(where))
    assert problem.entry == ("frontends", "bad")
    await put(store, {**dict.fromkeys(values), **web("bad")})
    repaired = await reader.snapshot()
    assert set(repaired.configuration.frontends) == {"good", "bad"}
    assert repaired.problems == ()


async def test_a_bad_value_of_a_good_entry_is_told_with_the_entry_left_out(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, web("web"))
    await reader.snapshot()
    await put(store, {"frontends/web/backend": b"\xff"})
    found = await reader.snapshot()
    assert "web" not in found.configuration.frontends
    assert [(problem.entry, problem.fatal) for problem in found.problems] == [
        (("frontends", "web"), True)
    ]


async def test_an_unknown_section_is_a_warning_with_the_nearest_name(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, {**web(), "frontend/x/backend": b"b"})
    found = await reader.snapshot()
    assert [(p.where, p.nearest, p.fatal) for p in found.problems] == [
        ("kvproxy/frontend", "frontends", False)
    ]


ODD_KEYS = {
    "prefix-itself": "kvproxy",
    "section-as-value": "kvproxy/frontends",
    "entry-as-value": "kvproxy/frontends/odd",
    "very-deep": "kvproxy/frontends/odd/" + "/".join("x" * 1500),
    "control-characters": "kvproxy/frontends/odd\x01\x7f/backend",
    "unicode": "kvproxy/frontends/\u2603/backend",
    "dots": "kvproxy/frontends/a.b.c/backend",
}


@pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS)
async def test_an_odd_key_hurts_nothing(store: TroubledStore, reader: Reader, key: str) -> None:
    await put(store, web())
    before = await reader.snapshot()
    await store.write(Transaction(put={key: b"value"}))
    await put(store, web("later"))
    found = before
    while "later" not in found.configuration.frontends:
        found = await reader.snapshot()
    assert found.configuration.frontends["web"] is before.configuration.frontends["web"]


async def test_the_alias_names_the_tree_to_use(store: TroubledStore, reader: Reader) -> None:
    await put(store, web("own"))
    await put(store, web("one"), base="trees/1")
    await put(store, web("two"), base="trees/2")
    assert set((await reader.snapshot()).configuration.frontends) == {"own"}
    await put(store, {"alias": b"/trees/1/"})
    first = await reader.snapshot()
    assert set(first.configuration.frontends) == {"one"}
    assert first.problems == ()
    version = await put(store, web("more"), base="trees/1")
    found = await reader.snapshot()
    assert set(found.configuration.frontends) == {"one", "more"}
    assert found.revision == str(version)
    assert found.configuration.frontends["one"] is first.configuration.frontends["one"]
    await put(store, {"alias": b"trees/2"})
    assert set((await reader.snapshot()).configuration.frontends) == {"two"}
    assert store.reads == ["kvproxy", "trees/1", "trees/2"]
    # The tree of the prefix itself goes on being followed, at no further read.
    await put(store, web("own2"))
    await put(store, {"alias": None})
    assert set((await reader.snapshot()).configuration.frontends) == {"own", "own2"}
    assert store.reads == ["kvproxy", "trees/1", "trees/2"]


async def test_an_alias_that_is_there_at_the_start(store: TroubledStore, reader: Reader) -> None:
    await put(store, {**web("own"), "alias": b"trees/1"})
    await put(store, web("one"), base="trees/1")
    assert set((await reader.snapshot()).configuration.frontends) == {"one"}
    assert store.reads == ["kvproxy", "trees/1"]


async def test_an_alias_to_a_tree_below_the_prefix_needs_no_second_read(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, {**web("own"), "alias": b"kvproxy/trees/1"})
    await put(store, web("one"), base="kvproxy/trees/1")
    assert set((await reader.snapshot()).configuration.frontends) == {"one"}
    await put(store, web("two"), base="kvproxy/trees/1")
    assert set((await reader.snapshot()).configuration.frontends) == {"one", "two"}
    await put(store, {"alias": b"kvproxy/trees/2"})
    await put(store, web("three"), base="kvproxy/trees/2")
    # In between the alias may have been seen with nothing behind it.
    found = await reader.next()
    if isinstance(found, Failure):
        found = await reader.snapshot()
    assert isinstance(found, Snapshot)
    assert set(found.configuration.frontends) == {"three"}
    assert store.reads == ["kvproxy"]


ODD_ALIASES = {
    "cyclic-itself": (b"kvproxy", {}, "cyclic", {"own"}),
    "cyclic-itself-with-slashes": (b"/kvproxy/", {}, "cyclic", {"own"}),
    "empty": (b" ", {}, "empty", {"own"}),
    "cyclic-of-two": (b"trees/1", {"alias": b"kvproxy"}, "cyclic", {"one"}),
    "cyclic-in-the-target": (b"trees/1", {"alias": b"trees/1"}, "cyclic", {"one"}),
    "second-alias": (b"trees/1", {"alias": b"trees/2"}, "not followed", {"one"}),
}


@pytest.mark.parametrize(
    ("alias", "target", "message", "names"), ODD_ALIASES.values(), ids=ODD_ALIASES
)
async def test_an_odd_alias_is_named(
    store: TroubledStore,
    reader: Reader,
    alias: bytes,
    target: dict[str, bytes | None],
    message: str,
    names: set[str],
) -> None:
    await put(store, {**web("own"), "alias": alias})
    await put(store, {**web("one"), **target}, base="trees/1")
    found = await reader.snapshot()
    assert set(found.configuration.frontends) == names
    assert [message in problem.message for problem in found.problems] == [True]
    assert found.problems[0].where in ("kvproxy/alias", "trees/1/alias")


@pytest.mark.parametrize("tree", ["trees/9", "kvproxy/trees/9"])
async def test_an_alias_to_nothing_changes_nothing_until_there_is_something(
    store: TroubledStore, reader: Reader, tree: str
) -> None:
    await put(store, web("own"))
    await reader.snapshot()
    await put(store, {"alias": tree.encode()})
    (problem,) = (await reader.failure()).problems
    assert problem.where == "kvproxy/alias"
    assert f"points to `{tree}`, where there are no keys" in problem.message
    await put(store, web("there"), base=tree)
    assert set((await reader.snapshot()).configuration.frontends) == {"there"}


async def test_a_tree_that_is_emptied_while_the_alias_names_it_goes_on_being_served(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, web("one"), base="trees/1")
    await put(store, {**web("own"), "alias": b"trees/1"})
    assert set((await reader.snapshot()).configuration.frontends) == {"one"}
    await put(store, dict.fromkeys(web("one")), base="trees/1")
    assert "where there are no keys" in (await reader.failure()).problems[0].message
    await put(store, {"alias": None})
    assert set((await reader.snapshot()).configuration.frontends) == {"own"}


async def test_an_alias_to_nothing_at_the_start_is_a_failure(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, {**web("own"), "alias": b"trees/9"})
    assert "where there are no keys" in (await reader.failure()).problems[0].message
    await put(store, {"alias": None})
    assert set((await reader.snapshot()).configuration.frontends) == {"own"}


async def test_an_alias_that_is_no_text_changes_nothing(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, web("one"), base="trees/1")
    await put(store, {**web("own"), "alias": b"trees/1"})
    before = await reader.snapshot()
    await put(store, {"alias": b"\xff"})
    assert (await reader.failure()).problems[0].where == "kvproxy/alias"
    await put(store, {"alias": b"trees/1"})
    after = await reader.snapshot()
    assert after.configuration is before.configuration


async def test_an_outage_is_told_once_and_costs_no_read(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, web("a"))
    before = await reader.snapshot()
    store.cut(StoreError("connection refused"))
    failure = await reader.failure()
    assert "connection refused" in failure.problems[0].message
    asked = store.probes
    following = asyncio.ensure_future(reader.next())
    async with asyncio.timeout(DEADLINE):
        while store.probes < asked + 5:
            await asyncio.sleep(0.005)
    assert not following.done(), "the same error was told again"
    await put(store, web("b"))
    store.mend()
    after = await following
    assert isinstance(after, Snapshot)
    while "b" not in after.configuration.frontends:
        after = await reader.snapshot()
    assert after.configuration.frontends["a"] is before.configuration.frontends["a"]
    assert store.reads == ["kvproxy"]


async def test_another_error_is_told_too(store: TroubledStore, reader: Reader) -> None:
    store.cut(StoreError("first"))
    assert "first" in (await reader.failure()).problems[0].message
    store.error = StoreError("second")
    assert "second" in (await reader.failure()).problems[0].message
    store.mend()
    await reader.snapshot()


async def test_a_defect_of_a_plugin_is_a_failure(store: TroubledStore, reader: Reader) -> None:
    await put(store, web("a"))
    store.cut(KeyError("missing"))
    assert "KeyError" in (await reader.failure()).problems[0].message
    store.mend()
    await reader.snapshot()
    store.cut(KeyError("again"))
    assert "KeyError" in (await reader.failure()).problems[0].message
    store.mend()
    await reader.snapshot()


async def test_pauses_grow_to_their_bound(store: TroubledStore) -> None:
    pace = Pace(probe=0.05, first_pause=0.01, longest_pause=0.08)
    source = StoreSource(store, "kv", "kvproxy", pace=pace)
    reader = Reader(source)
    store.cut(StoreError("down"))
    await reader.failure()
    waiting = asyncio.ensure_future(reader.next())
    done, _ = await asyncio.wait({waiting}, timeout=1.0)
    assert not done
    # 0.01 + 0.02 + 0.04, then at least 0.04 each: not more than 3 + 25 and a few by chance.
    assert 5 <= len(store.reads) <= 30
    store.mend()
    assert isinstance(await waiting, Snapshot)
    await source.close()


async def test_a_store_that_went_back_is_read_again(
    store: TroubledStore, reader: Reader, tmp_path: Path
) -> None:
    await put(store, web("old"))
    for number in range(5):
        await put(store, web("old", b"%d" % number))
    await reader.snapshot()
    other = EmbeddedStore(tmp_path / "other.db")
    await other.write(Transaction(put={"kvproxy/frontends/new/backend": b"b"}))
    await other.close()
    for suffix in ("-wal", "-shm"):
        (tmp_path / f"store.db{suffix}").unlink()
    (tmp_path / "other.db").rename(tmp_path / "store.db")
    found = await reader.snapshot()
    while "new" not in found.configuration.frontends:
        found = await reader.snapshot()
    assert set(found.configuration.frontends) == {"new"}
    assert found.revision == "1"
    assert store.reads == ["kvproxy", "kvproxy"]


async def test_freshness_is_proven_while_nothing_happens(
    store: TroubledStore, reader: Reader
) -> None:
    assert reader.source.fresh_at == 0.0
    await put(store, web())
    await reader.snapshot()
    first = reader.source.fresh_at
    waiting = asyncio.ensure_future(reader.next())
    async with asyncio.timeout(DEADLINE):
        while reader.source.fresh_at < first + 0.1:
            await asyncio.sleep(0.01)
    assert store.reads == ["kvproxy"]
    store.cut(StoreError("gone"))
    assert isinstance(await waiting, Failure)
    stale = reader.source.fresh_at
    waiting = asyncio.ensure_future(reader.next())
    asked = store.probes
    async with asyncio.timeout(DEADLINE):
        while store.probes < asked + 3:
            await asyncio.sleep(0.005)
    assert reader.source.fresh_at == stale
    store.mend()
    assert isinstance(await waiting, Snapshot)
    assert reader.source.fresh_at > stale


async def test_a_watch_that_died_in_silence_is_found_out(
    store: TroubledStore, reader: Reader
) -> None:
    await put(store, web("a"))
    before = await reader.snapshot()
    store.silent = True
    await put(store, web("b"))
    found = await reader.snapshot()
    assert set(found.configuration.frontends) == {"a", "b"}
    assert found.configuration.frontends["a"] is before.configuration.frontends["a"]
    assert store.reads == ["kvproxy", "kvproxy"]


async def test_a_frozen_store_is_a_failure(store: TroubledStore, reader: Reader) -> None:
    await put(store, web("a"))
    await reader.snapshot()
    frozen = asyncio.Event()

    async def probe() -> int:
        await frozen.wait()
        return await TroubledStore.probe(store)

    store.probe = probe  # type: ignore[method-assign]
    assert "no answer" in (await reader.failure()).problems[0].message
    frozen.set()
    await reader.snapshot()


async def unchanged(reader: Reader) -> Unchanged:
    found = await reader.next()
    assert isinstance(found, Unchanged), found
    return found


async def test_a_write_that_changes_nothing_is_told(store: TroubledStore, reader: Reader) -> None:
    await put(store, web("a"))
    await reader.snapshot()
    version = await put(store, web("a"))
    assert (await reader.snapshot()).revision == str(version)
    await put(store, {"unknown/by/us": b"1"})
    found = await reader.snapshot()
    assert [problem.where for problem in found.problems] == ["kvproxy/unknown"]
    version = await put(store, {"unknown/by/us": b"2"})
    same = await unchanged(reader)
    assert (same.revision, same.keys) == (str(version), found.keys)
    assert store.reads == ["kvproxy"]


@pytest.fixture
async def patient(store: TroubledStore) -> AsyncIterator[Reader]:
    """Return a reader whose source proves nothing unless it is told to."""
    pace = replace(FAST, probe=60.0, proof=60.0)
    made = Reader(StoreSource(store, "kv", "kvproxy", pace=pace))
    yield made
    await made.source.close()


async def test_a_write_elsewhere_is_proven_to_have_changed_nothing(
    store: TroubledStore, patient: Reader
) -> None:
    await put(store, web("a"))
    await patient.snapshot()
    version = await put(store, {"key": b"1"}, base="elsewhere")
    patient.source.prove()
    assert (await unchanged(patient)).revision == str(version)
    assert store.reads == ["kvproxy", "kvproxy"]
    # What is proven is not proven again.
    asked = store.probes
    waiting = asyncio.ensure_future(patient.snapshot())
    patient.source.prove()
    async with asyncio.timeout(DEADLINE):
        while store.probes == asked:
            await asyncio.sleep(0.001)
    await put(store, web("b"))
    await waiting
    assert store.reads == ["kvproxy", "kvproxy"]


async def test_a_proof_finds_what_a_dead_watch_has_missed(
    store: TroubledStore, patient: Reader
) -> None:
    await put(store, web("a"))
    await patient.snapshot()
    store.silent = True
    version = await put(store, web("b"))
    patient.source.prove()
    found = await patient.snapshot()
    assert set(found.configuration.frontends) == {"a", "b"}
    assert found.revision == str(version)


async def test_changes_beside_the_alias_say_nothing_about_the_tree_it_names(
    store: TroubledStore, patient: Reader
) -> None:
    await put(store, web("a"), base="blue")
    switched = await put(store, {"alias": b"blue"})
    assert (await patient.snapshot()).revision == str(switched)
    beside = await put(store, web("ignored"))
    served = await put(store, web("b"), base="blue")
    found = await patient.next()
    assert isinstance(found, Snapshot), found
    assert found.revision == str(served)
    last = await put(store, web("ignored", b"more"))
    assert last > served > beside > switched
    patient.source.prove()
    assert (await unchanged(patient)).revision == str(last)


async def test_without_watch_the_tree_is_read_once(store: TroubledStore) -> None:
    await put(store, web("a"))
    source = StoreSource(store, "kv", "/kvproxy/", watch=False, pace=FAST)
    reader = Reader(source)
    assert set((await reader.snapshot()).configuration.frontends) == {"a"}
    waiting = asyncio.ensure_future(reader.next())
    await put(store, web("b"))
    done, _ = await asyncio.wait({waiting}, timeout=0.2)
    assert not done
    await source.close()
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert store.reads == ["kvproxy"]


async def test_closing_ends_the_iterator(store: TroubledStore, reader: Reader) -> None:
    await reader.snapshot()
    waiting = asyncio.ensure_future(reader.next())
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    await reader.source.close()
    with pytest.raises(StopAsyncIteration):
        await waiting


async def test_one_change_among_many_entries_is_cheap(store: TroubledStore, reader: Reader) -> None:
    """At 20,000 entries a change costs a few milliseconds, not a decode of everything."""
    values: dict[str, bytes | None] = {}
    for number in range(10_000):
        values |= web(f"f{number}", b"b%d" % number)
        values[f"backends/b{number}/servers/s/url"] = b"http://127.0.0.1:1"
    await put(store, values)
    began = time.process_time()
    await reader.snapshot()
    whole = time.process_time() - began
    costs = []
    for number in range(5):
        began = time.process_time()
        await put(store, {"frontends/f77/priority": b"%d" % number})
        await reader.snapshot()
        costs.append(time.process_time() - began)
    assert min(costs) < whole / 10
