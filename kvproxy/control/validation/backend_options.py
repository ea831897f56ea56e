"""Are the options of a backend, and the rate limit of a frontend, ones that workers can use?"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from kvproxy.balance.circuit_breaker import parse_condition
from kvproxy.balance.expression import ExpressionError
from kvproxy.balance.retry_expression import parse_retry
from kvproxy.balance.shared_levels import MAXIMUM_RATES
from kvproxy.balance.source import EXPECTED, SourceError, parse_source
from kvproxy.control.health.request import LEAST_INTERVAL_SECONDS
from kvproxy.model.problem import Problem, nearest_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kvproxy.model.dynamic import Backend, Buffering, Frontend, HealthCheck, LoadBalancer

METHODS = ("wrr", "drr")
SAME_SITE = ("none", "lax", "strict")
CHECK_SCHEMES = ("http", "https")
HIGHEST_PORT = 65535


def backend_problems(backend: Backend, path: str) -> Iterable[Problem]:
    """Yield what is wrong with the options of a backend beside its servers."""
    if backend.load_balancer is not None:
        yield from _load_balancer_problems(backend.load_balancer, f"{path}.loadBalancer")
    if backend.circuit_breaker is not None:
        text = backend.circuit_breaker.expression
        yield from _expression_problems(text, f"{path}.circuitBreaker.expression", parse_condition)
    maximum = backend.max_conn
    if maximum is not None and maximum.amount:
        yield from _source_problems(maximum.extractor_func, f"{path}.maxConn.extractorFunc")
        if maximum.amount < 0:
            yield _warning("a negative amount refuses every request", f"{path}.maxConn.amount")
    if backend.health_check is not None:
        yield from _health_check_problems(backend.health_check, f"{path}.healthCheck")
    if backend.buffering is not None:
        yield from _buffering_problems(backend.buffering, f"{path}.buffering")


def rate_limit_problems(frontend: Frontend, path: str) -> Iterable[Problem]:
    """Yield what is wrong with the rate limit of a frontend."""
    limit = frontend.rate_limit
    if limit is None or not limit.rate_set:
        return
    here = f"{path}.ratelimit"
    yield from _source_problems(limit.extractor_func, f"{here}.extractorFunc")
    if len(limit.rate_set) > MAXIMUM_RATES:
        yield Problem(
            message=f"{len(limit.rate_set)} rates are set",
            path=f"{here}.rateset",
            expected=f"{MAXIMUM_RATES} at most",
        )
    for name, rate in limit.rate_set.items():
        for option in ("period", "average", "burst"):
            value = getattr(rate, option)
            if value <= 0:
                yield Problem(
                    message=f"is {value:g}",
                    path=f"{here}.rateset.{name}.{option}",
                    expected="a positive number",
                )


def _load_balancer_problems(balancer: LoadBalancer, path: str) -> Iterable[Problem]:
    if balancer.method and balancer.method.lower() not in METHODS:
        yield Problem(
            message=f"no method is named `{balancer.method}`: it acts as wrr",
            path=f"{path}.method",
            expected="wrr or drr",
            nearest=nearest_name(balancer.method, METHODS),
            fatal=False,
        )
    stickiness = balancer.stickiness
    if stickiness is None:
        return
    if balancer.sticky:
        yield _warning("has no effect beside `stickiness`", f"{path}.sticky")
    if stickiness.same_site and stickiness.same_site not in SAME_SITE:
        yield Problem(
            message=f"`{stickiness.same_site}` adds nothing to the cookie",
            path=f"{path}.stickiness.sameSite",
            expected="none, lax or strict, in lower case",
            nearest=nearest_name(stickiness.same_site, SAME_SITE),
            fatal=False,
        )


def _expression_problems(text: str, path: str, parse: Callable[[str], object]) -> Iterable[Problem]:
    try:
        parse(text)
    except ExpressionError as error:
        yield Problem(message=str(error), path=path, expected=error.expected, nearest=error.nearest)


def _source_problems(text: str, path: str) -> Iterable[Problem]:
    try:
        parse_source(text)
    except SourceError as error:
        yield Problem(message=str(error), path=path, expected=EXPECTED, nearest=error.nearest)


def _health_check_problems(check: HealthCheck, path: str) -> Iterable[Problem]:
    if not check.path:
        return
    if not 0 <= check.port <= HIGHEST_PORT:
        yield Problem(
            message=f"{check.port} is no port",
            path=f"{path}.port",
            expected=f"0 (that of the server) to {HIGHEST_PORT}",
        )
    if check.scheme and check.scheme not in CHECK_SCHEMES:
        yield Problem(
            message=f"servers cannot be checked by the scheme `{check.scheme}`",
            path=f"{path}.scheme",
            expected="http or https",
            nearest=nearest_name(check.scheme, CHECK_SCHEMES),
        )
    if not joins(check.path):
        yield Problem(
            message=f"`{check.path}` is no path: the check would always fail",
            path=f"{path}.path",
            expected="a path such as /health",
        )
    for option, seconds in (("interval", check.interval), ("timeout", check.timeout)):
        if seconds is not None and seconds <= 0:
            yield _warning("is not positive: the default is used", f"{path}.{option}")
    if check.interval is not None and 0 < check.interval < LEAST_INTERVAL_SECONDS:
        message = f"is too short: {LEAST_INTERVAL_SECONDS * 1000:g} ms is used"
        yield _warning(message, f"{path}.interval")
    for name, value in {"hostname": check.hostname, **check.headers}.items():
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in name + value):
            yield Problem(
                message="holds a control character",
                path=f"{path}.{name if name == 'hostname' else f'headers.{name}'}",
            )


def joins(path: str) -> bool:
    """Tell whether a path can be resolved against the URL of a server."""
    try:
        joined = urlsplit(urljoin("http://server/", path))
    except ValueError:
        return False
    # A first segment with a colon would be a scheme (RFC 3986 section 4.2).
    colon = path.partition("/")[0].partition("?")[0]
    return joined.netloc == "server" and ":" not in colon


def _buffering_problems(buffering: Buffering, path: str) -> Iterable[Problem]:
    for option, size in (
        ("maxRequestBodyBytes", buffering.max_request_body_bytes),
        ("memRequestBodyBytes", buffering.mem_request_body_bytes),
        ("maxResponseBodyBytes", buffering.max_response_body_bytes),
        ("memResponseBodyBytes", buffering.mem_response_body_bytes),
    ):
        if size < 0:
            yield Problem(
                message="the size is negative",
                path=f"{path}.{option}",
                expected="0 or a positive number",
            )
    if buffering.retry_expression:
        yield from _expression_problems(
            buffering.retry_expression, f"{path}.retryExpression", parse_retry
        )


def _warning(message: str, path: str) -> Problem:
    return Problem(message=message, path=path, fatal=False)
