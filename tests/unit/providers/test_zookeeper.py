"""What only ZooKeeper has: directories that are nodes, permissions, sessions, other clients."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError, NoNodeError, NotEmptyError
from kazoo.security import make_acl

from kvproxy.model.dynamic import ClientTLS
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import ZookeeperProvider
from kvproxy.provider import Conflict, StoreError, TooLarge, Transaction
from providers.zookeeper import ZookeeperStore, plugin
from providers.zookeeper_nodes import MAXIMUM_VALUE_BYTES
from tests.stores.following import applied, follow, within
from tests.support.zookeeper import ZookeeperServer, digest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from kvproxy.provider import Store, Tree

    OpenStore = Callable[..., ZookeeperStore]

DEADLINE = 15.0
ADMINISTRATOR = ("super", "super secret")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZookeeperServer]:
    with ZookeeperServer(tmp_path_factory.mktemp("zookeeper"), super_user=ADMINISTRATOR) as server:
        yield server


@pytest.fixture
def client(server: ZookeeperServer) -> Iterator[KazooClient]:
    """Another program that may do everything, in an empty tree."""
    client = KazooClient(server.endpoint, auth_data=[("digest", ":".join(ADMINISTRATOR))])
    client.start()
    for name in client.get_children("/"):
        if name != "zookeeper":
            client.delete(f"/{name}", recursive=True)
    yield client
    client.stop()
    client.close()


@pytest.fixture
async def open_store(server: ZookeeperServer, client: KazooClient) -> AsyncIterator[OpenStore]:
    stores: list[ZookeeperStore] = []

    def make(*arguments: Any, **options: Any) -> ZookeeperStore:
        stores.append(ZookeeperStore(server.endpoint, *arguments, **options))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: OpenStore) -> ZookeeperStore:
    return open_store()


async def until(store: Store, start: Tree, wanted: Mapping[str, bytes]) -> Tree:
    """Follow a watch until it has told of exactly the keys ``wanted``."""
    return await within(follow(store, start, lambda values: values == wanted), DEADLINE)


def as_traefik(client: KazooClient, path: str, value: bytes) -> None:
    """Put as libkv does: parents with empty data, then the node in two steps."""
    parts = path.strip("/").split("/")
    for length in range(1, len(parts) + 1):
        node = "/" + "/".join(parts[:length])
        if not client.exists(node):
            client.create(node, b"")
    client.set(path, value)


def traefik_tree(client: KazooClient) -> None:
    as_traefik(client, "/t/api", b"")
    as_traefik(client, "/t/api/entrypoint", b"traefik")
    as_traefik(client, "/t/frontends/web/backend", b"b")
    as_traefik(client, "/t/frontends/web/priority", b"")


def deleted_leaf(client: KazooClient) -> None:
    as_traefik(client, "/t/frontends/web/backend", b"b")
    client.delete("/t/frontends/web/backend")


def value_on_directory(client: KazooClient) -> None:
    client.create("/t", b"on the root")
    client.create("/t/a", b"on a")
    client.create("/t/a/b", b"on b")


def made_by_hand(client: KazooClient) -> None:
    client.create("/t", None)
    client.create("/t/directory", None)
    client.create("/t/empty", b"")
    client.create("/t/parent", b"")
    client.create("/t/parent/child", b"")


def value_taken_away(client: KazooClient) -> None:
    client.create("/t", b"1")
    client.create("/t/a", b"2")
    client.set("/t", b"")
    client.set("/t/a", None)


FOREIGN: dict[str, tuple[Callable[[KazooClient], None], dict[str, bytes]]] = {
    "Traefik's tree": (
        traefik_tree,
        {
            "t/api": b"",
            "t/api/entrypoint": b"traefik",
            "t/frontends/web/backend": b"b",
            "t/frontends/web/priority": b"",
        },
    ),
    "directories whose keys were deleted": (deleted_leaf, {}),
    "values on directories": (
        value_on_directory,
        {"t": b"on the root", "t/a": b"on a", "t/a/b": b"on b"},
    ),
    "made by hand": (made_by_hand, {"t/empty": b"", "t/parent/child": b""}),
    "values that were taken away": (value_taken_away, {"t": b""}),
}


@pytest.mark.parametrize(("make", "expected"), FOREIGN.values(), ids=FOREIGN)
async def test_which_nodes_are_keys(
    make: Callable[[KazooClient], None],
    expected: dict[str, bytes],
    store: ZookeeperStore,
    client: KazooClient,
) -> None:
    """The same by a read, and by a watch that sees the nodes come one by one."""
    start = await store.read("t")
    following = asyncio.ensure_future(until(store, start, expected))
    await asyncio.to_thread(make, client)
    await following
    assert (await store.read("t")).values == expected


async def test_a_leaf_that_becomes_a_directory_is_no_key_any_more(
    store: ZookeeperStore, client: KazooClient
) -> None:
    """ZooKeeper does not tell a recursive watch that a node got its first child."""
    client.create("/t", None)
    client.create("/t/a", b"")
    start = await store.read("t")
    assert start.values == {"t/a": b""}
    client.create("/t/a/b", b"1")
    await until(store, start, {"t/a/b": b"1"})


async def test_an_empty_value_stays_a_key_with_keys_below_it(
    store: ZookeeperStore, client: KazooClient
) -> None:
    put = {"t/a": b"", "t/a/b": b"", "t/c/d": b""}
    await store.write(Transaction(put=put))
    await store.write(Transaction(put={"t/c": b""}))
    assert (await store.read("t")).values == {**put, "t/c": b""}


async def test_deleting_a_key_leaves_the_keys_below_it(store: ZookeeperStore) -> None:
    await store.write(Transaction(put={"t/a": b"1", "t/a/b": b"2", "t/a/b/c": b"3"}))
    start = await store.read("t")
    await store.write(Transaction(delete=("t/a", "t/a/b")))
    await until(store, start, {"t/a/b/c": b"3"})
    await store.write(Transaction(delete=("t/a",)))
    assert (await store.read("t")).values == {"t/a/b/c": b"3"}


async def test_directories_that_become_empty_go(open_store: OpenStore, client: KazooClient) -> None:
    store = open_store(prefix="t/routes")
    await store.write(
        Transaction(put={"t/routes/a/b/c": b"1", "t/routes/a/d": b"2", "u/v/w": b"3"})
    )
    await store.write(Transaction(delete=("t/routes/a/b/c",)))
    assert client.get_children("/t/routes/a") == ["d"]
    await store.write(Transaction(delete=("t/routes/a/d", "u/v/w")))
    assert client.exists("/t/routes/a") is None
    assert client.exists("/u/v") is None
    # Their permissions are somebody's decision.
    assert client.exists("/t/routes")
    assert client.exists("/u")
    await store.write(Transaction(put={"t/routes/a/b": b"1"}))
    await store.write(Transaction(delete_prefixes=("t",)))
    assert client.get_children("/t/routes") == []


async def test_a_key_may_be_expected_to_be_absent_where_its_directory_goes(
    store: ZookeeperStore,
) -> None:
    await store.write(Transaction(put={"t/a/b": b"1"}))
    await store.write(Transaction(expect={"t/a/c": None}, delete_prefixes=("t",)))
    assert (await store.read("t")).values == {}
    await store.announce("t/node", b"1")
    await store.write(Transaction(expect={"t/node/c": None}, put={"t/b": b"2"}))
    with pytest.raises(Conflict, match="`t/b` exists already"):
        await store.write(Transaction(expect={"t/b": None}, put={"t/c": b"2"}))
    assert (await store.read("t")).values == {"t/node": b"1", "t/b": b"2"}


async def test_zookeeper_s_own_nodes_are_no_keys(store: ZookeeperStore) -> None:
    await store.write(Transaction(put={"t/a": b"1"}))
    assert (await store.read("")).values == {"t/a": b"1"}
    await store.write(Transaction(delete_prefixes=("",)))
    assert (await store.read("")).values == {}


KEYS = st.sampled_from(["t", "t/a", "t/b", "t/a/x", "t/a/x/y", "t/a/z", "t/b/x", "u/a", "u"])
VALUES = st.sampled_from([b"", b"1", b"2"])
AS_IT_IS = "as it is"
TRANSACTIONS = st.fixed_dictionaries(
    {
        "put": st.dictionaries(KEYS, VALUES, max_size=3),
        "delete": st.lists(KEYS, max_size=2).map(tuple),
        "delete_prefixes": st.lists(KEYS, max_size=2).map(tuple),
        # Mostly what the key has at that time, so that most transactions are carried out.
        "expect": st.dictionaries(
            KEYS, st.sampled_from((AS_IT_IS, AS_IT_IS, AS_IT_IS, None, b"1")), max_size=2
        ),
    }
)


def model_write(held: dict[str, bytes], transaction: Transaction) -> dict[str, bytes]:
    """Return the keys after a transaction; raises `Conflict`."""
    for key, value in transaction.expect.items():
        if held.get(key) != value:
            raise Conflict(key)
    doomed = {
        key
        for key in held
        if key in transaction.delete
        or any(key == each or key.startswith(each + "/") for each in transaction.delete_prefixes)
    }
    kept = {key: value for key, value in held.items() if key not in doomed}
    return {**kept, **transaction.put}


@settings(
    max_examples=25,
    # A transaction that cannot be written takes long: no search for a shorter story.
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(transactions=st.lists(TRANSACTIONS, min_size=5, max_size=25))
def test_transactions_do_what_they_say(
    transactions: list[dict[str, Any]], server: ZookeeperServer, client: KazooClient
) -> None:
    """Against a dictionary; a second client sees every state in its watch."""

    async def run() -> None:
        writer, watcher = ZookeeperStore(server.endpoint), ZookeeperStore(server.endpoint)
        try:
            await writer.write(Transaction(delete_prefixes=("",)))
            held: dict[str, bytes] = {}
            seen = await watcher.read("t")
            for parts in transactions:
                expect = {
                    key: held.get(key) if value == AS_IT_IS else value
                    for key, value in parts["expect"].items()
                }
                transaction = Transaction(**{**parts, "expect": expect})
                try:
                    held, before = model_write(held, transaction), held
                except Conflict:
                    with pytest.raises(Conflict):
                        await writer.write(transaction)
                    continue
                await writer.write(transaction)
                assert (await writer.read("")).values == held, (before, transaction)
                wanted = {
                    key: value for key, value in held.items() if key == "t" or key[:2] == "t/"
                }
                if before != held:
                    seen = await until(watcher, seen, wanted)
        finally:
            await writer.close()
            await watcher.close()

    asyncio.run(run())


SCRIBBLED = ("/t", "/t/a", "/t/b", "/t/a/x", "/t/a/y", "/t/b/z", "/t/a/x/1")


def scribble(client: KazooClient, generator: random.Random) -> None:
    """Make, set and delete single nodes, mostly with empty data: directories and keys by turns."""
    for _ in range(25):
        path = generator.choice(SCRIBBLED)
        with contextlib.suppress(NoNodeError, NodeExistsError, NotEmptyError):
            match generator.randrange(4):
                case 0 | 1:
                    client.create(path, generator.choice([b"", b"", None, b"1"]))
                case 2:
                    client.set(path, generator.choice([b"", None, b"2"]))
                case _:
                    client.delete(path)


async def test_a_watch_agrees_with_a_fresh_read_whatever_others_do(
    open_store: OpenStore, client: KazooClient, server: ZookeeperServer
) -> None:
    """Children decide what their parents are, and come while the parents are being read."""
    store, reader = open_store(), open_store()
    start = await store.read("t")
    held = dict(start.values)
    news = asyncio.Event()

    async def pump() -> None:
        nonlocal held
        async for found in store.watch("t", start.version):
            held = applied(held, found)
            news.set()

    pumping = asyncio.create_task(pump())
    with closing(KazooClient(server.endpoint)) as other:
        other.start()
        for number in range(60):
            generators = random.Random(2 * number), random.Random(2 * number + 1)
            await asyncio.gather(
                asyncio.to_thread(scribble, client, generators[0]),
                asyncio.to_thread(scribble, other, generators[1]),
            )
            wanted = (await reader.read("t")).values
            async with asyncio.timeout(DEADLINE):
                while held != wanted:
                    assert not pumping.done()
                    news.clear()
                    await news.wait()
        other.stop()
    pumping.cancel()
    await asyncio.gather(pumping, return_exceptions=True)


def received(server: ZookeeperServer, store: ZookeeperStore) -> int:
    """Return how many requests the server has had from a store, and fewer than pings matter."""
    number = f"{store._session.number & (2**64 - 1):x}"
    line = next(line for line in server.ask("cons").splitlines() if f"sid=0x{number}" in line)
    found = re.search(r"recved=(\d+)", line)
    assert found is not None
    return int(found[1])


async def test_a_change_costs_one_request(open_store: OpenStore, server: ZookeeperServer) -> None:
    """However many keys there are, and however many nodes a transaction writes."""
    writer, store = open_store(), open_store()
    await writer.write(Transaction(put={f"t/{n}/a/b": b"1" for n in range(500)}))
    start = await store.read("t")
    async with aclosing(store.watch("t", start.version)) as watch:
        waiting = asyncio.ensure_future(anext(watch))
        await writer.write(Transaction(put={"t/0/a/b": b"first"}))
        await waiting
        before = received(server, store)
        changes = 20
        for number in range(changes):
            waiting = asyncio.ensure_future(anext(watch))
            put = {f"t/{n}/a/b": b"%d" % number for n in (1, 2, 3)}
            await writer.write(Transaction(put={**put, f"t/new/{number}": b"1"}))
            found = await asyncio.wait_for(waiting, DEADLINE)
            assert len(found.values) == 4
        # On a busy machine the server may tell of one transaction in two parts that lie far apart.
        assert received(server, store) - before <= 1.5 * changes


async def test_a_watch_after_a_read_reads_nothing_again(
    store: ZookeeperStore, server: ZookeeperServer
) -> None:
    await store.write(Transaction(put={f"t/{n}": b"1" for n in range(1000)}))
    start = await store.read("t")
    before = received(server, store)
    async with aclosing(store.watch("t", start.version)) as watch:
        waiting = asyncio.ensure_future(anext(watch))
        await store.write(Transaction(put={"t/5": b"2"}))
        await asyncio.wait_for(waiting, DEADLINE)
    assert received(server, store) - before < 10


async def test_many_prefixes_may_be_read(store: ZookeeperStore) -> None:
    await store.write(Transaction(put={f"t/{n}/a": b"1" for n in range(20)}))
    trees = [await store.read(f"t/{n}") for n in range(20)]
    await store.write(Transaction(put={f"t/{n}/a": b"2" for n in range(20)}))
    for number, tree in enumerate(trees):
        async with aclosing(store.watch(f"t/{number}", tree.version)) as watch:
            found = await asyncio.wait_for(anext(watch), DEADLINE)
            assert found.values == {f"t/{number}/a": b"2"}


async def test_a_large_sub_tree_is_deleted_in_parts(store: ZookeeperStore) -> None:
    long = "x" * 3000
    for first in range(0, 600, 200):
        put = {f"t/{n}{long}": b"1" for n in range(first, first + 200)}
        await store.write(Transaction(put=put))
    with pytest.raises(TooLarge, match="operations"):
        await store.write(Transaction(delete_prefixes=("t",), put={"t/a": b"1"}))
    assert len((await store.read("t")).values) == 600
    await store.write(Transaction(delete_prefixes=("t",)))
    assert (await store.read("t")).values == {}


async def test_a_transaction_that_is_too_large_names_its_largest_value(
    store: ZookeeperStore,
) -> None:
    half = bytes(MAXIMUM_VALUE_BYTES // 2)
    put = {"t/a": half, "t/b": half + b"12345678", "t/c": half}
    with pytest.raises(TooLarge, match="largest value is that of key `t/b`"):
        await store.write(Transaction(put=put))
    assert (await store.read("t")).values == {}


async def test_an_ephemeral_node_can_have_nothing_below_it(
    store: ZookeeperStore,
) -> None:
    await store.announce("t/node", b"1")
    with pytest.raises(StoreError, match="`/t/node` is ephemeral"):
        await store.write(Transaction(put={"t/node/a": b"1"}))


async def test_an_announcement_takes_the_place_of_a_dead_session_s(
    store: ZookeeperStore, client: KazooClient
) -> None:
    client.create("/t", None)
    client.create("/t/node", b"old", ephemeral=True)
    await store.announce("t/node", b"new")
    stat = client.exists("/t/node")
    assert stat.ephemeralOwner == store._session.number
    assert (await store.read("t")).values == {"t/node": b"new"}


def expire(server: ZookeeperServer, store: ZookeeperStore) -> None:
    """End the session of a store from outside, as an expiry would."""
    identity = store._session._client.client_id  # type: ignore[union-attr]
    intruder = KazooClient(server.endpoint, client_id=identity)
    intruder.start()
    intruder.stop()
    intruder.close()


async def test_an_expired_session_loses_no_change_and_no_announcement(
    open_store: OpenStore, server: ZookeeperServer
) -> None:
    writer, store = open_store(), open_store()
    await writer.write(Transaction(put={"t/a": b"1", "t/b": b"2"}))
    await store.announce("t/node", b"3")
    start = await store.read("t")
    old = store._session.number
    await asyncio.to_thread(expire, server, store)
    await writer.write(Transaction(put={"t/a": b"4"}, delete=("t/b",)))
    await until(store, start, {"t/a": b"4", "t/node": b"3"})
    assert store._session.number != old
    assert (await writer.read("t")).values == {"t/a": b"4", "t/node": b"3"}


def owned(users: Mapping[tuple[str, str], str]) -> list[Any]:
    """Return permissions: for each user letters of `cdrwa`."""
    return [
        make_acl(
            "digest",
            digest(*user),
            read="r" in letters,
            write="w" in letters,
            create="c" in letters,
            delete="d" in letters,
            admin="a" in letters,
        )
        for user, letters in users.items()
    ]


READER, WRITER = ("reader", "reads"), ("writer", "writes")


async def test_what_may_not_be_read_is_an_error(open_store: OpenStore, client: KazooClient) -> None:
    client.create("/t", b"1")
    client.create("/t/a", b"2", acl=owned({READER: "r"}))
    anonymous, wrong = open_store(), open_store(("reader", "guesses"))
    for store in (anonymous, wrong):
        with pytest.raises(StoreError, match="no permission to read the node `/t/a`"):
            await store.read("t")
        with pytest.raises(StoreError, match="no permission to read the node `/t/a`"):
            await anext(store.watch("t", 0))
    assert (await open_store(READER).read("t")).values == {"t": b"1", "t/a": b"2"}


async def test_a_permission_that_was_withdrawn_is_noticed_and_is_no_deletion(
    open_store: OpenStore, client: KazooClient
) -> None:
    store = open_store(READER)
    client.create("/t", None, acl=owned({READER: "r"}))
    client.create("/t/a", b"1", acl=owned({READER: "r"}))
    start = await store.read("t")
    watching = asyncio.ensure_future(anext(store.watch("t", start.version)))
    await store.probe()
    client.set_acls("/t", owned({WRITER: "r"}))
    client.set_acls("/t/a", owned({WRITER: "r"}))
    with pytest.raises(StoreError, match="no permission to read the node `/t`"):
        await store.probe()
    # The server tells those who may not read a node of no change of it.
    client.set("/t/a", b"2")
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(StoreError, match="no permission to read the node `/t`"):
            await watching
    client.set_acls("/t", owned({READER: "r"}))
    client.set_acls("/t/a", owned({READER: "r"}))
    await until(store, start, {"t/a": b"2"})


async def test_new_nodes_have_the_permissions_of_the_nodes_above(
    open_store: OpenStore, client: KazooClient
) -> None:
    permissions = owned({WRITER: "cdrwa", READER: "r"})
    client.create("/t", None, acl=permissions)
    writer, reader = open_store(WRITER), open_store(READER)
    await writer.write(Transaction(put={"t/a/b": b"1"}))
    await writer.announce("t/nodes/one", b"2")
    for path in ("/t/a", "/t/a/b", "/t/nodes", "/t/nodes/one"):
        assert client.get_acls(path)[0] == permissions
    assert (await reader.read("t")).values == {"t/a/b": b"1", "t/nodes/one": b"2"}
    with pytest.raises(StoreError, match="no permission to write the node `/t/a/b`"):
        await reader.write(Transaction(put={"t/a/b": b"2"}))
    with pytest.raises(StoreError, match="no permission"):
        await open_store().write(Transaction(put={"t/a/b": b"2"}))


async def test_a_tree_made_by_a_user_is_closed_to_others(
    open_store: OpenStore, client: KazooClient
) -> None:
    await open_store(WRITER).write(Transaction(put={"t/a": b"1"}))
    with pytest.raises(StoreError, match="no permission"):
        await open_store().read("t")
    client.delete("/t", recursive=True)
    await open_store().write(Transaction(put={"t/a": b"1"}))
    assert (await open_store(READER).read("t")).values == {"t/a": b"1"}


async def test_permissions_that_cannot_be_handed_down_are_named(
    open_store: OpenStore, client: KazooClient
) -> None:
    """ZooKeeper hides digests from users who are no administrators of a node."""
    client.create("/t", None, acl=owned({WRITER: "cdrw", READER: "r"}))
    with pytest.raises(StoreError, match=r"`/t` cannot be handed down.*`admin`"):
        await open_store(WRITER).write(Transaction(put={"t/a": b"1"}))


ENDPOINTS = {
    "": "not `host:port`",
    ",": "not `host:port`",
    "127.0.0.1:port": "not `host:port`",
    "127.0.0.1:2181/chroot": "names the node `/chroot`",
}


@pytest.mark.parametrize(("endpoint", "message"), ENDPOINTS.items(), ids=list(ENDPOINTS))
def test_endpoints_that_are_none_are_refused(endpoint: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        ZookeeperStore(endpoint)


SETTINGS = {
    "user without password": (ZookeeperProvider(username="u"), "of no use alone"),
    "password without user": (ZookeeperProvider(password="p"), "of no use alone"),
    "user with a colon": (ZookeeperProvider(username="u:v", password="p"), "colon"),
    "certificate without key": (
        ZookeeperProvider(tls=ClientTLS(cert="-----BEGIN CERTIFICATE-----")),
        "zookeeper.tls.key",
    ),
    "authority that is not there": (
        ZookeeperProvider(tls=ClientTLS(ca="/missing.pem")),
        "zookeeper.tls.ca",
    ),
}


@pytest.mark.parametrize(("section", "message"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_work_are_refused(section: ZookeeperProvider, message: str) -> None:
    assert plugin.open_store is not None
    with pytest.raises(StoreError, match=message):
        plugin.open_store(section, StaticConfiguration(zookeeper=section))
