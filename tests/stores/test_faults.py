"""What happens to a follower when a store's server dies, hangs or loses what it knew."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from kvproxy.control.sources.store_source import Pace
from kvproxy.provider import Transaction
from tests.stores.following import ProxyView, follow, frontend, retried, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kvproxy.provider import Store
    from tests.stores.harness import StoreHarness
    from tests.stores.writers import WriterProcess
    from tests.support.store_server import StoreServer

    StartWriter = Callable[..., WriterProcess]
    OpenStore = Callable[[], Store]

RECOVERY_SECONDS = 30.0
"""A server is started and clients come back, on a busy machine."""
QUICK = Pace(probe=0.3, patience=1.0, first_pause=0.02, longest_pause=0.5)


@pytest.fixture
def server(harness: StoreHarness) -> StoreServer:
    if harness.server is None:
        pytest.skip(f"{harness.kind} has no server")
    return harness.server


@asynccontextmanager
async def view_of(store: Store, pace: Pace) -> AsyncIterator[ProxyView]:
    view = ProxyView(store, pace)
    try:
        yield view
    finally:
        await view.close()


async def test_a_change_costs_one_read_at_most(
    open_store: OpenStore, harness: StoreHarness
) -> None:
    writer = open_store()
    await writer.write(Transaction(put=frontend("web", "old")))
    async with view_of(open_store(), Pace(probe=60.0)) as view:
        await view.until(lambda view: view.rules == {"web": "Host:old"})
        # Whatever a watch asks at its start is over when the first change has come.
        await writer.write(Transaction(put=frontend("web", "first")))
        await view.until(lambda view: view.rules == {"web": "Host:first"})
        before = await harness.reads()
        for number in range(20):
            await writer.write(Transaction(put=frontend("web", str(number))))
            await view.until(lambda view, number=number: view.rules == {"web": f"Host:{number}"})
        after = await harness.reads()
        assert view.source.reads == 1
    if before is not None and after is not None:
        assert after - before <= 20


async def test_a_server_killed_and_started_again_costs_no_change(
    open_store: OpenStore, server: StoreServer, start_writer: StartWriter
) -> None:
    store, follower = open_store(), open_store()
    start = await store.read("t")
    writer = start_writer("steady", "t")
    last: dict[str, int] = {"number": 0}

    def has_grown(values: object) -> bool:
        assert isinstance(values, dict)
        return int(values.get("t/last", b"0")) >= last["number"] + 10

    for _ in range(2):
        start = await within(follow(follower, start, has_grown), RECOVERY_SECONDS)
        last["number"] = int(start.values["t/last"])
        await asyncio.to_thread(server.restart)
    start = await within(follow(follower, start, has_grown), RECOVERY_SECONDS)
    writer.kill()
    tree = await store.read("t")
    numbers = sorted(int(value) for key, value in tree.values.items() if key != "t/last")
    newest = int(tree.values["t/last"])
    assert numbers == list(range(newest - len(numbers) + 1, newest + 1)), "a write was lost"
    await within(follow(follower, start, lambda values: values == tree.values))


async def test_a_frozen_server_is_noticed(open_store: OpenStore, server: StoreServer) -> None:
    writer = open_store()
    await writer.write(Transaction(put=frontend("web", "old")))
    async with view_of(open_store(), QUICK) as view:
        await view.until(lambda view: view.rules == {"web": "Host:old"})
        server.freeze()
        try:
            await view.until(lambda view: bool(view.failures), 5.0)
            fresh_at = view.source.fresh_at
        finally:
            server.thaw()
        assert view.rules == {"web": "Host:old"}
        await view.until(lambda view: view.source.fresh_at > fresh_at, RECOVERY_SECONDS)
        await retried(lambda: writer.write(Transaction(put=frontend("web", "new"))))
        await view.until(lambda view: view.rules == {"web": "Host:new"}, RECOVERY_SECONDS)


async def test_a_wiped_server_is_followed(open_store: OpenStore, server: StoreServer) -> None:
    writer = open_store()
    for number in range(5):
        await writer.write(Transaction(put=frontend(f"web{number}", "old")))
    async with view_of(open_store(), QUICK) as view:
        await view.until(lambda view: len(view.rules) == 5)
        await asyncio.to_thread(server.wipe)
        await view.until(lambda view: view.rules == {}, RECOVERY_SECONDS)
        await retried(lambda: writer.write(Transaction(put=frontend("web", "new"))))
        await view.until(lambda view: view.rules == {"web": "Host:new"}, RECOVERY_SECONDS)


async def test_a_wiped_server_that_was_written_to_is_not_taken_for_the_old_one(
    open_store: OpenStore, server: StoreServer
) -> None:
    """Its version is beyond the old one again: only what it holds tells that it is another."""
    store, writer = open_store(), open_store()
    await store.write(Transaction(put={"t/old": b"1", "t/both": b"1"}))
    held = await store.read("t")
    await asyncio.to_thread(server.wipe)
    version = 0
    while version <= held.version + 3:
        put = {"t/both": b"%d" % version, "t/new": b"2"}
        version = await retried(lambda put=put: writer.write(Transaction(put=put)))
    tree = await retried(lambda: writer.read("t"))
    assert "t/old" not in tree.values
    await within(follow(store, held, lambda values: values == tree.values), RECOVERY_SECONDS)
