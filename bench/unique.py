"""A client whose requests are all different: ``python -m bench.unique PORT SECONDS CONNECTIONS
STREAMS``.

HTTP/2 over TLS. The path and two headers differ in every request; the headers go into the dynamic
table, so that no header block is ever seen twice and every one changes the table. Writes how many
answers came, and how many of them were not 200.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import sys
import time

from bench.load import client_context
from bench.peers import HOST

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\6\4\0\0\0\0\0" + b"\0\4\x7f\xff\xff\xff"
WINDOW = b"\0\0\4\x08\0\0\0\0\0" + (0x7FFFFFFF - 65535).to_bytes(4, "big")
ACK = b"\0\0\0\4\1\0\0\0\0"
WINDOW_BYTES = 1 << 30


class Connection:
    """Sends a batch of requests when the one before it is answered."""

    def __init__(self, port: int, number: int, streams: int) -> None:
        context = client_context()
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", port), timeout=10)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(plain, server_hostname=HOST)
        assert self.socket.selected_alpn_protocol() == "h2"
        self.socket.setblocking(False)
        self.number = number
        self.streams = streams
        self.next_stream = 1
        self.buffer = b""
        self.open = 0
        self.answered = 0
        self.failed = 0
        self.taken = 0
        self.socket.sendall(PREFACE + SETTINGS + WINDOW)

    def ask(self) -> None:
        """Send a batch."""
        frames = []
        for _ in range(self.streams):
            mark = b"%d-%d" % (self.number, self.next_stream)
            path, first, second = b"/hello?" + mark, b"a-" + mark, b"b-" + mark
            block = b"".join(
                (
                    b"\x82\x87\x01%c" % len(HOST) + HOST.encode(),
                    b"\x04%c%b" % (len(path), path),
                    b"\x73%c%b" % (len(first), first),
                    b"\x40\x06x-mark%c%b" % (len(second), second),
                )
            )
            head = len(block).to_bytes(3, "big") + b"\1\5" + self.next_stream.to_bytes(4, "big")
            frames.append(head + block)
            self.next_stream += 2
        self.open = self.streams
        self.socket.sendall(b"".join(frames))

    def receive(self) -> None:
        """Read what has come, and ask again when everything is answered."""
        try:
            data = self.socket.recv(1 << 18)
        except ssl.SSLWantReadError:
            return
        if not data:
            raise ConnectionError("the proxy closed the connection")
        data = self.buffer + data
        position, size = 0, len(data)
        while size - position >= 9:
            length = int.from_bytes(data[position : position + 3], "big")
            end = position + 9 + length
            if end > size:
                break
            kind, flags = data[position + 3], data[position + 4]
            if kind == 4 and not flags & 1:
                self.socket.sendall(ACK)
            elif kind == 1 and b"\x88" not in data[position + 9 : position + 13]:
                self.failed += 1
            elif kind in (3, 7):
                raise ConnectionError(f"frame {kind}: {data[position:end]!r}")
            if kind <= 1 and flags & 1:
                self.open -= 1
                self.answered += 1
            if kind == 0:
                self.taken += length
            position = end
        self.buffer = data[position:]
        if self.taken > WINDOW_BYTES:
            self.socket.sendall(b"\0\0\4\x08\0\0\0\0\0" + self.taken.to_bytes(4, "big"))
            self.taken = 0
        if not self.open:
            self.ask()


def main() -> None:
    """Ask for the time that was asked for."""
    port, seconds, count, streams = (int(text) for text in sys.argv[1:5])
    selector = selectors.DefaultSelector()
    connections = [Connection(port, number, streams) for number in range(count)]
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
        connection.ask()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for key, _ in selector.select(0.5):
            key.data.receive()
            while key.data.socket.pending():
                key.data.receive()
    answered = sum(connection.answered for connection in connections)
    print(answered, sum(connection.failed for connection in connections))


if __name__ == "__main__":
    main()
