"""Options of backends, and rate limits, that workers cannot use."""

from __future__ import annotations

from typing import Any

import pytest

from kvproxy.control.validation.backend_options import backend_problems, rate_limit_problems
from kvproxy.control.validation.validator import Validator
from kvproxy.model.dynamic import (
    Backend,
    Buffering,
    CircuitBreaker,
    HealthCheck,
    LoadBalancer,
    MaxConn,
    Rate,
    RateLimit,
    Stickiness,
)
from tests.unit.control.entries import SETTINGS, frontend

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no expression": ({"circuit_breaker": CircuitBreaker()}, "circuitBreaker.expression"),
    "bad expression": (
        {"circuit_breaker": CircuitBreaker(expression="NetworkErrorRatio() > 1")},
        "circuitBreaker.expression",
    ),
    "no extractor": ({"max_conn": MaxConn(amount=1)}, "maxConn.extractorFunc"),
    "unknown extractor": (
        {"max_conn": MaxConn(amount=1, extractor_func="client.id")},
        "maxConn.extractorFunc",
    ),
    "no header": (
        {"max_conn": MaxConn(amount=-1, extractor_func="request.header.")},
        "maxConn.extractorFunc",
    ),
    "port": ({"health_check": HealthCheck(path="/", port=65536)}, "healthCheck.port"),
    "negative port": ({"health_check": HealthCheck(path="/", port=-1)}, "healthCheck.port"),
    "scheme": ({"health_check": HealthCheck(path="/", scheme="htp")}, "healthCheck.scheme"),
    "path": ({"health_check": HealthCheck(path=":")}, "healthCheck.path"),
    "path that is a URL": ({"health_check": HealthCheck(path="//other/x")}, "healthCheck.path"),
    "line break": (
        {"health_check": HealthCheck(path="/", headers={"X-A": "a\r\nb"})},
        "healthCheck.headers.X-A",
    ),
    "hostname": ({"health_check": HealthCheck(path="/", hostname="a\n")}, "healthCheck.hostname"),
    "negative size": (
        {"buffering": Buffering(max_request_body_bytes=-1)},
        "buffering.maxRequestBodyBytes",
    ),
    "retry expression": (
        {"buffering": Buffering(retry_expression="Foo()")},
        "buffering.retryExpression",
    ),
}


@pytest.mark.parametrize(("options", "path"), REFUSED.values(), ids=REFUSED)
def test_refused(options: dict[str, Any], path: str) -> None:
    (problem,) = (each for each in backend_problems(Backend(**options), "b") if each.fatal)
    assert problem.path == f"b.{path}"
    verdict = Validator(SETTINGS).backend("file", "b", Backend(**options))
    assert verdict.entry is None


WARNED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown method": ({"load_balancer": LoadBalancer(method="ddr")}, "loadBalancer.method"),
    "both spellings": (
        {"load_balancer": LoadBalancer(sticky=True, stickiness=Stickiness())},
        "loadBalancer.sticky",
    ),
    "same site": (
        {"load_balancer": LoadBalancer(stickiness=Stickiness(same_site="Lax"))},
        "loadBalancer.stickiness.sameSite",
    ),
    "negative amount": (
        {"max_conn": MaxConn(amount=-1, extractor_func="client.ip")},
        "maxConn.amount",
    ),
    "interval": ({"health_check": HealthCheck(path="/", interval=-1.0)}, "healthCheck.interval"),
    "short interval": (
        {"health_check": HealthCheck(path="/", interval=1e-9)},
        "healthCheck.interval",
    ),
    "timeout": ({"health_check": HealthCheck(path="/", timeout=0.0)}, "healthCheck.timeout"),
}


@pytest.mark.parametrize(("options", "path"), WARNED.values(), ids=WARNED)
def test_warned(options: dict[str, Any], path: str) -> None:
    (problem,) = backend_problems(Backend(**options), "b")
    assert problem.path == f"b.{path}"
    assert not problem.fatal


ACCEPTED: dict[str, dict[str, Any]] = {
    "nothing": {},
    "method in another case": {"load_balancer": LoadBalancer(method="DRR")},
    "amount 0 needs no extractor": {"max_conn": MaxConn()},
    "no check": {"health_check": HealthCheck(port=-1)},
    "check": {"health_check": HealthCheck(path="/health?powpow=do&do=powpow", scheme="https")},
    "relative path": {"health_check": HealthCheck(path="health")},
    "breaker": {"circuit_breaker": CircuitBreaker(expression="NetworkErrorRatio() > 0.5")},
    "buffering": {"buffering": Buffering(retry_expression="IsNetworkError()")},
}


@pytest.mark.parametrize("options", ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(options: dict[str, Any]) -> None:
    assert list(backend_problems(Backend(**options), "b")) == []


def test_a_bad_expression_is_marked_and_the_nearest_function_named() -> None:
    text = "NetworkErrorRatio() > 0.5 || LatencyAtQuantilMS(50.0) > 1"
    content = Backend(circuit_breaker=CircuitBreaker(expression=text))
    (problem,) = backend_problems(content, "b")
    assert "column 30" in problem.message
    assert "|| >>>LatencyAtQuantilMS" in problem.message
    assert problem.nearest == "LatencyAtQuantileMS"


def limit(extractor: str = "client.ip", **rates: Rate) -> RateLimit:
    return RateLimit(extractor_func=extractor, rate_set=rates)


GOOD = Rate(period=1.0, average=1, burst=1)
RATES: dict[str, tuple[RateLimit, str]] = {
    "period": (limit(r=Rate(average=1, burst=1)), "rateset.r.period"),
    "average": (limit(r=Rate(period=1.0, average=-1, burst=1)), "rateset.r.average"),
    "burst": (limit(r=Rate(period=1.0, average=1)), "rateset.r.burst"),
    "one of several": (limit(a=GOOD, b=Rate(period=1.0, average=1)), "rateset.b.burst"),
    "no extractor": (limit("", r=GOOD), "extractorFunc"),
    "bad extractor": (limit("client.port", r=GOOD), "extractorFunc"),
    "too many": (limit(**{f"r{number}": GOOD for number in range(9)}), "rateset"),
}


@pytest.mark.parametrize(("rates", "path"), RATES.values(), ids=RATES)
def test_refused_rates(rates: RateLimit, path: str) -> None:
    (problem,) = rate_limit_problems(frontend(rate_limit=rates), "f")
    assert problem.path == f"f.ratelimit.{path}"
    assert Validator(SETTINGS).frontend("file", "f", frontend(rate_limit=rates)).entry is None


@pytest.mark.parametrize("rates", [None, RateLimit(), limit(r=GOOD)])
def test_accepted_rates(rates: RateLimit | None) -> None:
    assert list(rate_limit_problems(frontend(rate_limit=rates), "f")) == []
