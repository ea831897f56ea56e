"""Asks a server at an address over plain HTTP/1.1: the common check, many times a second.

The HTTP library takes four times as long for it. Names, TLS and redirects are left to that
(`kvproxy.control.health.client`).
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, cast

from kvproxy.http.scan import INFORMATIONAL, SPLIT, scan_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    import yarl

REDIRECTS = frozenset((301, 302, 303, 307, 308))

MAXIMUM_INFORMATIONAL = 32
"""How many 1xx answers a server may send before its final one, as in workers."""

_TARGET = re.compile(r"/[!-~]*")
_LINE = re.compile(r"[!-9;-~]+: [ -~\x80-\xff]*\r\n")


def request_head(url: yarl.URL, headers: Mapping[str, str]) -> bytes | None:
    """Return the request as it is sent, None when it cannot be written as it is."""
    target = url.raw_path_qs
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    if not _TARGET.fullmatch(target) or not all(map(_LINE.fullmatch, lines)):
        return None
    head = f"GET {target} HTTP/1.1\r\n{''.join(lines)}Connection: close\r\n\r\n"
    return head.encode("latin-1")


async def ask_http1(host: str, port: int, head: bytes, dial_seconds: float | None) -> int:
    """Return the status of the answer to a request; redirects are not followed.

    The connection is closed before the body of the answer has come. Raises OSError when there is
    no answer. The caller limits the time.
    """
    loop = asyncio.get_running_loop()
    status: asyncio.Future[int] = loop.create_future()
    try:
        async with asyncio.timeout(dial_seconds):
            transport, _ = await loop.create_connection(
                lambda: _Conversation(head, status), host, port
            )
    except TimeoutError:
        raise ConnectionError(f"no connection within {dial_seconds:g} s") from None
    except OSError as error:
        reason = error.strerror or error
        raise ConnectionError(f"cannot connect to {host}:{port}: {reason}") from error
    try:
        return await status
    finally:
        transport.close()


class _Conversation(asyncio.Protocol):
    """The connection."""

    def __init__(self, head: bytes, status: asyncio.Future[int]) -> None:
        self._head = head
        self._status = status
        self._received = b""
        self._informational = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        cast("asyncio.Transport", transport).write(self._head)

    def data_received(self, data: bytes) -> None:
        """Read heads of answers up to that of the final one, as workers read them."""
        if self._status.done():
            return
        self._received += data
        while True:
            result = scan_response(self._received, SPLIT, b"")
            if result is None:
                return
            if not isinstance(result, tuple):
                self._fail("no answer that could be passed on")
                return
            _, kind, _, end, _, status = result
            if kind != INFORMATIONAL:
                self._status.set_result(status)
                return
            self._received = self._received[end:]
            self._informational += 1
            if self._informational > MAXIMUM_INFORMATIONAL:
                self._fail("too many 1xx answers")
                return

    def connection_lost(self, error: Exception | None) -> None:
        """Take note that no answer will come."""
        self._fail(str(error or "closed without an answer"))

    def _fail(self, reason: str) -> None:
        if not self._status.done():
            self._status.set_exception(ConnectionError(reason))
