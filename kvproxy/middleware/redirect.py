"""Redirects of frontends and entry points: to another entry point, or by an expression
(specification section 9.6)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kvproxy.http.answer import PLAIN_TEXT, Answer, reason, text_answer
from kvproxy.middleware.contract import Middleware
from kvproxy.middleware.request_template import RequestTemplate
from kvproxy.rules.expressions import ExpressionError, Replacement

if TYPE_CHECKING:
    from kvproxy.middleware.contract import Outcome, Request

_PORT = re.compile(r":([0-9]{1,5})\Z")
_HOST = re.compile(rb"(\[[^\]]+\]|[^:\[\]]+)(?::[0-9]*)?\Z")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(
    rb"""(?P<origin>[A-Za-z][A-Za-z0-9+.-]*://
            (?:[^\s%/?\#@\[\]]*@)?
            (?:\[[0-9A-Fa-f:.]+\]|[^\s%/?\#@:\[\]\\^`{|}<>"\x00-\x20\x7f]*)
            (?::[0-9]*)?)
        (?P<path>/[^?\#]*)?(?P<rest>[?\#].*)?""",
    re.VERBOSE | re.DOTALL,
)
_RELATIVE = re.compile(rb"(?P<origin>)(?P<path>/[^?\#]*)(?P<rest>[?\#].*)?", re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_VISIBLE = re.compile(rb"[^\x21-\x7e]")


class EntryPointTarget(NamedTuple):
    """Where a redirect to an entry point leads."""

    scheme: bytes
    port: bytes


def entry_point_target(address: str, *, secure: bool) -> EntryPointTarget:
    """Return the target for an entry point; raises ValueError when its address has no port."""
    found = _PORT.search(address)
    if found is None:
        raise ValueError(f"the address `{address}` has no port")
    return EntryPointTarget(b"https" if secure else b"http", found[1].encode())


class RedirectToEntryPoint(Middleware):
    """Sends everything to the same host and URI at another entry point; its port is always
    written."""

    __slots__ = ("_permanent", "_target")

    title = "redirect"

    def __init__(self, target: EntryPointTarget, *, permanent: bool) -> None:
        """``permanent``: 301 and 308 instead of 302 and 307."""
        self._target = target
        self._permanent = permanent

    def request(self, request: Request) -> Outcome:
        """Answer the redirect; 400 for an HTTP/1.0 request that names no host."""
        host = _HOST.match(request.host)
        if host is None:
            return text_answer(400)
        scheme, port = self._target
        location = b"%b://%b:%b%b" % (scheme, host[1], port, request.original_uri)
        return moved(location, request.method, permanent=self._permanent)


class RedirectByExpression(Middleware):
    """Sends those requests away whose URL an expression changes."""

    __slots__ = ("_permanent", "_replacement", "_scheme_relative", "_template")

    title = "redirect"

    def __init__(self, regex: str, replacement: str, *, permanent: bool) -> None:
        """``replacement``: with ``$1``, ``${name}`` and ``{{ .Request... }}``.

        Raises ExpressionError, TemplateError.
        """
        self._template = RequestTemplate(replacement)
        self._replacement = Replacement(regex, self._template.marked)
        self._scheme_relative = replacement.startswith("//")
        self._permanent = permanent

    def request(self, request: Request) -> Outcome:
        """Answer the redirect, or nothing when the URL stays the same."""
        scheme = b"http"
        if request.client.secure or request.first(b"x-forwarded-proto") == b"https":
            scheme = b"https"
        url = b"%b://%b%b" % (scheme, request.host, request.uri)
        try:
            changed = self._replacement.apply(url)
        except ExpressionError:
            return text_answer(502)
        if changed is None:
            return None
        changed = self._template.expand(changed, request)
        if changed == url:
            return None
        location = self._location(changed, request)
        if location is None:
            return text_answer(502)
        return moved(location, request.method, permanent=self._permanent)

    def _location(self, url: bytes, request: Request) -> bytes | None:
        """Return the Location for a changed URL; None: that is no URL.

        A path that modifiers of the rule have changed is shown as the client wrote it. A result
        without host gets none: a path with two slashes would lead to another one.
        """
        parts = _ABSOLUTE.fullmatch(url) or _RELATIVE.fullmatch(url)
        if parts is None or _CONTROL.search(url) or _BAD_ESCAPE.search(parts["path"] or b""):
            return None
        path = parts["path"] or b""
        if request.original_uri != request.uri:
            path = request.original_uri.partition(b"?")[0]
        if not parts["origin"] and not self._scheme_relative:
            path = b"/" + path.lstrip(b"/")
        location = b"%b%b%b" % (parts["origin"], path, parts["rest"] or b"")
        return _NOT_VISIBLE.sub(lambda match: b"%%%02X" % match[0][0], location)


def moved(location: bytes, method: bytes, *, permanent: bool) -> Answer:
    """Return the redirect: GET may become 301 or 302, every other method keeps itself."""
    found, kept = (301, 308) if permanent else (302, 307)
    status = found if method == b"GET" else kept
    return Answer(status, reason(status), ((b"Location", location), PLAIN_TEXT))
