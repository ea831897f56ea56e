"""A client that keeps asking a route who serves it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 5.0


class Visits:
    """What a visitor saw. ``first``: server name to `time.perf_counter` of its first answer."""

    def __init__(self) -> None:
        """Start with nothing seen."""
        self.first: dict[str, float] = {}
        self.answered = 0
        self.failed = 0


class Visitor:
    """Asks ``kvproxy whoami`` servers behind a proxy on a port of 127.0.0.1 for their names."""

    def __init__(self, port: int, host: str) -> None:
        """Send requests to ``port`` with ``host`` as Host header."""
        self._port = port
        self._host = host

    def ask(self) -> str | None:
        """Return the name that answers one request; "" for an answer without one, None for none."""
        connection = self._connect()
        try:
            return self._ask(connection)
        finally:
            connection.close()

    @contextlib.contextmanager
    def visiting(self) -> Iterator[Visits]:
        """Send requests, one after the other on one connection, from another thread meanwhile."""
        visits = Visits()
        stop = threading.Event()
        started = threading.Event()
        thread = threading.Thread(target=self._visit, args=(visits, started, stop), daemon=True)
        thread.start()
        started.wait(TIMEOUT_SECONDS)
        try:
            yield visits
        finally:
            stop.set()
            thread.join(TIMEOUT_SECONDS)

    def _visit(self, visits: Visits, started: threading.Event, stop: threading.Event) -> None:
        connection = self._connect()
        while not stop.is_set():
            name = self._ask(connection)
            if name:
                visits.answered += 1
                visits.first.setdefault(name, time.perf_counter())
            else:
                visits.failed += 1
            started.set()
        connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_SECONDS)

    def _ask(self, connection: http.client.HTTPConnection) -> str | None:
        try:
            connection.request("GET", "/", headers={"Host": self._host})
            first_line = connection.getresponse().read().partition(b"\n")[0].decode()
        except (OSError, http.client.HTTPException):
            connection.close()
            return None
        return first_line.removeprefix("Name: ") if first_line.startswith("Name: ") else ""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port
