"""Header lines that are known before the answer is: they replace what the server says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.head import with_lines, without
from kvproxy.middleware.header_values import header_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ResponseLines:
    """Headers to set on answers; an empty value removes the header."""

    __slots__ = ("_headers", "_lines", "_marks")

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        """``headers``: values by name in lower case."""
        self._headers = dict(headers)
        self._marks = tuple((b"\r\n%b:" % name, name) for name in headers)
        self._lines = b"".join(
            [header_line(name, value) for name, value in headers.items() if value]
        )

    @staticmethod
    def joined(parts: Iterable[ResponseLines]) -> ResponseLines:
        """Return what does in one step what ``parts`` do one after the other."""
        headers: dict[bytes, bytes] = {}
        for part in parts:
            for name, value in part._headers.items():
                headers.pop(name, None)
                headers[name] = value
        return ResponseLines(headers)

    def apply(self, head: bytes) -> bytes:
        """Return the head with these lines; servers seldom send one of them."""
        folded = head.lower()
        for mark, name in self._marks:
            if mark in folded:
                head = without(head, name)
        return with_lines(head, self._lines)

    def insert(self, data: bytes) -> bytes:
        """Return the beginning of an answer (all of its head at least) with these lines."""
        end = data.index(b"\r\n\r\n") + 2
        return self.apply(data[:end]) + data[end:]
