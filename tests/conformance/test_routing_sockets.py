"""The routing tables (10.1 to 10.8 and what belongs to them) through the running program."""

from __future__ import annotations

import dataclasses
import html
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import (
    COMPATIBLE,
    KEEP_TRAILING_SLASH,
    NOT_FOUND,
    Answered,
    Ask,
    Case,
    Forwarded,
    parameters,
    text_reply,
)
from tests.conformance.data import matching, modifying
from tests.conformance.data.rows import Absent, Moved

if TYPE_CHECKING:
    from tests.conformance.cases import CaseTable, Outcome
    from tests.conformance.data.rows import Outcome as RoutingOutcome
    from tests.conformance.data.rows import Row, Rules, Sent

ROWS = [*matching.ALL, *modifying.ALL]

has_second_meaning = re.compile(r"%(2f|5c|00|3b|3f|23)|[\\#]|/(\.|%2e){1,2}(/|$)", re.I).search
"""Whether a path (no query) is one that is refused by default."""


def server_of(frontend: str) -> str:
    """Return the name of the scripted server that stands behind frontends of this name."""
    return f"routed-{frontend}"


def described(name: str, rules: Rules) -> dict[str, Any]:
    """Return a frontend as in TOML."""
    routes = {f"route{number}": {"rule": rule} for number, rule in enumerate(rules.rules)}
    return {"backend": name, "routes": routes, "priority": rules.priority}


def translated(sent: Sent, outcome: RoutingOutcome) -> tuple[Ask, Outcome]:
    """Return the same exchange as a request on a socket and what comes back."""
    ask = Ask(sent.target, sent.host, sent.method, sent.headers)
    if isinstance(outcome, Absent):
        return ask, NOT_FOUND if sent.method != "HEAD" else Answered(404, b"")
    if isinstance(outcome, Moved):
        anchor = f'<a href="{html.escape(outcome.location)}">Moved Permanently</a>.\n\n'
        body = anchor.encode() if sent.method == "GET" else b""
        return ask, Answered(301, body, {"Location": (outcome.location,)})
    headers = {
        name: tuple(value for key, value in sent.headers if key.lower() == name.lower()) + added
        for name, added in (
            ("X-Forwarded-Prefix", outcome.prefixes),
            ("X-Replaced-Path", outcome.replaced),
        )
    }
    return ask, Forwarded(outcome.uri, headers, server_of(outcome.frontend))


def as_case(row: Row) -> Case:
    """Return the row in the form that runs through sockets."""
    return Case(
        row.identity,
        {name: described(name, rules) for name, rules in row.frontends.items()},
        tuple(translated(sent, outcome) for sent, outcome in row.exchanges),
        {name: {"servers": {"one": {"url": f"{{{server_of(name)}}}"}}} for name in row.frontends},
        static={
            **(COMPATIBLE if row.compatible else {}),
            **(KEEP_TRAILING_SLASH if row.keep_trailing_slash else {}),
        },
        difference=row.difference,
    )


def by_default(case: Case) -> Case:
    """Return a row of the compatible switch as it is without the switch: 400 for such paths."""
    bad_request = text_reply(400, "Bad Request")
    return dataclasses.replace(
        case,
        identity=f"{case.identity}-by-default",
        exchanges=tuple(
            (ask, bad_request if has_second_meaning(str(ask.target).partition("?")[0]) else outcome)
            for ask, outcome in case.exchanges
        ),
        static={name: value for name, value in case.static.items() if name not in COMPATIBLE},
        difference="encoded separators and dot segments are refused unless allowUnsafePaths is set",
    )


CASES = [as_case(row) for row in ROWS]
CASES += [by_default(as_case(row)) for row in ROWS if row.compatible]


@pytest.mark.parametrize("case", parameters(CASES))
def test_routing(case: Case, table: CaseTable) -> None:
    table.run(case)
