"""WebSocket peers: a real server, and raw frames for what a well-behaved library would not send."""

from __future__ import annotations

import base64
import hashlib
import os
import socket
import struct
from typing import TYPE_CHECKING

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from tests.support.http_client import build_request

if TYPE_CHECKING:
    import ssl

    from websockets.asyncio.server import Server
    from websockets.http11 import Request, Response

    from tests.support.backend import LoopThread

KEY = base64.b64encode(b"sixteen bytes...").decode()
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
UPGRADE_HEADERS = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", KEY),
)


def accept_key(key: str) -> str:
    """Return what Sec-WebSocket-Accept must be (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def handshake(
    target: str = "/", *, host: str = "localhost", headers: tuple[tuple[str, str], ...] = ()
) -> bytes:
    """Return a valid opening handshake with further ``headers``."""
    return build_request(target, host=host, headers=(*UPGRADE_HEADERS, *headers))


def switching(*headers: str) -> bytes:
    """Return the server's half of the handshake for `KEY`."""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(KEY)}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def frame(opcode: int, payload: bytes = b"", *, masked: bool = False, final: bool = True) -> bytes:
    """Return one frame; ``masked`` as clients send it."""
    first = opcode | (0x80 if final else 0)
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, mask_bit | len(payload)))
    elif len(payload) < 1 << 16:
        head = bytes((first, mask_bit | 126)) + struct.pack("!H", len(payload))
    else:
        head = bytes((first, mask_bit | 127)) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


class WebSocketServer:
    """A WebSocket server that echoes messages and remembers handshakes and how connections ended.

    By path: ``/refuse/STATUS`` refuses the handshake with that status, ``/origin`` refuses with 403
    when Origin and Host differ; every other is accepted, with the first subprotocol offered.
    """

    def __init__(
        self,
        loop_thread: LoopThread,
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen on a free port of 127.0.0.1."""
        self.handshakes: list[Request] = []
        self.close_codes: list[int | None] = []
        self.close_reasons: list[str | None] = []
        self._loop_thread = loop_thread
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._server: Server = loop_thread.run(self._listen())

    async def _listen(self) -> Server:
        return await serve(
            self._echo,
            sock=self._listener,
            ssl=self._tls,
            process_request=self._process_request,
            select_subprotocol=lambda _, offered: offered[0] if offered else None,
            ping_interval=None,
            max_size=None,
            close_timeout=2,
        )

    @property
    def url(self) -> str:
        """The URL that goes into a configuration."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.handshakes.append(request)
        path = request.path.partition("?")[0]
        if path.startswith("/refuse/"):
            return connection.respond(int(path.removeprefix("/refuse/")), "refused\n")
        if path == "/origin":
            origin = request.headers.get("Origin", "").partition("://")[2]
            if origin != request.headers["Host"]:
                return connection.respond(403, "wrong origin\n")
        return None

    async def _echo(self, connection: ServerConnection) -> None:
        try:
            async for message in connection:
                await connection.send(message)
        except ConnectionClosed:
            pass
        finally:
            self.close_codes.append(connection.close_code)
            self.close_reasons.append(connection.close_reason)

    def abort_connections(self) -> None:
        """Drop every connection without a close frame."""

        async def abort() -> None:
            for connection in self._server.connections:
                connection.transport.abort()

        self._loop_thread.run(abort())

    def stop(self) -> None:
        """Close the listener and every connection."""

        async def close() -> None:
            self._server.close()

        self._loop_thread.run(close())
