"""How a worker talks to servers: time-outs, pools, trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.trust import server_context

if TYPE_CHECKING:
    from kvproxy.model.static import StaticConfiguration

DEFAULT_IDLE_CONNECTIONS = 2
"""What ``maxIdleConnsPerHost = 0`` means."""


class TransportSettings:
    """Settings of all upstream connections of a worker."""

    __slots__ = ("dial_seconds", "idle_limit", "response_header_seconds", "tls_context")

    def __init__(self, settings: StaticConfiguration) -> None:
        """Raises OSError or ValueError when a root certificate cannot be read."""
        self.dial_seconds = settings.forwarding_timeouts.dial_timeout
        self.response_header_seconds = settings.forwarding_timeouts.response_header_timeout
        self.idle_limit = settings.max_idle_conns_per_host or DEFAULT_IDLE_CONNECTIONS
        self.tls_context = server_context(
            settings.root_cas, verify=not settings.insecure_skip_verify
        )
