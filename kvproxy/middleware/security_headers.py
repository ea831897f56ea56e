"""The security options of a frontend: which hosts may be asked, the redirect to TLS, and headers of
answers (specification section 6.2)."""

from __future__ import annotations

import re
import secrets
from base64 import b64encode
from typing import TYPE_CHECKING

from kvproxy.http.answer import NOSNIFF, PLAIN_TEXT, Answer, redirect_answer, text_answer
from kvproxy.http.head import replaced, values
from kvproxy.middleware.contract import Middleware
from kvproxy.middleware.header_values import header_name, header_value
from kvproxy.middleware.response_lines import ResponseLines

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Outcome, Request
    from kvproxy.model.dynamic import Headers

BAD_HOST = Answer(500, b"Bad Host\n", (PLAIN_TEXT, NOSNIFF))
POLICY = b"content-security-policy"
NONCE = b"$NONCE"
NONCE_BYTES = 16

_is_host = re.compile(rb"[A-Za-z0-9._~\-\[\]:%!$&'()*+,;=]+").fullmatch


class _Connection:
    """What the checks and the headers of answers know of where a request came from."""

    __slots__ = ("_host_headers", "_secure_headers")

    def __init__(self, headers: Headers) -> None:
        self._host_headers = tuple(header_name(name) for name in headers.hosts_proxy_headers)
        self._secure_headers = tuple(
            (header_name(name), header_value(value))
            for name, value in headers.ssl_proxy_headers.items()
        )

    @property
    def believes(self) -> bool:
        """Whether a request can say that its client speaks TLS."""
        return bool(self._secure_headers)

    def secure(self, request: Request) -> bool:
        """Tell whether the client speaks TLS, to us or to a proxy that says so."""
        return request.client.secure or any(
            request.first(name) == value for name, value in self._secure_headers
        )

    def host(self, request: Request) -> bytes:
        """Return the host that was asked for, with its port."""
        for name in self._host_headers:
            found = request.first(name)
            if found:
                return found
        return request.host


class SecurityChecks(Middleware):
    """``allowedHosts``, ``sslRedirect`` and ``sslForceHost``."""

    __slots__ = ("_allowed", "_connection", "_force_host", "_redirect", "_ssl_host", "_status")

    def __init__(self, headers: Headers) -> None:
        """``headers``: the options of the frontend. Raises `HeaderError`."""
        self._connection = _Connection(headers)
        development = headers.is_development
        self._allowed = frozenset(
            () if development else [host.lower().encode() for host in headers.allowed_hosts]
        )
        self._redirect = headers.ssl_redirect and not development
        self._ssl_host = header_value(headers.ssl_host)
        self._force_host = headers.ssl_force_host and bool(self._ssl_host)
        self._status = 307 if headers.ssl_temporary_redirect else 301

    @staticmethod
    def needed(headers: Headers) -> bool:
        """Tell whether there is anything to check."""
        return bool(headers.allowed_hosts or headers.ssl_redirect or headers.ssl_force_host)

    def request(self, request: Request) -> Outcome:
        """Answer 500 for a host that is not allowed, or a redirect to ``https``.

        A host that a client made up in a header is only repeated when it is one.
        """
        host = self._connection.host(request)
        if self._allowed and host.lower() not in self._allowed:
            return BAD_HOST
        forced = self._force_host and host != self._ssl_host
        if forced or (self._redirect and not self._connection.secure(request)):
            host = self._ssl_host or host
            if not _is_host(host):
                return text_answer(400)
            location = b"https://%b%b" % (host, request.uri)
            return redirect_answer(location, request.method, self._status)
        return None


class SecurityResponseHeaders(Middleware):
    """Headers of answers that came from a server, in place of the server's own."""

    __slots__ = ("_connection", "_plain", "_policy", "_secure", "_ssl_host")

    def __init__(self, headers: Headers) -> None:
        """``headers``: the options of the frontend. Raises `HeaderError`."""
        self._connection = _Connection(headers)
        self._ssl_host = header_value(headers.ssl_host)
        plain, secure = (
            {name: header_value(text) for name, text in _texts(headers, secure=each).items()}
            for each in (False, True)
        )
        self._policy = b""
        if NONCE in plain.get(POLICY, b""):
            self._policy = plain.pop(POLICY)
            del secure[POLICY]
        self._plain = ResponseLines(plain)
        self._secure = ResponseLines(secure)

    @staticmethod
    def needed(headers: Headers) -> bool:
        """Tell whether any header may be set or changed."""
        return bool(_texts(headers, secure=True) or headers.ssl_host)

    def response(self, request: Request, head: bytes, status: int) -> bytes:
        """Set the headers; a ``Location`` on the host of TLS is made ``https``."""
        secure = self._connection.secure(request)
        head = (self._secure if secure else self._plain).apply(head)
        if self._policy:
            nonce = b64encode(secrets.token_bytes(NONCE_BYTES)).rstrip(b"=")
            policy = self._policy.replace(NONCE, b"'nonce-%b'" % nonce)
            head = replaced(head, POLICY, policy)
        if secure and self._ssl_host:
            head = self._upgrade_location(head)
        return head

    def response_lines(self, *, secure: bool) -> ResponseLines | None:
        """Return the headers, unless something about the request or the answer decides."""
        if self._policy or self._ssl_host or self._connection.believes:
            return None
        return self._secure if secure else self._plain

    def _upgrade_location(self, head: bytes) -> bytes:
        location = next(iter(values(head, b"location")), b"")
        plain = b"http://" + self._ssl_host
        if location == plain or location.startswith(plain + b"/"):
            return replaced(head, b"location", b"https" + location.removeprefix(b"http"))
        return head


def _texts(headers: Headers, *, secure: bool) -> dict[bytes, str]:
    """Return the headers that are set, by name."""
    development = headers.is_development
    lines: dict[bytes, str] = {}
    if headers.sts_seconds and (secure or headers.force_sts_header) and not development:
        lines[b"strict-transport-security"] = (
            f"max-age={headers.sts_seconds}"
            + ("; includeSubDomains" if headers.sts_include_subdomains else "")
            + ("; preload" if headers.sts_preload else "")
        )
    if headers.custom_frame_options_value:
        lines[b"x-frame-options"] = headers.custom_frame_options_value
    elif headers.frame_deny:
        lines[b"x-frame-options"] = "DENY"
    if headers.content_type_nosniff:
        lines[b"x-content-type-options"] = "nosniff"
    if headers.custom_browser_xss_value:
        lines[b"x-xss-protection"] = headers.custom_browser_xss_value
    elif headers.browser_xss_filter:
        lines[b"x-xss-protection"] = "1; mode=block"
    if headers.content_security_policy:
        lines[POLICY] = headers.content_security_policy
    if headers.public_key and secure and not development:
        lines[b"public-key-pins"] = headers.public_key
    if headers.referrer_policy:
        lines[b"referrer-policy"] = headers.referrer_policy
    return lines
