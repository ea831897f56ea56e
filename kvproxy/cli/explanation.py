"""Why a request goes to a frontend, and why it does not go to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from msgspec import Struct

from kvproxy.http.scan import scan_request
from kvproxy.http.target import CanonicalTarget, canonical_target, request_uri
from kvproxy.routing import linear
from kvproxy.routing.linear import IndexedRoute
from kvproxy.routing.request import RequestView
from kvproxy.rules.explain import ElementVerdict
from kvproxy.rules.parser import parse_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kvproxy.model.dynamic import Server
    from kvproxy.model.messages import BackendEntry, EntryKey, FrontendEntry
    from kvproxy.model.static import StaticConfiguration
    from kvproxy.routing.linear import FrontendVerdict
    from kvproxy.rules.parser import FrontendRule


class RequestError(ValueError):
    """A request that no proxy would route; ``status`` is what a client would get."""

    def __init__(self, message: str, status: int = 400) -> None:
        """Keep message and status."""
        super().__init__(message)
        self.status = status


class Candidate(Struct, frozen=True, rename="camel"):
    """One frontend and its answer. ``redirect``: it answers with 301 to the path with its slash."""

    provider: str
    name: str
    priority: int
    backend: str
    takes: bool
    redirect: bool
    tests: tuple[ElementVerdict, ...]

    @property
    def reasons(self) -> tuple[ElementVerdict, ...]:
        """The elements that do not match."""
        return tuple(test for test in self.tests if not test.matches)


class Explanation(Struct, frozen=True, rename="camel"):
    """Where a request goes.

    ``taken_by``: the frontend that takes it; ``before`` and ``after``: those that were tried before
    and would be tried later, in order. ``sent``: what the server is asked for, empty when the
    modifiers end in 404 or a redirect answers.
    """

    taken_by: Candidate | None
    before: tuple[Candidate, ...]
    after: tuple[Candidate, ...]
    sent: str
    servers: Mapping[str, Server]


class AskedRequest(Struct, frozen=True):
    """A request as the router sees it."""

    view: RequestView
    target: CanonicalTarget


def build_request(
    method: str, url: str, headers: Sequence[str], settings: StaticConfiguration
) -> AskedRequest:
    """Make the request that a client would send for a URL; raises `RequestError`.

    ``headers``: lines ``Name: value``; a ``Host`` line replaces the URL's host. The request passes
    the same strict scan as on the wire, with the limits of ``settings``.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise RequestError(f"`{url}` is no http URL; expected such as http://web.localhost/path")
    host = parts.netloc.rpartition("@")[2]
    lines = []
    for header in headers:
        name, colon, value = header.partition(":")
        if not colon:
            raise RequestError(f"`{header}` is no header; expected `Name: value`")
        if name.strip().lower() == "host":
            host = value.strip()
        else:
            lines.append(f"{name.strip()}: {value.strip()}\r\n")
    path = url.partition("://")[2] if "://" in url else url
    slash = min((at for at in (path.find("/"), path.find("?")) if at >= 0), default=len(path))
    target = path[slash:].partition("#")[0]
    target = target if target.startswith("/") else f"/{target}"
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n{''.join(lines)}\r\n".encode()
    scanned = scan_request(head, settings.max_header_bytes, settings.max_headers)
    if not isinstance(scanned, tuple):
        status = scanned or 400
        raise RequestError(f"the request is refused with status {status}", status)
    canonical = canonical_target(scanned[2], settings.allow_unsafe_paths)
    if canonical is None:
        raise RequestError(
            "the path is refused with status 400 (see docs/decisions/strict-paths.md)"
        )
    view = RequestView(
        method.encode(), scanned[1], canonical.path, canonical.query.removeprefix(b"?"), head
    )
    return AskedRequest(view, canonical)


def explain(
    frontends: Iterable[FrontendEntry],
    backends: Mapping[EntryKey, BackendEntry],
    request: AskedRequest,
    *,
    entry_point: str,
    keep_trailing_slash: bool,
) -> Explanation:
    """Try the frontends of an entry point in the documented order."""
    routes = {
        (entry.provider, entry.name): IndexedRoute(
            key=(entry.provider, entry.name),
            priority=entry.frontend.priority,
            rule=parse_rules({name: route.rule for name, route in entry.frontend.routes.items()}),
            payload=entry.frontend,
        )
        for entry in frontends
        if entry_point in entry.frontend.entry_points
    }
    verdicts = linear.explain(routes.values(), request.view, keep_trailing_slash)
    candidates = [_candidate(each, routes[each.key].payload.backend) for each in verdicts]
    place = next((number for number, each in enumerate(verdicts) if each.taken), None)
    if place is None:
        return Explanation(None, tuple(candidates), (), "", {})
    taken = candidates[place]
    backend = backends.get((taken.provider, taken.backend))
    return Explanation(
        taken_by=taken,
        before=tuple(candidates[:place]),
        after=tuple(candidates[place + 1 :]),
        sent="" if taken.redirect else _sent(routes[verdicts[place].key].rule, request.target),
        servers=backend.backend.servers if backend is not None else {},
    )


def _candidate(verdict: FrontendVerdict, backend: str) -> Candidate:
    provider, name = verdict.key
    return Candidate(
        provider=provider,
        name=name,
        priority=verdict.priority,
        backend=backend,
        takes=verdict.matches,
        redirect=verdict.redirect,
        tests=verdict.elements,
    )


def _sent(rule: FrontendRule, target: CanonicalTarget) -> str:
    """Return what the server is asked for, empty when the modifiers end in 404."""
    modified = rule.modifiers.apply(target.path, target.raw_path)
    if modified is None:
        return ""
    return request_uri(modified.path, modified.raw_path, target.query).decode("latin-1")
