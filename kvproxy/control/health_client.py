"""Asks a server whether it is well, over HTTP."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import TYPE_CHECKING

import aiohttp

from kvproxy.control.health_http2 import ask_http2

if TYPE_CHECKING:
    import ssl

    import yarl
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.tracing import Trace

    from kvproxy.control.health_request import HealthRequest

MAXIMUM_REDIRECTS = 10
WELL = range(200, 400)
MAXIMUM_REASON = 200
DEFAULT_PORT = 80


class DirectConnector(aiohttp.TCPConnector):
    """Lets the event loop connect where there is one address and no TLS.

    The library itself prepares for several addresses and connects a socket before the loop gets it,
    which is an eighth of what a check costs, or more.
    """

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        host, port = req.url.host or "", req.url.port or DEFAULT_PORT
        if req.is_ssl() or not _is_address(host):
            return await super()._create_connection(req, traces, timeout)
        try:
            async with asyncio.timeout(timeout.sock_connect):
                _, protocol = await self._loop.create_connection(self._factory, host, port)
        except OSError as error:
            if isinstance(error, TimeoutError):
                raise
            raise aiohttp.ClientConnectorError(req.connection_key, error) from error
        return protocol


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class HealthClient:
    """Asks servers on a connection of its own for each check, which is closed afterwards.

    To be used and closed inside the event loop.
    """

    def __init__(self, tls: ssl.SSLContext, dial_seconds: float) -> None:
        """``tls`` and ``dial_seconds``: as workers reach servers; 0 seconds: no limit of its
        own."""
        self._dial_seconds = dial_seconds or None
        connector = DirectConnector(force_close=True, limit=0, ssl=tls)
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
