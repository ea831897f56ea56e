"""What a middleware needs to ask another server a question of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import ssl


class Fetched(NamedTuple):
    """A complete answer. ``headers``: without those that concern only the connection."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class FetchError(Exception):
    """There is no (usable) answer; the message says why, for the log."""


class Fetch(Protocol):
    """Asks one server."""

    async def __call__(self, head: bytes) -> Fetched:
        """Send a request without body and return the answer.

        ``head``: request line and headers without ``Host`` and without the last, empty line.
        Raises `FetchError` for everything that goes wrong, and after a time.
        """
        ...


class Fetches(Protocol):
    """Makes what asks servers."""

    def __call__(self, address: str, tls: ssl.SSLContext | None) -> Fetch:
        """Return what asks the server of a URL; ``tls`` None: as other servers are asked."""
        ...
