"""The client of the health checks, made when the first server is checked.

Its HTTP library takes as long to load as most of the supervisor, and a start must not wait for what
few use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.trust import server_context

if TYPE_CHECKING:
    import ssl

    import yarl

    from kvproxy.control.health.client import HealthClient
    from kvproxy.control.health.request import HealthRequest
    from kvproxy.model.static import StaticConfiguration


class HealthAsker:
    """Asks servers as `HealthClient` does. To be used and closed inside the event loop."""

    def __init__(self, settings: StaticConfiguration) -> None:
        """Raises OSError or ValueError when an authority of ``rootCAs`` cannot be read."""
        self._settings = settings
        self._client: HealthClient | None = None
        if settings.root_cas:
            self._trust()

    async def ask(self, request: HealthRequest, url: yarl.URL) -> str:
        """Return what is wrong with a server; empty: it is well."""
        if self._client is None:
            from kvproxy.control.health.client import HealthClient  # noqa: PLC0415

            dial_seconds = self._settings.forwarding_timeouts.dial_timeout
            self._client = HealthClient(self._trust(), dial_seconds)
        return await self._client.ask(request, url)

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    def _trust(self) -> ssl.SSLContext:
        settings = self._settings
        return server_context(settings.root_cas, verify=not settings.insecure_skip_verify)
