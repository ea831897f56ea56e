"""Which entries may be served: each is judged alone, whatever provider it comes from.

Whether a frontend's backend exists is not judged here but in `kvproxy.control.quarantine`, because
it depends on other entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from kvproxy.control.server_url import server_url_problems
from kvproxy.model.digest import encode_content, encoded_digest
from kvproxy.model.messages import BackendEntry, FrontendEntry
from kvproxy.model.problem import Problem, nearest_name
from kvproxy.rules.errors import RuleError
from kvproxy.rules.parser import parse_rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.model.digest import Section
    from kvproxy.model.dynamic import Backend, Frontend
    from kvproxy.model.static import StaticConfiguration

MAX_ENTRY_BYTES = 8 * 1024 * 1024
"""Bound of one entry, encoded: it must fit into one message to the workers."""

Problems = tuple[Problem, ...]


class Validator:
    """Judges entries against the static configuration."""

    def __init__(self, settings: StaticConfiguration) -> None:
        """Default entry points that are not configured are left out (Traefik 1.7 behaviour)."""
        self._entry_points = frozenset(settings.entry_points)
        self._defaults = tuple(
            name for name in settings.default_entry_points if name in self._entry_points
        )

    def attach(self, name: str, frontend: Frontend) -> tuple[Frontend | None, Problems]:
        """Return the frontend with the entry points it is attached to, or None, and what is wrong.

        Absent entry points become the default ones; unknown names are dropped, and none left
        refuses the frontend (Traefik 1.7 behaviour).
        """
        names = frontend.entry_points
        path = f"frontends.{name}.entryPoints"
        if not names:
            if self._defaults:
                return replace(frontend, entry_points=self._defaults), ()
            problem = Problem(
                message="names no entry point and no default entry point is configured",
                path=path,
                expected=self._known_entry_points(),
                entry=("frontends", name),
            )
            return None, (problem,)
        if self._entry_points.issuperset(names):
            return frontend, ()
        known = tuple(point for point in names if point in self._entry_points)
        problems = tuple(
            Problem(
                message=f"no entry point is named `{point}`",
                path=path,
                expected=self._known_entry_points(),
                nearest=nearest_name(point, self._entry_points),
                entry=None if known else ("frontends", name),
                fatal=not known,
            )
            for point in names
            if point not in self._entry_points
        )
        return (replace(frontend, entry_points=known) if known else None), problems

    def frontend(
        self, provider: str, name: str, frontend: Frontend
    ) -> tuple[FrontendEntry | None, Problems]:
        """Return the entry of an attached frontend or None, and what is wrong.

        None exactly when one of the problems is fatal; these carry the entry's section and name.
        """
        problems = _of_entry("frontends", name, _rule_problems(frontend, f"frontends.{name}"))
        if any(problem.fatal for problem in problems):
            return None, problems
        digest = _digest("frontends", provider, name, frontend)
        if isinstance(digest, Problem):
            return None, (*problems, digest)
        return FrontendEntry(provider, name, digest, frontend), problems

    def backend(
        self, provider: str, name: str, backend: Backend
    ) -> tuple[BackendEntry | None, Problems]:
        """Return the entry to serve or None, and what is wrong; see `frontend`."""
        problems = _of_entry("backends", name, _server_problems(backend, f"backends.{name}"))
        if any(problem.fatal for problem in problems):
            return None, problems
        digest = _digest("backends", provider, name, backend)
        if isinstance(digest, Problem):
            return None, (*problems, digest)
        return BackendEntry(provider, name, digest, backend), problems

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


def _digest(
    section: Section, provider: str, name: str, content: Frontend | Backend
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
