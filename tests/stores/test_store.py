"""What every store must do. Nothing here knows which store it is."""

from __future__ import annotations

import asyncio
import os
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from kvproxy.provider import (
    ANNOUNCEMENT_SECONDS,
    Changes,
    Compacted,
    Conflict,
    ReadOnly,
    StoreError,
    TooLarge,
    Transaction,
    Tree,
)
from tests.stores.following import DEADLINE, applied, follow, within

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvproxy.provider import Store
    from tests.stores.harness import StoreHarness
    from tests.stores.writers import WriterProcess

    StartWriter = Callable[..., WriterProcess]
    OpenStore = Callable[[], Store]

TORN_READ_SECONDS = float(os.environ.get("KVPROXY_TORN_READ_SECONDS", "12"))
"""The reads of the test against a concurrent writer end after this time."""
TORN_READ_READERS = 4
ODD_KEYS = (
    "dots.and.more",
    ".leading.dot",
    "blank in the middle",
    "percent%2Fencoded",
    "umlaut-\u00e4\u00f6\u00fc",
    "snow-\u2603-man",
    "emoji-\U0001f680",
    "UPPER",
    "upper",
    "colon:comma,equals=",
    "braces{}[]()",
    "plus+and&question?hash#",
    "back\\slash",
    "*",
    "x" * 200,
)


async def put(store: Store, **values: bytes) -> int:
    """Write below the prefix ``t``; double underscores stand for slashes."""
    return await store.write(
        Transaction(put={"t/" + key.replace("__", "/"): value for key, value in values.items()})
    )


async def test_an_empty_store_reads_as_empty(store: Store) -> None:
    tree = await store.read("t")
    assert tree.values == {}
    assert tree.version == await store.probe()


async def test_a_prefix_covers_its_key_and_the_keys_below_it(store: Store) -> None:
    keys = ("t", "t/a", "t/a/b", "t/a0", "t/a.b", "t/a-b", "t/A/b", "t/ab/c", "u", "t0", "t.", "T")
    await store.write(Transaction(put={key: key.encode() for key in keys}))
    found = {prefix: set((await store.read(prefix)).values) for prefix in ("t", "t/a", "t/a/b")}
    assert found == {
        "t": {key for key in keys if key.startswith("t/")} | {"t"},
        "t/a": {"t/a", "t/a/b"},
        "t/a/b": {"t/a/b"},
    }
    assert set((await store.read("")).values) == set(keys)
    assert (await store.read("t/missing")).values == {}


async def test_values_are_bytes(store: Store) -> None:
    values = {"t/empty": b"", "t/nul": b"\0\0", "t/all": bytes(range(256)), "t/text": b"x\r\ny"}
    await store.write(Transaction(put=values))
    assert (await store.read("t")).values == values


async def test_each_write_raises_the_version(store: Store) -> None:
    versions = [await put(store, a=b"%d" % number) for number in range(5)]
    assert all(before < after for before, after in pairwise(versions))
    assert (await store.read("t")).version >= versions[-1]
    assert await store.probe() >= versions[-1]


async def test_a_tree_says_after_which_version_its_keys_stayed(store: Store) -> None:
    await put(store, a=b"1", b=b"2")
    written = await put(store, a=b"3")
    before = await store.read("t")
    if before.changed is None:
        pytest.skip("this store does not tell when its keys were written")
    assert before.changed <= written <= before.version
    await store.write(Transaction(put={"u": b"elsewhere"}))
    after = await store.read("t")
    assert after.changed == before.changed
    assert (await store.read("t/b")).changed < before.changed
    assert await put(store, b=b"4") >= ((await store.read("t")).changed or 0) > before.changed


async def test_deletions_come_before_puts(store: Store) -> None:
    await put(store, a=b"1", b__c=b"2", b__d=b"3", bb=b"4", e=b"5")
    await store.write(
        Transaction(
            delete_prefixes=("t/b",), delete=("t/e", "t/missing"), put={"t/b/c": b"6", "t/f": b"7"}
        )
    )
    expected = {"t/a": b"1", "t/b/c": b"6", "t/bb": b"4", "t/f": b"7"}
    assert (await store.read("t")).values == expected


@pytest.mark.parametrize("expected", [b"other", None], ids=["other-value", "absent"])
async def test_a_comparison_that_fails_writes_nothing(store: Store, expected: bytes) -> None:
    await put(store, a=b"1", b=b"2")
    before = await store.read("t")
    with pytest.raises(Conflict, match="t/a"):
        await store.write(
            Transaction(
                expect={"t/b": b"2", "t/a": expected}, put={"t/c": b"3"}, delete_prefixes=("t",)
            )
        )
    assert (await store.read("t")).values == before.values


async def test_a_comparison_that_holds_writes_everything(store: Store) -> None:
    await put(store, a=b"1")
    await store.write(
        Transaction(
            expect={"t/a": b"1", "t/new": None}, put={"t/new": b"2", "t/a": b"3"}, delete=("t/x",)
        )
    )
    assert (await store.read("t")).values == {"t/a": b"3", "t/new": b"2"}


async def test_an_expected_key_that_is_missing_is_a_conflict(store: Store) -> None:
    with pytest.raises(Conflict, match="t/a"):
        await store.write(Transaction(expect={"t/a": b""}, put={"t/a": b"1"}))
    assert (await store.read("t")).values == {}


async def test_writers_that_compare_never_lose_an_update(
    store: Store, start_writer: StartWriter
) -> None:
    writers = [start_writer("increments", "t/counter", "30") for _ in range(3)]
    for writer in writers:
        await asyncio.to_thread(writer.finish)
    assert (await store.read("t")).values == {"t/counter": b"90"}


async def test_no_read_is_torn_by_a_concurrent_writer(
    store: Store,
    harness: StoreHarness,
    start_writer: StartWriter,
    record_property: Callable[[str, object], None],
) -> None:
    start_writer("pairs", "t")
    seen: set[bytes] = set()
    end = asyncio.get_running_loop().time() + TORN_READ_SECONDS
    tries = iter(range(harness.torn_read_tries))

    async def read_on() -> None:
        version = -1
        for _ in tries:
            tree = await store.read("t")
            assert tree.version >= version
            version = tree.version
            values = set(tree.values.values())
            assert len(values) <= 1, f"torn read: {tree}"
            assert len(tree.values) in (0, 3)
            seen.update(values)
            if asyncio.get_running_loop().time() > end:
                break

    async with asyncio.TaskGroup() as readers:
        for _ in range(TORN_READ_READERS):
            readers.create_task(read_on())
    missing = len(list(tries))
    if missing:
        done = f"{harness.torn_read_tries - missing:,} of {harness.torn_read_tries:,} reads"
        note = f"{harness.kind}: {done} in {TORN_READ_SECONDS:g} s against a concurrent writer"
        record_property("note", note)
    assert len(seen) > 20, "the writer hardly wrote: this test showed nothing"


async def test_a_watch_gives_everything_once_and_whole(
    store: Store, start_writer: StartWriter
) -> None:
    await put(store, before=b"0")
    start = await store.read("t")
    writers = [start_writer("unique", "t", f"w{number}", "150") for number in range(3)]
    held: Mapping[str, bytes] = start.values
    given: dict[str, int] = {}
    version = start.version
    async with asyncio.timeout(DEADLINE):
        async for found in store.watch("t", start.version):
            assert found.version > version
            version = found.version
            if isinstance(found, Changes):
                for key in found.values:
                    given[key] = given.get(key, 0) + 1
                    partner = key[:-1] + ("b" if key.endswith("a") else "a")
                    assert partner in found.values, "a transaction was split"
            held = applied(held, found)
            if len(held) == 1 + 3 * 150 * 2:
                break
    for writer in writers:
        await asyncio.to_thread(writer.finish)
    assert held == (await store.read("t")).values
    assert set(given.values()) <= {1}, "a change was given twice"


async def test_a_watch_from_a_version_gives_what_came_after_it(store: Store) -> None:
    await put(store, a=b"1", b=b"2", c=b"3")
    start = await store.read("t")
    await put(store, a=b"4")
    await store.write(Transaction(delete=("t/b",)))
    last = await put(store, d=b"5", a=b"6")
    held: Mapping[str, bytes] = start.values
    async with asyncio.timeout(DEADLINE):
        async for found in store.watch("t", start.version):
            assert "t/c" not in found.values or isinstance(found, Tree)
            held = applied(held, found)
            if found.version >= last:
                break
    assert held == {"t/a": b"6", "t/c": b"3", "t/d": b"5"}


async def test_a_watch_resumes_at_any_version(store: Store) -> None:
    """Many short watches see together what one long watch would have seen."""
    start = await store.read("t")
    held: Mapping[str, bytes] = start.values
    version = start.version
    for number in range(20):
        await put(store, **{f"k{number}": b"1", "same": b"%d" % number})
        if number >= 2:
            await store.write(Transaction(delete=(f"t/k{number - 2}",)))
        async with asyncio.timeout(DEADLINE):
            async for found in store.watch("t", version):
                held, version = applied(held, found), found.version
                break
    tree = await store.read("t")
    async with asyncio.timeout(DEADLINE):
        while version < tree.version:
            async for found in store.watch("t", version):
                held, version = applied(held, found), found.version
                break
    assert held == tree.values


async def test_a_watch_gives_only_its_prefix(store: Store) -> None:
    start = await store.read("t/a")
    await store.write(Transaction(put={"t/ab": b"1", "t/b/a": b"2", "u": b"3"}))
    await store.write(Transaction(put={"t/a/x": b"4", "t/ab/x": b"5"}))
    async with asyncio.timeout(DEADLINE):
        async for found in store.watch("t/a", start.version):
            assert found.values == {"t/a/x": b"4"}
            break


async def test_two_watches_do_not_disturb_each_other(open_store: OpenStore) -> None:
    store = open_store()
    version = await store.probe()
    watches = [store.watch("t", version), store.watch("t", version), store.watch("u", version)]
    waiting = [asyncio.ensure_future(anext(watch)) for watch in watches]
    await open_store().write(Transaction(put={"t/a": b"1"}))
    first, second = await within(asyncio.gather(*waiting[:2]))
    assert first.values == second.values == {"t/a": b"1"}
    if waiting[2].done():
        # A store that cannot tell single changes may give the whole tree, which is empty.
        assert waiting[2].result().values == {}
    waiting[2].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_cancelled_watch_leaves_the_store_usable(store: Store) -> None:
    version = await store.probe()
    waiting = asyncio.ensure_future(anext(store.watch("t", version)))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await put(store, a=b"1")
    assert (await within(anext(store.watch("t", version)))).values == {"t/a": b"1"}


async def test_closing_ends_a_watch(open_store: OpenStore) -> None:
    store = open_store()
    watch = store.watch("t", await store.probe())
    waiting = asyncio.ensure_future(anext(watch))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    await within(store.close())
    with pytest.raises((StopAsyncIteration, StoreError)):
        await within(waiting)
    with pytest.raises(StoreError):
        await store.read("t")


async def test_a_watch_from_a_forgotten_version_is_compacted(
    store: Store, harness: StoreHarness
) -> None:
    await put(store, a=b"1", gone=b"2")
    old = await store.read("t")
    await store.write(Transaction(delete=("t/gone",)))
    if not await harness.compact(store, "t"):
        pytest.skip(f"{harness.kind} cannot be made to forget")
    with pytest.raises(Compacted):
        await within(anext(store.watch("t", old.version)))
    fresh = await store.read("t")
    assert fresh.values == {"t/a": b"1"}
    await put(store, b=b"3")
    found = await within(anext(store.watch("t", fresh.version)))
    assert applied(fresh.values, found) == {"t/a": b"1", "t/b": b"3"}


async def test_a_watch_from_the_future_is_compacted(store: Store) -> None:
    version = await put(store, a=b"1")
    with pytest.raises(Compacted):
        await within(anext(store.watch("t", version + 1000)))


async def test_an_older_copy_put_in_place_is_noticed(
    open_store: OpenStore, harness: StoreHarness
) -> None:
    store = open_store()
    await put(store, a=b"old")
    if not await harness.remember():
        pytest.skip(f"{harness.kind} cannot be restored while it is in use")
    for number in range(10):
        await put(store, a=b"%d" % number, extra=b"")
    newest = await store.read("t")
    watching = asyncio.ensure_future(
        follow(store, newest, lambda values: values == {"t/a": b"old"})
    )
    done, _ = await asyncio.wait({watching}, timeout=0.05)
    assert not done
    assert await harness.restore_older()
    restored = await within(watching)
    await put(open_store(), a=b"new")
    await within(follow(store, restored, lambda values: values == {"t/a": b"new"}))


async def test_a_writer_killed_in_a_transaction_leaves_no_trace(
    store: Store, harness: StoreHarness, start_writer: StartWriter
) -> None:
    count = min(harness.transaction_keys, 2000)
    for round_number in range(4):
        start = await store.probe()
        writer = start_writer("generations", "t", str(count))
        async with asyncio.timeout(DEADLINE):
            async for _ in store.watch("t", start):
                break
        # Some way into the next transaction, further each time.
        await asyncio.sleep(0.004 * round_number)
        writer.kill()
        tree = await store.read("t")
        assert len(tree.values) == count
        assert len(set(tree.values.values())) == 1, "half a transaction was kept"
        await within(store.write(Transaction(put={"u": b"%d" % round_number})), 10.0)


async def until(store: Store, start: Tree, wanted: Mapping[str, bytes]) -> None:
    """Follow a watch, over lost connections, until it has told of exactly the keys ``wanted``."""
    await follow(store, start, lambda values: values == wanted)


async def announce(store: Store, key: str, value: bytes) -> None:
    try:
        await store.announce(key, value)
    except ReadOnly:
        pytest.skip(f"{store.name} can only be read")


async def test_an_announced_key_is_a_key_like_any_other(open_store: OpenStore) -> None:
    announcer, store = open_store(), open_store()
    start = await store.read("t")
    await announce(announcer, "t/nodes/one", b"1")
    first = await store.read("t")
    assert first.values == {"t/nodes/one": b"1"}
    assert first.version > start.version
    await within(until(store, start, first.values))
    await announcer.announce("t/nodes/one", b"2")
    await announcer.announce("t/nodes/two", b"3")
    await within(until(store, first, {"t/nodes/one": b"2", "t/nodes/two": b"3"}))
    await store.write(Transaction(expect={"t/nodes/one": b"2"}, put={"t/other": b"4"}))
    before = await store.read("t")
    await announcer.close()
    await within(until(store, before, {"t/other": b"4"}))


async def test_an_announced_key_goes_with_its_process(
    open_store: OpenStore, start_writer: StartWriter
) -> None:
    store, announcer = open_store(), open_store()
    start = await store.read("t")
    await announce(announcer, "t/lives", b"1")
    lives = {"t/lives": b"1"}
    process = start_writer("announce", "t/dies", "2")
    await within(until(store, start, {**lives, "t/dies": b"2"}))
    both = await store.read("t")
    assert both.values == {**lives, "t/dies": b"2"}
    process.kill()
    await within(until(store, both, lives), ANNOUNCEMENT_SECONDS + 1.0)
    # The other client lives, so its key, which is older, does too.
    assert (await store.read("t")).values == lives


async def test_a_value_of_the_largest_size_is_kept(store: Store, harness: StoreHarness) -> None:
    value = bytes(range(256)) * (harness.maximum_value_bytes // 256)
    value += b"x" * (harness.maximum_value_bytes - len(value))
    start = await store.probe()
    await put(store, large=value)
    assert (await store.read("t")).values == {"t/large": value}
    assert (await within(anext(store.watch("t", start)))).values == {"t/large": value}


async def test_a_value_that_is_too_large_is_refused_by_name(
    store: Store, harness: StoreHarness
) -> None:
    await put(store, small=b"1")
    with pytest.raises(TooLarge, match="t/large"):
        await put(store, small=b"2", large=bytes(harness.maximum_value_bytes + 1))
    assert (await store.read("t")).values == {"t/small": b"1"}


async def test_odd_keys_are_kept(store: Store, harness: StoreHarness) -> None:
    usual = [key for key in ODD_KEYS if key not in harness.refused_keys]
    odd_keys = (*usual, *harness.odd_keys)
    values = {f"t/{key}{end}": key.encode() for key in odd_keys for end in ("", "/x")}
    start = await store.probe()
    keys = list(values)
    for first in range(0, len(keys), harness.transaction_keys):
        part = keys[first : first + harness.transaction_keys]
        await store.write(Transaction(put={key: values[key] for key in part}))
    assert (await store.read("t")).values == values
    for key in odd_keys:
        assert set((await store.read(f"t/{key}")).values) == {f"t/{key}", f"t/{key}/x"}
    held: Mapping[str, bytes] = {}
    async with asyncio.timeout(DEADLINE):
        async for found in store.watch("t", start):
            held = applied(held, found)
            if len(held) == len(values):
                break
    assert held == values
    await store.write(Transaction(delete_prefixes=("t",)))
    assert (await store.read("t")).values == {}


async def test_impossible_keys_are_refused(store: Store, harness: StoreHarness) -> None:
    for key in harness.refused_keys:
        with pytest.raises(StoreError):
            await store.write(Transaction(put={"t/a": b"1", key: b"2"}))
    assert (await store.read("")).values == {}


async def test_ten_thousand_keys(store: Store, harness: StoreHarness) -> None:
    start = await store.probe()
    keys = [f"t/frontends/f{number}/routes/r/rule" for number in range(10_000)]
    for first in range(0, len(keys), harness.transaction_keys):
        part = keys[first : first + harness.transaction_keys]
        await store.write(Transaction(put={key: key.encode() for key in part}))
    tree = await within(store.read("t"))
    assert len(tree.values) == 10_000
    assert all(key.encode() == value for key, value in tree.values.items())
    held: Mapping[str, bytes] = {}
    async with asyncio.timeout(DEADLINE):
        async for found in store.watch("t", start):
            held = applied(held, found)
            if len(held) == 10_000:
                break
    assert held == tree.values
    await store.write(Transaction(delete_prefixes=("t/frontends",)))
    assert (await store.read("t")).values == {}


async def test_a_large_read_does_not_block_the_loop(store: Store, harness: StoreHarness) -> None:
    for first in range(0, 20_000, harness.transaction_keys):
        last = min(first + harness.transaction_keys, 20_000)
        await store.write(
            Transaction(put={f"t/{number}": bytes(100) for number in range(first, last)})
        )
    reading = asyncio.ensure_future(store.read("t"))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(reading.result().values) == 20_000
    assert turns > 10
