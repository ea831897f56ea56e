from __future__ import annotations

from typing import Any

import pytest

from kvproxy.config.options import dynamic_options, options
from kvproxy.model.activity import (
    ACTIVE_DYNAMIC,
    ACTIVE_STATIC,
    inactive_options,
)
from kvproxy.model.dynamic import (
    Auth,
    Backend,
    Buffering,
    CircuitBreaker,
    ErrorPage,
    Frontend,
    Headers,
    HealthCheck,
    LoadBalancer,
    MaxConn,
    PassTLSClientCert,
    RateLimit,
    Redirect,
    ResponseForwarding,
    Route,
    Server,
    Stickiness,
    WhiteList,
)

FRONTENDS: list[dict[str, Any]] = [
    {},
    {
        "routes": {"r": Route(rule="x")},
        "entry_points": ("a",),
        "priority": 3,
        "pass_host_header": True,
    },
    {"auth": Auth(), "basic_auth": ("u:h",), "white_list": WhiteList()},
    {"whitelist_source_range": ("::1",), "redirect": Redirect(), "rate_limit": RateLimit()},
    {"pass_tls_client_cert": PassTLSClientCert(), "headers": Headers(frame_deny=True)},
    {"pass_tls_cert": True, "errors": {"e": ErrorPage()}},
]

BACKENDS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({}, ()),
    ({"servers": {"s": Server(url="u", weight=3)}}, ()),
    ({"servers": {"s": Server(url="u", tags=("a",))}}, ("servers.s.tags",)),
    ({"load_balancer": LoadBalancer(method="WRR")}, ()),
    ({"load_balancer": LoadBalancer(method="nonsense")}, ()),
    ({"load_balancer": LoadBalancer(method="Drr", stickiness=Stickiness())}, ()),
    ({"max_conn": MaxConn(amount=3)}, ()),
    ({"circuit_breaker": CircuitBreaker()}, ()),
    ({"health_check": HealthCheck(path="/")}, ()),
    ({"buffering": Buffering(), "response_forwarding": ResponseForwarding()}, ()),
]


@pytest.mark.parametrize("given", FRONTENDS, ids=[str(list(row)) for row in FRONTENDS])
def test_every_option_of_a_frontend_is_active(given: dict[str, Any]) -> None:
    assert inactive_options(Frontend(backend="b", **given)) == ()


@pytest.mark.parametrize(
    ("given", "expected"), BACKENDS, ids=[str(list(row[0])) for row in BACKENDS]
)
def test_backend(given: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert inactive_options(Backend(**given)) == expected


def test_every_name_in_the_lists_is_an_option() -> None:
    known = {".".join(option.path) for option in (*options(), *dynamic_options())}
    assert known >= ACTIVE_STATIC | ACTIVE_DYNAMIC
