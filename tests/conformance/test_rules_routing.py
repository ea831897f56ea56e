"""The routing tables, run against rules, route index and modifiers without sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvproxy.http.scan import ABSOLUTE, scan_request
from kvproxy.http.target import canonical_target, request_uri
from kvproxy.routing.index import IndexedRoute, RouteIndex
from kvproxy.routing.redirect import redirect_location
from kvproxy.routing.request import RequestView
from kvproxy.rules.errors import RuleError
from kvproxy.rules.matchers import canonical_host
from kvproxy.rules.modifiers import FORWARDED_PREFIX, REPLACED_PATH
from kvproxy.rules.parser import FrontendRule, parse_rules
from tests.conformance.data import matching, modifying
from tests.conformance.data.rows import ABSENT, Moved, Outcome, Row, Sent, Taken

if TYPE_CHECKING:
    from tests.conformance.data.rows import Domains, HostForm

ROWS = (*matching.ALL, *modifying.ALL)


def load(row: Row) -> RouteIndex[FrontendRule]:
    """Return the index of a row's frontends; exactly the refused ones must fail to load."""
    loaded: list[IndexedRoute[FrontendRule]] = []
    refused: list[str] = []
    for name, frontend in row.frontends.items():
        try:
            rule = parse_rules({f"r{number}": text for number, text in enumerate(frontend.rules)})
        except RuleError:
            refused.append(name)
        else:
            loaded.append(IndexedRoute(("file", name), frontend.priority, rule, rule))
    assert sorted(refused) == sorted(row.refused)
    return RouteIndex.empty(row.keep_trailing_slash).update((), loaded)


def outcome_of(index: RouteIndex[FrontendRule], sent: Sent, compatible: bool) -> Outcome:
    """Send a request through scan, target, index and modifiers, as a worker does."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.headers)
    head = f"{sent.method} {sent.target} HTTP/1.1\r\nHost: {sent.host}\r\n{lines}\r\n".encode()
    scanned = scan_request(head, 65536, 128)
    assert isinstance(scanned, tuple), scanned
    _, host, target, flags, _, _ = scanned
    canonical = canonical_target(target, compatible)
    assert canonical is not None, target
    request = RequestView(
        sent.method.encode(), host, canonical.path, canonical.query.removeprefix(b"?"), head
    )
    found = index.find(request)
    if found is None:
        return ABSENT
    if found.redirect:
        return Moved(redirect_location(request, host if flags & ABSOLUTE else b"").decode())
    modified = found.payload.modifiers.apply(canonical.path, canonical.raw_path)
    if modified is None:
        return ABSENT
    uri = canonical.uri
    if found.payload.modifiers:
        uri = request_uri(modified.path, modified.raw_path, canonical.query)
    values = {
        name: tuple(value.decode() for key, value in modified.headers if key == name)
        for name in (FORWARDED_PREFIX, REPLACED_PATH)
    }
    return Taken(found.key[1], uri.decode(), values[FORWARDED_PREFIX], values[REPLACED_PATH])


def expected(sent: Sent, outcome: Outcome) -> Outcome:
    """Fill in the request target that is passed on as it was sent."""
    if isinstance(outcome, Taken) and outcome.uri is None:
        return Taken(outcome.frontend, sent.target, outcome.prefixes, outcome.replaced)
    return outcome


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.identity)
def test_row(row: Row) -> None:
    index = load(row)
    for sent, outcome in row.exchanges:
        assert outcome_of(index, sent, row.compatible) == expected(sent, outcome), sent


@pytest.mark.parametrize("form", matching.HOST_FORMS, ids=lambda form: form.identity)
def test_host_form(form: HostForm) -> None:
    assert canonical_host(form.sent.encode()) == form.canonical.encode()


@pytest.mark.parametrize("case", matching.DOMAINS, ids=lambda case: case.identity)
def test_domains(case: Domains) -> None:
    rule = parse_rules({"route": case.rule})
    assert rule.hosts == case.domains
    assert bool(rule.warnings) == case.unusable


def test_every_row_asks_something_and_ids_are_unique() -> None:
    identities = [row.identity for row in (*matching.ALL, *modifying.ALL)]
    assert len(set(identities)) == len(identities)
    assert all(row.exchanges for row in (*matching.ALL, *modifying.ALL))


def test_a_wrong_outcome_is_noticed() -> None:
    row = Row("x", {"only": matching.Rules(("Path:/a",))}, ((Sent("/b"), Taken()),))
    with pytest.raises(AssertionError):
        test_row(row)
