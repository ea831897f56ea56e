"""Connections to servers that break, with real sockets on the loop that workers run on."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from kvproxy.proxy.downstream.http1 import ClientConnection
from tests.support import http2_frames as frames
from tests.unit.proxy.worlds import World, backend, frontend, whole

if TYPE_CHECKING:
    from collections.abc import Callable

UPLOAD = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
REFUSAL = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 9\r\n\r\ntoo large"
HTTP2_HEAD = frames.headers([(b":status", b"413")], flags=frames.END_HEADERS)
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""


def has_headers(heard: bytes) -> bool:
    """Tell whether a request's head is among the frames behind the preface."""
    received, _ = frames.split(heard[len(frames.PREFACE) :])
    return any(each.kind == frames.HEADERS for each in received)


HAS_HEAD: dict[str, Callable[[bytes], bool]] = {
    "http": lambda heard: b"\r\n\r\n" in heard,
    "h2c": has_headers,
}


async def upload(said: bytes, scheme: str = "http") -> bytes:
    """Return what a client reads whose server says ``said`` and resets the connection while the
    proxy has more of the request to send."""
    loop = asyncio.get_running_loop()
    clients: list[ClientConnection] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}"
        world = World()
        await world.apply(whole(1, backend("b", {url: 1}), frontend("f", "Host:a", "b")))

        def accept() -> ClientConnection:
            clients.append(ClientConnection(world.listeners["http"]))
            return clients[-1]

        async with asyncio.timeout(10), await loop.create_server(accept, "127.0.0.1", 0) as entry:
            reader, writer = await asyncio.open_connection(*entry.sockets[0].getsockname())
            writer.write(UPLOAD)
            server, _ = await loop.sock_accept(listening)
            with server:
                heard = b""
                while not HAS_HEAD[scheme](heard):
                    heard += await loop.sock_recv(server, 4096)
                # No turn of the loop lies between these: it first learns of the reset by sending.
                server.send(said)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                server.close()
                upstream = clients[0]._upstream
                assert upstream is not None
                connection: Any = getattr(upstream, "_link", upstream)
                connection.transport.write(b"more")
            heard = await reader.read()
            writer.close()
            return heard


@pytest.mark.parametrize(
    ("scheme", "said", "status", "body"),
    [
        pytest.param("http", REFUSAL, b"413", b"too large", id="whole-answer"),
        pytest.param("http", REFUSAL[:20], b"502", b"Bad Gateway", id="part-of-a-head"),
        pytest.param("http", b"", b"502", b"Bad Gateway", id="nothing"),
        pytest.param(
            "h2c",
            frames.settings() + HTTP2_HEAD + frames.data(b"too large"),
            b"413",
            b"too large",
            id="http2-whole-answer",
        ),
        pytest.param(
            "h2c",
            frames.settings() + HTTP2_HEAD[:9],
            b"502",
            b"Bad Gateway",
            id="http2-part-of-a-head",
        ),
    ],
)
def test_an_answer_before_a_broken_send(
    scheme: str, said: bytes, status: bytes, body: bytes
) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        heard = runner.run(upload(said, scheme))
    assert heard.startswith(b"HTTP/1.1 " + status)
    assert body in heard.partition(b"\r\n\r\n")[2]


def test_an_answer_cut_off_by_a_broken_send_is_cut_off_for_the_client() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        heard = runner.run(upload(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntoo"))
    assert heard.startswith(b"HTTP/1.1 200")
    assert heard.endswith(b"\r\n\r\ntoo")
