"""What an idle connection costs in memory: HTTP/1.1 and HTTP/2, in clear and over TLS."""

from __future__ import annotations

import socket
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench import machine
from bench.load import BROWSER_HEADERS, client_context
from bench.peers import HOST
from bench.scenarios import backend, say, started
from bench.unique import ACK, PREFACE, SETTINGS, WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.peers import Peer

FIRST = 200
"""Connections that are opened before memory is looked at: they pay for what is there once."""

QUIET_SECONDS = 7.0
"""How long nobody says anything before memory is looked at again."""

BODY_END = b"a" * 16
"""How the answer of `bench.peers.backend_command` ends."""


@dataclass(frozen=True)
class Kind:
    """A way to connect."""

    name: str
    tls: bool
    http2: bool


KINDS = (
    Kind("HTTP/1.1", tls=False, http2=False),
    Kind("HTTP/2", tls=False, http2=True),
    Kind("HTTP/1.1 over TLS", tls=True, http2=False),
    Kind("HTTP/2 over TLS", tls=True, http2=True),
)


def command(peer: Peer, kind: Kind) -> Callable[[Path, int, int], list[str]] | None:
    """Return what starts a proxy for this kind of clients, None where it is not known."""
    if not kind.tls:
        return peer.command if not kind.http2 or peer.name.startswith("kvproxy") else None
    return peer.http2_command if kind.http2 else peer.tls_command


def length_and(text: bytes) -> bytes:
    """Write a string of HPACK without the Huffman code (RFC 7541, section 5.2)."""
    length = len(text)
    return (bytes((length,)) if length < 127 else bytes((127, length - 127))) + text


def question(kind: Kind) -> bytes:
    """Return a request with the headers of a browser; in HTTP/2 they enter the dynamic table."""
    headers = BROWSER_HEADERS[:-1]
    if not kind.http2:
        return "\r\n".join(["GET /hello HTTP/1.1", f"Host: {HOST}", *headers, "", ""]).encode()
    block = b"\x82\x87\x01" + length_and(HOST.encode()) + b"\x04" + length_and(b"/hello")
    for header in headers:
        name, _, value = header.partition(": ")
        block += b"\x40" + length_and(name.lower().encode()) + length_and(value.encode())
    frame = len(block).to_bytes(3, "big") + b"\1\5\0\0\0\1" + block
    return PREFACE + SETTINGS + WINDOW + ACK + frame


def connect(port: int, kind: Kind) -> socket.socket:
    """Return a connection on which one request was answered."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    if kind.tls:
        context = client_context()
        context.set_alpn_protocols(["h2" if kind.http2 else "http/1.1"])
        connection = context.wrap_socket(connection, server_hostname=HOST)
    connection.sendall(question(kind))
    received = b""
    while not received.endswith(BODY_END):
        data = connection.recv(65536)
        if not data:
            raise ConnectionError(f"closed after {received[:200]!r}")
        received += data
    return connection


def bytes_of_one(port: int, process: int, kind: Kind, count: int) -> float:
    """Return the memory of the proxy that one more idle connection takes."""
    tree = machine.process_tree(process)
    connections = [connect(port, kind) for _ in range(FIRST)]
    before = machine.memory_bytes(tree)
    connections += [connect(port, kind) for _ in range(count)]
    time.sleep(QUIET_SECONDS)
    after = machine.memory_bytes(tree)
    for connection in connections:
        connection.close()
    return (after - before) / count


def memory(peers: list[Peer], rounds: int, count: int) -> dict[str, dict[str, float]]:
    """Measure by kind and proxy, each time with a new process; medians of rounds."""
    found: dict[str, dict[str, float]] = {kind.name: {} for kind in KINDS}
    with tempfile.TemporaryDirectory() as place, backend(Path(place)) as (server,):
        for kind in KINDS:
            for peer in peers:
                make = command(peer, kind)
                if make is None:
                    continue
                samples = []
                for _ in range(rounds):
                    with started(peer, server, Path(place), tls=kind.tls, make=make) as at:
                        samples.append(bytes_of_one(*at, kind, count))
                found[kind.name][peer.name] = statistics.median(samples)
                say(f"  {kind.name}, {peer.name}: {found[kind.name][peer.name]:.0f} bytes")
    return found
