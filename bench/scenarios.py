"""The scenarios: requests beside peers, many routes, change to served, errors over reloads."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import load, machine
from bench.origins import EmbeddedOrigin, ServerOrigin
from bench.peers import HOST, Peer, all_peers, backend_command, pinned
from bench.tunnels import EchoServer, Tunnel
from bench.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.origins import Origin

PROXY_CORE = 0
LOAD_CORE = (os.cpu_count() or 1) - 1


@dataclass
class Sample:
    """One round of one proxy. CPU is user plus system time of its process tree."""

    microseconds: float
    requests_per_second: float
    p50: float
    p99: float
    memory: int
    errors: int
    foreign: float


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the time of the block; its output goes to ``log``."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def backend(folder: Path, servers: int = 1) -> Iterator[list[int]]:
    """Run the nginx that stands for the servers; yields its ports."""
    ports = [machine.free_port() for _ in range(servers)]
    command = pinned(LOAD_CORE, backend_command(folder, ports))
    with running(command, {}, folder / "backend.out"):
        deadline = time.monotonic() + 10
        for port in ports:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.05)
        yield ports


@contextlib.contextmanager
def started(
    peer: Peer,
    backend_port: int,
    folder: Path,
    *,
    tls: bool,
    make: Callable[[Path, int, int], list[str]] | None = None,
) -> Iterator[tuple[int, int]]:
    """Start a proxy on its core for the time of the block; yields its port and process id.

    ``make``: in place of the peer's own command.
    """
    with tempfile.TemporaryDirectory(dir=folder) as place:
        port = machine.free_port()
        make = make or (peer.tls_command if tls else peer.command)
        assert make is not None, f"{peer.name} has no TLS configuration"
        command = pinned(PROXY_CORE, make(Path(place), port, backend_port))
        with running(command, peer.environment, folder / "proxy.out") as process:
            load.wait_for_answer(port, tls=tls)
            yield port, process.pid


def one_round(
    peer: Peer,
    backend_port: int,
    seconds: float,
    headers: tuple[str, ...],
    folder: Path,
    *,
    tls: bool = False,
) -> Sample:
    """Start a proxy, warm it up, measure it, stop it."""
    scheme = "https" if tls else "http"
    with started(peer, backend_port, folder, tls=tls) as (port, process):
        load.wrk(port, 1, core=LOAD_CORE, headers=headers, scheme=scheme)
        tree = machine.process_tree(process)
        began, busy, own = machine.cpu_seconds(tree), machine.busy_seconds(), time.monotonic()
        children = os.times()
        result = load.wrk(port, seconds, core=LOAD_CORE, headers=headers, scheme=scheme)
        after = os.times()
        used = machine.cpu_seconds(tree) - began
        elapsed = time.monotonic() - own
        generator = after.children_user + after.children_system
        generator -= children.children_user + children.children_system
        # The server's share is not known apart; with the load it fills its core at most.
        foreign = (machine.busy_seconds() - busy - used - generator) / elapsed
        return Sample(
            microseconds=used / result.requests * 1e6,
            requests_per_second=result.requests / result.seconds,
            p50=result.p50,
            p99=result.p99,
            memory=machine.memory_bytes(tree),
            errors=result.errors,
            foreign=foreign,
        )


def handshakes(peers: list[Peer], rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Measure the CPU microseconds of a TLS 1.3 handshake, full and resumed, by proxy."""
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as temporary, backend(Path(temporary)) as ports:
        for number in range(rounds):
            for peer in peers:
                with started(peer, ports[0], Path(temporary), tls=True) as (port, process):
                    for kind in ("full", "resumed"):
                        sample = one_kind_of_handshake(port, process, seconds, kind)
                        found.setdefault(peer.name, {}).setdefault(kind, []).append(sample)
                        say(f"  round {number + 1} {peer.name:22} {kind:8} {sample:7.1f} us")
    return {
        name: {kind: statistics.median(each) for kind, each in kinds.items()}
        for name, kinds in found.items()
    }


def one_kind_of_handshake(port: int, process: int, seconds: float, kind: str) -> float:
    """Return the CPU microseconds of one handshake, connection and all."""
    tree = machine.process_tree(process)
    command = [sys.executable, "-m", "bench.handshakes", str(port)]
    for length in (0.5, seconds):
        began = machine.cpu_seconds(tree)
        text = subprocess.run(
            pinned(LOAD_CORE, [*command, str(length), kind]),
            capture_output=True,
            text=True,
            timeout=length + 30,
            check=True,
        ).stdout
        used = machine.cpu_seconds(tree) - began
    done, resumed = map(int, text.split())
    if resumed != (done if kind == "resumed" else 0):
        raise RuntimeError(f"{resumed} of {done} handshakes were resumed")
    return used / done * 1e6


def requests(
    peers: list[Peer],
    rounds: int,
    seconds: float,
    headers: tuple[str, ...],
    *,
    tls: bool = False,
) -> dict[str, Sample]:
    """Measure proxies in interleaved rounds; returns the median of each figure by proxy."""
    samples: dict[str, list[Sample]] = {peer.name: [] for peer in peers}
    with tempfile.TemporaryDirectory() as temporary, backend(Path(temporary)) as ports:
        for number in range(rounds):
            for peer in peers:
                sample = one_round(peer, ports[0], seconds, headers, Path(temporary), tls=tls)
                samples[peer.name].append(sample)
                say(
                    f"  round {number + 1} {peer.name:22} {sample.microseconds:7.2f} us "
                    f"{sample.requests_per_second:8.0f}/s errors {sample.errors}"
                )
    return {name: median(each) for name, each in samples.items()}


def median(samples: list[Sample]) -> Sample:
    """Return the median of each figure; errors are summed."""
    return Sample(
        microseconds=statistics.median(s.microseconds for s in samples),
        requests_per_second=statistics.median(s.requests_per_second for s in samples),
        p50=statistics.median(s.p50 for s in samples),
        p99=statistics.median(s.p99 for s in samples),
        memory=round(statistics.median(s.memory for s in samples)),
        errors=sum(s.errors for s in samples),
        foreign=max(s.foreign for s in samples),
    )


class Edge:
    """kvproxy with many frontends, ready to be measured and changed."""

    def __init__(
        self,
        folder: Path,
        frontends: int,
        ports: list[int],
        workers: int,
        origin: Origin | None = None,
    ) -> None:
        """Fill the origin (the embedded store) with ``frontends`` and start; the first server takes
        all of them."""
        self.folder = folder
        self.port = machine.free_port()
        self.database = folder / "store.db"
        self.origin = origin or EmbeddedOrigin(folder)
        self._frontends = frontends
        self._ports = ports
        self._workers = workers
        self._stack = contextlib.ExitStack()
        self.process: subprocess.Popen[bytes]

    def __enter__(self) -> Edge:
        """Start; returns when every worker serves the routes."""
        self.origin.fill(self._frontends, self._ports)
        self.start()
        state = f"--stateDir={self.folder / 'state'}"
        command = [sys.executable, "-m", "kvproxy", "status", state, "--wait", "1"]
        subprocess.run([*command, "--timeout", "180"], stdout=subprocess.DEVNULL, check=True)
        return self

    def start(self) -> None:
        """Start what is filled; returns when it serves the benchmark's host."""
        command = [
            sys.executable,
            "-m",
            "kvproxy",
            "run",
            f"--entryPoints=Name:http Address:127.0.0.1:{self.port}",
            *self.origin.flags,
            f"--workers={self._workers}",
            f"--stateDir={self.folder / 'state'}",
            "--logLevel=WARN",
        ]
        # A single worker shares the first core with its supervisor; the load has the other one.
        command = pinned(PROXY_CORE, command) if self._workers == 1 else command
        self.process = self._stack.enter_context(running(command, {}, self.folder / "edge.out"))
        load.wait_for_answer(self.port, 180)

    def stop(self) -> None:
        """Stop the program; it can be started again."""
        self._stack.close()

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.stop()
        self.origin.close()

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        names = [each.name for each in (self.folder / "state" / "workers").iterdir()]
        return sorted(int(name) for name in names if name.isdigit())


def many_routes(counts: list[int], seconds: float) -> dict[int, Sample]:
    """Measure the CPU per request while requests go to all of the hosts in turn."""
    result = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as temporary, backend(Path(temporary)) as ports:
            folder = Path(temporary)
            script = folder / "hosts.lua"
            script.write_text(
                f"local n = 0\nlocal hosts = {count}\n"
                "request = function()\n"
                "  n = (n * 1103515245 + 12345) % 2147483648\n"
                "  local k = n % hosts\n"
                f'  local host = k == 0 and "{HOST}" or "h" .. (k - 1) .. ".example.com"\n'
                '  return "GET /hello HTTP/1.1\\r\\nHost: " .. host .. "\\r\\n\\r\\n"\n'
                "end\n"
            )
            with Edge(folder, count, ports, workers=1) as edge:
                load.wrk(edge.port, 2, core=LOAD_CORE, script=script)
                samples = []
                for _ in range(3):
                    tree = edge.workers()
                    before = machine.cpu_seconds(tree)
                    done = load.wrk(edge.port, seconds, core=LOAD_CORE, script=script)
                    used = machine.cpu_seconds(tree) - before
                    samples.append(
                        Sample(
                            used / done.requests * 1e6,
                            done.requests / done.seconds,
                            done.p50,
                            done.p99,
                            machine.memory_bytes(tree),
                            done.errors,
                            0.0,
                        )
                    )
                result[count] = median(samples)
                say(f"  {count:7} hosts {result[count].microseconds:6.2f} us a request")
    return result


@dataclass
class ChangeTimes:
    """Seconds from the beginning of a write to the first new answer of the slowest worker."""

    p50: float
    p99: float
    samples: int


def change_to_served(
    make: Callable[[Path], Origin], counts: list[int], changes: int
) -> dict[int, ChangeTimes]:
    """Measure how long a change takes to be served by every one of two workers."""
    result = {}
    for count in counts:
        with (
            tempfile.TemporaryDirectory() as temporary,
            backend(Path(temporary), 2) as ports,
            Edge(Path(temporary), count, ports, 2, make(Path(temporary))) as edge,
        ):
            pollers = one_poller_a_worker(edge)
            # The first changes after a large start share the core with the journal's first write.
            one_change(edge, pollers, 1)
            time.sleep(1.0 + count / 20_000)
            times = sorted(one_change(edge, pollers, number % 2) for number in range(changes))
            for each in pollers:
                each.close()
            result[count] = ChangeTimes(
                statistics.median(times),
                times[min(len(times) - 1, int(len(times) * 0.99))],
                len(times),
            )
            say(
                f"  {count:7} frontends p50 {result[count].p50 * 1e3:7.1f} ms "
                f"p99 {result[count].p99 * 1e3:7.1f} ms"
            )
    return result


def one_change(edge: Edge, pollers: list[load.Poller], to: int) -> float:
    """Return the seconds until both workers lead to backend ``to``."""
    body = b"ab"[to : to + 1] * 16
    began = edge.origin.switch(to)
    waiting = list(pollers)
    while waiting:
        waiting = [each for each in waiting if body not in each.ask()]
        if time.monotonic() - began > 60:
            raise TimeoutError(f"a change to {to} was not served within 60 s")
    return time.monotonic() - began


@dataclass
class StartTimes:
    """Median seconds from the start of the program to the first answer of a route.

    ``reads``: of the store, None where nobody counts.
    """

    seconds: float
    reads: int | None


def start(make: Callable[[Path], Origin], frontends: int, rounds: int) -> StartTimes:
    """Measure starts with nothing known but the origin."""
    times, reads = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as temporary, backend(Path(temporary)) as ports:
            origin = make(Path(temporary))
            origin.fill(frontends, ports)
            edge = Edge(Path(temporary), frontends, ports, 2, origin)
            before = origin.reads()
            try:
                times.append(started_in(edge))
                after = origin.reads()
            finally:
                edge.__exit__()
            if before is not None and after is not None:
                reads.append(after - before)
    return StartTimes(statistics.median(times), round(statistics.median(reads)) if reads else None)


def start_without_store(kind: str, frontends: int, rounds: int) -> StartTimes:
    """Measure starts with the last known good configuration: the store's server was killed."""
    with tempfile.TemporaryDirectory() as temporary, backend(Path(temporary)) as ports:
        origin = ServerOrigin(kind, Path(temporary))
        with Edge(Path(temporary), frontends, ports, 2, origin) as edge:
            pass
        times = []
        for _ in range(rounds):
            times.append(started_in(edge))
            edge.stop()
    return StartTimes(statistics.median(times), None)


def started_in(edge: Edge) -> float:
    """Start the program; returns the seconds until a route is answered."""
    began = time.monotonic()
    edge.start()
    return time.monotonic() - began


def one_poller_a_worker(edge: Edge) -> list[load.Poller]:
    """Open connections until each worker has one; keep one of each."""
    chosen: dict[int, load.Poller] = {}
    deadline = time.monotonic() + 30
    workers = edge.workers()
    while len(chosen) < len(workers):
        if time.monotonic() > deadline:
            raise TimeoutError("a worker accepts no connection")
        poller = load.Poller(edge.port, HOST)
        for worker in workers:
            if poller.local_port in machine.peer_ports(worker, edge.port) and worker not in chosen:
                chosen[worker] = poller
                break
        else:
            poller.close()
    return list(chosen.values())


@dataclass
class ReloadCounts:
    """What clients saw while the configuration changed, and what the workers' memory did."""

    changes: int
    requests: int
    failed: int
    tunnels: int
    dropped: int
    memory_after_100: int
    memory_at_end: int


def reload_errors(changes: int, seconds: float) -> ReloadCounts:
    """Count failed requests and cut WebSockets while the configuration changes all the time."""
    echo = EchoServer()
    with (
        tempfile.TemporaryDirectory() as temporary,
        backend(Path(temporary), 2) as ports,
        Edge(Path(temporary), 1000, ports, workers=2) as edge,
        StoreWriter(edge.database) as writer,
    ):
        writer.put("kvproxy/backends/echo/servers/one/url", f"http://127.0.0.1:{echo.port}")
        writer.put("kvproxy/frontends/echo/routes/r/rule", "Host:echo.localhost")
        writer.put("kvproxy/frontends/echo/backend", "echo")
        tunnels = open_tunnels(edge.port, 100)
        command = ["wrk", "-t1", "-c64", f"-d{round(seconds)}s", "-H", f"Host: {HOST}"]
        command.append(f"http://127.0.0.1:{edge.port}/hello")
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as generator:
            memory = 0
            for number in range(changes):
                writer.put("kvproxy/frontends/bench/backend", f"b{(number + 1) % 2}")
                time.sleep(seconds * 0.9 / changes)
                if number == 100:
                    memory = machine.memory_bytes(edge.workers())
            text = generator.communicate(timeout=seconds + 30)[0]
        at_end = machine.memory_bytes(edge.workers())
        dropped = sum(not tunnel.alive(b"still here") for tunnel in tunnels)
        for tunnel in tunnels:
            tunnel.close()
    requests, failed = load.counts_of(text)
    counts = ReloadCounts(changes, requests, failed, len(tunnels), dropped, memory, at_end)
    say(f"  {counts}")
    return counts


def open_tunnels(port: int, count: int) -> list[Tunnel]:
    """Open WebSockets, waiting for their route to be live."""
    deadline = time.monotonic() + 10
    while True:
        try:
            first = Tunnel(port, "echo.localhost")
            break
        except ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    return [first] + [Tunnel(port, "echo.localhost") for _ in range(count - 1)]


def say(text: str) -> None:
    """Print progress at once."""
    print(text, flush=True)


def chosen_peers(names: list[str] | None) -> list[Peer]:
    """Return the installed proxies, naming the missing ones."""
    peers = all_peers()
    chosen = [peer for name, peer in peers.items() if names is None or name in names]
    for peer in chosen:
        if not peer.installed():
            say(f"  not installed, left out: {peer.name}")
    return [peer for peer in chosen if peer.installed()]
