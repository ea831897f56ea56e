"""``kvproxy whoami``: a server that says who it is and what it was asked."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import click

MAX_BODY = 1 << 20
"""Bytes of a request body that are read; a longer one ends the connection."""


class Handler(BaseHTTPRequestHandler):
    """Answers every method with the server's name and the request as it arrived."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    name: ClassVar[str] = ""

    def answer(self) -> None:
        """Read and drop the body, then write the answer; a body that is too long ends it all."""
        try:
            self._drop_body()
        except ValueError:
            self.close_connection = True
        lines = [
            f"Name: {self.name}",
            f"Hostname: {socket.gethostname()}",
            f"RemoteAddr: {self.client_address[0]}:{self.client_address[1]}",
            self.requestline,
            *(f"{name}: {value}" for name, value in self.headers.items()),
        ]
        body = ("\n".join(lines) + "\n").encode("utf-8", "replace")
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _drop_body(self) -> None:
        """Read the body; raises ValueError for one that is too long or wrong."""
        if "Transfer-Encoding" not in self.headers:
            self._drop(int(self.headers.get("Content-Length", "0")), MAX_BODY)
            return
        left = MAX_BODY
        while size := int(self.rfile.readline(100), 16):
            left -= self._drop(size, left)
            self.rfile.readline(100)
        while self.rfile.readline(MAX_BODY).strip():
            pass

    def _drop(self, size: int, left: int) -> int:
        if not 0 <= size <= left:
            raise ValueError(size)
        self.rfile.read(size)
        return size

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """Stay silent: the proxy in front has the log."""


class Server(ThreadingHTTPServer):
    """A thread for each connection; enough for trying things."""

    daemon_threads = True
    request_queue_size = 128


@click.command("whoami")
@click.option(
    "--address", default="127.0.0.1:0", show_default=True, help="host:port; port 0 = any."
)
@click.option("--name", default="whoami", show_default=True, help="The name it answers with.")
def command(address: str, name: str) -> None:
    """Run a small HTTP server that answers with its name and the request as it arrived.

    It prints the address it listens on. Use it as a backend while trying routes; it is
    not made for load.

    \b
    Examples:
      kvproxy whoami --name blue
      kvproxy whoami --name green --address 127.0.0.1:9002
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(
            f"`{address}`; expected host:port, such as 127.0.0.1:9001", param_hint="--address"
        )
    Handler.name = name
    try:
        server = Server((host.strip("[]"), int(port)), Handler)
    except OSError as error:
        raise click.ClickException(f"cannot listen on `{address}`: {error.strerror}") from error
    with server:
        click.echo(f"{name} listens on http://{server.server_address[0]!s}:{server.server_port}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
