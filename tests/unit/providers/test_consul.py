"""What only Consul does: folders, permissions of single keys, sizes, sessions, the token."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import ConsulProvider
from kvproxy.provider import Conflict, StoreError, TooLarge, Transaction
from providers.consul import ConsulStore, plugin
from providers.consul_requests import MAXIMUM_VALUE_BYTES, deleted_below
from tests.support.consul import ConsulServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

DEADLINE = 20.0
EVERYTHING = 'key_prefix "t" { policy = "write" } session_prefix "" { policy = "write" }'


@pytest.fixture(scope="module")
def server() -> Iterator[ConsulServer]:
    with (
        tempfile.TemporaryDirectory(prefix="kvproxy-consul-") as directory,
        ConsulServer(Path(directory), acl=True) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def token(server: ConsulServer) -> str:
    return server.make_token("everything", EVERYTHING)


@pytest.fixture
async def open_store(server: ConsulServer, token: str) -> AsyncIterator[Callable[..., ConsulStore]]:
    server.delete_everything()
    stores: list[ConsulStore] = []

    def make(token: str = token) -> ConsulStore:
        stores.append(ConsulStore(server.endpoint, token=token, probe_prefix="t"))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


async def test_folders_of_the_web_interface_are_no_keys(
    server: ConsulServer, open_store: Callable[..., ConsulStore]
) -> None:
    server.call("PUT", "kv/t/", b"")
    server.call("PUT", "kv/t/folder/", b"")
    store = open_store()
    start = await store.read("t")
    assert start.values == {}
    server.call("PUT", "kv/t/folder/a", b"1")
    server.call("PUT", "kv/t/other/", b"")
    async with aclosing(store.watch("t", start.version)) as watch, asyncio.timeout(DEADLINE):
        assert (await anext(watch)).values == {"t/folder/a": b"1"}


async def test_keys_beside_the_prefix_are_not_told(
    server: ConsulServer, open_store: Callable[..., ConsulStore]
) -> None:
    """Consul's prefix is any start of a key: the watch wakes for `t-2` too."""
    store = open_store()
    await store.write(Transaction(put={"t/a": b"1", "t-2/a": b"1"}))
    start = await store.read("t")
    await store.write(Transaction(put={"t-2/a": b"2"}, delete=("t-2/b",)))
    await store.write(Transaction(delete_prefixes=("t-2",)))
    version = await store.write(Transaction(put={"t/b": b"1"}))
    async with aclosing(store.watch("t", start.version)) as watch, asyncio.timeout(DEADLINE):
        found = await anext(watch)
    assert (found.version, found.values) == (version, {"t/b": b"1"})


async def test_keys_beside_the_prefix_cost_no_reads(
    server: ConsulServer, open_store: Callable[..., ConsulStore]
) -> None:
    store, writer = open_store(), open_store()
    await writer.write(Transaction(put={"t/a": b"0"}))
    start = await store.read("t")
    async with aclosing(store.watch("t", start.version)) as watch, asyncio.timeout(DEADLINE):
        waiting = asyncio.ensure_future(anext(watch))
        await writer.write(Transaction(put={"t/a": b"1"}))
        assert (await waiting).values == {"t/a": b"1"}
        before = server.whole_reads()
        waiting = asyncio.ensure_future(anext(watch))
        for number in range(20):
            await writer.write(Transaction(put={"t-nodes/one": b"%d" % number}))
        await writer.write(Transaction(put={"t/a": b"2"}))
        assert (await waiting).values == {"t/a": b"2"}
        assert server.whole_reads() - before <= 1


async def test_a_watched_key_may_be_made_and_get_keys_below(
    open_store: Callable[..., ConsulStore],
) -> None:
    store, writer = open_store(), open_store()
    start = await store.read("t/a")
    async with aclosing(store.watch("t/a", start.version)) as watch, asyncio.timeout(DEADLINE):
        for key in ("t/a", "t/a/b", "t/a/c"):
            waiting = asyncio.ensure_future(anext(watch))
            await writer.write(Transaction(put={key: b"1"}))
            assert (await waiting).values == {key: b"1"}
        waiting = asyncio.ensure_future(anext(watch))
        await writer.write(Transaction(delete=("t/a",)))
        assert (await waiting).values == {"t/a": None}
        waiting = asyncio.ensure_future(anext(watch))
        await writer.write(Transaction(delete_prefixes=("t/a",)))
        assert (await waiting).values == {"t/a/b": None, "t/a/c": None}


async def test_a_permission_for_some_keys_that_is_lost_is_no_deletion(
    server: ConsulServer, open_store: Callable[..., ConsulStore]
) -> None:
    rules = 'key_prefix "t/" { policy = "read" } key_prefix "t/secret/" { policy = "%s" }'
    reader = open_store(server.make_token("reader", rules % "read"))
    writer = open_store()
    secret = {f"t/secret/{number}": b"1" for number in range(50)}
    await writer.write(Transaction(put={**secret, "t/open": b"1"}))
    start = await reader.read("t")
    assert len(start.values) == 51
    server.change_policy("reader", rules % "deny")
    await writer.write(Transaction(put={"t/open": b"2"}))
    with pytest.raises(StoreError, match=r"no permission to read `t/secret/\d+`"):
        async with asyncio.timeout(DEADLINE), aclosing(reader.watch("t", start.version)) as watch:
            async for found in watch:
                pytest.fail(f"{found} was told")
    with pytest.raises(StoreError, match="is not taken for deleted"):
        await reader.read("t")
    server.change_policy("reader", rules % "read")
    async with aclosing(reader.watch("t", start.version)) as watch, asyncio.timeout(DEADLINE):
        assert (await anext(watch)).values == {"t/open": b"2"}


async def test_a_value_that_no_transaction_holds_is_written_alone(
    open_store: Callable[..., ConsulStore],
) -> None:
    store = open_store()
    large = bytes(MAXIMUM_VALUE_BYTES)
    first = await store.write(Transaction(put={"t/a": large}, expect={"t/a": None}))
    with pytest.raises(Conflict, match="`t/a` exists already"):
        await store.write(Transaction(put={"t/a": large}, expect={"t/a": None}))
    second = await store.write(Transaction(put={"t/a": large[:-1]}, expect={"t/a": large}))
    assert second > first
    tree = await store.read("t")
    assert (tree.version, len(tree.values["t/a"])) == (second, MAXIMUM_VALUE_BYTES - 1)


async def test_what_a_transaction_does_not_hold_is_refused_in_words(
    open_store: Callable[..., ConsulStore],
) -> None:
    store = open_store()
    cases = [
        (Transaction(put={f"t/{n}": b"" for n in range(65)}), "takes 65 operations"),
        (Transaction(put={"t/a": bytes(300_000), "t/b": bytes(200_000)}), "of them in key `t/a`"),
        (Transaction(put={"t/a": bytes(450_000)}, delete=("t/b",)), "of them in key `t/a`"),
    ]
    for transaction, message in cases:
        with pytest.raises(TooLarge, match=message):
            await store.write(transaction)
    assert (await store.read("t")).values == {}


async def test_a_transaction_without_permission_is_no_conflict(
    server: ConsulServer, open_store: Callable[..., ConsulStore]
) -> None:
    await open_store().write(Transaction(put={"t/a": b"1"}))
    rules = 'key_prefix "t" { policy = "read" }'
    reader = open_store(server.make_token("only-reads", rules))
    stranger = open_store(server.make_token("sees-nothing", 'key_prefix "u" { policy = "read" }'))
    for store in (reader, stranger):
        for expect in ({}, {"t/a": b"1"}, {"t/b": None}):
            with pytest.raises(StoreError, match="no permission") as caught:
                await store.write(Transaction(put={"t/c": b"1"}, expect=expect))
            assert not isinstance(caught.value, Conflict)


async def test_a_lost_session_is_made_again(
    server: ConsulServer, open_store: Callable[..., ConsulStore]
) -> None:
    announcer, store = open_store(), open_store()
    await announcer.announce("t/node", b"1")
    start = await store.read("t")
    for session in server.call("GET", "session/list"):
        server.call("PUT", f"session/destroy/{session['ID']}")
    async with aclosing(store.watch("t", start.version)) as watch, asyncio.timeout(DEADLINE):
        assert (await anext(watch)).values == {"t/node": None}
        assert (await anext(watch)).values == {"t/node": b"1"}


async def test_a_key_of_a_dead_client_is_taken_over(
    open_store: Callable[..., ConsulStore],
) -> None:
    """A proxy that is started again says its word although its last session is not over."""
    first, second = open_store(), open_store()
    await first.announce("t/node", b"1")
    await second.announce("t/node", b"2")
    assert (await second.read("t")).values == {"t/node": b"2"}


@pytest.mark.parametrize(
    ("delete", "prefixes", "below"),
    [
        (("t/a/b",), (), "t/a/b"),
        (("t/a/b", "t/a/c"), (), "t/a"),
        (("t/a/b",), ("t/ab",), "t"),
        (("t/a/b/c", "u/a/b/c"), (), ""),
        (("t/a/x/c", "t/b/x/c"), (), "t"),
        ((), ("t",), "t"),
    ],
)
def test_deletions_have_a_place_in_common(
    delete: tuple[str, ...], prefixes: tuple[str, ...], below: str
) -> None:
    assert deleted_below(Transaction(delete=delete, delete_prefixes=prefixes)) == below


async def test_the_token_may_come_from_the_environment(
    server: ConsulServer, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert plugin.open_store is not None
    cases = [(token, "", True), ("wrong", token, False), ("", token, True), ("", "", False)]
    for option, variable, works in cases:
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", variable)
        settings = ConsulProvider(endpoint=server.endpoint, token=option, prefix="/t/")
        store = plugin.open_store(settings, StaticConfiguration())
        try:
            await store.write(Transaction(put={"t/a": b"1"}))
        except StoreError:
            assert not works
        else:
            assert works
        await store.close()
