"""What middlewares can do to a request."""

from __future__ import annotations

from kvproxy.middleware.contract import Middleware, Request
from tests.unit.middleware.requests import a_request


def the_request() -> Request:
    sent = (("Accept", "*/*"), ("X_User", "eve"), ("X-User", "mallory"))
    return a_request(headers=sent)


def test_setting_a_header_replaces_its_spelling_with_underscores_too() -> None:
    request = the_request()
    request.set(b"x-user", b"alice")
    assert request.head == b"GET / HTTP/1.1\r\nAccept: */*\r\nX-User: alice\r\n"
    assert request.headers == {b"accept": [b"*/*"], b"x-user": [b"alice"]}


def test_removing_a_header() -> None:
    request = the_request()
    request.remove(b"accept")
    request.remove(b"not-there")
    assert b"Accept" not in request.head
    assert request.first(b"accept") == b""


def test_a_bare_middleware_lets_everything_pass() -> None:
    request = the_request()
    middleware = Middleware()
    assert middleware.request(request) is None
    assert middleware.response(request, b"HTTP/1.1 200 OK\r\n", 200) == b"HTTP/1.1 200 OK\r\n"


def test_setting_several_values_and_none() -> None:
    request = the_request()
    request.set(b"x-user", b"ann", b"bob")
    assert request.head.endswith(b"X-User: ann\r\nX-User: bob\r\n")
    request.set(b"x-user")
    assert b"user" not in request.head.lower()
    assert b"x-user" not in request.headers


def test_forwarded_headers_are_left_to_the_end() -> None:
    request = a_request(headers=(("X-Forwarded-Prefix", "/theirs"),))
    request.set(b"x-forwarded-prefix", b"/ours")
    assert request.forwarded == (b"x-forwarded-prefix",)
    assert request.first(b"x-forwarded-prefix") == b"/ours"
    assert b"Prefix" not in request.head
