"""The JSON of the API: what is shown, in which shape, and what is never shown."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kvproxy.api.documents import document, find
from kvproxy.control.generations.generation import Changes, Generation
from kvproxy.model.dynamic import (
    Auth,
    Backend,
    BasicAuth,
    Buffering,
    CircuitBreaker,
    ClientTLS,
    DigestAuth,
    ErrorPage,
    ForwardAuth,
    Frontend,
    Headers,
    HealthCheck,
    LoadBalancer,
    MaxConn,
    Rate,
    RateLimit,
    Redirect,
    ResponseForwarding,
    Route,
    Server,
    Stickiness,
    WhiteList,
)
from kvproxy.model.messages import BackendEntry, FrontendEntry

WRR = {"loadBalancer": {"method": "wrr"}}

# name, backend, its document without what each has (specification section 7.2)
BACKENDS: list[tuple[str, Backend, dict[str, Any]]] = [
    ("empty", Backend(), WRR),
    (
        "servers",
        Backend(servers={"s": Server(url="http://a:1", weight=0), "t": Server(url="http://b")}),
        {
            "servers": {
                "s": {"url": "http://a:1", "weight": 0},
                "t": {"url": "http://b", "weight": 1},
            },
            **WRR,
        },
    ),
    (
        "draining",
        Backend(servers={"s": Server(url="http://a", drain=True)}),
        {"servers": {"s": {"url": "http://a", "weight": 1, "drain": True}}, **WRR},
    ),
    (
        "breaker",
        Backend(circuit_breaker=CircuitBreaker(expression="NetworkErrorRatio() > 0.5")),
        {"circuitBreaker": {"expression": "NetworkErrorRatio() > 0.5"}, **WRR},
    ),
    (
        "balancer",
        Backend(load_balancer=LoadBalancer(method="drr", stickiness=Stickiness(http_only=True))),
        {"loadBalancer": {"method": "drr", "stickiness": {"httpOnly": True}}},
    ),
    (
        "limit",
        Backend(max_conn=MaxConn(amount=10, extractor_func="request.host")),
        {"maxConn": {"amount": 10, "extractorFunc": "request.host"}, **WRR},
    ),
    (
        "health",
        Backend(
            health_check=HealthCheck(
                path="/h", interval=10.0, timeout=0.25, headers={"X-A": "b", "Authorization": "s"}
            )
        ),
        {
            "healthCheck": {
                "path": "/h",
                "interval": "10s",
                "timeout": "250ms",
                "headers": {"X-A": "b", "Authorization": "***"},
            },
            **WRR,
        },
    ),
    (
        "buffering",
        Backend(buffering=Buffering(max_request_body_bytes=5)),
        {"buffering": {"maxRequestBodyBytes": 5}, **WRR},
    ),
    (
        "flushing",
        Backend(response_forwarding=ResponseForwarding(flush_interval=0.01)),
        {"forwardingResponse": {"flushInterval": "10ms"}, **WRR},
    ),
    (
        "password in a URL",
        Backend(servers={"s": Server(url="http://user:pass@a:1")}),
        {"servers": {"s": {"url": "http://***@a:1", "weight": 1}}, **WRR},
    ),
]

# name, options of a frontend, its document without what each has (specification section 7.3)
FRONTENDS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("nothing", {}, {}),
    ("host header", {"pass_host_header": True}, {"passHostHeader": True}),
    ("priority", {"priority": 7}, {"priority": 7}),
    ("entry points", {"entry_points": ("http", "https")}, {"entryPoints": ["http", "https"]}),
    ("route", {"routes": {"r": Route(rule="Host:a")}}, {"routes": {"r": {"rule": "Host:a"}}}),
    ("users of old", {"basic_auth": ("u:hash",)}, {}),
    (
        "users",
        {"auth": Auth(basic=BasicAuth(users=("u:hash",), users_file="/f", remove_header=True))},
        {"auth": {"basic": {"usersFile": "/f", "removeHeader": True}}},
    ),
    ("digest", {"auth": Auth(digest=DigestAuth(users=("u:r:ha1",)))}, {"auth": {"digest": {}}}),
    (
        "forward",
        {
            "auth": Auth(
                forward=ForwardAuth(
                    address="https://u:p@a/x",
                    auth_response_headers=("X-User",),
                    tls=ClientTLS(cert="/c", key="-----BEGIN PRIVATE KEY-----"),
                ),
                header_field="X-Web",
            )
        },
        {
            "auth": {
                "forward": {
                    "address": "https://***@a/x",
                    "authResponseHeaders": ["X-User"],
                    "tls": {"cert": "/c", "key": "***"},
                },
                "headerField": "X-Web",
            }
        },
    ),
    (
        "white list",
        {"white_list": WhiteList(source_range=("10.0.0.0/8",), use_x_forwarded_for=True)},
        {"whiteList": {"sourceRange": ["10.0.0.0/8"], "useXForwardedFor": True}},
    ),
    (
        "headers",
        {
            "headers": Headers(
                custom_request_headers={"X-Api-Key": "k", "X-Seen": "1"}, frame_deny=True
            )
        },
        {
            "headers": {
                "customRequestHeaders": {"X-Api-Key": "***", "X-Seen": "1"},
                "frameDeny": True,
            }
        },
    ),
    (
        "errors",
        {"errors": {"e": ErrorPage(status=("500-599",), backend="b", query="/{status}")}},
        {"errors": {"e": {"status": ["500-599"], "backend": "b", "query": "/{status}"}}},
    ),
    (
        "rate",
        {
            "rate_limit": RateLimit(
                rate_set={"r": Rate(period=10.0, average=5, burst=10)}, extractor_func="client.ip"
            )
        },
        {
            "ratelimit": {
                "rateset": {"r": {"period": 10_000_000_000, "average": 5, "burst": 10}},
                "extractorFunc": "client.ip",
            }
        },
    ),
    (
        "redirect",
        {"redirect": Redirect(entry_point="https", permanent=True)},
        {"redirect": {"entryPoint": "https", "permanent": True}},
    ),
]


@pytest.mark.parametrize(
    ("backend", "expected"), [row[1:] for row in BACKENDS], ids=[row[0] for row in BACKENDS]
)
def test_backends(backend: Backend, expected: dict[str, Any]) -> None:
    assert document(backend) == expected
    msgspec.json.encode(document(backend))


@pytest.mark.parametrize(
    ("options", "expected"), [row[1:] for row in FRONTENDS], ids=[row[0] for row in FRONTENDS]
)
def test_frontends(options: dict[str, Any], expected: dict[str, Any]) -> None:
    shown = document(Frontend(backend="b", **options))
    assert shown == {"backend": "b", "priority": 0, "basicAuth": None, **expected}


def generation() -> Generation:
    backend = Backend(servers={"s": Server(url="http://a")})
    frontend = Frontend(backend="b", routes={"r": Route(rule="Host:a")})
    return Generation(
        number=1,
        digest="",
        revisions={"file": "1"},
        frontends={("file", "f"): FrontendEntry("file", "f", b"", frontend)},
        backends={("file", "b"): BackendEntry("file", "b", b"", backend)},
        created_at=0.0,
        base=0,
        changes=Changes(),
    )


SERVER = {"url": "http://a", "weight": 1}
BACKEND = {"servers": {"s": SERVER}, **WRR}
ROUTE = {"rule": "Host:a"}
FRONTEND = {"backend": "b", "routes": {"r": ROUTE}, "priority": 0, "basicAuth": None}
FILE = {"backends": {"b": BACKEND}, "frontends": {"f": FRONTEND}}

PATHS: list[tuple[str, Any]] = [
    ("", {"file": FILE, "etcd": {}}),
    ("file", FILE),
    ("etcd", {}),
    ("nobody", None),
    ("file/backends", {"b": BACKEND}),
    ("etcd/backends", {}),
    ("etcd/frontends", {}),
    ("file/backends/b", BACKEND),
    ("file/backends/x", None),
    ("etcd/backends/b", None),
    ("file/backends/b/servers", {"s": SERVER}),
    ("file/backends/b/servers/s", SERVER),
    ("file/backends/b/servers/x", None),
    ("file/backends/b/servers/s/url", None),
    ("file/backends/b/loadBalancer", None),
    ("file/backends/b/routes", None),
    ("file/frontends", {"f": FRONTEND}),
    ("file/frontends/f", FRONTEND),
    ("file/frontends/f/routes", {"r": ROUTE}),
    ("file/frontends/f/routes/r", ROUTE),
    ("file/frontends/f/routes/x", None),
    ("file/frontends/f/servers", None),
    ("file/other", None),
    ("file/", None),
    ("file/backends/", None),
    ("/backends", None),
]


@pytest.mark.parametrize(("path", "expected"), PATHS, ids=[row[0] or "all" for row in PATHS])
def test_paths(path: str, expected: Any) -> None:
    assert find(generation(), ("file", "etcd"), path.split("/") if path else []) == expected
