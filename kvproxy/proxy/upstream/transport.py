"""How a worker talks to servers: time-outs, pools, trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.trust import server_context, system_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from kvproxy.model.static import StaticConfiguration

DEFAULT_IDLE_CONNECTIONS = 2
"""What ``maxIdleConnsPerHost = 0`` means."""


class TransportSettings:
    """Settings of all upstream connections of a worker."""

    __slots__ = (
        "_http2_tls_context",
        "_root_cas",
        "_verify",
        "dial_seconds",
        "idle_limit",
        "response_header_seconds",
        "tls_context",
    )

    def __init__(self, settings: StaticConfiguration) -> None:
        """Raises OSError or ValueError when a root certificate cannot be read."""
        self.dial_seconds = settings.forwarding_timeouts.dial_timeout
        self.response_header_seconds = settings.forwarding_timeouts.response_header_timeout
        self.idle_limit = settings.max_idle_conns_per_host or DEFAULT_IDLE_CONNECTIONS
        self._root_cas = settings.root_cas
        self._verify = not settings.insecure_skip_verify
        self._http2_tls_context: ssl.SSLContext | None = None
        own = bool(self._root_cas) or not self._verify
        self.tls_context = self.context(()) if own else system_context()

    def context(self, authorities: Sequence[str]) -> ssl.SSLContext:
        """Return a new context that trusts ``authorities`` (PEM texts), if any, alone."""
        return server_context(authorities or self._root_cas, verify=self._verify)

    @property
    def http2_tls_context(self) -> ssl.SSLContext:
        """The context that offers HTTP/2, too (RFC 7301); made when a server needs it."""
        if self._http2_tls_context is None:
            self._http2_tls_context = self.context(())
            self._http2_tls_context.set_alpn_protocols(["h2", "http/1.1"])
        return self._http2_tls_context
