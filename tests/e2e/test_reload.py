"""Generations under load: no request fails, no WebSocket drops, nothing unrelated moves."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from websockets.asyncio.client import connect

from kvproxy.model.decode import decode_configuration
from kvproxy.model.keytree import encode_configuration
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore
from tests.support.backend import Answer, Backend, Gate, LoopThread, plain_answer
from tests.support.deadline import wait_until
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess, single_backend
from tests.support.websocket import WebSocketServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.asyncio.client import ClientConnection

GENERATIONS = 60
KEEP_ALIVE_CLIENTS = 24
WEB_SOCKETS = 40


@dataclass
class Load:
    """Keep-alive clients that ask without pause, on an event loop of their own.

    ``done``: answers with 200; ``failures``: everything else, in words.
    """

    port: int
    host: str = "a"
    done: int = 0
    failures: list[str] = field(default_factory=list)
    _stopping: bool = False

    async def _client(self, number: int) -> None:
        request = build_request(f"/load-{number}", host=self.host)
        wanted = f"GET /load-{number} ".encode()
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            while not self._stopping:
                writer.write(request)
                async with asyncio.timeout(10):
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    body = await reader.readexactly(length)
                if not head.startswith(b"HTTP/1.1 200 ") or not body.startswith(wanted):
                    self.failures.append(f"client {number}: {head[:60]!r} {body[:60]!r}")
                elif b"connection: close" in head.lower():
                    self.failures.append(f"client {number}: told to close")
                self.done += 1
            writer.close()
        except (OSError, EOFError, TimeoutError) as error:
            self.failures.append(f"client {number}: {error!r} after {self.done} requests")

    async def run(self) -> None:
        """Run all clients until `stop`."""
        await asyncio.gather(*(self._client(number) for number in range(KEEP_ALIVE_CLIENTS)))

    def stop(self) -> None:
        """Let each client finish its request and end."""
        self._stopping = True


class WebSockets:
    """Open WebSockets, each of which can be asked for an echo at any time."""

    def __init__(self, loop_thread: LoopThread, port: int) -> None:
        """Open them."""
        self._loop_thread = loop_thread
        self._port = port
        self._clients: list[ClientConnection] = loop_thread.run(self._open())

    async def _open(self) -> list[ClientConnection]:
        uri = f"ws://127.0.0.1:{self._port}/"
        headers = {"X-Web-Socket": "1"}
        return [
            await connect(uri, additional_headers=headers, proxy=None, ping_interval=None)
            for _ in range(WEB_SOCKETS)
        ]

    async def _echo(self, text: str) -> int:
        async def one(client: ClientConnection) -> bool:
            await client.send(text)
            return bool(await client.recv() == text)

        async with asyncio.timeout(10):
            return sum(await asyncio.gather(*(one(client) for client in self._clients)))

    def echo(self, text: str) -> int:
        """Return how many answer with ``text``."""
        answered: int = self._loop_thread.run(self._echo(text), 15)
        return answered

    def close(self) -> None:
        """Close them."""

        async def close() -> None:
            await asyncio.gather(*(client.close() for client in self._clients))

        self._loop_thread.run(close(), 15)


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def other(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread, "other")
    yield made
    made.stop()


@pytest.fixture
def web_socket_server(loop_thread: LoopThread) -> Iterator[WebSocketServer]:
    made = WebSocketServer(loop_thread)
    yield made
    made.stop()


@pytest.fixture
def load_thread() -> Iterator[LoopThread]:
    """Return a loop apart from the servers', so that load and servers do not wait in one queue."""
    thread = LoopThread()
    yield thread
    thread.stop()


def changing_routes(
    number: int, backend: Backend, other: Backend, web_sockets: WebSocketServer
) -> dict[str, Any]:
    """Return generation ``number``: what the load uses changes, amid what comes and goes."""
    routes = single_backend(backend.url, {"load": "Host:a"})
    loaded = routes["backends"]["server"]["servers"]
    if number % 3:
        loaded["two"] = {"url": other.url, "weight": number % 3}
    routes["frontends"]["load"]["passHostHeader"] = bool(number % 2)
    server = {"url": web_sockets.url, "weight": 1 + number % 5}
    routes["backends"]["ws"] = {"servers": {"a": server}}
    routes["frontends"]["ws"] = {
        "backend": "ws",
        "routes": {"r": {"rule": "Headers: X-Web-Socket, 1"}},
        "priority": 100 + number % 2,
    }
    for each in range(number % 7):
        routes["frontends"][f"extra-{number}-{each}"] = {
            "backend": "server",
            "routes": {"r": {"rule": f"Host:extra-{each};PathPrefix:/{number}"}},
        }
    return routes


def test_nothing_fails_over_many_generations(
    loop_thread: LoopThread,
    load_thread: LoopThread,
    backend: Backend,
    other: Backend,
    web_socket_server: WebSocketServer,
) -> None:
    def routes(number: int) -> dict[str, Any]:
        return changing_routes(number, backend, other, web_socket_server)

    with ProxyProcess(routes(0), workers=2) as proxy:
        web_sockets = WebSockets(loop_thread, proxy.port)
        load = Load(proxy.port)
        running = asyncio.run_coroutine_threadsafe(load.run(), load_thread.loop)
        workers = proxy.worker_pids()
        before = proxy.generation()
        warm: dict[int, int] = {}
        ends = time.monotonic() + 12
        number = 0
        while number < GENERATIONS and time.monotonic() < ends:
            number += 1
            proxy.apply(routes(number))
            if number % 10 == 0:
                assert web_sockets.echo(f"generation {number}") == WEB_SOCKETS
            if number == GENERATIONS // 3:
                warm = {pid: proxy.resident_kilobytes(pid) for pid in workers}
        grown = {pid: proxy.resident_kilobytes(pid) - size for pid, size in warm.items()}
        load.stop()
        running.result(15)
        assert web_sockets.echo("at the end") == WEB_SOCKETS
        web_sockets.close()
        assert load.failures == []
        assert load.done > 200
        assert number >= 20, "so few generations prove nothing"
        assert proxy.generation() - before == number
        assert proxy.worker_pids() == workers
        assert all(size < 3000 for size in grown.values()), f"KB grown: {grown}"


@pytest.mark.serial
def test_keys_written_to_the_store_are_live_and_cost_nothing(
    loop_thread: LoopThread,
    load_thread: LoopThread,
    backend: Backend,
    other: Backend,
    tmp_path: Path,
) -> None:
    """One key a transaction; every worker serves it soon, and no request fails."""
    store = EmbeddedStore(tmp_path / "store.db")
    routes = single_backend(backend.url, {"load": "Host:a"})
    configuration, problems = decode_configuration(routes, where=lambda path: "", style="file")
    assert not problems
    keys = encode_configuration(configuration)
    first = Transaction(put={f"kvproxy/{key}": value.encode() for key, value in keys.items()})
    loop_thread.run(store.write(first))
    static = {"embedded": {"path": str(tmp_path / "store.db")}}
    with ProxyProcess(None, static=static, workers=2) as proxy:
        wait_until(lambda: proxy.fetch(host="a").status == 200, "the first routes")
        load = Load(proxy.port)
        running = asyncio.run_coroutine_threadsafe(load.run(), load_thread.loop)
        seconds = []
        for number in range(40):
            server = backend if number % 2 else other
            change = Transaction(
                put={"kvproxy/backends/server/servers/one/url": server.url.encode()}
            )
            started = time.monotonic()
            loop_thread.run(store.write(change))
            wait_until(
                lambda name=server.name: set(served_by(proxy, 16)) == {name},  # type: ignore[misc]
                f"change {number} on every worker",
            )
            seconds.append(time.monotonic() - started)
        load.stop()
        running.result(15)
        assert load.failures == []
        assert load.done > 200
        assert sorted(seconds)[20] < 0.5, f"seconds to be live: {seconds}"
    loop_thread.run(store.close())


def weighted(backend: Backend, other: Backend, **frontends: str) -> dict[str, Any]:
    """Return routes to two servers of weights 3 and 1."""
    routes = single_backend(backend.url, {"a": "Host:a", **frontends})
    routes["backends"]["server"]["servers"] = {
        "1": {"url": backend.url, "weight": 3},
        "2": {"url": other.url, "weight": 1},
    }
    return routes


def served_by(proxy: ProxyProcess, times: int) -> list[str]:
    names = (proxy.fetch(host="a").value("X-Server") for _ in range(times))
    return [name.decode() for name in names if name]


def test_rotation_is_not_moved_by_unrelated_changes(backend: Backend, other: Backend) -> None:
    """Differs: the reference starts every rotation afresh with each change of anything."""
    with ProxyProcess(weighted(backend, other)) as proxy:
        seen = []
        for number in range(8):
            seen += served_by(proxy, 1)
            routes = weighted(backend, other, **{f"x{number}": f"Host:x{number}"})
            routes["backends"][f"new-{number}"] = {"servers": {"a": {"url": backend.url}}}
            routes["frontends"][f"new-{number}"] = {
                "backend": f"new-{number}",
                "routes": {"r": {"rule": f"Host:new-{number}"}},
            }
            proxy.apply(routes)
        assert seen == ["echo", "echo", "echo", "other"] * 2


def test_rotation_starts_afresh_when_its_servers_change(backend: Backend, other: Backend) -> None:
    with ProxyProcess(weighted(backend, other)) as proxy:
        assert served_by(proxy, 2) == ["echo", "echo"]
        routes = weighted(backend, other)
        routes["backends"]["server"]["servers"]["2"]["weight"] = 2
        proxy.apply(routes)
        assert served_by(proxy, 5) == ["echo", "echo", "other", "echo", "other"]


def test_slow_requests_finish_on_their_generation(backend: Backend, other: Backend) -> None:
    gates = [Gate(), Gate()]
    for number, gate in enumerate(gates):
        answer = (b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n", b"half", gate, b"more")
        backend.on(f"/slow-{number}", Answer(answer))
    with ProxyProcess(single_backend(backend.url, {"a": "Host:a", "b": "Host:b"})) as proxy:
        clients = [proxy.connect() for _ in gates]
        for number, client in enumerate(clients):
            client.send(build_request(f"/slow-{number}", host="a"))
            assert client.read_head().status == 200
            assert client.read_exactly(4) == b"half"
        proxy.apply(single_backend(other.url, {"a": "Host:a", "b": "Host:b"}))
        assert proxy.fetch(host="a").value("X-Server") == b"other"
        gates[0].open()
        assert clients[0].read_exactly(4) == b"more"
        proxy.apply(single_backend(other.url, {"b": "Host:b"}))
        assert proxy.fetch(host="a").status == 404
        gates[1].open()
        assert clients[1].read_exactly(4) == b"more"
        # Both connections stay, and their next request sees the present generation.
        for client in clients:
            assert client.request(build_request(host="a")).status == 404
            client.close()


def test_body_in_flight_is_not_cut(backend: Backend, other: Backend) -> None:
    routes = single_backend(backend.url, {"a": "Host:a"})
    with ProxyProcess(routes) as proxy, proxy.connect() as client:
        before = len(backend.connections)
        client.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        wait_until(lambda: len(backend.connections) > before, "the request to reach its server")
        proxy.apply(single_backend(other.url, {"a": "Host:a"}))
        client.send(b"world")
        answer = client.read_response()
        assert answer.value("X-Server") == b"echo"
        assert answer.body.endswith(b"helloworld")


def test_unused_server_is_let_go(backend: Backend, other: Backend) -> None:
    """Idle connections to a server that no backend names any more are closed."""
    other.on("/idle", Answer((plain_answer(),)))
    with ProxyProcess(single_backend(other.url, {"a": "Host:a"})) as proxy:
        assert proxy.fetch("/idle", host="a").status == 200
        (request,) = other.requests_for("/idle")
        proxy.apply(single_backend(backend.url, {"a": "Host:a"}))
        connection = other.connections[request.connection]
        wait_until(lambda: connection.ended, "the idle connection to be closed")
