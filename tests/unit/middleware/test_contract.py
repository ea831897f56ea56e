"""What middlewares can do to a request."""

from __future__ import annotations

from kvproxy.middleware.contract import Middleware, Request


class Local:
    address = "192.0.2.1"
    port = 4711
    secure = False
    entry_point = "http"

    def certificate(self) -> bytes | None:
        return None


def a_request() -> Request:
    head = b"GET / HTTP/1.1\r\nAccept: */*\r\nX_User: eve\r\nX-User: mallory\r\n"
    headers = {b"accept": [b"*/*"], b"x_user": [b"eve"], b"x-user": [b"mallory"]}
    return Request(
        Local(), method=b"GET", host=b"h", path=b"/", uri=b"/", headers=headers, head=head
    )


def test_setting_a_header_replaces_its_spelling_with_underscores_too() -> None:
    request = a_request()
    request.set(b"x-user", b"alice")
    assert request.head == b"GET / HTTP/1.1\r\nAccept: */*\r\nX-User: alice\r\n"
    assert request.headers == {b"accept": [b"*/*"], b"x-user": [b"alice"]}


def test_removing_a_header() -> None:
    request = a_request()
    request.remove(b"accept")
    request.remove(b"not-there")
    assert b"Accept" not in request.head
    assert request.first(b"accept") == b""


def test_a_bare_middleware_lets_everything_pass() -> None:
    request = a_request()
    middleware = Middleware()
    assert middleware.request(request) is None
    assert middleware.response(request, b"HTTP/1.1 200 OK\r\n", 200) == b"HTTP/1.1 200 OK\r\n"
