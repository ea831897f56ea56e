"""Custom headers of requests and answers (specification section 6.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.middleware.contract import Middleware, is_forwarded
from kvproxy.middleware.header_values import settable
from kvproxy.middleware.request_lines import RequestLines
from kvproxy.middleware.response_lines import ResponseLines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kvproxy.middleware.contract import Outcome, Request


class CustomRequestHeaders(Middleware):
    """Sets headers of requests; an empty value removes one."""

    __slots__ = ("_headers", "_lines")

    def __init__(self, headers: Mapping[str, str]) -> None:
        """``headers``: values by name. Raises `HeaderError`."""
        settings = settable(headers)
        self._headers = tuple((name, (value,) if value else ()) for name, value in settings.items())
        late = any(is_forwarded(name.replace(b"_", b"-")) for name in settings)
        self._lines = None if late else RequestLines(settings)

    def sets(self) -> Iterable[bytes]:
        """Return their names."""
        return (name for name, _ in self._headers)

    def request(self, request: Request) -> Outcome:
        """Set them."""
        for name, values in self._headers:
            request.set(name, *values)
        return None

    def request_lines(self) -> RequestLines | None:
        """Return all of them, unless some are written with those of the proxy itself."""
        return self._lines


class CustomResponseHeaders(Middleware):
    """Sets headers of answers that came from a server; an empty value removes one."""

    __slots__ = ("_lines",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        """``headers``: values by name. Raises `HeaderError`."""
        self._lines = ResponseLines(settable(headers))

    def response(self, request: Request, head: bytes, status: int) -> bytes:
        """Set them."""
        return self._lines.apply(head)

    def response_lines(self, *, secure: bool) -> ResponseLines | None:
        """Return all of them."""
        return self._lines
