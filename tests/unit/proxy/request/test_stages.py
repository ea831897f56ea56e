"""Middlewares in a row: what is left of them when they are compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvproxy.middleware.circuit_breaker import CircuitBreakerStage
from kvproxy.middleware.contract import Middleware
from kvproxy.middleware.headers import CustomRequestHeaders, CustomResponseHeaders
from kvproxy.middleware.security_headers import SecurityResponseHeaders
from kvproxy.middleware.white_list import IpWhiteList
from kvproxy.model.dynamic import Headers
from kvproxy.proxy.request.stages import Stages

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Request

HEAD = b"HTTP/1.1 200 OK\r\n"


class OtherLines(CustomResponseHeaders):
    """Sets its lines on some answers only, and does not say which."""

    def response_lines(self, *, secure: bool) -> None:
        """Return nothing: it depends."""


class Changes(Middleware):
    """Changes answers, and says no more of it."""

    def response(self, request: Request, head: bytes, status: int) -> bytes:
        """Add a line."""
        return head + b"X-Status: %d\r\n" % status


def security(**options: object) -> SecurityResponseHeaders:
    return SecurityResponseHeaders(Headers(**options))  # type: ignore[arg-type]


def test_lines_that_never_differ_are_known_beforehand() -> None:
    custom = CustomResponseHeaders({"X-Frame-Options": "custom", "Server": ""})
    frames = security(frame_deny=True, sts_seconds=5)
    stages = Stages([IpWhiteList(["127.0.0.1"], use_x_forwarded_for=False), custom, frames])
    assert stages.response_lines is not None
    plain, secure = stages.response_lines
    assert plain.apply(HEAD) == HEAD + b"X-Frame-Options: custom\r\n"
    assert secure.apply(HEAD) == (
        HEAD + b"Strict-Transport-Security: max-age=5\r\nX-Frame-Options: custom\r\n"
    )
    assert stages.asks is not None
    assert len(stages.asks) == 1
    assert stages.checks is None, "there is more to do than to ask"


NOT_BEFOREHAND: dict[str, Middleware] = {
    "a nonce": security(content_security_policy="script-src $NONCE", frame_deny=True),
    "a location that may be changed": security(ssl_host="a.test", frame_deny=True),
    "clients that may say they speak TLS": security(
        ssl_proxy_headers={"X-Proto": "https"}, sts_seconds=5
    ),
    "an unknown change": Changes(),
    "lines of some answers": OtherLines({"X-A": "b"}),
}


@pytest.mark.parametrize("middleware", NOT_BEFOREHAND.values(), ids=NOT_BEFOREHAND)
def test_what_may_differ_is_asked(middleware: Middleware) -> None:
    stages = Stages([CustomResponseHeaders({"X-A": "b"}), middleware])
    assert stages.response_lines is None
    assert len(stages.changes) == 2
    assert stages.asks == ()


def test_what_only_asks() -> None:
    stages = Stages([CustomRequestHeaders({"X-A": "b"})])
    assert stages.response_lines is None
    assert stages.checks == stages.asks
    assert stages.asks is not None
    assert stages.request_lines is not None
    assert stages.request_lines.apply(b"GET / HTTP/1.1\r\n") == b"GET / HTTP/1.1\r\nX-A: b\r\n"


def test_lines_of_requests_are_not_enough_beside_other_questions() -> None:
    headers = CustomRequestHeaders({"X-A": "b"})
    for other in (IpWhiteList(["127.0.0.1"], use_x_forwarded_for=False), headers):
        assert Stages([headers, other]).request_lines is None
    assert Stages([CustomRequestHeaders({"X-Real-Ip": "b"})]).request_lines is None
    assert Stages([headers, CustomResponseHeaders({"X-A": "b"})]).request_lines is not None


def test_what_wants_to_know_the_end_is_no_mere_question() -> None:
    assert CircuitBreakerStage.finished is not Middleware.finished
    stages = Stages([CircuitBreakerStage.__new__(CircuitBreakerStage)])
    assert stages.asks is None
    assert stages.checks is None
