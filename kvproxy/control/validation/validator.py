"""Which entries may be served: each is judged alone, whatever provider it comes from.

Whether a frontend's backend exists is not judged here but in `kvproxy.control.pipeline.quarantine`,
because it depends on other entries.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.control.validation.backend_options import backend_problems, rate_limit_problems
from kvproxy.control.validation.certificate_error import CertificateError
from kvproxy.control.validation.server_url import server_url_problems
from kvproxy.middleware.build import Builder, no_fetches
from kvproxy.middleware.error_pages import StatusRanges
from kvproxy.middleware.header_values import has_no_effect
from kvproxy.model.activity import inactive_options
from kvproxy.model.digest import encode_content, encoded_digest
from kvproxy.model.messages import BackendEntry, CertificateEntry, FrontendEntry
from kvproxy.model.problem import Problem, nearest_name
from kvproxy.rules.errors import RuleError
from kvproxy.rules.parser import parse_rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.middleware.build import OptionError
    from kvproxy.model.digest import Section
    from kvproxy.model.dynamic import Backend, Frontend, TLSCertificate
    from kvproxy.model.static import StaticConfiguration
    from kvproxy.model.tls import ServedCertificate

MAX_ENTRY_BYTES = 8 * 1024 * 1024
"""Bound of one entry, encoded: it must fit into one message to the workers."""

Problems = tuple[Problem, ...]

_ACCESS_CONTROL = frozenset({"auth", "basicAuth", "whiteList", "whitelistSourceRange"})
"""Frontend options that say who may come in."""

EntryT_co = TypeVar("EntryT_co", covariant=True)


class Verdict(Struct, Generic[EntryT_co], frozen=True):
    """An entry to serve, or None when it is refused, and what is wrong with it.

    ``entry`` is None exactly when one of the problems is fatal; these carry section and name.
    ``closes``: the refused entry was to keep somebody out, so its previous version, which lets them
    in, must not go on serving.
    """

    entry: EntryT_co | None
    problems: Problems
    closes: bool = False


class Validator:
    """Judges entries against the static configuration."""

    def __init__(self, settings: StaticConfiguration) -> None:
        """Default entry points that are not configured are left out (Traefik 1.7 behaviour)."""
        self._entry_points = frozenset(settings.entry_points)
        self._with_tls = frozenset(
            name for name, point in settings.entry_points.items() if point.tls is not None
        )
        self._defaults = tuple(
            name for name in settings.default_entry_points if name in self._entry_points
        )
        self._builders = {
            name: Builder(name, settings.entry_points, no_fetches) for name in self._entry_points
        }

    def attach(self, name: str, frontend: Frontend) -> tuple[Frontend | None, Problems]:
        """Return the frontend with the entry points it is attached to, or None, and what is wrong.

        Absent entry points become the default ones; unknown names are dropped, and none left
        refuses the frontend (Traefik 1.7 behaviour).
        """
        names = frontend.entry_points
        if names and self._entry_points.issuperset(names):
            return frontend, ()
        known, problems = self._attached(names, ("frontends", name))
        return (replace(frontend, entry_points=known) if known else None), problems

    def _attached(
        self, names: tuple[str, ...], entry: tuple[Section, str]
    ) -> tuple[tuple[str, ...], Problems]:
        path = f"{entry[0]}.{entry[1]}.entryPoints"
        if not names:
            if self._defaults:
                return self._defaults, ()
            problem = Problem(
                message="names no entry point and no default entry point is configured",
                path=path,
                expected=self._known_entry_points(),
                entry=entry,
            )
            return (), (problem,)
        known = tuple(point for point in names if point in self._entry_points)
        return known, tuple(
            Problem(
                message=f"no entry point is named `{point}`",
                path=path,
                expected=self._known_entry_points(),
                nearest=nearest_name(point, self._entry_points),
                entry=None if known else entry,
                fatal=not known,
            )
            for point in names
            if point not in self._entry_points
        )

    def admits(self, entry: FrontendEntry) -> bool:
        """Whether an entry that was valid for an earlier process may be served by this one.

        That process may have had other entry points.
        """
        return self._entry_points.issuperset(entry.frontend.entry_points)

    def frontend(self, provider: str, name: str, frontend: Frontend) -> Verdict[FrontendEntry]:
        """Judge an attached frontend."""
        path = f"frontends.{name}"
        errors = self._option_errors(frontend)
        found = [
            *_rule_problems(frontend, path),
            *rate_limit_problems(frontend, path),
            *_inactive_problems(frontend, path),
            *_option_problems(errors, path),
            *_header_problems(frontend, path),
            *_page_problems(frontend, path),
        ]
        closes = any(error.path.partition(".")[0] in _ACCESS_CONTROL for error in errors)
        problems = _of_entry("frontends", name, found)
        if any(problem.fatal for problem in problems):
            return Verdict(None, problems, closes)
        digest = _digest("frontends", provider, name, frontend)
        if isinstance(digest, Problem):
            return Verdict(None, (*problems, digest))
        return Verdict(FrontendEntry(provider, name, digest, frontend), problems)

    def _option_errors(self, frontend: Frontend) -> list[OptionError]:
        """Return what keeps the frontend's middlewares from being built, on any entry point."""
        found = {
            (error.path, str(error)): error
            for point in frontend.entry_points or self._defaults
            for error in self._builders[point].frontend_errors(frontend)
        }
        return list(found.values())

    def backend(self, provider: str, name: str, backend: Backend) -> Verdict[BackendEntry]:
        """Judge a backend."""
        found = [
            *_server_problems(backend, f"backends.{name}"),
            *backend_problems(backend, f"backends.{name}"),
            *_inactive_problems(backend, f"backends.{name}"),
        ]
        problems = _of_entry("backends", name, found)
        if any(problem.fatal for problem in problems):
            return Verdict(None, problems)
        digest = _digest("backends", provider, name, backend)
        if isinstance(digest, Problem):
            return Verdict(None, (*problems, digest))
        return Verdict(BackendEntry(provider, name, digest, backend), problems)

    def certificate(
        self, provider: str, name: str, certificate: TLSCertificate, now: float
    ) -> Verdict[CertificateEntry]:
        """Judge a certificate at ``now`` (``time.time()``): it is read, and good when its key fits.

        It is offered on those of its entry points that have TLS.
        """
        # Imported when used: it takes a tenth of a start, and not everybody has certificates.
        from kvproxy.control.validation.certificates import load_pair  # noqa: PLC0415

        points, found = self._attached(certificate.entry_points, ("tls", name))
        with_tls = tuple(point for point in points if point in self._with_tls)
        if points and not with_tls:
            message = f"no TLS on {', '.join(f'`{point}`' for point in points)}: it is not offered"
            warning = Problem(message=message, path=f"tls.{name}.entryPoints", fatal=False)
            found = (*found, warning)
        try:
            served = load_pair(
                certificate.certificate,
                datetime.datetime.fromtimestamp(now, datetime.UTC),
                entry_points=with_tls,
            )
        except CertificateError as error:
            path = f"tls.{name}.certificate.{error.option}"
            bad = Problem(message=error.message, path=path, expected=error.expected)
            return Verdict(None, _of_entry("tls", name, (*found, bad)))
        if any(problem.fatal for problem in found):
            return Verdict(None, found)
        digest = _digest("tls", provider, name, served)
        if isinstance(digest, Problem):
            return Verdict(None, (*found, digest))
        return Verdict(CertificateEntry(provider, name, digest, served), found)

    def admits_certificate(self, entry: CertificateEntry) -> bool:
        """Whether a certificate that was good for an earlier process may be offered by this one."""
        return self._with_tls.issuperset(entry.certificate.entry_points)

    def _known_entry_points(self) -> str:
        return f"one of {', '.join(sorted(self._entry_points))}" if self._entry_points else ""


def _rule_problems(frontend: Frontend, path: str) -> Iterable[Problem]:
    try:
        parsed = parse_rules({name: route.rule for name, route in frontend.routes.items()})
    except RuleError as error:
        route = f".routes.{error.route}.rule" if error.route else ".routes"
        yield Problem(
            message=f"{error.message} (column {error.position + 1} of `{error.rule}`)",
            path=path + route,
            expected=error.expected,
            nearest=error.nearest,
        )
    else:
        for warning in parsed.warnings:
            yield Problem(message=warning, path=f"{path}.routes", fatal=False)


def _server_problems(backend: Backend, path: str) -> Iterable[Problem]:
    for name, server in backend.servers.items():
        here = f"{path}.servers.{name}"
        yield from server_url_problems(server.url, f"{here}.url")
        if server.weight < 0:
            yield Problem(
                message="the weight is negative",
                path=f"{here}.weight",
                expected="0 or a positive number",
            )


def _inactive_problems(entry: Frontend | Backend, path: str) -> Iterable[Problem]:
    for option in inactive_options(entry):
        yield Problem(
            message="is not implemented yet and has no effect",
            path=f"{path}.{option}",
            fatal=False,
        )


def _option_problems(errors: Iterable[OptionError], path: str) -> Iterable[Problem]:
    for error in errors:
        yield Problem(
            message=str(error),
            path=f"{path}.{error.path}",
            expected=error.expected,
            nearest=error.nearest,
        )


def _header_problems(frontend: Frontend, path: str) -> Iterable[Problem]:
    """Warn of custom headers that are passed over."""
    headers = frontend.headers
    if headers is None:
        return
    for option, custom in (
        ("customRequestHeaders", headers.custom_request_headers),
        ("customResponseHeaders", headers.custom_response_headers),
    ):
        for name in custom:
            if has_no_effect(name.lower().encode("utf-8", "replace")):
                yield Problem(
                    message="has no effect: the proxy alone writes this header",
                    path=f"{path}.headers.{option}.{name}",
                    fatal=False,
                )


def _page_problems(frontend: Frontend, path: str) -> Iterable[Problem]:
    for name, page in frontend.errors.items():
        try:
            StatusRanges(page.status)
        except ValueError as error:
            yield Problem(
                message=str(error),
                path=f"{path}.errors.{name}.status",
                expected="statuses such as `404` or ranges such as `500-599`",
            )
        if page.backend == frontend.backend:
            yield Problem(
                message="is the backend of the frontend itself: the page is not used",
                path=f"{path}.errors.{name}.backend",
                expected="another backend of the same provider",
                fatal=False,
            )


def _digest(
    section: Section, provider: str, name: str, content: Frontend | Backend | ServedCertificate
) -> bytes | Problem:
    """Return the digest of an entry, or why it cannot be passed on to workers."""
    try:
        encoded = encode_content(content)
        if len(encoded) <= MAX_ENTRY_BYTES:
            return encoded_digest(section, provider, name, encoded)
        message = f"the entry is {len(encoded)} bytes large"
    except (UnicodeEncodeError, OverflowError) as error:
        # Lone surrogates of JSON texts, whole numbers beyond 64 bits.
        message = f"holds a value that cannot be passed on: {error}"
    return Problem(
        message=message,
        path=f"{section}.{name}",
        expected=f"valid Unicode and at most {MAX_ENTRY_BYTES} bytes",
        entry=(section, name),
    )


def _of_entry(section: str, name: str, problems: Iterable[Problem]) -> Problems:
    return tuple(
        replace(problem, entry=(section, name)) if problem.fatal else problem
        for problem in problems
    )
