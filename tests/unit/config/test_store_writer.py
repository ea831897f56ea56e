"""Writing in one transaction and in parts, on an embedded store that takes as much as Consul."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from kvproxy.config.static_keys import MARK, StorePlace, ask
from kvproxy.config.store_plan import edit
from kvproxy.config.store_writer import NOTHING, Held, clean_up, empty, read, write
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import EmbeddedProvider
from kvproxy.provider import Conflict, StoreError, TooLarge, Transaction
from providers.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

OPERATIONS = 64


class SmallStore(EmbeddedStore):
    """Refuses what Consul refuses, remembers what it took, and lets others write in between."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.path = path
        self.taken: list[Transaction] = []
        self.before_write: Callable[[int], Awaitable[None]] | None = None

    async def write(self, transaction: Transaction) -> int:
        keys = {*transaction.put, *transaction.delete, *transaction.expect}
        if len(keys) + len(transaction.delete_prefixes) > OPERATIONS:
            raise TooLarge(f"{len(keys)} operations")
        if self.before_write is not None:
            await self.before_write(len(self.taken))
        version = await super().write(transaction)
        self.taken.append(transaction)
        return version

    async def of_another(self, **values: bytes | None) -> None:
        """Write in the name of another client."""
        other = EmbeddedStore(self.path)
        pairs = {key.replace("__", "/"): value for key, value in values.items()}
        put = {key: value for key, value in pairs.items() if value is not None}
        gone = tuple(key for key, value in pairs.items() if value is None)
        await other.write(Transaction(put=put, delete=gone))
        await other.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SmallStore]:
    made = SmallStore(tmp_path / "store.db")
    await EmbeddedStore(made.path).write(Transaction(put={"other": b"x"}))
    yield made
    await made.close()


def static_keys(number: int, value: str = "x") -> dict[str, bytes]:
    return {f"rootcas/{each}": value.encode() for each in range(number)}


def routes(number: int, backend: str = "b") -> dict[str, bytes]:
    return {f"frontends/f{each}/backend": backend.encode() for each in range(number)}


async def say(
    store: SmallStore,
    static: dict[str, bytes] | None = None,
    dynamic: dict[str, bytes] | None = None,
    *,
    take_over: bool = False,
) -> str:
    """Make the store hold just these keys; returns where the alias was switched to."""
    held = await read(store, "p")
    static_edit, dynamic_edit = None, NOTHING
    if static is not None:
        static_edit = edit(held.static, static, held.static.keys() - static.keys())
    if dynamic is not None:
        dynamic_edit = edit(held.dynamic, dynamic, held.dynamic.keys() - dynamic.keys())
    written = await write(
        store, held, static=static_edit, dynamic=dynamic_edit, take_over=take_over
    )
    return written.switched_to


async def holds(store: SmallStore) -> Held:
    return await read(EmbeddedStore(store.path), "p")


async def test_what_fits_is_one_transaction(store: SmallStore) -> None:
    assert await say(store, static_keys(10), routes(20)) == ""
    assert len(store.taken) == 1
    held = await holds(store)
    assert (held.static, held.dynamic) == (static_keys(10), routes(20))
    assert (held.active, held.alias, held.mark, held.unused) == ("p", None, None, ())
    assert await say(store, static_keys(5, "y"), routes(3)) == ""
    assert len(store.taken) == 2
    assert (await holds(store)).static == static_keys(5, "y")


async def test_nothing_to_write_is_not_written(store: SmallStore) -> None:
    await say(store, static_keys(10), routes(20))
    before = (await holds(store)).version
    await say(store, static_keys(10), routes(20))
    assert (await holds(store)).version == before
    assert len(store.taken) == 1


async def test_more_routes_are_a_new_tree_that_the_alias_names(store: SmallStore) -> None:
    await say(store, dynamic=routes(10))
    store.taken.clear()
    place = await say(store, dynamic=routes(500, "c"))
    assert re.fullmatch(r"p_configurations/\d{8}T\d{6}Z-[0-9a-f]{8}", place)
    held = await holds(store)
    assert held.active == place
    assert held.alias == ("alias", place.encode())
    assert held.dynamic == routes(500, "c")
    assert held.unused == tuple(sorted(f"p/{key}" for key in routes(10)))
    *parts, last = store.taken
    assert all(key.startswith(place) for part in parts for key in part.put)
    assert last == Transaction(put={"p/alias": place.encode()}, expect={"p/alias": None})


async def test_few_changes_go_into_the_tree_that_is_in_use(store: SmallStore) -> None:
    place = await say(store, dynamic=routes(500))
    store.taken.clear()
    assert await say(store, dynamic={**routes(500), "frontends/f7/backend": b"z"}) == ""
    assert [list(each.put) for each in store.taken] == [[f"{place}/frontends/f7/backend"]]
    assert (await holds(store)).active == place


async def test_more_static_keys_stand_under_a_mark_until_all_are_there(store: SmallStore) -> None:
    seen: list[bytes | None] = []

    async def look(number: int) -> None:
        held = await holds(store)
        seen.append(held.mark)

    store.before_write = look
    assert await say(store, static_keys(200), routes(3)) == ""
    assert seen[0] is None
    assert all(mark is not None and b"process" in mark for mark in seen[1:])
    held = await holds(store)
    assert (held.static, held.dynamic, held.mark) == (static_keys(200), routes(3), None)
    assert held.active == "p"
    # The routes came with the end of the mark.
    assert {f"p/{key}" for key in routes(3)} == set(store.taken[-1].put)


async def test_both_in_parts(store: SmallStore) -> None:
    place = await say(store, static_keys(200), routes(200))
    held = await holds(store)
    assert (held.static, held.dynamic, held.mark) == (static_keys(200), routes(200), None)
    assert held.active == place
    last = store.taken[-1]
    assert (set(last.put), last.delete) == ({"p/alias"}, (f"p/{MARK}",))


async def test_who_starts_meanwhile_does_not_take_half(store: SmallStore) -> None:
    section = EmbeddedProvider(path=str(store.path), prefix="p")
    place = StorePlace("embedded", section, StaticConfiguration(embedded=section))
    answers = []

    async def start(number: int) -> None:
        answers.append(await ask(place, 5.0, persist=False))

    store.before_write = start
    await say(store, static_keys(200))
    assert len(answers) > 3
    for answer in answers[1:]:
        assert answer.keys is None
        assert answer.problem is not None
        assert "static keys are being written" in answer.problem.message
    answer = await ask(place, 5.0)
    assert answer.keys is not None
    assert answer.keys.values == static_keys(200)


async def test_another_writer_between_reading_and_writing_is_noticed(store: SmallStore) -> None:
    await say(store, static_keys(3))
    held = await read(store, "p")
    await store.of_another(p__rootcas__1=b"theirs")
    with pytest.raises(Conflict, match="p/rootcas/1"):
        await write(store, held, static=edit(held.static, static_keys(3, "y"), ()))
    assert (await holds(store)).static == {**static_keys(3), "rootcas/1": b"theirs"}


async def test_another_writer_among_the_parts_is_noticed_and_ours_are_taken_back(
    store: SmallStore,
) -> None:
    await store.of_another(**{f"p/rootcas/{each}": b"x" for each in range(200)})

    async def interfere(number: int) -> None:
        if number == 3:
            await store.of_another(p__rootcas__199=b"theirs")

    store.before_write = interfere
    with pytest.raises(Conflict, match="rootcas/199"):
        await say(store, static_keys(200, "y"))
    held = await holds(store)
    assert held.static == {**static_keys(200), "rootcas/199": b"theirs"}
    assert held.mark is None


async def test_another_writer_of_routes_during_a_switch_is_noticed(store: SmallStore) -> None:
    await say(store, dynamic=routes(10))

    async def interfere(number: int) -> None:
        if number == 3:
            await store.of_another(p__frontends__theirs__backend=b"b")

    store.before_write = interfere
    with pytest.raises(Conflict, match="another writer changed frontends or backends"):
        await say(store, dynamic=routes(500))
    held = await holds(store)
    assert held.active == "p"
    assert held.dynamic == {**routes(10), "frontends/theirs/backend": b"b"}
    left = (await EmbeddedStore(store.path).read("p_configurations")).values
    assert left == {}


async def test_two_switches_at_once_do_not_both_win(store: SmallStore) -> None:
    other = SmallStore(store.path)

    async def interfere(number: int) -> None:
        if number == 2:
            await say(other, dynamic=routes(300, "theirs"))

    store.before_write = interfere
    with pytest.raises(Conflict):
        await say(store, dynamic=routes(300, "ours"))
    assert (await holds(store)).dynamic == routes(300, "theirs")
    await other.close()


async def test_a_mark_of_another_run_stops_the_next_until_it_is_taken_over(
    store: SmallStore,
) -> None:
    await store.of_another(p__storeconfig=b"host, process 1", p__rootcas__0=b"half")
    with pytest.raises(Conflict, match="left half written, by host, process 1"):
        await say(store, static_keys(2))
    await say(store, static_keys(2), take_over=True)
    held = await holds(store)
    assert (held.static, held.mark) == (static_keys(2), None)


async def test_who_writes_routes_alone_does_not_care_for_the_mark(store: SmallStore) -> None:
    await store.of_another(p__storeconfig=b"host, process 1")
    await say(store, dynamic=routes(3))
    await say(store, dynamic=routes(300))
    held = await holds(store)
    assert (held.dynamic, held.mark) == (routes(300), b"host, process 1")


async def test_a_run_that_was_taken_over_writes_no_more(store: SmallStore) -> None:
    async def interfere(number: int) -> None:
        if number == 3:
            await store.of_another(p__storeconfig=b"somebody else")

    store.before_write = interfere
    with pytest.raises(Conflict, match="p/storeconfig"):
        await say(store, static_keys(300))
    assert (await holds(store)).mark == b"somebody else"


async def test_a_store_that_fails_among_the_parts_leaves_the_mark(store: SmallStore) -> None:
    async def fail(number: int) -> None:
        if number >= 3:
            raise StoreError("the store is gone")

    store.before_write = fail
    with pytest.raises(StoreError, match="the store is gone"):
        await say(store, static_keys(300))
    held = await holds(store)
    assert held.mark is not None
    assert 0 < len(held.static) < 300
    store.before_write = None
    await say(store, static_keys(300), take_over=True)
    held = await holds(store)
    assert (held.static, held.mark) == (static_keys(300), None)


async def test_trees_of_earlier_switches_are_deleted_but_for_the_newest(store: SmallStore) -> None:
    places = [await say(store, dynamic=routes(200, str(number))) for number in range(3)]
    await store.of_another(p_configurations__mine__frontends__f__backend=b"b")
    # Trees of one second have no order in time; their names have one.
    old, kept = sorted(places[:2])
    assert await clean_up(store, await read(store, "p"), unused=False) == 200
    values = (await EmbeddedStore(store.path).read("p_configurations")).values
    names = {key.split("/")[1] for key in values}
    assert names == {"mine", kept.split("/")[1], places[2].split("/")[1]}
    assert old.split("/")[1] not in names
    assert (await holds(store)).dynamic == routes(200, "2")


async def test_unused_routes_below_the_prefix_are_deleted_when_asked(store: SmallStore) -> None:
    await say(store, dynamic=routes(10))
    await say(store, dynamic=routes(200))
    held = await read(store, "p")
    assert len(held.unused) == 10
    await clean_up(store, held, unused=False)
    assert len((await holds(store)).unused) == 10
    await clean_up(store, held, unused=True)
    assert (await holds(store)).unused == ()
    assert (await holds(store)).dynamic == routes(200)


async def test_an_alias_inside_the_prefix_and_one_to_itself(store: SmallStore) -> None:
    await store.of_another(p__alias=b"/p/v2/", p__v2__frontends__f__backend=b"b")
    held = await read(store, "p")
    assert (held.active, held.dynamic) == ("p/v2", {"frontends/f/backend": b"b"})
    await store.of_another(p__alias=b"p", p__frontends__g__backend=b"b")
    held = await read(store, "p")
    assert (held.active, held.dynamic) == ("p", {"frontends/g/backend": b"b"})


async def test_a_value_that_no_transaction_takes_is_an_error(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store.db")
    held = empty("p")
    large = {"frontends/f/routes/r/rule": b"x" * (17 << 20)}
    with pytest.raises(TooLarge, match="p/frontends/f/routes/r/rule"):
        await write(store, held, dynamic=edit({}, large, ()))
    with pytest.raises(TooLarge):
        await write(store, held, static=edit({}, {"rootcas/0": large.popitem()[1], "a": b""}, ()))
    found = await read(store, "p")
    assert (found.static, found.dynamic, found.mark) == ({}, {}, None)
    await store.close()


async def test_progress_is_told(store: SmallStore) -> None:
    told: list[tuple[int, int]] = []
    held = await read(store, "p")
    await write(
        store,
        held,
        static=edit({}, static_keys(100), ()),
        dynamic=edit({}, routes(100), ()),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] >= 200
