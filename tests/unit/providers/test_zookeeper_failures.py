"""ZooKeeper that is killed, frozen, wiped or secured: what the store says, and how it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvproxy.model.dynamic import ClientTLS
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import ZookeeperProvider
from kvproxy.provider import Store, StoreError, Transaction, Tree
from providers import zookeeper_session
from providers.zookeeper import ZookeeperStore, plugin
from tests.stores.following import follow, retried, within
from tests.support.certificates import Authority, authority
from tests.support.zookeeper import ZookeeperEnsemble, ZookeeperServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

DEADLINE = 30.0
NOTICED_SECONDS = 8.0
"""A server that does not answer any more is an error after so long."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ZookeeperServer]:
    with ZookeeperServer(tmp_path) as server:
        yield server


async def until(store: Store, start: Tree, wanted: Mapping[str, bytes]) -> Tree:
    """Follow a watch until it has told of exactly the keys ``wanted``."""
    return await within(follow(store, start, lambda values: values == wanted), DEADLINE)


async def answering(store: Store) -> None:
    """Wait until the store answers again."""
    await within(retried(store.probe), DEADLINE)


@pytest.mark.serial
async def test_a_killed_server_is_an_error_and_its_return_loses_nothing(
    server: ZookeeperServer,
) -> None:
    store, other = ZookeeperStore(server.endpoint), ZookeeperStore(server.endpoint)
    await other.write(Transaction(put={"t/a": b"1", "t/b": b"2"}))
    await store.announce("t/node", b"3")
    start = await store.read("t")
    watching = asyncio.ensure_future(anext(store.watch("t", start.version)))
    await store.probe()
    server.kill()
    async with asyncio.timeout(NOTICED_SECONDS):
        with pytest.raises(StoreError, match="connection was lost"):
            await watching
    # Whoever starts now does not wait: what was known last is served meanwhile.
    fresh = ZookeeperStore(server.endpoint)
    async with asyncio.timeout(1.0):
        with pytest.raises(StoreError, match="Connection refused"):
            await fresh.read("t")
        await fresh.close()
    async with asyncio.timeout(NOTICED_SECONDS):
        with pytest.raises(StoreError, match=r"no connection: 127.0.0.1:\d+: Connection refused"):
            await store.probe()
    await asyncio.to_thread(server.start)
    await answering(other)
    await other.write(Transaction(put={"t/a": b"4"}, delete=("t/b",)))
    await until(store, start, {"t/a": b"4", "t/node": b"3"})
    await store.close()
    await other.close()


@pytest.mark.serial
async def test_a_frozen_server_is_noticed_and_its_thaw_loses_nothing(
    server: ZookeeperServer,
) -> None:
    store = ZookeeperStore(server.endpoint)
    await store.write(Transaction(put={"t/a": b"1"}))
    start = await store.read("t")
    watching = asyncio.ensure_future(anext(store.watch("t", start.version)))
    await store.probe()
    server.freeze()
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"no answer|connection was lost"):
        await store.probe()
    with pytest.raises(StoreError, match="connection was lost"):
        await watching
    assert time.monotonic() - began < NOTICED_SECONDS
    with pytest.raises(StoreError, match="no connection"):
        await store.write(Transaction(put={"t/a": b"2"}))
    server.thaw()
    await answering(store)
    await store.write(Transaction(put={"t/a": b"3"}))
    await until(store, start, {"t/a": b"3"})
    await store.close()


@pytest.mark.serial
async def test_closing_does_not_wait_for_a_frozen_server(server: ZookeeperServer) -> None:
    store = ZookeeperStore(server.endpoint)
    await store.announce("t/node", b"1")
    server.freeze()
    began = time.monotonic()
    await store.close()
    assert time.monotonic() - began < 3.0
    with pytest.raises(StoreError, match="closed"):
        await store.read("t")


async def test_one_of_three_servers_may_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store goes on with another one, with the same session."""
    # On a busy machine the others may take longer to agree than a session usually lasts.
    monkeypatch.setattr(zookeeper_session, "SESSION_SECONDS", 40.0)
    with ZookeeperEnsemble(tmp_path, 3) as ensemble:
        store = ZookeeperStore(ensemble.endpoint)
        other = ZookeeperStore(ensemble.endpoint)
        await answering(store)
        await other.write(Transaction(put={"t/a": b"1"}))
        await store.announce("t/node", b"2")
        start = await store.read("t")
        session = store._session.number
        ensemble.of_session(session).kill()
        await answering(other)
        await other.write(Transaction(put={"t/a": b"3"}))
        await until(store, start, {"t/a": b"3", "t/node": b"2"})
        assert store._session.number == session
        await store.close()
        await other.close()


async def test_servers_without_a_leader_keep_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server hangs up on everybody until there is a leader; that ends no session."""
    monkeypatch.setattr(zookeeper_session, "SESSION_SECONDS", 40.0)
    with ZookeeperEnsemble(tmp_path, 3) as ensemble:
        store = ZookeeperStore(ensemble.endpoint)
        await answering(store)
        await store.announce("t/node", b"1")
        session = store._session.number
        lost = [each for each in ensemble.servers if each is not ensemble.of_session(session)]
        for server in lost:
            server.kill()
        client = store._session._client
        assert client is not None
        async with asyncio.timeout(DEADLINE):
            # More often than a server that was wiped is allowed to.
            while client.refusals <= 6:
                with contextlib.suppress(StoreError):
                    await store.probe()
                await asyncio.sleep(0.05)
        for server in lost:
            server.begin()
        await answering(store)
        assert store._session.number == session
        assert (await store.read("t")).values == {"t/node": b"1"}
        await store.close()


async def test_a_dead_server_in_the_list_is_passed_over(server: ZookeeperServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead = closed.getsockname()[1]
    for endpoint in (f"127.0.0.1:{dead}, {server.endpoint}", f"{server.endpoint},127.0.0.1:{dead}"):
        store = ZookeeperStore(endpoint)
        async with asyncio.timeout(NOTICED_SECONDS):
            await store.write(Transaction(put={"t/a": b"1"}))
            assert (await store.read("t")).values == {"t/a": b"1"}
        await store.close()


def nonsense(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def short_lengths(connection: socket.socket) -> None:
    connection.sendall(b"\0\0\0\1x" * 10)


def negative_length(connection: socket.socket) -> None:
    connection.sendall(b"\xff\xff\xff\xff" * 20)


def silence(connection: socket.socket) -> None:
    connection.settimeout(DEADLINE)
    connection.recv(1)


def _begin(connection: socket.socket) -> None:
    """Grant a session, as ZooKeeper does, and wait for the first request."""
    connection.recv(65536)
    granted = struct.pack("!iiqi16s?", 0, 6000, 1, 16, b"password", False)
    connection.sendall(struct.pack("!i", len(granted)) + granted)
    connection.recv(65536)


def answer_to_another_request(connection: socket.socket) -> None:
    _begin(connection)
    connection.sendall(struct.pack("!iiqi", 16, 999, 1, 0))


def unknown_error(connection: socket.socket) -> None:
    _begin(connection)
    connection.sendall(struct.pack("!iiqi", 16, 1, 1, -9999))


def cut_off_event(connection: socket.socket) -> None:
    _begin(connection)
    connection.sendall(struct.pack("!iiqii", 20, -1, 1, 0, 3))


ANSWERS = (
    nonsense,
    short_lengths,
    negative_length,
    silence,
    answer_to_another_request,
    unknown_error,
    cut_off_event,
)


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
async def test_what_is_no_zookeeper_is_an_error(answer: Callable[[socket.socket], None]) -> None:
    """Whatever it answers, the store says so within seconds, again and again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        answer(connection)
                        connection.recv(65536)
                    except OSError:
                        continue

        serving = asyncio.get_running_loop().run_in_executor(None, serve)
        store = ZookeeperStore(f"127.0.0.1:{port}")
        for _ in range(2):
            async with asyncio.timeout(NOTICED_SECONDS):
                with pytest.raises(StoreError, match=f"127.0.0.1:{port}"):
                    await store.read("t")
        await store.close()
        listener.shutdown(socket.SHUT_RDWR)
    await serving


async def test_a_host_that_is_not_known_is_an_error() -> None:
    store = ZookeeperStore("nowhere.invalid:2181")
    async with asyncio.timeout(NOTICED_SECONDS):
        with pytest.raises(StoreError, match=r"nowhere.invalid:2181.*no connection"):
            await store.read("t")
    await store.close()


@pytest.fixture(scope="module")
def tls_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZookeeperServer]:
    with ZookeeperServer(tmp_path_factory.mktemp("tls"), tls=True) as server:
        yield server


def opened(endpoint: str, tls: ClientTLS | None, user: str = "", password: str = "") -> Store:
    assert plugin.open_store is not None
    section = ZookeeperProvider(endpoint=endpoint, tls=tls, username=user, password=password)
    return plugin.open_store(section, StaticConfiguration(zookeeper=section))


def own(name: str = "client") -> str:
    return str(authority().bundle(name))


async def use(store: Store) -> None:
    """Write, read and watch."""
    try:
        async with asyncio.timeout(DEADLINE):
            await store.write(Transaction(put={"t/a": b"1"}))
            start = await store.read("t")
            assert start.values == {"t/a": b"1"}
            large = bytes(range(256)) * 3000
            waiting = asyncio.ensure_future(anext(store.watch("t", start.version)))
            await store.write(Transaction(put={"t/large": large}))
            assert (await waiting).values == {"t/large": large}
            await store.write(Transaction(delete_prefixes=("t",)))
    finally:
        await store.close()


async def test_tls_with_files(tls_server: ZookeeperServer) -> None:
    bundle = own()
    await use(
        opened(tls_server.endpoint, ClientTLS(ca=str(authority().path), cert=bundle, key=bundle))
    )


async def test_tls_with_content_and_a_user(tls_server: ZookeeperServer) -> None:
    pem = Path(own()).read_text()
    tls = ClientTLS(ca=authority().pem, cert=pem, key=pem)
    await use(opened(tls_server.endpoint, tls, "user", "secret"))


async def test_tls_without_verification(tls_server: ZookeeperServer) -> None:
    bundle = own()
    port = tls_server.port
    tls = ClientTLS(insecure_skip_verify=True, cert=bundle, key=bundle)
    await use(opened(f"localhost:{port}", tls))


def no_client_certificate() -> tuple[str, ClientTLS | None]:
    return "127.0.0.1", ClientTLS(ca=authority().pem)


def foreign_client_certificate() -> tuple[str, ClientTLS | None]:
    bundle = str(Authority("foreign").bundle("client"))
    return "127.0.0.1", ClientTLS(ca=authority().pem, cert=bundle, key=bundle)


def foreign_authority() -> tuple[str, ClientTLS | None]:
    return "127.0.0.1", ClientTLS(ca=Authority("foreign").pem, cert=own(), key=own())


def system_authorities() -> tuple[str, ClientTLS | None]:
    bundle = own()
    return "127.0.0.1", ClientTLS(cert=bundle, key=bundle)


def other_name() -> tuple[str, ClientTLS | None]:
    bundle = own()
    return "127.0.0.2", ClientTLS(ca=authority().pem, cert=bundle, key=bundle)


def no_tls() -> tuple[str, ClientTLS | None]:
    return "127.0.0.1", None


REFUSED = {
    "no client certificate": (no_client_certificate, "no connection"),
    "client certificate of another authority": (foreign_client_certificate, "no connection"),
    "server of another authority": (foreign_authority, "verify|self-signed|unable to get"),
    "authorities of the system": (system_authorities, "verify|self-signed|unable to get"),
    "server of another name": (other_name, "not valid for '127.0.0.2'"),
    "plain client": (no_tls, "no connection"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
async def test_tls_that_does_not_fit_is_an_error(
    make: Callable[[], tuple[str, ClientTLS | None]], message: str, tls_server: ZookeeperServer
) -> None:
    host, tls = make()
    if tls is not None and tls.cert and tls.key != tls.cert:
        bundle = own()
        tls = ClientTLS(ca=tls.ca, cert=bundle, key=bundle)
    store = opened(f"{host}:{tls_server.port}", tls)
    async with asyncio.timeout(NOTICED_SECONDS):
        with pytest.raises(StoreError, match=message):
            await store.read("t")
    await store.close()


async def test_tls_towards_a_server_without_it_is_an_error(server: ZookeeperServer) -> None:
    store = opened(server.endpoint, ClientTLS(insecure_skip_verify=True))
    async with asyncio.timeout(NOTICED_SECONDS):
        with pytest.raises(StoreError, match="no connection"):
            await store.read("t")
    await store.close()
