"""Servers that die and come back under load, with health checks and retry: nobody notices."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.deadline import wait_until
from tests.support.load import Load
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

WEIGHTS = {"a": 1, "b": 2, "c": 3, "d": 1, "e": 2}
MORTAL = ("b", "d")
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SO_ATTACH_FILTER = 26
SYN_RECV = "03"
ENOUGH = 4000
"""Answers from which shares are told to within one percent."""


class MortalServer:
    """Answers every request, and counts them; it can die and come back on its port.

    To die is to refuse connections from then on. Whatever has reached the server is answered, and
    then its connection is closed.
    """

    def __init__(self, loop_thread: LoopThread) -> None:
        self._loop_thread = loop_thread
        self._reserved = bound_socket(0)
        self.port: int = self._reserved.getsockname()[1]
        self.answered = 0
        self.dead = True
        self.connections: set[Conversation] = set()
        self._beginning: set[asyncio.Task[None]] = set()
        self._listener: socket.socket
        self.come_back()

    def come_back(self) -> None:
        async def listen() -> None:
            self._listener = bound_socket(self.port)
            self._listener.listen(1024)
            self._loop_thread.loop.add_reader(self._listener, self._accept_all)

        self.dead = False
        self._loop_thread.run(listen())

    def _accept_all(self) -> None:
        loop = self._loop_thread.loop
        with contextlib.suppress(BlockingIOError):
            while True:
                serving = self._serve(self._listener.accept()[0])
                task = loop.create_task(serving)
                self._beginning.add(task)
                task.add_done_callback(self._beginning.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: Conversation(self), accepted)

    def die(self) -> None:
        async def close() -> None:
            self.dead = True
            # Closing a listener resets what waits in its queue, so nothing may enter it any more
            # and what has entered is answered first.
            refuse_new_connections(self._listener)
            while handshakes_under_way(self.port):
                await asyncio.sleep(0)
            self._accept_all()
            self._loop_thread.loop.remove_reader(self._listener)
            self._listener.close()
            for connection in list(self.connections):
                connection.close_if_idle()

        self._loop_thread.run(close())

    def stop(self) -> None:
        if not self.dead:
            self.die()
        self._reserved.close()


def refuse_new_connections(listener: socket.socket) -> None:
    """Let the kernel drop every SYN for this listener, and only those.

    The classic BPF program sees a segment from its TCP header on; byte 13 has the flags.
    """
    program = [(0x30, 0, 0, 13), (0x45, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    described = struct.pack("HL", len(program), ctypes.addressof(code))
    listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, described)


def handshakes_under_way(port: int) -> bool:
    """Tell whether the kernel knows half-open connections (SYN_RECV) to a local port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return any(line[3] == SYN_RECV and line[1].endswith(f":{port:04X}") for line in fields)


def bound_socket(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.setblocking(False)
    return made


class Conversation(asyncio.Protocol):
    """One connection of a server."""

    def __init__(self, server: MortalServer) -> None:
        self._server = server
        self._buffer = b""
        self._served = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            self._served += 1
            self._server.answered += not head.startswith(b"GET /health")
            self._transport.write(ANSWER)
        if self._server.dead:
            self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close a connection that has had an answer: its client knows that this may happen."""
        if self._served and not self._buffer:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)


@pytest.fixture
def servers(loop_thread: LoopThread) -> Iterator[dict[str, MortalServer]]:
    made = {name: MortalServer(loop_thread) for name in WEIGHTS}
    yield made
    for server in made.values():
        server.stop()


def routes(servers: dict[str, MortalServer]) -> dict[str, Any]:
    described = {
        name: {"url": f"http://127.0.0.1:{server.port}", "weight": WEIGHTS[name]}
        for name, server in servers.items()
    }
    check = {"path": "/health", "interval": "100ms", "timeout": "10s"}
    return {
        "backends": {"b": {"servers": described, "healthCheck": check}},
        "frontends": {"f": {"backend": "b", "routes": {"r": {"rule": "Host:h"}}}},
    }


def known_down(proxy: ProxyProcess) -> int:
    return len(proxy.ask("status")["serversDown"])


def follows_the_weights(load: Load, servers: dict[str, MortalServer], up: set[str]) -> None:
    """Let the load go on for a while and compare each server's share with its weight."""
    before = {name: server.answered for name, server in servers.items()}
    load.wait_for_answers(ENOUGH, 60)
    counts = {name: server.answered - before[name] for name, server in servers.items()}
    total = sum(counts.values())
    weight = sum(WEIGHTS[name] for name in up)
    for name, count in counts.items():
        expected = WEIGHTS[name] / weight if name in up else 0.0
        assert abs(count / total - expected) <= 0.01, (name, counts)


@pytest.mark.serial
def test_nobody_notices_two_of_five(servers: dict[str, MortalServer]) -> None:
    static = {"retry": {"attempts": 5}}
    living = set(WEIGHTS) - set(MORTAL)
    with (
        ProxyProcess(routes(servers), static=static, workers=2) as proxy,
        Load(proxy.port, "h", keep_alive=12, fresh=4) as load,
    ):
        follows_the_weights(load, servers, set(WEIGHTS))
        for name in MORTAL:
            servers[name].die()
        wait_until(lambda: known_down(proxy) == len(MORTAL), "both to be found down")
        follows_the_weights(load, servers, living)
        for turn in range(16):
            server = servers[MORTAL[turn % 2]]
            if server.dead:
                server.come_back()
            else:
                server.die()
            load.wait_for_answers(200, 20)
        for name in MORTAL:
            if servers[name].dead:
                servers[name].come_back()
        wait_until(lambda: known_down(proxy) == 0, "all to be found up")
        follows_the_weights(load, servers, set(WEIGHTS))
        load.close()
        assert load.failures == {}
