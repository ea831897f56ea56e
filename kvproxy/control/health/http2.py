"""Asks a server that speaks HTTP/2 in clear and nothing else (`h2c`), such as one of gRPC."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from kvproxy.http.blocks import encode_request
from kvproxy.http.http2_client import ClientConnection, ClientStream

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yarl

DEFAULT_PORT = 80


async def ask_http2(url: yarl.URL, headers: Mapping[str, str]) -> int:
    """Return the status of the answer to a GET; redirects are not followed.

    Raises OSError when there is no answer, ValueError when there is nothing to ask. The caller
    limits the time.
    """
    loop = asyncio.get_running_loop()
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"GET {url.raw_path_qs} HTTP/1.1\r\n{lines}\r\n"
    block = encode_request(head.encode("latin-1"), b"http")
    status: asyncio.Future[int] = loop.create_future()
    transport, _ = await loop.create_connection(
        lambda: _Conversation(block, status), url.host or "", url.explicit_port or DEFAULT_PORT
    )
    try:
        return await status
    finally:
        transport.abort()


class _Stream(ClientStream):
    """The request; its status is all that is wanted."""

    __slots__ = ("_status",)

    def __init__(self, connection: ClientConnection, status: asyncio.Future[int]) -> None:
        super().__init__(connection, bodiless=False)
        self._status = status

    def head_received(self, status: int, lines: bytes, length: int, ended: bool) -> None:
        """Take the status of the final answer."""
        if status >= 200 and not self._status.done():
            self._status.set_result(status)

    def body_received(self, data: bytes, ended: bool) -> None:
        """Pass over it."""

    def trailers_received(self, lines: bytes) -> None:
        """Pass over them."""

    def reset_received(self, code: int) -> None:
        """Take note that there will be no answer."""
        _fail(self._status, f"the stream was reset with code {code}")


class _Conversation(asyncio.Protocol):
    """The connection; it moves the bytes of the protocol's machine."""

    def __init__(self, block: bytes, status: asyncio.Future[int]) -> None:
        self._block = block
        self._status = status
        self._machine = ClientConnection(self)
        self._flushing = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast("asyncio.Transport", transport)
        self._machine.greet()
        stream = _Stream(self._machine, self._status)
        self._machine.open(stream, self._block, ended=True)

    def data_received(self, data: bytes) -> None:
        """Read frames."""
        self._machine.receive(data)

    def connection_lost(self, error: Exception | None) -> None:
        """Take note that no answer will come."""
        _fail(self._status, str(error or "closed without an answer"))

    def output_ready(self) -> None:
        """Send what this turn of the loop brings in one go."""
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flushing = False
        output = self._machine.take_output()
        if output and not self._transport.is_closing():
            self._transport.write(output)
        self._machine.pump()

    def connection_failed(self, code: int, reason: str) -> None:
        """Take note that the server broke the protocol."""
        _fail(self._status, f"no HTTP/2: {reason}")

    def connection_done(self) -> None:
        """Take note that the server said GOAWAY."""


def _fail(status: asyncio.Future[int], reason: str) -> None:
    if not status.done():
        status.set_exception(ConnectionError(reason))
