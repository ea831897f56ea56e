"""What middlewares can do to a request."""

from __future__ import annotations

import pytest

from kvproxy.middleware.contract import Middleware, Request
from tests.unit.middleware.requests import a_request


def the_request() -> Request:
    sent = (("Accept", "*/*"), ("X_User", "eve"), ("X-User", "mallory"))
    return a_request(headers=sent)


@pytest.mark.parametrize(("name", "written"), [(b"x-user", b"X-User"), (b"x_user", b"X_user")])
def test_setting_a_header_replaces_it_in_every_spelling(name: bytes, written: bytes) -> None:
    request = the_request()
    request.set(name, b"alice")
    assert request.head == b"GET / HTTP/1.1\r\nAccept: */*\r\n%b: alice\r\n" % written
    assert request.headers == {b"accept": [b"*/*"], name: [b"alice"]}


def test_removing_a_header() -> None:
    request = the_request()
    request.remove(b"accept")
    request.remove(b"x_user")
    request.remove(b"not-there")
    assert request.head == b"GET / HTTP/1.1\r\n"
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
