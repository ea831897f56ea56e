"""The form of a row of the routing tables.

A row is frontends, requests in order, and what becomes of each. Nothing here knows how rows are
run: against the router alone, or through sockets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

HOST = "case.test"
"""The Host of a request whose row says nothing about hosts."""

ONLY = "only"
"""The name of the frontend of a row that has one."""


@dataclass(frozen=True)
class Sent:
    """One request. ``target`` may be in absolute form; ``headers`` do not hold Host."""

    target: str = "/"
    host: str = HOST
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Taken:
    """A frontend takes the request and passes it on.

    ``uri``: the request target that its server gets, None: as sent. ``prefixes`` and ``replaced``:
    the values of all X-Forwarded-Prefix and X-Replaced-Path lines that the proxy adds, in order.
    """

    frontend: str = ONLY
    uri: str | None = None
    prefixes: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()


@dataclass(frozen=True)
class Moved:
    """301 with this Location, because of a trailing slash."""

    location: str


@dataclass(frozen=True)
class Absent:
    """The default 404."""


ABSENT = Absent()

Outcome = Taken | Moved | Absent


@dataclass(frozen=True)
class Rules:
    """A frontend: its rules (a route each, none is allowed) and its ``priority`` (0: not set)."""

    rules: tuple[str, ...]
    priority: int = 0


@dataclass(frozen=True)
class Row:
    """One row of a table.

    ``refused``: names of frontends that must not load (their rules raise an error); all others
    must. ``keep_trailing_slash``: the static option of that name. ``compatible``: the requests have
    encoded separators, dot segments or ``#`` in the path, which are refused with 400 unless
    ``allowUnsafePaths`` is set. ``difference``: where and why the outcome is not that of the
    reference.
    """

    identity: str
    frontends: Mapping[str, Rules]
    exchanges: tuple[tuple[Sent, Outcome], ...] = ()
    refused: tuple[str, ...] = ()
    keep_trailing_slash: bool = False
    compatible: bool = False
    difference: str = ""


@dataclass(frozen=True)
class HostForm:
    """A Host value as sent and the canonical form by which routes are looked up."""

    identity: str
    sent: str
    canonical: str


@dataclass(frozen=True)
class Domains:
    """The literal hosts of a rule, from which certificates are asked for.

    ``unusable``: the rule names a host that can be none, which must be reported.
    """

    identity: str
    rule: str
    domains: tuple[str, ...] = ()
    unusable: bool = False


def row(identity: str, rule: str, *exchanges: tuple[Sent, Outcome], **options: object) -> Row:
    """Return the row of one frontend with one rule."""
    return Row(identity, {ONLY: Rules((rule,))}, exchanges, **options)  # type: ignore[arg-type]


def each(outcome: Outcome, *requests: Sent | str) -> tuple[tuple[Sent, Outcome], ...]:
    """Pair requests (or targets) with one outcome."""
    return tuple(
        (Sent(request) if isinstance(request, str) else request, outcome) for request in requests
    )


def hosts(outcome: Outcome, *names: str) -> tuple[tuple[Sent, Outcome], ...]:
    """Pair requests for ``/`` on each host with one outcome."""
    return tuple((Sent(host=name), outcome) for name in names)


def header(name: str, *values: str, outcome: Outcome) -> tuple[Sent, Outcome]:
    """Pair a request with a line of header ``name`` for each value with its outcome."""
    return Sent(headers=tuple((name, value) for value in values)), outcome


def taken(uri: str | None = None, prefix: str = "", replaced: str = "") -> Taken:
    """Return the outcome of a row with one frontend that adds at most one header of each kind."""
    return Taken(
        uri=uri, prefixes=(prefix,) if prefix else (), replaced=(replaced,) if replaced else ()
    )


__all__ = [
    "ABSENT",
    "HOST",
    "ONLY",
    "Absent",
    "Domains",
    "HostForm",
    "Moved",
    "Outcome",
    "Row",
    "Rules",
    "Sent",
    "Taken",
    "each",
    "header",
    "hosts",
    "row",
    "taken",
]
