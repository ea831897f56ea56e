"""The real program, started as a user starts it, with everything of its own in one directory."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support.backend import ReservedPort
from tests.support.closing import Closing
from tests.support.deadline import DeadlineExceededError, wait_until
from tests.support.http_client import (
    ConnectionEndedError,
    RawConnection,
    Response,
    TooSlowError,
    build_request,
    fetch,
)
from tests.support.toml import to_toml, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

READY_ENTRY_POINT = "ready"
"""An entry point of every test's proxy; it serves nothing but the mark of the current routes."""

running: list[ProxyProcess] = []
"""Every proxy that is up now: their logs belong into the report of a test that fails."""


class ProxyProcess(Closing):
    """``kvproxy run`` on ports of its own, with routes from a file.

    ``entry_points``: names and their options besides the address. ``static``: any further static
    options. ``routes``: ``frontends`` and ``backends`` as in TOML; None starts without a file
    provider. Use as a context manager, or call `start` and `stop`.
    """

    def __init__(
        self,
        routes: Mapping[str, Any] | None,
        *,
        entry_points: Mapping[str, Mapping[str, Any]] | None = None,
        static: Mapping[str, Any] | None = None,
        workers: int = 1,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Choose ports and write the configuration; nothing runs yet."""
        self.workers = workers
        self.directory = Path(tempfile.mkdtemp(prefix="kvproxy-test-"))
        self.log_path = self.directory / "log"
        self.routes_path = self.directory / "routes.toml"
        self.entry_points = dict(entry_points or {"http": {}})
        names = [*self.entry_points, READY_ENTRY_POINT]
        self._reservations = {name: ReservedPort() for name in names}
        self.ports = {name: each.port for name, each in self._reservations.items()}
        self.port = self.ports[next(iter(self.ports))]
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._mark = 0
        self._last_log = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._write_static(static or {}, with_file=routes is not None)
        if routes is not None:
            self._write_routes(routes)

    def _write_static(self, static: Mapping[str, Any], *, with_file: bool) -> None:
        addresses = {
            name: {"address": f"127.0.0.1:{port}", **self.entry_points.get(name, {})}
            for name, port in self.ports.items()
        }
        document: dict[str, Any] = {
            "workers": self.workers,
            "stateDir": str(self.directory / "state"),
            "logLevel": "DEBUG",
            "lifeCycle": {"graceTimeOut": "1s"},
            "defaultEntryPoints": list(self.entry_points),
            "entryPoints": addresses,
        }
        if with_file:
            document["file"] = {"filename": str(self.routes_path), "watch": True}
        self.configuration_path = self.directory / "kvproxy.toml"
        self.configuration_path.write_text(to_toml({**document, **static}))

    def _write_routes(self, routes: Mapping[str, Any]) -> None:
        self._mark += 1
        name = f"generation-{self._mark}"
        frontend = {
            "backend": name,
            "entryPoints": [READY_ENTRY_POINT],
            "routes": {"mark": {"rule": f"Host:{name}"}},
        }
        document = {
            **routes,
            "frontends": {**routes.get("frontends", {}), name: frontend},
            "backends": {**routes.get("backends", {}), name: {"servers": {}}},
        }
        write_whole(self.routes_path, to_toml(document))

    def __enter__(self) -> Self:
        """Start the proxy and wait until it serves the routes."""
        self.start()
        return self

    def close(self) -> None:
        """Stop the proxy; its log goes to the standard output (seen when the test fails)."""
        self.stop()
        print(self.log())

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor process."""
        assert self._process is not None, "not started"
        return self._process

    def start(self, seconds: float = 20.0) -> None:
        """Start the program; returns when every worker serves the routes (without: answers)."""
        command = [
            sys.executable,
            "-m",
            "kvproxy",
            "run",
            f"--configFile={self.configuration_path}",
            *self._arguments,
        ]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        running.append(self)
        try:
            self.wait_for_routes(seconds)
        except BaseException:
            self.stop()
            print(self.log())
            raise

    def apply(self, routes: Mapping[str, Any], seconds: float = 10.0) -> None:
        """Replace the routes and wait until every worker serves the new ones."""
        self._write_routes(routes)
        self.wait_for_routes(seconds)

    def wait_for_routes(self, seconds: float = 10.0) -> None:
        """Wait until each of many fresh connections meets the routes written last."""
        wanted = 503 if self._mark else 404
        request = build_request("/", host=f"generation-{self._mark}")
        needed = 1 if self.workers == 1 else 12 * self.workers

        def served() -> bool:
            assert self.process.poll() is None, f"ended with {self.process.returncode}"
            try:
                return all(
                    fetch(self.ports[READY_ENTRY_POINT], request).status == wanted
                    for _ in range(needed)
                )
            except (OSError, ConnectionEndedError, TooSlowError):
                return False

        try:
            wait_until(served, f"generation-{self._mark} on every worker", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log_tail()}") from None

    def connect(self, entry_point: str | None = None, **options: Any) -> RawConnection:
        """Open a connection to an entry point, the first one unless named."""
        return RawConnection(self._port_of(entry_point), **options)

    def fetch(
        self, target: str | bytes = "/", *, entry_point: str | None = None, **options: Any
    ) -> Response:
        """Send one request (see `build_request`) on a connection of its own."""
        return fetch(self._port_of(entry_point), build_request(target, **options))

    def _port_of(self, entry_point: str | None) -> int:
        return self.port if entry_point is None else self.ports[entry_point]

    def ask(self, command: str, seconds: float = 10.0, **arguments: Any) -> dict[str, Any]:
        """Ask the supervisor through its control socket (one line of JSON each way)."""
        path = self.directory / "state" / "control.sock"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(str(path))
            connection.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            with connection.makefile("rb") as lines:
                answer: dict[str, Any] = json.loads(lines.readline())
        assert answer["ok"], answer
        return answer

    def generation(self) -> int:
        """Return the number of the newest generation."""
        number: int = self.ask("status")["generation"]["number"]
        return number

    def command(self, *arguments: str, seconds: float = 20.0, check: bool = True) -> str:
        """Run another ``kvproxy`` command with this proxy's settings; returns what it printed."""
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "kvproxy",
                *arguments,
                f"--configFile={self.configuration_path}",
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={**os.environ, **self._environment},
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers, children of the supervisor, oldest first."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        children = sorted(int(pid) for pid in task.read_text().split())
        return [pid for pid in children if _title(pid).startswith("kvproxy: worker")]

    def resident_kilobytes(self, pid: int) -> int:
        """Return the resident memory of process ``pid``."""
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise AssertionError(f"no resident size of {pid}")

    def log(self) -> str:
        """Return all that the program has written so far (or had, before `stop`)."""
        if self.log_path.exists():
            return self.log_path.read_text(errors="replace")
        return self._last_log

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log().splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        self.process.send_signal(number)

    def wait_for_exit(self, seconds: float = 15.0) -> int:
        """Wait until the supervisor has ended and return its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise DeadlineExceededError(f"still running after {seconds:g} s") from None

    def stop(self, seconds: float = 15.0) -> int | None:
        """Stop the program if it runs and remove its directory; returns the exit code.

        None when it had to be killed after ``seconds``.
        """
        if self in running:
            running.remove(self)
        code: int | None = None
        self._end_successor(seconds)
        if self._process is not None:
            if self._process.poll() is None:
                self._process.terminate()
            try:
                code = self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(5)
        for reservation in self._reservations.values():
            reservation.close()
        self._last_log = self.log()
        shutil.rmtree(self.directory, ignore_errors=True)
        return code

    def _end_successor(self, seconds: float) -> None:
        """Stop the supervisor that has taken over by SIGUSR2, if one has: it is nobody's child."""
        lock = self.directory / "state" / "lock"
        pid = int(lock.read_text() or "0") if lock.exists() else 0
        if not pid or self._process is None or pid == self._process.pid:
            return
        if "kvproxy" in _title(pid):
            with os.fdopen(os.pidfd_open(pid)) as process:
                os.kill(pid, signal.SIGTERM)
                assert select.select([process], [], [], seconds)[0], "the successor does not end"


def _title(pid: int) -> str:
    """Return what a process calls itself; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    except OSError:
        return ""


def single_backend(url: str, frontends: Mapping[str, str], **options: Any) -> dict[str, Any]:
    """Return routes in which each rule (by frontend name) leads to one server at ``url``.

    ``options`` are set on every frontend.
    """
    return {
        "backends": {"server": {"servers": {"one": {"url": url}}}},
        "frontends": {
            name: {"backend": "server", "routes": {"rule": {"rule": rule}}, **options}
            for name, rule in frontends.items()
        },
    }
