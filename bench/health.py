"""What health checks of many servers cost the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.scenarios import running

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

SPREAD_INTERVALS = 1.5
"""So many intervals after the start every check has its own turn."""


@dataclass
class HealthCost:
    """``core``: the part of a core that the supervisor takes; ``microseconds``: a check; memory of
    the supervisor in bytes."""

    checks_per_second: float
    core: float
    microseconds: float
    memory: int


def measure(servers: int, interval: float, seconds: float) -> HealthCost:
    """Check ``servers`` every ``interval`` seconds, and measure for a while."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        port = machine.free_port()
        command = [sys.executable, "-m", "kvproxy", "run", "--workers=1", "--logLevel=WARN"]
        command += [f"--entryPoints=Name:http Address:127.0.0.1:{port}"]
        command += [f"--file.filename={folder / 'routes.toml'}", f"--stateDir={folder / 'state'}"]
        with answering() as (answerer, answering_port):
            (folder / "routes.toml").write_text(routes(servers, interval, answering_port))
            with running(command, {}, folder / "out") as process:
                wait_for_checks(answerer)
                time.sleep(interval * SPREAD_INTERVALS + servers / 1000)
                asked, cpu = answered(answerer), machine.cpu_seconds([process.pid])
                began = time.monotonic()
                time.sleep(seconds)
                taken = time.monotonic() - began
                asked, cpu = answered(answerer) - asked, machine.cpu_seconds([process.pid]) - cpu
                memory = machine.memory_bytes([process.pid])
    return HealthCost(asked / taken, cpu / taken, 1e6 * cpu / asked, memory)


def routes(servers: int, interval: float, port: int) -> str:
    """Return backends of ten servers, each at an address of its own."""
    lines = []
    for number in range(servers):
        backend, place = divmod(number, 10)
        if not place:
            lines += [
                f'[frontends.f{backend}]\nbackend = "b{backend}"',
                f'[frontends.f{backend}.routes.r]\nrule = "Host:h{backend}"',
                f'[backends.b{backend}.healthCheck]\npath = "/health"\ninterval = "{interval}s"',
            ]
        address = f"127.1.{number // 250}.{number % 250 + 1}"
        lines.append(f'[backends.b{backend}.servers.s{place}]\nurl = "http://{address}:{port}"')
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def answering() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a process that answers on every address of the machine; yields it and its port."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.health"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def wait_for_checks(process: subprocess.Popen[str], seconds: float = 60.0) -> None:
    """Wait for the first request."""
    deadline = time.monotonic() + seconds
    while not answered(process):
        if time.monotonic() > deadline:
            raise TimeoutError("no server was checked")
        time.sleep(0.1)


def answered(process: subprocess.Popen[str]) -> int:
    """Return how many requests have been answered."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


class _Answerer(asyncio.Protocol):
    """Answers each request, and closes where that is asked for."""

    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        _Answerer.count += 1
        self.transport.write(ANSWER)  # type: ignore[attr-defined]
        if b"onnection: close" in data:
            self.transport.close()


async def _answer() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Answerer, "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(sys.stdin, lambda: (sys.stdin.readline(), print(_Answerer.count, flush=True)))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_answer())
