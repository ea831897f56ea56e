"""Custom headers (specification section 6.1)."""

from __future__ import annotations

import pytest

from kvproxy.middleware.header_values import HeaderError
from kvproxy.middleware.headers import CustomRequestHeaders, CustomResponseHeaders
from tests.unit.middleware.requests import a_request, now

HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\nx-old: 1\r\nX-Old: 2\r\nContent-Length: 2\r\n"


def test_request_headers_are_set_and_removed() -> None:
    middleware = CustomRequestHeaders({"x-new": "a b", "Authorization": "", "X-Both": "ours"})
    sent = (("Authorization", "Basic eDp5"), ("X_Both", "theirs"), ("x-both", "theirs"))
    request = a_request(headers=(*sent, ("Accept", "*/*")))
    assert now(middleware, request) is None
    assert request.head == (b"GET / HTTP/1.1\r\nAccept: */*\r\nX-New: a b\r\nX-Both: ours\r\n")
    assert b"authorization" not in request.headers


def test_response_headers_are_set_and_removed() -> None:
    middleware = CustomResponseHeaders({"X-Old": "", "x-new": "value", "Server": "other"})
    assert middleware.response(a_request(), HEAD, 200) == (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-New: value\r\nServer: other\r\n"
    )


@pytest.mark.parametrize(
    "name",
    ["Host", "content-length", "Transfer-Encoding", "Connection", "Upgrade", "TE", "Trailer"],
)
def test_what_frames_a_message_is_not_touched(name: str) -> None:
    request = a_request(headers=((name, "kept"),))
    before = request.head
    CustomRequestHeaders({name: "evil"}).request(request)
    CustomRequestHeaders({name: ""}).request(request)
    assert request.head == before
    head = HEAD + f"{name}: kept\r\n".encode()
    assert CustomResponseHeaders({name: "evil"}).response(request, head, 200) == head


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-A", "a\r\nX-B: b"),
        ("X-A", "a\nb"),
        ("X-A", "a\rb"),
        ("X-A", "a\x00b"),
        ("X-A", "a\x7f"),
        ("X-A", "\ud800"),
        ("X-A: b\r\nX-B", "a"),
        ("X A", "a"),
        ("", "a"),
        ("Ü", "a"),
        ("X-A:", "a"),
    ],
)
def test_nothing_can_break_out_of_a_header(name: str, value: str) -> None:
    with pytest.raises(HeaderError):
        CustomRequestHeaders({name: value})
    with pytest.raises(HeaderError):
        CustomResponseHeaders({name: value})


def test_errors_do_not_show_values() -> None:
    with pytest.raises(HeaderError) as caught:
        CustomRequestHeaders({"Authorization": "Bearer secret\n"})
    assert "secret" not in str(caught.value)


def test_other_letters_are_sent_as_utf8() -> None:
    head = CustomResponseHeaders({"X-A": " ä\t"}).response(a_request(), HEAD, 200)
    assert head.endswith("X-A: ä\r\n".encode())
