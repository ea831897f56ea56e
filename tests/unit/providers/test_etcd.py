"""What only etcd does: pages, foreign keys, leases, clusters, refused settings."""

from __future__ import annotations

import asyncio
import base64
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import EtcdProvider
from kvproxy.provider import StoreError, TooLarge, Transaction
from providers.etcd import EtcdStore, plugin
from tests.support.backend import Answer, Backend, LoopThread
from tests.support.etcd import EtcdServer, start_cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

DEADLINE = 20.0


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    with (
        tempfile.TemporaryDirectory(prefix="kvproxy-etcd-") as directory,
        EtcdServer(Path(directory)) as server,
    ):
        yield server


@pytest.fixture
async def open_store(server: EtcdServer) -> AsyncIterator[Callable[..., EtcdStore]]:
    server.delete_everything()
    stores: list[EtcdStore] = []

    def make(endpoints: str = server.endpoint, **options: Any) -> EtcdStore:
        stores.append(EtcdStore(endpoints, **options))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


def encoded(key: bytes) -> str:
    return base64.b64encode(key).decode()


async def test_pages_belong_together(open_store: Callable[..., EtcdStore]) -> None:
    """A read takes many requests while another client writes pairs of keys."""
    keys = [f"t/{number:03}" for number in range(40)]
    store, writer = open_store(page_keys=7), open_store()
    await writer.write(Transaction(put=dict.fromkeys(keys, b"0")))

    async def write() -> None:
        number = 0
        while True:
            number += 1
            await writer.write(Transaction(put=dict.fromkeys(keys, b"%d" % number)))

    writing = asyncio.create_task(write())
    seen = set()
    for _ in range(100):
        tree = await store.read("t")
        assert list(tree.values) == keys
        assert len(set(tree.values.values())) == 1
        seen |= set(tree.values.values())
    writing.cancel()
    assert len(seen) > 10, "the writer hardly wrote: this test showed nothing"


async def test_a_root_stands_before_every_key(
    server: EtcdServer, open_store: Callable[..., EtcdStore]
) -> None:
    store = open_store(root="/")
    await store.write(Transaction(put={"t/a": b"1"}))
    server.call("kv/put", {"key": encoded(b"t/b"), "value": encoded(b"2")})
    assert (await store.read("")).values == {"t/a": b"1"}
    assert (await open_store().read("t")).values == {"t/b": b"2"}
    found = server.call("kv/range", {"key": encoded(b"/t/a")})
    assert found["count"] == "1"
    start = await store.read("t")
    await store.write(Transaction(delete_prefixes=("t",)))
    async with aclosing(store.watch("t", start.version)) as watch, asyncio.timeout(DEADLINE):
        assert (await anext(watch)).values == {"t/a": None}


async def test_keys_that_are_no_text_do_not_hide_others(
    server: EtcdServer, open_store: Callable[..., EtcdStore]
) -> None:
    store = open_store()
    await store.write(Transaction(put={"t/a": b"1"}))
    server.call("kv/put", {"key": encoded(b"t/\xff"), "value": encoded(b"2")})
    assert (await store.read("t")).values == {"t/a": b"1", "t/\\xff": b"2"}


async def test_too_many_operations_are_refused_in_words(
    open_store: Callable[..., EtcdStore],
) -> None:
    put = {f"t/{number}": b"" for number in range(129)}
    with pytest.raises(TooLarge, match="takes 129 operations"):
        await open_store().write(Transaction(put=put))


async def test_a_lost_lease_is_made_again(
    server: EtcdServer, open_store: Callable[..., EtcdStore]
) -> None:
    announcer, store = open_store(), open_store()
    await announcer.announce("t/node", b"1")
    start = await store.read("t")
    assert start.values == {"t/node": b"1"}
    for lease in server.call("lease/leases", {})["leases"]:
        server.call("lease/revoke", {"ID": lease["ID"]})
    async with aclosing(store.watch("t", start.version)) as watch, asyncio.timeout(DEADLINE):
        assert (await anext(watch)).values == {"t/node": None}
        assert (await anext(watch)).values == {"t/node": b"1"}
    # The next word does not wait for the turn of the lease.
    for lease in server.call("lease/leases", {})["leases"]:
        server.call("lease/revoke", {"ID": lease["ID"]})
    await announcer.announce("t/node", b"2")
    assert (await store.read("t")).values == {"t/node": b"2"}


async def test_another_server_of_the_cluster_takes_over(tmp_path: Path) -> None:
    """The first dies, the next is frozen and thawed: reads, writes and the watch go on."""
    members = start_cluster(tmp_path, 3)
    endpoints = ",".join(member.endpoint for member in members)
    store, writer = EtcdStore(endpoints), EtcdStore(endpoints)
    try:
        version = await writer.write(Transaction(put={"t/a": b"0"}))
        for number, harm in enumerate([members[0].kill, members[1].freeze], start=1):
            following = asyncio.create_task(_value(store, version, b"%d" % number))
            harm()
            if number == 2:
                # Two of three are needed: the first must be back before the second is lost.
                members[1].thaw()
                members[0].start()
                members[1].freeze()
            async with asyncio.timeout(DEADLINE):
                while True:
                    try:
                        async with asyncio.timeout(2.5):
                            await writer.write(Transaction(put={"t/a": b"%d" % number}))
                        break
                    except (StoreError, TimeoutError):
                        await asyncio.sleep(0.05)
                version = await following
    finally:
        for each in (store, writer):
            await each.close()
        for member in members:
            member.kill()


async def _value(store: EtcdStore, version: int, wanted: bytes) -> int:
    """Return the version at which a watch, started as often as it fails, told ``wanted``."""
    while True:
        try:
            async with asyncio.timeout(1.0), aclosing(store.watch("t", version)) as watch:
                async for found in watch:
                    version = found.version
                    if found.values.get("t/a") == wanted:
                        return version
        except (StoreError, TimeoutError):
            # As the proxy does after a time of silence: is the server alive?
            try:
                await store.probe()
            except StoreError:
                await asyncio.sleep(0.05)


async def test_a_watch_that_is_refused_says_why(loop_thread: LoopThread) -> None:
    server = Backend(loop_thread)
    store = EtcdStore(f"127.0.0.1:{server.port}")
    cases = [
        (b"404 Not Found", b"404 page not found\n", "there is no v3 gateway at /v3"),
        (
            b"401 Unauthorized",
            b'{"error":"etcdserver: invalid auth token","code":16}',
            "invalid auth",
        ),
        (b"200 OK", b"<html>", "not a message of a watch"),
        (b"200 OK", b'{"result":{"header":{}', "not a message of a watch"),
        (b"200 OK", b'{"error":{"grpc_code":14,"message":"shutting down"}}', "shutting down"),
        (b"200 OK", b"", "the watch was closed"),
    ]
    for status, body, message in cases:
        head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        server.on("/v3/watch", Answer((head + body,)))
        with pytest.raises(StoreError, match=message):
            async with asyncio.timeout(DEADLINE):
                await anext(store.watch("t", 1))
    await store.close()
    server.stop()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EtcdProvider(use_api_v3=False), "version 2 of its interface"),
        (EtcdProvider(password="x"), "`etcd.password` is of no use"),
        (EtcdProvider(endpoint="a b:1"), "is no address"),
    ],
    ids=["version-2", "password-alone", "endpoint"],
)
def test_settings_that_cannot_work_are_refused(settings: EtcdProvider, message: str) -> None:
    assert plugin.open_store is not None
    with pytest.raises(StoreError, match=message):
        plugin.open_store(settings, StaticConfiguration())
