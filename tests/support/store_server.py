"""Real store servers: one process each, on free loopback ports, with a data directory."""

from __future__ import annotations

import atexit
import contextlib
import random
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import pytest

from tests.support.certificates import authority
from tests.support.closing import Closing
from tests.support.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.certificates import Pair

_UNPACKED = Path(__file__).parents[2] / ".servers"
"""Where scripts/servers puts programs that this release of the system does not have."""

_running: set[StoreServer] = set()


def find_program(name: str) -> str:
    """Return the path of a server's program; skips the test when it is not on this machine."""
    found = shutil.which(name, path=str(_UNPACKED)) or shutil.which(name)
    if found is None:
        pytest.skip(f"no {name} on this machine; scripts/servers gets it")
    return found


def free_ports(count: int) -> list[int]:
    """Return ports of 127.0.0.1 that nobody listens on.

    They are below the range from which the kernel takes the ports of outgoing connections: a server
    that is started again finds its port free, and no client of a dead server meets itself there.
    """
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    held: list[socket.socket] = []
    while len(held) < count:
        candidate = socket.socket()
        try:
            candidate.bind(("127.0.0.1", random.SystemRandom().randrange(10_000, first)))
        except OSError:
            candidate.close()
        else:
            held.append(candidate)
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME."""


def own_context(bundle: Path) -> ssl.SSLContext:
    """Return the TLS settings by which a test asks its own server, with ``bundle`` to show.

    They take an expired certificate: whether others take it is what tests are about.
    """
    context = ssl.create_default_context(cafile=str(authority().path))
    context.load_cert_chain(bundle)
    context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    return context


class StoreServer(Closing):
    """A server process that can be killed, frozen, started again, wiped and put back.

    A subclass gives `command`, which may name files that it has made in ``directory``, and `ready`.
    ``data`` is where the server keeps everything that survives a restart; ``bundle``, where it
    has TLS, holds its key and certificate.
    """

    name: ClassVar[str]
    endpoint: str
    bundle: Path
    start_seconds: ClassVar[float] = 30.0

    def __init__(self, directory: Path) -> None:
        """Choose nothing that costs time; `start` runs the server."""
        self.directory = directory
        self.data = directory / "data"
        self._kept = directory / "kept"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def close(self) -> None:
        """End the server."""
        self.kill()

    def command(self) -> Sequence[str]:
        """Return the program and its arguments."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Tell whether the server answers requests now; asked again and again after a start."""
        raise NotImplementedError

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running process."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process

    @property
    def log(self) -> Path:
        """What the server has written, over all its starts."""
        return self.directory / "log"

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.begin()
        self.await_ready()

    def begin(self) -> None:
        """Start the process; returns at once."""
        self.data.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                list(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.directory,
                start_new_session=True,
            )
        _running.add(self)

    def await_ready(self) -> None:
        """Wait until the server answers."""

        def answers() -> bool:
            status = self.process.poll()
            assert status is None, f"{self.name} ended with {status}:\n{self.log_tail()}"
            return self.ready()

        wait_until(answers, f"{self.name} to answer", self.start_seconds)

    def kill(self) -> None:
        """End the process at once (SIGKILL), frozen or not; harmless when none runs."""
        _running.discard(self)
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            process.wait(10)

    def freeze(self) -> None:
        """Stop the process where it is (SIGSTOP): connections stay open, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)
        # Each thread goes on until it has taken note of the signal.
        wait_until(lambda: set(self._thread_states()) == {"T"}, f"{self.name} to be frozen")

    def _thread_states(self) -> Iterator[str]:
        for stat in Path(f"/proc/{self.process.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                yield stat.read_text().rpartition(")")[2].split()[0]

    def thaw(self) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill the process and start it again on the same ports and data."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Kill the process and start it again on the same ports with nothing stored."""
        self.kill()
        shutil.rmtree(self.data)
        self.start()

    def remember(self) -> None:
        """Keep a copy of the data as they would be after a crash now; no connection is cut."""
        shutil.rmtree(self._kept, ignore_errors=True)
        self.freeze()
        try:
            shutil.copytree(self.data, self._kept)
        finally:
            self.thaw()

    def restore(self) -> None:
        """Kill the process and start it again with the copy that `remember` has kept."""
        self.kill()
        shutil.rmtree(self.data)
        shutil.copytree(self._kept, self.data)
        self.start()

    def restart_with(self, pair: Pair) -> None:
        """Kill the process and start it again with another key and certificate."""
        self.kill()
        self.bundle.write_text(pair.key + pair.certificate)
        self.start()

    def log_tail(self, size: int = 4000) -> str:
        """Return the end of the log."""
        return self.log.read_bytes()[-size:].decode(errors="replace") if self.log.exists() else ""


@atexit.register
def _end_all() -> None:
    for server in list(_running):
        server.kill()
