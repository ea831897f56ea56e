"""``kvproxy run`` with nothing but a store: static settings from its keys, and without it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore
from tests.support.backend import Backend, LoopThread, ReservedPort
from tests.support.deadline import wait_until
from tests.support.http_client import ConnectionEndedError, TooSlowError, build_request, fetch
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUTE = "route.test"


class World:
    """A proxy that reads an embedded store, and a port that only the store's keys name."""

    def __init__(self, backend: Backend) -> None:
        self.process = ProxyProcess(None, static={"embedded": {"path": "store.db"}})
        self.store = self.process.directory / "store.db"
        self.reserved = ReservedPort()
        self.port = self.reserved.port
        self.routes = {
            "backends/b/servers/s/url": backend.url,
            "frontends/f/backend": "b",
            "frontends/f/entrypoints": "extra",
            "frontends/f/routes/r/rule": f"Host:{ROUTE}",
        }
        self.put({**self.routes, "entrypoints/extra/address": f"127.0.0.1:{self.port}"})

    def put(self, values: dict[str, str], *, delete: tuple[str, ...] = ()) -> str:
        async def write() -> int:
            store = EmbeddedStore(self.store)
            try:
                put = {f"kvproxy/{key}": value.encode() for key, value in values.items()}
                gone = tuple(f"kvproxy/{key}" for key in delete)
                return await store.write(Transaction(put=put, delete=gone))
            finally:
                await store.close()

        return str(asyncio.run(write()))

    def get(self) -> int:
        """Return the status of the route on the port of the store, 0 when nobody answers."""
        try:
            return fetch(self.port, build_request("/", host=ROUTE)).status
        except (OSError, ConnectionEndedError, TooSlowError):
            return 0

    def status(self) -> dict[str, Any]:
        return self.process.ask("status")

    def served(self, seconds: float = 10.0) -> None:
        wait_until(lambda: self.get() == 200, "the route on the store's entry point", seconds)

    def end(self) -> None:
        self.process.process.terminate()
        assert self.process.wait_for_exit() == 0


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    thread = LoopThread()
    server = Backend(thread)
    yield server
    server.stop()
    thread.stop()


@pytest.fixture
def world(backend: Backend) -> Iterator[World]:
    made = World(backend)
    try:
        yield made
    finally:
        made.process.stop()
        made.reserved.close()
        print(made.process.log())


def test_an_entry_point_of_the_store_is_opened(world: World) -> None:
    world.process.start()
    world.served()
    assert set(world.status()["entryPoints"]) == {"http", "ready", "extra"}
    assert "the static settings" not in world.process.log()


def test_the_last_settings_serve_when_the_store_is_lost(world: World) -> None:
    world.process.start()
    world.served()
    world.end()
    world.store.write_bytes(b"this is no database" * 1000)
    world.process.start()
    world.served()
    assert "STALE: static settings of embedded are those of the last start" in world.process.log()
    status = world.status()
    assert status["providers"][0]["stale"] is True
    assert "STALE" in " ".join(e["text"] for e in status["problems"] if e["provider"] == "settings")


def test_a_start_that_missed_the_settings_is_made_good_when_the_store_is_back(
    world: World,
) -> None:
    kept = world.store.read_bytes()
    world.store.write_bytes(b"this is no database" * 1000)
    world.process.start()
    assert world.get() == 0
    assert "started without the static settings of the store" in world.process.log()
    first = world.status()["pid"]
    for suffix in ("-wal", "-shm"):
        world.store.with_name(world.store.name + suffix).unlink(missing_ok=True)
    # In one step: half a file is a store, too, and one without settings.
    restored = world.store.with_name("restored")
    restored.write_bytes(kept)
    restored.replace(world.store)
    world.served(20.0)
    assert world.status()["pid"] != first
    assert "handed over" in world.process.log()


def test_settings_that_change_in_the_store_wait_for_a_restart_and_are_said(world: World) -> None:
    world.process.start()
    world.served()
    assert [each["provider"] for each in world.status()["problems"]] == []
    world.put({"workers": "2"})
    expected = "static settings differ from those in use: workers"
    wait_until(lambda: expected in world.process.log(), "the warning")
    (problem,) = world.status()["problems"]
    assert (problem["provider"], problem["fatal"]) == ("settings", False)
    assert expected in problem["text"]
    world.put({}, delete=("workers",))
    wait_until(lambda: world.status()["problems"] == [], "the end of the warning")
    assert world.get() == 200


def test_garbage_among_the_settings_leaves_those_of_the_last_start(world: World) -> None:
    world.process.start()
    world.served()
    world.end()
    world.put({"workers": "many"})
    world.process.start()
    world.served()
    log = world.process.log()
    assert "ERROR settings problem=" in log
    assert "kvproxy/workers: workers: `many` is not a whole number" in log
    assert "STALE: static settings" in log
    # The store says that it is garbage for as long as it is.
    assert "static settings differ from those in use: workers" in log


def test_entry_points_of_the_store_change_while_it_runs(world: World) -> None:
    """No restart, whatever the key: added, moved to another address, taken away."""
    world.process.start()
    world.served()
    first = world.status()["pid"]
    other = ReservedPort()
    try:
        address = f"127.0.0.1:{other.port}"
        world.put({"entrypoints/extra/address": address})
        wait_until(
            lambda: world.status()["entryPoints"].get("extra") == [address], "the new address", 10
        )
        assert fetch(other.port, build_request("/", host=ROUTE)).status == 200
        assert world.get() == 0
        world.put({}, delete=("entrypoints/extra/address",))
        wait_until(lambda: "extra" not in world.status()["entryPoints"], "its end", 10)
        world.put({"entrypoints/extra/address": f"127.0.0.1:{world.port}"})
        world.served()
    finally:
        other.close()
    assert world.status()["pid"] == first
    assert [each for each in world.status()["problems"] if each["provider"] == "settings"] == []
