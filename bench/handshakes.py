"""A client that does nothing but TLS handshakes: ``python -m bench.handshakes PORT SECONDS KIND``.

KIND is ``full`` or ``resumed``; writes how many handshakes were done and how many of them resumed.
"""

from __future__ import annotations

import socket
import ssl
import sys
import time

from bench.load import client_context
from bench.peers import HOST


def connect(
    port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None
) -> ssl.SSLSocket:
    """Return a connection whose handshake is done."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    return context.wrap_socket(plain, server_hostname=HOST, session=session)


def first_session(port: int, context: ssl.SSLContext) -> ssl.SSLSession:
    """Ask once: in TLS 1.3 a session can only be resumed after its ticket has come."""
    with connect(port, context) as connection:
        connection.sendall(f"GET /hello HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        connection.recv(65536)
        session = connection.session
    if session is None:
        raise RuntimeError("the server gave no session")
    return session


def main() -> None:
    """Do handshakes for the time that was asked for."""
    port, seconds, kind = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    context = client_context()
    session = first_session(port, context) if kind == "resumed" else None
    done = resumed = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with connect(port, context, session) as connection:
            resumed += bool(connection.session_reused)
        done += 1
    print(done, resumed)


if __name__ == "__main__":
    main()
