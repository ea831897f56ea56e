"""Open WebSocket tunnels through the proxy, and the server behind them, to see whether reloads
cut them."""

from __future__ import annotations

import asyncio
import socket
import threading

HANDSHAKE = (
    "GET /socket HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


class EchoServer:
    """Accepts any handshake and sends back every byte after it; runs in a thread of its own."""

    def __init__(self) -> None:
        """Start; ``port`` is where it listens."""
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = int(self._listening.getsockname()[1])
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        async def serve() -> None:
            server = await asyncio.start_server(self._serve, sock=self._listening)
            await server.serve_forever()

        self._loop.run_until_complete(serve())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(SWITCHING)
        while data := await reader.read(4096):
            writer.write(data)
            await writer.drain()
        writer.close()


class Tunnel:
    """One open WebSocket connection."""

    def __init__(self, port: int, host: str) -> None:
        """Shake hands; raises ConnectionError when the answer is not 101."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(HANDSHAKE.format(host=host).encode())
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = self._socket.recv(4096)
            if not data:
                raise ConnectionError("closed during the handshake")
            answer += data
        if not answer.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(answer[:100].decode("latin-1"))

    def alive(self, message: bytes) -> bool:
        """Tell whether a message still comes back."""
        try:
            self._socket.sendall(message)
            answer = b""
            while len(answer) < len(message):
                data = self._socket.recv(4096)
                if not data:
                    return False
                answer += data
        except OSError:
            return False
        return answer == message

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
