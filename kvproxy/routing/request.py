"""What the router sees of a request; what costs is worked out when a matcher asks for it."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from kvproxy.rules.matchers import canonical_host, host_name

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class RequestView:
    """One request.

    ``method`` and ``host`` as sent (port and case kept; the authority for an absolute-form target),
    ``path`` percent-decoded, ``query`` without ``?``, ``head`` the request head as received, from
    the request line on. Each part must have passed the strict head scan.
    """

    __slots__ = (
        "_canonical_host",
        "_headers",
        "_query_values",
        "head",
        "host",
        "method",
        "path",
        "query",
    )

    def __init__(self, method: bytes, host: bytes, path: bytes, query: bytes, head: bytes) -> None:
        """Keep the parts; see the class."""
        self.method = method
        self.host = host
        self.path = path
        self.query = query
        self.head = head
        self._canonical_host: bytes | None = None
        self._headers: dict[bytes, list[bytes]] | None = None
        self._query_values: dict[bytes, bytes] | None = None

    @property
    def canonical_host(self) -> bytes:
        """Lower-case host without port: the key of `RouteIndex.hosts`."""
        if self._canonical_host is None:
            self._canonical_host = canonical_host(self.host)
        return self._canonical_host

    @property
    def host_name(self) -> bytes:
        """The host without port, case kept."""
        return host_name(self.host)

    @property
    def headers(self) -> dict[bytes, list[bytes]]:
        """Values by lower-case name, in order of arrival, without ``Host``."""
        if self._headers is None:
            self._headers = parse_headers(self.head)
        return self._headers

    @property
    def query_values(self) -> dict[bytes, bytes]:
        """First value of each decoded parameter."""
        if self._query_values is None:
            self._query_values = parse_query(self.query)
        return self._query_values


def parse_headers(head: bytes) -> dict[bytes, list[bytes]]:
    """Return the header values of a request head by lower-case name; ``Host`` is left out.

    The head has been validated before: lines end with CRLF, each but the first has a colon.
    """
    headers: dict[bytes, list[bytes]] = {}
    for line in head.strip(b"\r\n").split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        headers.setdefault(name.lower(), []).append(value.strip(b" \t"))
    headers.pop(b"host", None)
    return headers


def parse_query(query: bytes) -> dict[bytes, bytes]:
    """Return the first value of each parameter, as url.ParseQuery of Go 1.17 and later.

    Pieces that hold ``;`` or an invalid escape are left out; ``+`` is a space.
    """
    values: dict[bytes, bytes] = {}
    for piece in query.split(b"&"):
        if not piece or b";" in piece or _BAD_ESCAPE.search(piece):
            continue
        key, _, value = piece.replace(b"+", b" ").partition(b"=")
        values.setdefault(unquote_to_bytes(key), unquote_to_bytes(value))
    return values
