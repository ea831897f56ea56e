"""What a health check asks a server: URL, headers, time-out (specification section 7.7)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

import kvproxy

if TYPE_CHECKING:
    import yarl

    from kvproxy.model.dynamic import HealthCheck

DEFAULT_TIMEOUT_SECONDS = 5.0

LEAST_INTERVAL_SECONDS = 0.01
"""A shorter interval would keep supervisor and server busy with nothing else."""


class HealthRequest(Struct, frozen=True, kw_only=True):
    """One kind of check of one server. ``server`` is its URL without user name, for messages."""

    server: str
    url: str
    headers: dict[str, str]
    interval: float
    timeout: float


def health_request(server_url: str, check: HealthCheck, default_interval: float) -> HealthRequest:
    """Return how a server is checked.

    The path is resolved against the server's URL, so a leading ``/`` replaces the path there. An
    interval that is not given, or not positive, is the default; so is a time-out. A shorter
    interval than the least is the least. Raises ValueError when there is no URL to ask.
    """
    parts = urlsplit(server_url)
    authority = parts.netloc.rpartition("@")[2]
    host = authority[: authority.index("]") + 1] if "]" in authority else authority.split(":")[0]
    if check.port:
        authority = f"{host}:{check.port}"
    scheme = check.scheme or {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
    if scheme not in ("http", "https", "h2c") or not host:
        raise ValueError(f"a server of scheme `{scheme}` cannot be checked")
    headers = {name: value for name, value in check.headers.items() if name.lower() != "host"}
    if not any(name.lower() == "user-agent" for name in headers):
        headers["User-Agent"] = f"kvproxy/{kvproxy.__version__} (health check)"
    headers["Host"] = check.hostname or authority
    joined = urljoin(f"http://{authority}{parts.path}", check.path)
    return HealthRequest(
        server=f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}",
        url=scheme + joined.removeprefix("http"),
        headers=headers,
        interval=max(_positive(check.interval, default_interval), LEAST_INTERVAL_SECONDS),
        timeout=_positive(check.timeout, DEFAULT_TIMEOUT_SECONDS),
    )


def _positive(given: float | None, default: float) -> float:
    return given if given is not None and given > 0 else default


def parsed(request: HealthRequest) -> yarl.URL:
    """Return the URL of a request in the form that `HealthAsker.ask` wants."""
    # Only those who check servers wait for it to load.
    import yarl  # noqa: PLC0415

    return yarl.URL(request.url, encoded=True)
