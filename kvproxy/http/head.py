"""Reading and changing single headers in the bytes of a head.

A head here is the first line and the header lines, each with its CRLF, that a scanner has let pass
(`kvproxy.http.scan`): names are clean tokens and lines are never folded. The empty line that ends a
head may be there or not; lines are never added after it. Names are given in lower case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def values(head: bytes, name: bytes) -> list[bytes]:
    """Return the values of a header in order of arrival, without white space around them."""
    found = []
    folded = head.lower()
    mark = b"\r\n" + name + b":"
    at = folded.find(mark)
    while at >= 0:
        start = at + len(mark)
        end = head.find(b"\r\n", start)
        found.append(head[start:end].strip(b" \t"))
        at = folded.find(mark, end)
    return found


def without(head: bytes, name: bytes) -> bytes:
    """Return the head without the lines of a header."""
    mark = b"\r\n" + name + b":"
    at = head.lower().find(mark)
    while at >= 0:
        head = head[:at] + head[head.find(b"\r\n", at + 2) :]
        at = head.lower().find(mark, at)
    return head


def without_any(head: bytes, names: Iterable[bytes]) -> bytes:
    """Return the head without the lines of any of these headers; they are seldom there."""
    folded = head.lower()
    for name in names:
        if b"\r\n" + name + b":" in folded:
            head = without(head, name)
    return head


def fields(head: bytes) -> list[tuple[bytes, bytes]]:
    """Return names (case kept) and values of all headers, in order."""
    found = []
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name, value.strip(b" \t")))
    return found


def with_lines(head: bytes, lines: bytes) -> bytes:
    """Return the head with complete header lines added at its end."""
    return head[:-2] + lines + b"\r\n" if head.endswith(b"\r\n\r\n") else head + lines


def replaced(head: bytes, name: bytes, value: bytes) -> bytes:
    """Return the head with ``value`` as the only one of a header; an empty value removes it."""
    head = without(head, name)
    return with_lines(head, b"%b: %b\r\n" % (canonical_name(name), value)) if value else head


def canonical_name(name: bytes) -> bytes:
    """Return a name as Go and Traefik 1.7 spell it: ``x-lower`` becomes ``X-Lower``."""
    return b"-".join(part[:1].upper() + part[1:].lower() for part in name.split(b"-"))
