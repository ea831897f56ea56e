"""Forward authentication: another server decides whether a request may pass (specification section
9.5)."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from kvproxy.http.answer import Answer
from kvproxy.http.authority import port_of
from kvproxy.http.head import canonical_name, without_any
from kvproxy.http.target import encode_path
from kvproxy.middleware.client_tls import client_tls_context
from kvproxy.middleware.contract import Middleware
from kvproxy.middleware.fetching import FetchError
from kvproxy.middleware.header_values import has_no_effect, header_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvproxy.middleware.contract import Outcome, Request
    from kvproxy.middleware.fetching import Fetched, Fetches
    from kvproxy.model.dynamic import ForwardAuth as Options

logger = logging.getLogger("kvproxy.middleware")

FAILED = Answer(500)

QUIET_SECONDS = 5.0
"""How long further failures are not written to the log."""

_NOT_SENT = (
    b"connection",
    b"content-length",
    b"expect",
    b"te",
    b"transfer-encoding",
    b"upgrade",
)
"""What describes the body or the connection of the client's request, not of ours."""


class ForwardAuth(Middleware):
    """Asks the server at an address about each request, without its body.

    ``trustForwardHeader``: what the client says of itself in forwarded headers is told on, as far
    as the entry point believes it; else none of it is (CVE-2026-35051, CVE-2026-54764).
    """

    __slots__ = ("_address", "_copied", "_fetch", "_quiet_until", "_start", "_trust")

    title = "Auth"

    def __init__(self, options: Options, fetches: Fetches) -> None:
        """``fetches`` makes what asks the server. Raises ValueError, OSError."""
        self._address = options.address
        self._start = b"GET %b HTTP/1.1\r\n" % request_uri_of(options.address)
        tls = None if options.tls is None else client_tls_context(options.tls)
        self._fetch = fetches(options.address, tls)
        self._trust = options.trust_forward_header
        self._quiet_until = 0.0
        names = [header_name(name) for name in options.auth_response_headers]
        self._copied = tuple(name for name in names if not has_no_effect(name))

    def sets(self) -> Iterable[bytes]:
        """Return the names of the headers that are copied."""
        return self._copied

    def request(self, request: Request) -> Outcome:
        """Ask; the request goes on after 2xx, else the client gets the server's answer."""
        return self._ask(request)

    async def _ask(self, request: Request) -> Answer | None:
        try:
            fetched = await self._fetch(self._head(request))
        except FetchError as error:
            self._note(error)
            return FAILED
        if not 200 <= fetched.status <= 299:
            return self._refusal(fetched)
        for name in self._copied:
            values = [value for key, value in fetched.headers if key.lower() == name]
            request.set(name, *values)
        return None

    def _note(self, error: FetchError) -> None:
        """Write a failure to the log, the first of a while for all that follow."""
        now = monotonic()
        if now > self._quiet_until:
            self._quiet_until = now + QUIET_SECONDS
            logger.warning("answered 500: no answer to forward authentication: %s", error)

    def _head(self, request: Request) -> bytes:
        head = without_any(request.head, _NOT_SENT)
        fields = head[head.index(b"\r\n") + 2 :]
        lines = [
            b"%b: %b\r\n" % (canonical_name(name), value)
            for name, value in self._forwarded(request)
            if value
        ]
        return b"".join([self._start, fields, *lines])

    def _forwarded(self, request: Request) -> Iterator[tuple[bytes, bytes]]:
        """Yield the forwarded headers that the server is told."""
        client = request.client
        scheme = b"https" if client.secure else b"http"
        own = {
            b"x-forwarded-method": request.method,
            b"x-forwarded-proto": scheme,
            b"x-forwarded-host": request.host,
            b"x-forwarded-uri": request.uri,
            b"x-forwarded-for": client.address.encode(),
            b"x-forwarded-port": port_of(request.host, b"443" if client.secure else b"80"),
        }
        if self._trust:
            chain = [*request.headers.get(b"x-forwarded-for", ()), own.pop(b"x-forwarded-for")]
            yield b"x-forwarded-for", b", ".join(chain)
        for name, value in own.items():
            yield name, (self._trust and request.first(name)) or value
        for name, values in request.headers.items():
            # What a middleware has set is ours, and told in any case.
            known = self._trust or name in request.forwarded
            if not known or name in own or name == b"x-forwarded-for":
                continue
            if name.startswith(b"x-forwarded-") or name == b"x-real-ip":
                for value in values:
                    yield name, value

    def _refusal(self, fetched: Fetched) -> Answer:
        headers = tuple(
            (name, self._absolute(value) if name.lower() == b"location" else value)
            for name, value in fetched.headers
        )
        return Answer(fetched.status, fetched.body, headers)

    def _absolute(self, location: bytes) -> bytes:
        try:
            return urljoin(self._address, location.decode("latin-1")).encode("latin-1")
        except ValueError:
            return location


def request_uri_of(address: str) -> bytes:
    """Return the target that is asked of the server of a URL; raises ValueError for a bad one."""
    if not address.isascii() or any(
        character <= " " or character == "\x7f" for character in address
    ):
        raise ValueError("the address holds a character that a URL cannot")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the address is no `http` or `https` URL")
    path = parts.path.encode() or b"/"
    query = b"?" + parts.query.encode() if parts.query else b""
    return (path if b"%" in path else encode_path(path)) + query
