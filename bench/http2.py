"""HTTP/2 beside peers: what a request costs over TLS, and a gRPC call in clear."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.load import BROWSER_HEADERS
from bench.peers import HOST, pinned
from bench.scenarios import LOAD_CORE, backend, running, say, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.peers import Peer

CONNECTIONS = 16
PATHS = 200_000
GRPC_MESSAGE = b"\0\0\0\0\x05hello"


@dataclass(frozen=True)
class Case:
    """One kind of requests. ``path``: what the server is asked for."""

    name: str
    streams: int
    path: str = "/hello"
    browser: bool = False
    paths: int = 0
    unique: bool = False


CASES = (
    Case("32 streams, the same request", 32),
    Case("one stream, the same request", 1),
    Case(f"32 streams, {PATHS:,} paths, browser headers", 32, browser=True, paths=PATHS),
    Case("32 streams, every request unique", 32, unique=True),
    Case("32 streams, every answer's head unique", 32, path="/unique"),
)


def h2load(
    port: int,
    seconds: int,
    folder: Path,
    case: Case,
    *,
    scheme: str = "https",
    more: tuple[str, ...] = (),
) -> tuple[int, int]:
    """Run h2load; returns requests that succeeded, and that failed."""
    url = f"{scheme}://127.0.0.1:{port}"
    command = ["h2load", "-t1", f"-c{CONNECTIONS}", f"-m{case.streams}", f"-D{seconds}"]
    command += ["-H", f":authority: {HOST}", *more]
    if case.browser:
        for header in BROWSER_HEADERS:
            if not header.startswith("Connection"):
                command += ["-H", header]
    if case.paths:
        file = folder / f"paths-{port}"
        file.write_text("".join(f"{url}/hello/{i}?q={i * 7}\n" for i in range(case.paths)))
        command += ["-i", str(file)]
    else:
        command.append(url + case.path)
    done = subprocess.run(
        pinned(LOAD_CORE, command), capture_output=True, text=True, timeout=seconds + 60, check=True
    )
    statuses = re.search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", done.stdout)
    counts = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
    if statuses is None or counts is None:
        raise RuntimeError(f"h2load said:\n{done.stdout}")
    # What is under way when the time is over counts as failed in h2load.
    under_way = CONNECTIONS * case.streams
    failed = max(0, int(counts[1]) - under_way) + sum(int(statuses[i]) for i in (2, 3, 4))
    return int(statuses[1]), failed


def unique(port: int, seconds: int, streams: int) -> tuple[int, int]:
    """Run the client whose requests are all different."""
    command = [sys.executable, "-m", "bench.unique", str(port), str(seconds)]
    done = subprocess.run(
        pinned(LOAD_CORE, [*command, str(CONNECTIONS), str(streams)]),
        capture_output=True,
        text=True,
        timeout=seconds + 30,
        check=True,
    )
    answered, failed = done.stdout.split()
    return int(answered), int(failed)


def one_case(port: int, seconds: int, folder: Path, case: Case) -> tuple[int, int]:
    """Ask a proxy in the way of a case."""
    if case.unique:
        return unique(port, seconds, case.streams)
    return h2load(port, seconds, folder, case)


def cpu_of(process: int, ask: Callable[[], tuple[int, int]]) -> tuple[float, int, int]:
    """Return CPU microseconds of a process tree for each request, requests, and failures."""
    tree = machine.process_tree(process)
    began = machine.cpu_seconds(tree)
    done, failed = ask()
    used = machine.cpu_seconds(tree) - began
    return used / max(1, done) * 1e6, done, failed


def requests(peers: list[Peer], rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Measure CPU microseconds of a request over TLS by case and proxy, one number a round.

    All proxies run all the time, and take turns: what else the machine does hits all of them.
    """
    samples: dict[str, dict[str, list[float]]] = {
        case.name: {peer.name: [] for peer in peers} for case in CASES
    }
    whole = max(1, round(seconds))
    with (
        tempfile.TemporaryDirectory() as place,
        backend(Path(place)) as (server,),
        contextlib.ExitStack() as running_peers,
    ):
        at = {
            peer.name: running_peers.enter_context(
                started(peer, server, Path(place), tls=True, make=peer.http2_command)
            )
            for peer in peers
        }
        for case in CASES:
            for port, _ in at.values():
                one_case(port, 1, Path(place), case)
            for number in range(rounds):
                for name, (port, process) in at.items():
                    ask = partial(one_case, port, whole, Path(place), case)
                    cpu, _, failed = cpu_of(process, ask)
                    samples[case.name][name].append(cpu)
                    say(f"  {case.name}, round {number + 1} {name}: {cpu:.1f} us, {failed} failed")
    return samples


@contextlib.contextmanager
def grpc_server(folder: Path) -> Iterator[int]:
    """Run an HTTP/2 server in clear that answers each call with a message and a trailer."""
    pages = folder / "pages" / "test.Greeter"
    pages.mkdir(parents=True, exist_ok=True)
    (pages / "Hello").write_bytes(GRPC_MESSAGE)
    (folder / "pages" / "index.html").write_text("ready")
    port = machine.free_port()
    command = ["nghttpd", "--no-tls", f"--htdocs={folder / 'pages'}", "--trailer=grpc-status: 0"]
    command += ["--address=127.0.0.1", str(port)]
    with running(pinned(LOAD_CORE, command), {}, folder / "nghttpd.out"):
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield port


def grpc(peers: list[Peer], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Measure CPU microseconds of a unary call, HTTP/2 in clear on both sides, by proxy and
    round."""
    samples: dict[str, list[float]] = {peer.name: [] for peer in peers}
    case = Case("unary call", 32, path="/test.Greeter/Hello")
    more = ("-H", "content-type: application/grpc", "-H", "te: trailers")
    whole = max(1, round(seconds))
    with tempfile.TemporaryDirectory() as place, grpc_server(Path(place)) as server:
        message = Path(place) / "message"
        message.write_bytes(GRPC_MESSAGE)
        more = (*more, "-d", str(message))
        for _ in range(rounds):
            for peer in peers:
                make = peer.grpc_command
                with started(peer, server, Path(place), tls=False, make=make) as (port, process):
                    options = {"scheme": "http", "more": more}
                    h2load(port, 1, Path(place), case, **options)
                    ask = partial(h2load, port, whole, Path(place), case, **options)
                    cpu, _, failed = cpu_of(process, ask)
                    samples[peer.name].append(cpu)
                    say(f"  {peer.name}: {cpu:.1f} us a call, {failed} failed")
    return samples
