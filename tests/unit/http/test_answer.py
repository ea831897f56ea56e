"""Answers of the proxy's own, byte for byte (specification section 8.5)."""

from __future__ import annotations

import pytest

from kvproxy.http.answer import (
    BAD_HANDSHAKE,
    MISSING_HOST,
    PLAIN_TEXT,
    Answer,
    redirect_answer,
    text_answer,
)

DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"

REASONS = [
    (400, b"Bad Request"),
    (408, b"Request Timeout"),
    (413, b"Request Entity Too Large"),
    (431, b"Request Header Fields Too Large"),
    (500, b"Internal Server Error"),
    (502, b"Bad Gateway"),
    (503, b"Service Unavailable"),
    (504, b"Gateway Timeout"),
    (505, b"HTTP Version Not Supported"),
]


@pytest.mark.parametrize(("status", "reason"), REASONS)
@pytest.mark.parametrize("close", [False, True])
@pytest.mark.parametrize("head_only", [False, True])
def test_text(status: int, reason: bytes, close: bool, head_only: bool) -> None:
    encoded = text_answer(status).encode(close=close, head_only=head_only, date=DATE)
    assert encoded == (
        b"HTTP/1.1 %d %b\r\n%b" % (status, reason, DATE)
        + b"Content-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n" % len(reason)
        + (b"Connection: close\r\n" if close else b"")
        + b"\r\n"
        + (b"" if head_only else reason)
    )


def test_default_404() -> None:
    encoded = text_answer(404).encode(close=False, head_only=False, date=DATE)
    head, _, body = encoded.partition(b"\r\n\r\n")
    assert body == b"404 page not found\n"
    assert head.split(b"\r\n") == [
        b"HTTP/1.1 404 Not Found",
        DATE.strip(),
        b"Content-Type: text/plain; charset=utf-8",
        b"X-Content-Type-Options: nosniff",
        b"Content-Length: 19",
    ]


def test_answers_are_made_once() -> None:
    assert text_answer(502) is text_answer(502)


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_redirect_of_a_page(method: bytes) -> None:
    answer = redirect_answer(b'/a/?x="1"&y=<2>', method)
    assert answer.status == 301
    assert dict(answer.headers)[b"Location"] == b'/a/?x="1"&y=<2>'
    assert answer.body == (
        b'<a href="/a/?x=&quot;1&quot;&amp;y=&lt;2&gt;">Moved Permanently</a>.\n\n'
    )


def test_redirect_of_anything_else_has_no_body() -> None:
    answer = redirect_answer(b"/a/", b"POST")
    assert answer == Answer(301, b"", ((b"Location", b"/a/"),))


def test_faults_that_have_words_of_their_own() -> None:
    assert MISSING_HOST.body == b"400 Bad Request: missing required Host header"
    assert (b"Sec-Websocket-Version", b"13") in BAD_HANDSHAKE.headers
    assert PLAIN_TEXT in BAD_HANDSHAKE.headers
