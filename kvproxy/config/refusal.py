"""Whether a store's server is plainly not there, found without the store's client library.

To import such a library takes longer than everything else at the start of a proxy that serves its
last known good configuration. Where nobody listens it is not needed before requests are served.
"""

from __future__ import annotations

import asyncio
import re
import socket

REFUSAL_SECONDS = 0.05
"""So long all addresses together may take to refuse; who is slower is asked the usual way."""

_ADDRESS = re.compile(
    r"(?:https?://)?(?:\[(?P<v6>[\da-fA-F:.]+)\]|(?P<name>[\w.-]+)):(?P<port>\d{1,5})/?"
)


def addresses_of(endpoints: str) -> list[tuple[str, int]]:
    """Return (host, port) of each of ``host:port``, separated by commas.

    Empty when there is another kind of endpoint among them: then nothing can be said.
    """
    found = []
    for part in endpoints.split(","):
        match = _ADDRESS.fullmatch(part.strip())
        if match is None or not 0 < int(match["port"]) < 65536:
            return []
        found.append((match["v6"] or match["name"], int(match["port"])))
    return found


async def is_refused(endpoints: str) -> bool:
    """Tell whether every address of ``endpoints`` refuses a connection, at once."""
    addresses = addresses_of(endpoints)
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            for host, port in addresses:
                if not await _refuses(host, port):
                    return False
    except (OSError, TimeoutError):
        return False
    return bool(addresses)


async def _refuses(host: str, port: int) -> bool:
    loop = asyncio.get_running_loop()
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        with socket.socket(family, kind, protocol) as probe:
            probe.setblocking(False)
            try:
                await loop.sock_connect(probe, address)
            except ConnectionRefusedError:
                continue
        return False
    return True
