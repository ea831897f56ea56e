"""Header lines that are known before the answer is: they replace what the server says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.head import with_lines, without_any
from kvproxy.middleware.header_values import header_line

if TYPE_CHECKING:
    from collections.abc import Mapping


class ResponseLines:
    """Headers to set on answers; an empty value removes the header."""

    __slots__ = ("_lines", "_names")

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        """``headers``: values by name in lower case."""
        self._names = tuple(headers)
        self._lines = b"".join(
            [header_line(name, value) for name, value in headers.items() if value]
        )

    def apply(self, head: bytes) -> bytes:
        """Return the head with these lines; servers seldom send one of them."""
        return with_lines(without_any(head, self._names), self._lines)
