"""How a worker talks to servers: time-outs, pools, trust."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvproxy.model.static import StaticConfiguration

DEFAULT_IDLE_CONNECTIONS = 2
"""What ``maxIdleConnsPerHost = 0`` means."""


class TransportSettings:
    """Settings of all upstream connections of a worker."""

    __slots__ = ("dial_seconds", "idle_limit", "response_header_seconds", "tls_context")

    def __init__(self, settings: StaticConfiguration) -> None:
        """Raises OSError or ssl.SSLError when a root certificate cannot be read."""
        self.dial_seconds = settings.forwarding_timeouts.dial_timeout
        self.response_header_seconds = settings.forwarding_timeouts.response_header_timeout
        self.idle_limit = settings.max_idle_conns_per_host or DEFAULT_IDLE_CONNECTIONS
        self.tls_context = _tls_context(settings)


def _tls_context(settings: StaticConfiguration) -> ssl.SSLContext:
    """Build the client context; ``rootCAs`` (files or PEM texts) replace the system's pool."""
    if settings.root_cas:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        for authority in settings.root_cas:
            if "-----BEGIN" in authority:
                context.load_verify_locations(cadata=authority)
            else:
                context.load_verify_locations(cadata=Path(authority).read_text())
    else:
        context = ssl.create_default_context()
    if settings.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
