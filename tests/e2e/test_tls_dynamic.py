"""Certificates of providers: live within moments, replaced under open connections, bad ones kept
out."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore
from tests.support.backend import Backend
from tests.support.certificates import Pair, authority
from tests.support.deadline import wait_until
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess, single_backend
from tests.support.tls_client import connect, offered, open_connection, s_client, trusting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

GENERATED = "TRAEFIK DEFAULT CERT"
ENTRY_POINTS: dict[str, dict[str, Any]] = {"https": {"tls": {}}, "plain": {}, "other": {"tls": {}}}


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def proxy(backend: Backend) -> Iterator[ProxyProcess]:
    """Return a proxy of two workers whose routes and certificates come from a file."""
    with ProxyProcess(routes(backend), entry_points=ENTRY_POINTS, workers=2) as running:
        yield running


def routes(backend: Backend, *certificates: dict[str, Any]) -> dict[str, Any]:
    """Return routes for every host, and certificates."""
    described = single_backend(backend.url, {"all": "PathPrefix:/"})
    return {**described, "tls": list(certificates)}


def entry(pair: Pair, *entry_points: str) -> dict[str, Any]:
    """Return a certificate as it stands in a file."""
    points = {"entryPoints": list(entry_points)} if entry_points else {}
    return {**points, "certificate": pair.option()}


def test_certificates_come_and_go(proxy: ProxyProcess, backend: Backend) -> None:
    first, second = authority().issue("first.test"), authority().issue("second.test")
    port = proxy.ports["https"]
    proxy.apply(routes(backend))
    assert offered(port, "first.test") == GENERATED
    proxy.apply(routes(backend, entry(first)))
    assert offered(port, "first.test") == "first.test"
    assert offered(port, "second.test") == GENERATED
    proxy.apply(routes(backend, entry(first), entry(second, "https", "other")))
    assert offered(port, "second.test") == "second.test"
    assert offered(proxy.ports["other"], "second.test") == "second.test"
    proxy.apply(routes(backend, entry(second, "other")))
    assert offered(port, "first.test") == GENERATED
    assert offered(port, "second.test") == GENERATED
    assert offered(proxy.ports["other"], "second.test") == "second.test"


def test_a_broken_one_does_not_stop_the_others(proxy: ProxyProcess, backend: Backend) -> None:
    good, other = authority().issue("good.test"), authority().issue("other.test")
    broken = Pair(other.certificate, good.key)
    proxy.apply(routes(backend))
    proxy.apply(routes(backend, entry(broken), entry(good)))
    assert offered(proxy.ports["https"], "good.test") == "good.test"
    assert offered(proxy.ports["https"], "other.test") == GENERATED
    (refused,) = proxy.ask("status")["quarantined"]
    assert (refused["section"], refused["name"], refused["serving"]) == ("tls", "0", False)
    (reason,) = refused["reasons"]
    assert reason.endswith("tls.0.certificate.keyFile: is not the key of the certificate")
    body = good.key.split("\n")[1]
    assert body not in proxy.log()
    assert body not in str(proxy.ask("status"))


def test_a_bad_replacement_keeps_the_old_one(proxy: ProxyProcess, backend: Backend) -> None:
    good = authority().issue("kept.test")
    proxy.apply(routes(backend, entry(good)))
    expired = authority().issue("kept.test", common="replacement", expired=True)
    proxy.apply(routes(backend, entry(expired)))
    assert offered(proxy.ports["https"], "kept.test") == "kept.test"
    (refused,) = proxy.ask("status")["quarantined"]
    assert refused["serving"]
    proxy.apply(routes(backend))
    assert offered(proxy.ports["https"], "kept.test") == GENERATED


def test_open_connections_outlive_a_replacement(proxy: ProxyProcess, backend: Backend) -> None:
    old, new = (authority().issue("swap.test", common=common) for common in ("old", "new"))
    proxy.apply(routes(backend, entry(old)))
    port = proxy.ports["https"]
    with open_connection(port, "swap.test") as client:
        assert client.request(build_request("/", host="a")).status == 200
        for pair in (new, old, new):
            proxy.apply(routes(backend, entry(pair)))
            assert client.request(build_request("/", host="a")).status == 200
        assert offered(port, "swap.test") == "new"
        proxy.apply(routes(backend))
        assert client.request(build_request("/", host="a")).status == 200
    assert offered(port, "swap.test") == GENERATED


def test_certificates_survive_a_restart_without_their_provider(
    loop_thread: LoopThread, backend: Backend
) -> None:
    pair = authority().issue("lasting.test")
    proxy = ProxyProcess(routes(backend, entry(pair)), entry_points=ENTRY_POINTS)
    try:
        proxy.start()
        assert offered(proxy.ports["https"], "lasting.test") == "lasting.test"
        proxy.process.terminate()
        assert proxy.wait_for_exit() == 0
        proxy.routes_path.unlink()
        proxy.start()
        assert offered(proxy.ports["https"], "lasting.test") == "lasting.test"
        assert proxy.ask("status")["generation"]["certificates"] == 1
    finally:
        proxy.stop()


def session_of(port: int, context: ssl.SSLContext) -> ssl.SSLSession:
    """Return a session that can be resumed: in TLS 1.3 its ticket comes after the handshake."""
    with connect(port, "a.test", context=context) as connection:
        connection.sendall(build_request("/", host="a"))
        assert b"200 OK" in connection.recv(65536)
        session = connection.session
    assert session is not None
    return session


def resumes(port: int, context: ssl.SSLContext, session: ssl.SSLSession) -> list[bool]:
    """Tell for each of many connections, so of every worker, whether the session was resumed."""
    found = []
    for _ in range(24):
        with connect(port, "a.test", context=context, session=session) as connection:
            found.append(bool(connection.session_reused))
    return found


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_every_worker_resumes_a_session(proxy: ProxyProcess, version: ssl.TLSVersion) -> None:
    context = trusting()
    context.maximum_version = version
    session = session_of(proxy.ports["https"], context)
    assert all(resumes(proxy.ports["https"], context, session))
    assert not any(resumes(proxy.ports["other"], context, session)), "another entry point"


def test_sessions_outlive_a_new_version_of_the_program(backend: Backend) -> None:
    context = trusting()
    with ProxyProcess(routes(backend), entry_points={"https": {"tls": {}}}, workers=2) as proxy:
        session = session_of(proxy.port, context)
        before = proxy.process.pid
        proxy.signal(signal.SIGUSR2)
        assert proxy.wait_for_exit() == 0
        wait_until(lambda: proxy.ask("status")["state"] == "running", "the successor")
        assert proxy.ask("status")["pid"] != before
        assert all(resumes(proxy.port, context, session))


def test_s_client_resumes(proxy: ProxyProcess, tmp_path: Path) -> None:
    kept = str(tmp_path / "session")
    request = build_request("/", host="a", headers=(("Connection", "close"),))
    name = ("-servername", "a.test", "-ign_eof")
    first = s_client(proxy.ports["https"], *name, "-sess_out", kept, text=request)
    assert "New, TLSv1.3" in first
    for _ in range(4):
        again = s_client(proxy.ports["https"], *name, "-sess_in", kept, text=request)
        assert "Reused, TLSv1.3" in again
        assert "HTTP/1.1 200 OK" in again


@pytest.fixture
def store_proxy() -> Iterator[ProxyProcess]:
    """Return a proxy whose routes and certificates come from the embedded store."""
    running = ProxyProcess(
        None, entry_points=ENTRY_POINTS, static={"embedded": {"path": "store.db"}}, workers=2
    )
    with running:
        yield running


def write(proxy: ProxyProcess, change: Transaction) -> None:
    """Write to the store of `store_proxy`."""

    async def run() -> None:
        store = EmbeddedStore(proxy.directory / "store.db")
        await store.write(change)
        await store.close()

    asyncio.run(run())


def test_certificates_in_a_store(store_proxy: ProxyProcess) -> None:
    proxy, port = store_proxy, store_proxy.ports["https"]
    com, org = authority().issue("snitest.com"), authority().issue("snitest.org")
    assert offered(port, "snitest.com") == GENERATED

    def put(name: str, pair: Pair, **more: str) -> None:
        values = {"certificate/certfile": pair.certificate, "certificate/keyfile": pair.key, **more}
        keys = {f"kvproxy/tls/{name}/{key}": value.encode() for key, value in values.items()}
        write(proxy, Transaction(put=keys))

    def serves(name: str, common: str) -> None:
        wait_until(
            lambda: all(offered(port, name) == common for _ in range(8)), f"{common} for {name}"
        )

    put("one", com, entrypoints="https")
    serves("snitest.com", "snitest.com")
    put("two", org)
    serves("snitest.org", "snitest.org")
    put("one", authority().issue("snitest.com", common="renewed"))
    serves("snitest.com", "renewed")
    keys = ("entrypoints", "certificate/certfile", "certificate/keyfile")
    write(proxy, Transaction(delete=tuple(f"kvproxy/tls/one/{key}" for key in keys)))
    serves("snitest.com", GENERATED)
    serves("snitest.org", "snitest.org")


class Handshakes(threading.Thread):
    """Clients that connect anew all the time and count what goes wrong."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__()
        self._port, self._name = port, name
        self._ended = threading.Event()
        self.done = 0
        self.failures: list[str] = []

    def run(self) -> None:
        """Connect and ask until told to end."""
        while not self._ended.is_set():
            try:
                with open_connection(self._port, self._name, context=trusting()) as client:
                    for _ in range(3):
                        answer = client.request(build_request("/", host="a"))
                        if answer.status != 200:
                            self.failures.append(str(answer.status))
                self.done += 1
            except (OSError, AssertionError) as error:
                self.failures.append(repr(error))

    def end(self) -> None:
        """Stop and wait for the thread."""
        self._ended.set()
        self.join(10)


def test_replacements_under_load_fail_no_request(proxy: ProxyProcess, backend: Backend) -> None:
    pairs = [authority().issue("busy.test", common=f"number {number}") for number in range(4)]
    proxy.apply(routes(backend, entry(pairs[0])))
    clients = [Handshakes(proxy.ports["https"], "busy.test") for _ in range(2)]
    for client in clients:
        client.start()
    try:
        for number in range(60):
            proxy.apply(routes(backend, entry(pairs[number % len(pairs)])))
            assert offered(proxy.ports["https"], "busy.test") == f"number {number % len(pairs)}"
    finally:
        for client in clients:
            client.end()
    assert [failure for client in clients for failure in client.failures] == []
    assert sum(client.done for client in clients) > 60


def test_a_replacement_in_the_middle_of_a_handshake(proxy: ProxyProcess, backend: Backend) -> None:
    """A handshake that began with one certificate is not disturbed by its replacement."""
    old, new = (authority().issue("mid.test", common=common) for common in ("old", "new"))
    proxy.apply(routes(backend, entry(old)))
    plain = socket.create_connection(("127.0.0.1", proxy.ports["https"]), timeout=5)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority().client_context().wrap_bio(incoming, outgoing, server_hostname="mid.test")
    with plain:
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        plain.sendall(outgoing.read())
        incoming.write(plain.recv(65536))
        proxy.apply(routes(backend, entry(new)))
        until = time.monotonic() + 5
        while time.monotonic() < until:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(plain.recv(65536))
        client.write(build_request("/", host="a"))
        plain.sendall(outgoing.read())
        answer = b""
        while b"200 OK" not in answer and time.monotonic() < until:
            incoming.write(plain.recv(65536))
            try:
                answer += client.read(65536)
            except ssl.SSLWantReadError:
                continue
        assert b"200 OK" in answer
    with connect(proxy.ports["https"], "mid.test") as after:
        assert after.version() == "TLSv1.3"
