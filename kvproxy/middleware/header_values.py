"""Which header names and values an operator may set (RFC 9110 section 5), and how they are sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from kvproxy.http.head import canonical_name

if TYPE_CHECKING:
    from collections.abc import Mapping

FRAMING = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
"""Headers that the proxy alone writes: setting them would break the message or its route."""

_is_name = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_has_control = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


class HeaderError(ValueError):
    """A header cannot be set; the message says why."""


def header_name(name: str) -> bytes:
    """Return a header name in lower case; raises `HeaderError`."""
    if not _is_name(name):
        raise HeaderError(f"`{_shown(name)}` is no header name")
    return name.lower().encode()


def header_value(value: str) -> bytes:
    """Return a header value as it is sent; raises `HeaderError` for one that would break out."""
    if _has_control(value):
        raise HeaderError("the value holds a control character")
    try:
        return value.strip(" \t").encode()
    except UnicodeEncodeError:
        raise HeaderError("the value is not valid Unicode") from None


def has_no_effect(name: bytes) -> bool:
    """Tell whether setting the header ``name`` is passed over."""
    return name in FRAMING


def settable(headers: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return names (lower case) and values to set, without those that have no effect.

    Of two spellings of one name the last counts. Raises `HeaderError`.
    """
    found = {header_name(name): header_value(value) for name, value in headers.items()}
    return {name: value for name, value in found.items() if not has_no_effect(name)}


def header_line(name: bytes, value: bytes) -> bytes:
    """Return a complete header line, the name as Go and Traefik 1.7 spell it."""
    return b"%b: %b\r\n" % (canonical_name(name), value)


def _shown(name: str) -> str:
    return ascii(name)[1:-1][:80]
