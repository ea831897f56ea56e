"""Answers that the proxy itself makes, as bytes.

Two shapes exist, as in Traefik 1.7: the *text reply* (the standard reason phrase as body) and
the *default 404*.
"""

from __future__ import annotations

from html import escape
from http import HTTPStatus

DEFAULT_404_BODY = b"404 page not found\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def reason(status: int) -> bytes:
    """Return the standard reason phrase of ``status``."""
    if status == 413:
        return b"Request Entity Too Large"
    return HTTPStatus(status).phrase.encode()


def reply(
    status: int,
    body: bytes = b"",
    *,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    close: bool = False,
    head_only: bool = False,
    date: bytes = b"",
) -> bytes:
    """Build a whole answer. ``date`` is a complete header line; ``head_only`` leaves the body
    out."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (status, reason(status)), date]
    lines += [b"%b: %b\r\n" % header for header in headers]
    lines.append(b"Content-Length: %d\r\n" % len(body))
    if close:
        lines.append(b"Connection: close\r\n")
    lines.append(b"\r\n")
    if not head_only:
        lines.append(body)
    return b"".join(lines)


PLAIN_TEXT = (b"Content-Type", b"text/plain; charset=utf-8")
NO_SNIFF = (b"X-Content-Type-Options", b"nosniff")


def text_reply(status: int, *, close: bool, head_only: bool, date: bytes) -> bytes:
    """Build the reply whose body is the reason phrase; 404 is the default 404."""
    if status == 404:
        return reply(
            404,
            DEFAULT_404_BODY,
            headers=(PLAIN_TEXT, NO_SNIFF),
            close=close,
            head_only=head_only,
            date=date,
        )
    return reply(
        status, reason(status), headers=(PLAIN_TEXT,), close=close, head_only=head_only, date=date
    )


def redirect_reply(location: bytes, *, method: bytes, close: bool, date: bytes) -> bytes:
    """Build the 301 of the trailing-slash rule; only GET and HEAD have a body (an HTML anchor)."""
    body = b""
    headers: tuple[tuple[bytes, bytes], ...] = ((b"Location", location),)
    if method in (b"GET", b"HEAD"):
        body = (
            b'<a href="%b">Moved Permanently</a>.\n\n' % escape(location.decode("ascii")).encode()
        )
        headers = (*headers, (b"Content-Type", b"text/html; charset=utf-8"))
    return reply(301, body, headers=headers, close=close, head_only=method == b"HEAD", date=date)
