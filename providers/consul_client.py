"""py-consul on a transport of ours: several servers, TLS from text, deadlines, the token always.

py-consul knows Consul's paths and parameters. Its own transport would read one server only, decode
10,000 values in a loop for each change, and send transactions without a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from consul import base

from providers.store_http import StoreHttp

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Mapping

    from providers.store_http import Answer

DEFAULT_PORT = 8500

ANSWER_SECONDS = 10.0
"""How long a read of a large tree or a write may take."""
PROBE_SECONDS = 4.0
"""How long a question that costs Consul nothing may take, over all servers together."""


class Transport(base.HTTPClient):  # type: ignore[misc]
    """Answers are `providers.store_http.Answer`: py-consul's own decoders are not called."""

    def __init__(self, http: StoreHttp, token: str) -> None:
        """Send ``token`` with every question, unless it is empty."""
        super().__init__()
        self.base_uri = ""
        self._http = http
        self._headers = {"X-Consul-Token": token} if token else {}

    def get(
        self,
        callback: object,
        path: str,
        params: list[tuple[str, Any]] | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bool = False,
        connections_timeout: float | None = None,
    ) -> Awaitable[Answer]:
        """Ask; a question with ``wait`` (such as ``60s``) may be kept for that long."""
        del callback, headers, raw
        uri = self.uri(path, params)
        wait = dict(params or ()).get("wait")
        if wait is not None:
            return self._http.long_poll(uri, headers=self._headers, seconds=float(wait[:-1]))
        seconds = connections_timeout or ANSWER_SECONDS
        return self._http.ask("GET", uri, headers=self._headers, seconds=seconds)

    def put(
        self,
        callback: object,
        path: str,
        params: list[tuple[str, Any]] | None = None,
        data: str | bytes = "",
        headers: Mapping[str, str] | None = None,
        connections_timeout: float | None = None,
    ) -> Awaitable[Answer]:
        """Write; a write is never put to a second server when the first may have done it."""
        del callback, headers
        return self._http.ask(
            "PUT",
            self.uri(path, params),
            body=data.encode() if isinstance(data, str) else data,
            headers=self._headers,
            seconds=connections_timeout or ANSWER_SECONDS,
            repeatable=False,
        )

    def delete(self, *arguments: object, **options: object) -> Awaitable[Answer]:
        """Not used: keys are deleted in transactions."""
        raise NotImplementedError

    def post(self, *arguments: object, **options: object) -> Awaitable[Answer]:
        """Not used: nothing that stores need is posted."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()


class ConsulClient(base.Consul):  # type: ignore[misc]
    """py-consul's interface over `Transport`; each call returns an awaitable `Answer`."""

    def __init__(self, endpoints: str, context: ssl.SSLContext | None, token: str) -> None:
        """Ask nothing yet; raises `StoreError` for endpoints that are no addresses."""
        http = StoreHttp("consul", endpoints, DEFAULT_PORT, context)
        self._transport = Transport(http, token)
        self.probe_seconds = PROBE_SECONDS / len(http.bases)
        super().__init__(host="", port=0, scheme="http", verify=False, consistency="consistent")

    def http_connect(self, *arguments: object, **options: object) -> Transport:
        """Return the transport: py-consul asks for it when it is made."""
        del arguments, options
        return self._transport

    async def close(self) -> None:
        """Close every connection."""
        await self._transport.close()
