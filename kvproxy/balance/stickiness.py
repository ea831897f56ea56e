"""Session affinity by a cookie that holds the URL of a server (specification section 7.4).

The cookie says everything that is needed, so it keeps working on other workers, on other nodes and
after a restart.
"""

from __future__ import annotations

import re
from hashlib import sha1
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.model.dynamic import LoadBalancer

DEPRECATED_NAME = "_TRAEFIK_BACKEND"
"""Name of the cookie of ``sticky = true``."""

_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9!#$%&'*+\-.^~|`]", re.ASCII)
_BAD_IN_VALUE = re.compile(rb'[^\x20-\x7e]|["\\]')
_DROPPED_FROM_VALUE = re.compile(rb'[^\x20-\x7e]|[";\\]')
_SAME_SITE = {"none": b"; SameSite=None", "lax": b"; SameSite=Lax", "strict": b"; SameSite=Strict"}

Identity = tuple[str, str, str]
"""Scheme, authority and path of a URL: what makes two servers one."""


class Stickiness(NamedTuple):
    """The cookie of a backend: its name, and the attributes after its value."""

    name: bytes
    attributes: bytes

    def identity(self, cookie_lines: Iterable[bytes]) -> Identity | None:
        """Return the server that the client's cookie names, whether or not there is such a one.

        ``cookie_lines``: values of the ``Cookie`` headers.
        """
        value = cookie_value(cookie_lines, self.name)
        return None if value is None else url_identity(value.decode("ascii"))

    def line(self, url: str) -> bytes:
        """Return the header line that ties a client to the server configured as ``url``.

        A user name or password in the URL stays here.
        """
        scheme, slashes, rest = url.partition("://")
        authority, slash, path = rest.partition("/")
        authority = authority.rpartition("@")[2]
        value = f"{scheme}{slashes}{authority}{slash}{path}".encode()
        value = _DROPPED_FROM_VALUE.sub(b"", value)
        if b" " in value or b"," in value:
            value = b'"%b"' % value
        return b"Set-Cookie: %b=%b%b\r\n" % (self.name, value, self.attributes)


def stickiness_of(load_balancer: LoadBalancer | None, backend: str) -> Stickiness | None:
    """Return the cookie of a backend by its options and its name; None: it has none."""
    if load_balancer is None:
        return None
    options = load_balancer.stickiness
    if options is None:
        if not load_balancer.sticky:
            return None
        return Stickiness(DEPRECATED_NAME.encode(), b"; Path=/")
    attributes = b"; Path=/"
    if options.http_only:
        attributes += b"; HttpOnly"
    if options.secure:
        attributes += b"; Secure"
    attributes += _SAME_SITE.get(options.same_site, b"")
    return Stickiness(cookie_name(options.cookie_name, backend).encode(), attributes)


def cookie_name(configured: str, backend: str) -> str:
    """Return the cookie's name: the configured one cleaned, else one derived from the backend."""
    if configured:
        return _NOT_IN_NAME.sub("_", configured)
    digest = sha1(f"_TRAEFIK_BACKEND_{backend}".encode(), usedforsecurity=False)
    return "_" + digest.hexdigest()[:5]


def cookie_value(lines: Iterable[bytes], name: bytes) -> bytes | None:
    """Return the value of the first valid cookie of that name, without its quotes.

    What is no valid cookie (RFC 6265 section 4.1.1) is passed over.
    """
    for line in lines:
        for pair in line.split(b";"):
            found, equals, value = pair.strip(b" \t").partition(b"=")
            if found != name or not equals:
                continue
            if len(value) > 1 and value.startswith(b'"') and value.endswith(b'"'):
                value = value[1:-1]
            if not _BAD_IN_VALUE.search(value):
                return value
    return None


def url_identity(url: str) -> Identity | None:
    """Return the identity of a server URL, None when it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.scheme, parts.netloc.rpartition("@")[2], parts.path
