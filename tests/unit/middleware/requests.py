"""Requests as middlewares meet them."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from kvproxy.http.answer import Answer
from kvproxy.middleware.contract import Request
from kvproxy.routing.request import parse_headers

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Middleware

Fields = Sequence[tuple[str, str]]


class Local:
    """A client by its facts."""

    def __init__(
        self,
        address: str = "192.0.2.1",
        *,
        secure: bool = False,
        certificates: tuple[bytes, ...] = (),
    ) -> None:
        self.address = address
        self.port = 4711
        self.secure = secure
        self.entry_point = "http"
        self._certificates = certificates

    def certificates(self) -> tuple[bytes, ...]:
        return self._certificates


def a_request(
    uri: str = "/",
    *,
    host: str = "h",
    method: str = "GET",
    headers: Fields = (),
    client: Local | None = None,
    original_uri: str = "",
) -> Request:
    """Return a request; forwarded headers are in ``headers`` alone, as after the head scan."""
    lines = [f"{name}: {value}\r\n".encode("latin-1") for name, value in headers]
    start = f"{method} {uri} HTTP/1.1\r\n".encode()
    kept = [line for line in lines if not line.lower().startswith((b"x-forwarded-", b"x-real-ip"))]
    return Request(
        client or Local(),
        method=method.encode(),
        host=host.encode("latin-1"),
        path=uri.partition("?")[0].encode(),
        uri=uri.encode(),
        headers=lambda: parse_headers(start + b"".join(lines) + b"\r\n"),
        head=start + b"".join(kept),
        original_uri=original_uri.encode(),
    )


async def outcome(middleware: Middleware, request: Request) -> Answer | None:
    """Return what becomes of a request, waiting for it if need be."""
    result = middleware.request(request)
    if isinstance(result, Awaitable):
        return await result
    return result


def now(middleware: Middleware, request: Request) -> Answer | None:
    """Return what becomes of a request for a middleware that answers at once."""
    result = middleware.request(request)
    assert result is None or isinstance(result, Answer)
    return result


def header(answer: Answer, name: str) -> str | None:
    """Return the first value of a header of an answer."""
    wanted = name.lower().encode()
    found = next((value for key, value in answer.headers if key.lower() == wanted), None)
    return None if found is None else found.decode("latin-1")
