"""Header lines that are known before the request is: they replace what the client says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.middleware.header_values import header_line

if TYPE_CHECKING:
    from collections.abc import Mapping


class RequestLines:
    """Headers to set on requests; an empty value removes the header.

    As in `Request.set`, every spelling of a name goes, with hyphens and with underscores.
    """

    __slots__ = ("_lines", "_marks", "_names")

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        """``headers``: values by name in lower case."""
        lines: dict[bytes, bytes] = {}
        for name, value in headers.items():
            folded = name.replace(b"_", b"-")
            lines.pop(folded, None)
            lines[folded] = header_line(name, value) if value else b""
        self._names = frozenset(lines)
        self._marks = tuple(b"\r\n%b:" % name for name in lines)
        self._lines = b"".join(lines.values())

    def apply(self, head: bytes) -> bytes:
        """Return an open head with these lines; clients seldom send one of them."""
        folded = head.lower().replace(b"_", b"-")
        if any(mark in folded for mark in self._marks):
            head = self._without(head)
        return head + self._lines

    def _without(self, head: bytes) -> bytes:
        first, *lines = head.split(b"\r\n")
        kept = [line for line in lines if _name_of(line) not in self._names]
        return b"\r\n".join([first, *kept])


def _name_of(line: bytes) -> bytes:
    return line.partition(b":")[0].lower().replace(b"_", b"-")
