"""Answers that the proxy itself makes.

Two shapes exist, as in Traefik 1.7: the *text reply* (the standard reason phrase as body) and the
*default 404*.
"""

from __future__ import annotations

from functools import cache
from html import escape
from http import HTTPStatus
from typing import NamedTuple

PLAIN_TEXT = (b"Content-Type", b"text/plain; charset=utf-8")
HTML = (b"Content-Type", b"text/html; charset=utf-8")
NOSNIFF = (b"X-Content-Type-Options", b"nosniff")
BODILESS = frozenset((204, 304))
"""Statuses whose answers have no body and say nothing of its length (RFC 9110 section 8.6)."""
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Answer(NamedTuple):
    """One answer; framing and connection headers are added when it is encoded."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def encode(self, *, close: bool, head_only: bool, date: bytes) -> bytes:
        """Write it as HTTP/1.1. ``date`` is a complete header line; ``head_only`` is for HEAD."""
        lines = [b"HTTP/1.1 %d %b\r\n" % (self.status, reason(self.status)), date]
        lines += [b"%b: %b\r\n" % header for header in self.headers]
        if self.status not in BODILESS:
            lines.append(b"Content-Length: %d\r\n" % len(self.body))
        if close:
            lines.append(b"Connection: close\r\n")
        lines.append(b"\r\n")
        if not head_only and self.status not in BODILESS:
            lines.append(self.body)
        return b"".join(lines)


def reason(status: int) -> bytes:
    """Return the standard reason phrase of ``status``; one that has none gets Go's words."""
    if status == 413:
        # The name that Traefik 1.7 sends; RFC 9110 has renamed it.
        return b"Request Entity Too Large"
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"status code %d" % status


@cache
def text_answer(status: int) -> Answer:
    """Return the answer whose body is the reason phrase; that of 404 is the default 404."""
    if status == 404:
        return Answer(404, b"404 page not found\n", (PLAIN_TEXT, NOSNIFF))
    return Answer(status, reason(status), (PLAIN_TEXT,))


def redirect_answer(location: bytes, method: bytes, status: int = 301) -> Answer:
    """Return a redirect as Go's http.Redirect gives it: GET and HEAD get an HTML anchor."""
    if method not in (b"GET", b"HEAD"):
        return Answer(status, b"", ((b"Location", location),))
    link = escape(location.decode("ascii")).encode()
    body = b'<a href="%b">%b</a>.\n\n' % (link, reason(status))
    return Answer(status, body, ((b"Location", location), HTML))


MISSING_HOST = Answer(400, b"400 Bad Request: missing required Host header", (PLAIN_TEXT,))
BAD_HANDSHAKE = Answer(400, b"Bad Request\n", ((b"Sec-Websocket-Version", b"13"), PLAIN_TEXT))
"""For a WebSocket handshake without key or of another version (RFC 6455 section 4.2.2)."""
