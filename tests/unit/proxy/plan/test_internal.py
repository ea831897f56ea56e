"""Which requests are for the proxy itself, and where they go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvproxy.http.scan import scan_request
from kvproxy.model.static import EntryPoint, Ping, StaticConfiguration
from kvproxy.model.static_observability import Api, Metrics, Prometheus
from kvproxy.proxy.plan.internal import Inside, internal_paths, supervisor_server
from kvproxy.proxy.request.decision import understand
from kvproxy.proxy.request.stages import NO_STAGES
from kvproxy.proxy.upstream.transport import TransportSettings
from tests.unit.proxy.worlds import World

SUPERVISOR = "supervisor"

ALL = {
    "api": Api(entry_point="http"),
    "metrics": Metrics(prometheus=Prometheus(entry_point="http")),
    "ping": Ping(entry_point="http"),
}

# Which services there are, request line, what takes it (None: the frontends).
REQUESTS: list[tuple[str, str, Any]] = [
    ("api metrics ping", "GET /api", SUPERVISOR),
    ("api metrics ping", "HEAD /api", SUPERVISOR),
    ("api metrics ping", "GET /api?x=1", SUPERVISOR),
    ("api metrics ping", "GET /a%70i", SUPERVISOR),
    ("api metrics ping", "POST /api", None),
    ("api metrics ping", "OPTIONS /api", None),
    ("api metrics ping", "GET /api/", 301),
    ("api metrics ping", "GET /apis", None),
    ("api metrics ping", "GET /api/other", None),
    ("api metrics ping", "GET /API", None),
    ("api metrics ping", "GET /api/version", SUPERVISOR),
    ("api metrics ping", "GET /api/status", SUPERVISOR),
    ("api metrics ping", "GET /api/servers", SUPERVISOR),
    ("api metrics ping", "GET /api/breakers", SUPERVISOR),
    ("api metrics ping", "GET /health", SUPERVISOR),
    ("api metrics ping", "GET /health/", None),
    ("api metrics ping", "GET /api/providers", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/", None),
    ("api metrics ping", "GET /api/providers/p", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/p/", None),
    ("api metrics ping", "GET /api/providers/p/backends", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/p/backends/b", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/p/backends/b%20c", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/p/backends/b/servers", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/p/backends/b/servers/s", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/p/backends/b/servers/s/x", None),
    ("api metrics ping", "GET /api/providers/p/backends/b/routes", None),
    ("api metrics ping", "GET /api/providers/p/frontends", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/p/frontends/f/routes/r", SUPERVISOR),
    ("api metrics ping", "GET /api/providers/p/frontends/f/servers", None),
    ("api metrics ping", "GET /api/providers/p/other", None),
    ("api metrics ping", "GET /api/providers//backends", None),
    ("api metrics ping", "GET /metrics", SUPERVISOR),
    ("api metrics ping", "GET /metrics/x", None),
    ("api metrics ping", "GET /ping", 200),
    ("api metrics ping", "HEAD /ping", 200),
    ("api metrics ping", "POST /ping", None),
    ("api metrics ping", "GET /ping/", None),
    ("api metrics ping", "GET /", None),
    ("api", "GET /metrics", None),
    ("api", "GET /ping", None),
    ("metrics", "GET /api", None),
    ("metrics", "GET /health", None),
    ("metrics", "GET /metrics", SUPERVISOR),
    ("ping", "GET /api", None),
    ("ping", "GET /ping", 200),
]


def taken_by(services: str, line: str) -> Any:
    world = World()
    listener = world.listeners["http"]
    settings = StaticConfiguration(
        entry_points=world.settings.entry_points,
        state_dir="/nowhere",
        **{name: ALL[name] for name in services.split()},  # type: ignore[arg-type]
    )
    server = supervisor_server(settings, TransportSettings(world.settings))
    listener.internal = internal_paths(settings, "http", lambda: (200, b"OK"), server)
    assert listener.internal is not None
    listener.internal.protect(NO_STAGES)
    assert internal_paths(settings, "other", lambda: (200, b"OK"), server) is None
    request = f"{line} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    result = scan_request(request, 65536, 128)
    assert isinstance(result, tuple), result
    head, host, target, flags, _, end = result
    found = understand(listener, request[:end], head, host, target, flags)
    if not isinstance(found, Inside):
        return None
    if found.answer is not None:
        return found.answer.status
    assert found.chain.single is server
    return SUPERVISOR


@pytest.mark.parametrize(("services", "line", "expected"), REQUESTS, ids=str)
def test_what_takes_a_request(services: str, line: str, expected: Any) -> None:
    assert taken_by(services, line) == expected


def test_nothing_is_open_before_it_is_protected() -> None:
    settings = StaticConfiguration(
        entry_points={"http": EntryPoint(address=":0")},
        state_dir="/nowhere",
        **ALL,  # type: ignore[arg-type]
    )
    server = supervisor_server(settings, TransportSettings(settings))
    paths = internal_paths(settings, "http", lambda: (200, b"OK"), server)
    assert paths is not None
    checks = paths._chain.checks
    assert checks is not None
    answers = [ask(None) for ask in checks]  # type: ignore[arg-type]
    assert [answer.status for answer in answers] == [503]  # type: ignore[union-attr]
    assert server.name == f"unix:{Path('/nowhere/api.sock')}"
