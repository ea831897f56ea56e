"""Where a proxy listens: the addresses of an entry point, and the socket of its own API."""

from __future__ import annotations

API_SOCKET = "api.sock"
"""The file in the state directory on which the supervisor answers for its API and metrics."""


def split_addresses(text: str) -> tuple[str, ...]:
    """Return the single addresses of the option ``address``, such as ``:80`` or ``[::1]:80``."""
    return tuple(part.strip() for part in text.split(","))
