"""Asks a server whether it is well, over HTTP."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING

import aiohttp

from kvproxy.control.health.http1 import REDIRECTS, ask_http1, request_head
from kvproxy.control.health.http2 import ask_http2

if TYPE_CHECKING:
    import ssl

    import yarl

    from kvproxy.control.health.request import HealthRequest

MAXIMUM_REDIRECTS = 10
WELL = range(200, 400)
MAXIMUM_REASON = 200
DEFAULT_PORT = 80


class HealthClient:
    """Asks servers on a connection of its own for each check, which is closed afterwards.

    To be used and closed inside the event loop.
    """

    def __init__(self, tls: ssl.SSLContext, dial_seconds: float) -> None:
        """``tls`` and ``dial_seconds``: as workers reach servers; 0 seconds: no limit of its
        own."""
        self._dial_seconds = dial_seconds or None
        connector = aiohttp.TCPConnector(force_close=True, limit=0, ssl=tls)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding"),
        )

    async def ask(self, request: HealthRequest, url: yarl.URL) -> str:
        """Return what is wrong with a server; empty: it is well.

        ``url`` is that of the request, parsed. Redirects are followed, and the last answer decides.
        """
        try:
            status = await self._status(request, url)
            return "" if status in WELL else f"status {status}"
        except aiohttp.TooManyRedirects:
            return f"more than {MAXIMUM_REDIRECTS} redirects"
        except aiohttp.ConnectionTimeoutError:
            return f"no connection within {self._dial_seconds:g} s"
        except TimeoutError:
            return f"no answer within {request.timeout:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            text = str(error) or type(error).__name__
            return text[:MAXIMUM_REASON]

    async def _status(self, request: HealthRequest, url: yarl.URL) -> int:
        if url.scheme == "h2c":
            async with asyncio.timeout(request.timeout):
                return await ask_http2(url, request.headers)
        if url.scheme == "http" and _is_address(url.host or ""):
            head = request_head(url, request.headers)
            if head is not None:
                async with asyncio.timeout(request.timeout):
                    status = await ask_http1(
                        url.host or "", url.port or DEFAULT_PORT, head, self._dial_seconds
                    )
                if status not in REDIRECTS:
                    return status
        timeout = aiohttp.ClientTimeout(total=request.timeout, sock_connect=self._dial_seconds)
        async with self._session.get(
            url, headers=request.headers, timeout=timeout, max_redirects=MAXIMUM_REDIRECTS
        ) as response:
            return response.status

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
        # aiohttp closes the sockets in the next turns of the loop.
        await asyncio.sleep(0)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
