"""A real worker process, told what to do through its channel."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kvproxy.channel import Channel, ChannelClosed
from kvproxy.model.messages import (
    Applied,
    Apply,
    BackendEntry,
    FromWorker,
    FrontendEntry,
    Listen,
    Ready,
    Refused,
    Release,
    Start,
    Statistics,
    Stop,
)
from kvproxy.model.static import (
    EntryPoint,
    ForwardingTimeouts,
    LifeCycle,
    Ping,
    RespondingTimeouts,
    StaticConfiguration,
)
from kvproxy.proxy.worker import PORTION, in_portions, rest_after, sweep_seconds
from tests.unit.proxy.worlds import backend, frontend, generation_digest, whole

SLOT = 3
PROGRAM = """
import sys, uvloop
from kvproxy.proxy.worker import serve
uvloop.run(serve(int(sys.argv[1])))
"""
Message = TypeVar("Message")


class WorkerProcess:
    """The supervisor's view of one worker."""

    def __init__(self, **settings: Any) -> None:
        self.settings = StaticConfiguration(
            entry_points={"http": EntryPoint(address=":0")},
            default_entry_points=("http",),
            **settings,
        )
        self.heard: list[FromWorker] = []

    async def __aenter__(self) -> WorkerProcess:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", PROGRAM, str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stderr=asyncio.subprocess.PIPE,
            )
        self.channel: Channel[FromWorker] = Channel(ours, FromWorker)
        self.channel.send(Start(SLOT, self.settings, "edge"))
        self.listening = socket.socket()
        self.listening.bind(("127.0.0.1", 0))
        self.port: int = self.listening.getsockname()[1]
        return self

    async def __aexit__(self, *details: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.channel.close()
        self.listening.close()

    def listen(self, slot: int = SLOT, listening: socket.socket | None = None) -> None:
        """Send the socket of an entry point."""
        descriptor = (listening or self.listening).fileno()
        self.channel.send(Listen("http", ":0", 1, slot), [descriptor])

    async def hear(self, kind: type[Message]) -> Message:
        """Return the next message of a kind."""
        async with asyncio.timeout(10):
            while True:
                message, _ = await self.channel.receive()
                self.heard.append(message)
                if isinstance(message, kind):
                    return message

    async def serve(self, url: str) -> None:
        """Let the worker serve ``Host: a`` from a server."""
        self.listen()
        entries: list[FrontendEntry | BackendEntry] = [
            *(backend("b", {url: 1}), frontend("f", "Host:a", "b"))
        ]
        digest = generation_digest(entries)
        part = whole(1, *entries)
        self.channel.send(Apply(1, -1, digest, part.frontends, part.backends))
        assert (await self.hear(Applied)).digest == digest

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Return a client's connection."""
        return await asyncio.open_connection("127.0.0.1", self.port)

    def resident(self) -> int:
        """Return the worker's resident bytes."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    async def log(self) -> str:
        """Return all that the worker wrote, after its end."""
        assert self.process.stderr is not None
        return (await self.process.stderr.read()).decode()


class Echo:
    """A server that answers each request with its head; ``gate`` holds answers back."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = asyncio.Event()
        self.connections = 0

    async def __aenter__(self) -> str:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *details: object) -> None:
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.asked.set()
                await self.gate.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(head) + head)
        writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return head and body of the next answer."""
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        return head, await reader.readexactly(length)


async def get(worker: WorkerProcess, target: str = "/", host: str = "a") -> tuple[bytes, bytes]:
    """Ask on a connection of its own."""
    reader, writer = await worker.connect()
    writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    result = await answer(reader)
    writer.close()
    return result


async def test_life_of_a_worker() -> None:
    async with Echo() as url, WorkerProcess() as worker:
        await worker.serve(url)
        ready = await worker.hear(Ready)
        assert ready == Ready(SLOT, worker.process.pid)
        head, body = await get(worker, "/x")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert body.startswith(b"GET /x HTTP/1.1\r\n")
        assert b"X-Forwarded-Server: edge\r\n" in body
        head, _ = await get(worker, host="nobody")
        assert head.startswith(b"HTTP/1.1 404 ")
        command = Path(f"/proc/{worker.process.pid}/cmdline").read_bytes()
        assert b"kvproxy: worker 3 (generation 1)" in command

        async with asyncio.timeout(10):
            while (statistics := await worker.hear(Statistics)).requests < 2:
                pass
        assert statistics.statuses == [0, 0, 1, 0, 1, 0]
        (counted,) = statistics.backends
        assert (counted.provider, counted.name) == ("p", "b")
        assert counted.statuses == [0, 0, 1, 0, 0, 0]
        assert 0 < counted.seconds < 5

        worker.channel.send(Stop(0.0, 5.0))
        last = await worker.hear(Statistics)
        while last.connections:
            last = await worker.hear(Statistics)
        assert last.requests == 2
        async with asyncio.timeout(10):
            assert await worker.process.wait() == 0
        assert "Traceback" not in await worker.log()


async def test_refused_generations_change_nothing() -> None:
    async with Echo() as url, WorkerProcess() as worker:
        await worker.serve(url)
        worker.channel.send(whole(5, frontend("g", "Host:g", "b"), base=4))
        refused = await worker.hear(Refused)
        assert refused.generation == 5
        assert "based on 4, not on 1" in refused.reason
        assert (await get(worker))[0].startswith(b"HTTP/1.1 200 ")
        assert (await get(worker, host="g"))[0].startswith(b"HTTP/1.1 404 ")
        worker.channel.send(Apply(6, 1, "wrong", removed_frontends=[("p", "f")]))
        assert "the digest is" in (await worker.hear(Refused)).reason
        broken = backend("broken", {"http://": 1})
        worker.channel.send(whole(7, broken))
        assert "ValueError" in (await worker.hear(Refused)).reason


async def test_a_generation_in_parts_is_applied_with_the_last() -> None:
    async with Echo() as url, WorkerProcess() as worker:
        await worker.serve(url)
        held = (backend("b", {url: 1}), frontend("f", "Host:a", "b"))
        added = [frontend(name, f"Host:{name}", "b") for name in "cd"]
        worker.channel.send(Apply(2, 1, "", [added[0]], last=False))
        assert (await get(worker, host="c"))[0].startswith(b"HTTP/1.1 404 ")
        digest = generation_digest([*held, *added])
        worker.channel.send(Apply(2, 1, digest, [added[1]]))
        assert (await worker.hear(Applied)).generation == 2
        for host in "acd":
            assert (await get(worker, host=host))[0].startswith(b"HTTP/1.1 200 ")


async def test_serves_on_when_the_supervisor_is_gone() -> None:
    async with Echo() as url, WorkerProcess() as worker:
        await worker.serve(url)
        reader, writer = await worker.connect()
        worker.channel.close()
        for _ in range(3):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await answer(reader))[0].startswith(b"HTTP/1.1 200 ")
        assert (await get(worker))[0].startswith(b"HTTP/1.1 200 ")
        writer.close()
        worker.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await worker.process.wait() == 0
        assert "the supervisor is gone" in await worker.log()


async def test_signals_are_the_supervisors_business() -> None:
    async with Echo() as url, WorkerProcess() as worker:
        await worker.serve(url)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            worker.process.send_signal(number)
        assert (await get(worker))[0].startswith(b"HTTP/1.1 200 ")
        assert worker.process.returncode is None


async def test_drain_announces_the_close_and_lets_requests_end() -> None:
    echo = Echo()
    async with echo as url, WorkerProcess(ping=Ping(entry_point="http")) as worker:
        await worker.serve(url)
        assert (await get(worker, "/ping"))[1] == b"OK"
        busy, busy_writer = await worker.connect()
        fresh, fresh_writer = await worker.connect()
        fresh_writer.write(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"connection: close" not in (await answer(fresh))[0].lower()
        echo.gate.clear()
        echo.asked.clear()
        busy_writer.write(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(10):
            await echo.asked.wait()
        worker.listening.close()
        worker.channel.send(Stop(0.0, 30.0))
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await worker.connect()
                except ConnectionRefusedError:
                    break
                writer.close()
                await asyncio.sleep(0.01)
        echo.gate.set()
        head, body = await answer(busy)
        assert body.startswith(b"GET /slow ")
        assert b"connection: close" in head.lower()
        assert await busy.read() == b""
        async with asyncio.timeout(10):
            fresh_writer.write(b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n")
            rest = await fresh.read()
            assert not rest or b"connection: close" in rest.lower()
            assert await worker.process.wait() == 0
        for writer in (busy_writer, fresh_writer):
            writer.close()


async def test_accepts_a_while_before_it_stops_and_ping_says_so() -> None:
    async with Echo() as url, WorkerProcess(ping=Ping(entry_point="http")) as worker:
        await worker.serve(url)
        worker.channel.send(Stop(30.0, 0.0))
        async with asyncio.timeout(10):
            while (await get(worker, "/ping"))[0].startswith(b"HTTP/1.1 200 "):
                await asyncio.sleep(0.01)
        assert (await get(worker, "/ping"))[0].startswith(b"HTTP/1.1 503 ")
        assert (await get(worker))[0].startswith(b"HTTP/1.1 200 ")


async def test_what_is_left_after_the_grace_is_cut() -> None:
    echo = Echo()
    async with echo as url, WorkerProcess(life_cycle=LifeCycle(grace_time_out=0.1)) as worker:
        await worker.serve(url)
        echo.gate.clear()
        reader, writer = await worker.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(10):
            await echo.asked.wait()
            worker.channel.send(Stop(0.0, 0.2))
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            assert await worker.process.wait() == 0
        writer.close()
        echo.gate.set()


async def test_sockets_of_another_slot_are_taken_and_released() -> None:
    async with Echo() as url, WorkerProcess() as worker:
        await worker.serve(url)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
            worker.listen(9, other)
            async with asyncio.timeout(10):
                while True:
                    with contextlib.suppress(ConnectionRefusedError):
                        reader, writer = await asyncio.open_connection("127.0.0.1", port)
                        break
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await answer(reader))[0].startswith(b"HTTP/1.1 200 ")
                worker.channel.send(Release(9))
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await answer(reader))[0].startswith(b"HTTP/1.1 200 ")
                writer.close()
            # Our copy of the socket still listens: what waits there is for the slot's own worker.
            late_reader, late = await asyncio.open_connection("127.0.0.1", port)
            late.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await late_reader.read(1)
            late.close()
            assert (await get(worker))[0].startswith(b"HTTP/1.1 200 ")


async def test_a_worker_that_cannot_obey_ends() -> None:
    """A deaf worker would serve an old generation for ever; a dead one is replaced."""
    async with WorkerProcess() as worker:
        worker.channel.send(Listen("unknown", ":0", 1, SLOT), [worker.listening.fileno()])
        async with asyncio.timeout(10):
            assert await worker.process.wait() != 0
            with pytest.raises(ChannelClosed):
                await worker.hear(Ready)
        assert "KeyError" in await worker.log()


async def test_first_message_must_be_start() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            stderr=asyncio.subprocess.PIPE,
        )
    channel: Channel[FromWorker] = Channel(ours, FromWorker)
    channel.send(Release(1))
    async with asyncio.timeout(10):
        _, errors = await process.communicate()
    channel.close()
    assert process.returncode == 1
    assert b"must be Start, not Release" in errors


SWEEPS = [
    ({}, 1.0),
    ({"responding_timeouts": RespondingTimeouts(read_timeout=5.0)}, 0.5),
    ({"responding_timeouts": RespondingTimeouts(write_timeout=0.2)}, 0.05),
    ({"responding_timeouts": RespondingTimeouts(idle_timeout=2.0, read_timeout=4.0)}, 0.2),
    ({"forwarding_timeouts": ForwardingTimeouts(response_header_timeout=3.0)}, 0.3),
    ({"responding_timeouts": RespondingTimeouts(idle_timeout=0.0)}, 1.0),
]


@pytest.mark.parametrize(("settings", "seconds"), SWEEPS, ids=lambda value: str(value)[-40:])
def test_sweep(settings: dict[str, Any], seconds: float) -> None:
    configuration = StaticConfiguration(entry_points={}, **settings)
    assert sweep_seconds(configuration) == pytest.approx(seconds)


async def pouring(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a gibibyte."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % 2**30)
    with contextlib.suppress(ConnectionError):
        for _ in range(2**10):
            writer.write(bytes(2**20))
            await writer.drain()
    writer.close()


async def deaf(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Never read."""
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def server(behaviour: Any) -> AsyncIterator[str]:
    listening = socket.socket()
    # A small window: what a server does not read stays with the worker.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listening.bind(("127.0.0.1", 0))
    running = await asyncio.start_server(behaviour, sock=listening)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        running.close()


async def stalls(writer: asyncio.StreamWriter, piece: bytes, most: int) -> int:
    """Send until nothing is taken for a while; return how much was taken."""
    sent = 0
    while sent < most:
        writer.write(piece)
        sent += len(piece)
        try:
            async with asyncio.timeout(1.0):
                await writer.drain()
        except TimeoutError:
            return sent
    return sent


MEBIBYTE = 2**20
UNREAD = 24 * MEBIBYTE
"""More than one connection's queues and reads can cost, far less than what is sent."""


async def test_client_that_never_reads_costs_bounded_memory() -> None:
    async with server(pouring) as url, WorkerProcess() as worker:
        await worker.serve(url)
        before = worker.resident()
        _, writer = await worker.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        taken = await stalls(writer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000, 64 * MEBIBYTE)
        assert taken < 64 * MEBIBYTE
        assert worker.resident() - before < UNREAD
        writer.close()


async def test_client_that_pipelines_and_never_reads_costs_bounded_memory() -> None:
    async def large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000))
                await writer.drain()
        writer.close()

    async with server(large) as url, WorkerProcess() as worker:
        await worker.serve(url)
        before = worker.resident()
        _, writer = await worker.connect()
        taken = await stalls(writer, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000, 64 * MEBIBYTE)
        assert taken < 64 * MEBIBYTE
        assert worker.resident() - before < UNREAD
        writer.close()


@pytest.mark.parametrize("small_first", [False, True], ids=["at once", "after the dial"])
async def test_server_that_never_reads_costs_bounded_memory(small_first: bool) -> None:
    async with server(deaf) as url, WorkerProcess() as worker:
        # Looking a name up takes long enough for much of the body to wait for the connection.
        await worker.serve(url.replace("127.0.0.1", "localhost"))
        before = worker.resident()
        _, writer = await worker.connect()
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % 2**30
        writer.write(head if small_first else head + bytes(4 * MEBIBYTE))
        taken = await stalls(writer, bytes(MEBIBYTE), 2**30)
        assert taken < 128 * MEBIBYTE
        assert worker.resident() - before < UNREAD
        writer.close()


async def visit(worker: WorkerProcess, connections: int, requests: int) -> None:
    """Ask in many ways: pipelined, unknown, with bodies, on connections that are then dropped."""
    ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * (requests // 2)
    unknown = b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n" * (requests // 2)
    for number in range(connections):
        reader, writer = await worker.connect()
        writer.write(ask + unknown)
        for _ in range(requests):
            await answer(reader)
        if number % 3 == 0:
            writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf")
        elif number % 3 == 1:
            writer.write(b"GET / HTTP/1.1\r\nHos")
        writer.transport.abort()


@pytest.mark.serial
async def test_requests_and_connections_leave_nothing_behind() -> None:
    async with Echo() as url, WorkerProcess() as worker:
        await worker.serve(url)
        await visit(worker, 300, 10)
        before = worker.resident()
        await visit(worker, 600, 10)
        assert worker.resident() - before < 600 * 1024, "more than a kilobyte a connection"
        async with asyncio.timeout(10):
            while (await worker.hear(Statistics)).connections:
                pass


async def test_many_things_are_looked_at_in_portions_between_which_others_run() -> None:
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(len(seen))
            await asyncio.sleep(0)

    seen: list[int] = []
    beside = asyncio.create_task(other())
    async for portion in in_portions(range(3 * PORTION + 1)):
        seen += portion
    beside.cancel()
    assert seen == list(range(3 * PORTION + 1))
    assert turns == [PORTION, 2 * PORTION, 3 * PORTION]


@pytest.mark.parametrize(
    ("took", "rest"), [(0.0, 1.0), (0.01, 1.0), (0.05, 2.5), (0.09, 4.5), (3.0, 5.0)]
)
def test_much_to_look_at_is_looked_at_less_often(took: float, rest: float) -> None:
    assert rest_after(took, 1.0) == pytest.approx(rest)
