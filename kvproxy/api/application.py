"""The HTTP application: which path is answered by what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

import kvproxy
from kvproxy.api import documents
from kvproxy.api.health import Health
from kvproxy.api.metrics import CONTENT_TYPE, Metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.control.administration.overview import Overview

CODENAME = "kvproxy"

MANY_ENTRIES = 1000
"""Documents of more frontends and backends are written beside the event loop."""

JSON = {"Content-Type": "application/json; charset=UTF-8"}
PLAIN = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}

_ESCAPES = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))


def application(overview: Overview) -> web.Application:
    """Return the application; see `kvproxy.proxy.plan.internal` for what gets here."""
    pages = _Pages(overview)
    made = web.Application(middlewares=[_default_404])
    made.add_routes(
        [
            web.get("/api", pages.providers),
            web.get("/api/breakers", pages.breakers),
            web.get("/api/providers", pages.providers),
            web.get("/api/providers/{path:.+}", pages.part),
            web.get("/api/servers", pages.servers),
            web.get("/api/status", pages.status),
            web.get("/api/version", pages.version),
            web.get("/health", pages.health),
            web.get("/metrics", pages.metrics),
        ]
    )
    made.on_response_prepare.append(_unsigned)
    made.cleanup_ctx.append(pages.counts.running)
    return made


async def _unsigned(request: web.Request, response: web.StreamResponse) -> None:
    """Leave out what names the HTTP library."""
    response.headers.popall("Server", None)


@web.middleware
async def _default_404(
    request: web.Request, handler: Callable[[web.Request], Any]
) -> web.StreamResponse:
    """Answer what is not there as the workers do (specification section 7.1)."""
    try:
        answer: web.StreamResponse = await handler(request)
    except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
        return web.Response(status=404, body=b"404 page not found\n", headers=PLAIN)
    return answer


class _Pages:
    """One method a path."""

    def __init__(self, overview: Overview) -> None:
        self._overview = overview
        self._metrics = Metrics(overview)
        self.counts = Health(overview)

    async def providers(self, request: web.Request) -> web.Response:
        """Everything of all providers."""
        return await self._part([])

    async def part(self, request: web.Request) -> web.Response:
        """A provider or something of it."""
        return await self._part(request.match_info["path"].split("/"))

    async def _part(self, parts: list[str]) -> web.Response:
        generation = self._overview.generation
        if generation is None:
            if parts:
                raise web.HTTPNotFound
            return _json({})
        providers = self._overview.providers
        if len(generation.frontends) + len(generation.backends) > MANY_ENTRIES:
            loop = asyncio.get_running_loop()
            # A generation never changes, so another thread may read it.
            found = await loop.run_in_executor(None, documents.find, generation, providers, parts)
        else:
            found = documents.find(generation, providers, parts)
        if found is None:
            raise web.HTTPNotFound
        return _json(found)

    async def status(self, request: web.Request) -> web.Response:
        """What ``kvproxy status`` shows."""
        return _json(self._overview.status())

    async def breakers(self, request: web.Request) -> web.Response:
        """Every circuit breaker."""
        return _json(self._overview.breakers())

    async def servers(self, request: web.Request) -> web.Response:
        """Every server whose health is checked."""
        return _json(
            [
                {"provider": provider, "backend": backend, **msgspec.to_builtins(health)}
                for provider, backend, health in self._overview.checked_servers()
            ]
        )

    async def version(self, request: web.Request) -> web.Response:
        """The version."""
        return _json({"Version": kvproxy.__version__, "Codename": CODENAME})

    async def health(self, request: web.Request) -> web.Response:
        """Counts of requests."""
        return _json(self.counts.document())

    async def metrics(self, request: web.Request) -> web.Response:
        """Metrics for Prometheus."""
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _json(document: Any) -> web.Response:
    """Return a document as Go writes it: without characters that HTML knows."""
    body = msgspec.json.encode(document)
    for character, escape in _ESCAPES:
        body = body.replace(character, escape)
    return web.Response(body=body, headers=JSON)
