"""Load generators: wrk for requests, and our own pollers for reloads. All bounded in time."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.peers import HOST, pinned

if TYPE_CHECKING:
    from pathlib import Path

BROWSER_HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/120.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Accept-Language: en-US,en;q=0.9",
    "Cookie: session=abcdef0123456789abcdef0123456789; theme=dark; _ga=GA1.2.1234567890.1234567890",
    "Referer: https://bench.localhost/some/page",
    "Sec-Fetch-Mode: navigate",
    "Cache-Control: max-age=0",
    "Connection: keep-alive",
)

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass
class Load:
    """What wrk saw; latencies in seconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int


def seconds_of(text: str) -> float:
    """Read a duration as wrk writes it."""
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    if found is None:
        raise ValueError(f"not a duration: {text}")
    return float(found[1]) * UNITS[found[2]]


def wrk(
    port: int,
    seconds: float,
    *,
    core: int,
    headers: tuple[str, ...] = (),
    connections: int = 64,
    script: Path | None = None,
    scheme: str = "http",
    host: str = HOST,
) -> Load:
    """Run wrk against a port for whole ``seconds``."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency"]
    for header in (f"Host: {host}", *headers):
        command += ["-H", header]
    if script is not None:
        command += ["-s", str(script)]
    command.append(f"{scheme}://127.0.0.1:{port}/hello")
    done = subprocess.run(
        pinned(core, command), capture_output=True, text=True, timeout=seconds + 30, check=True
    )
    text = done.stdout

    def find(pattern: str) -> str:
        found = re.search(pattern, text, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"wrk said:\n{text}")
        return found[1]

    requests, errors = counts_of(text)
    return Load(
        requests=requests,
        seconds=seconds_of(find(r"requests in ([\d.]+\w+)")),
        p50=seconds_of(find(r"^\s+50%\s+(\S+)")),
        p99=seconds_of(find(r"^\s+99%\s+(\S+)")),
        errors=errors,
    )


def counts_of(text: str) -> tuple[int, int]:
    """Return (requests, errors) of what wrk wrote; raises RuntimeError when it did not finish."""
    requests = re.search(r"(\d+) requests in", text)
    if requests is None:
        raise RuntimeError(f"wrk said:\n{text}")
    socket_errors = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text
    )
    statuses = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    errors = sum(map(int, socket_errors.groups())) if socket_errors else 0
    errors += int(statuses[1]) if statuses else 0
    return int(requests[1]), errors


def client_context() -> ssl.SSLContext:
    """Return the settings of a TLS client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Poller:
    """One keep-alive connection that asks for the same host again and again."""

    def __init__(self, port: int, host: str, *, tls: bool = False) -> None:
        """Connect, and ask once, so that a worker has accepted the connection."""
        self._request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        if tls:
            context = client_context()
            self._socket = context.wrap_socket(self._socket, server_hostname=host)
        self.local_port = self._socket.getsockname()[1]
        self.ask()

    def ask(self) -> bytes:
        """Return one whole answer."""
        self._socket.sendall(self._request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        found = re.search(rb"\r\ncontent-length: (\d+)", head, re.IGNORECASE)
        length = int(found[1]) if found else 0
        while len(body) < length:
            body += self._receive()
        return head + b"\r\n\r\n" + body

    def _receive(self) -> bytes:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the proxy closed the connection")
        return data

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def wait_for_answer(port: int, seconds: float = 30, *, tls: bool = False, host: str = HOST) -> None:
    """Wait until the proxy on ``port`` answers 200 for ``host``."""
    deadline = time.monotonic() + seconds
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            poller = Poller(port, host, tls=tls)
            answer = poller.ask()
            poller.close()
            if answer.startswith(b"HTTP/1.1 200"):
                return
            last = answer[:80].decode("latin-1")
        except OSError as error:
            last = str(error)
        time.sleep(0.01)
    raise TimeoutError(f"port {port} is not ready: {last}")
