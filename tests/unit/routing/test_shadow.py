from __future__ import annotations

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kvproxy.routing.index import RouteIndex
from kvproxy.routing.linear import IndexedRoute, in_order, scan
from kvproxy.routing.request import RequestView
from kvproxy.routing.shadow import covers, shadowed
from kvproxy.rules.parser import parse_rules
from tests.unit.routing.strategies import requests, routes


@settings(max_examples=200)
@given(
    st.lists(routes(), min_size=2, max_size=12, unique_by=lambda each: each.key),
    st.lists(requests(), min_size=1, max_size=20),
    st.booleans(),
)
def test_a_shadowed_frontend_takes_nothing(
    frontends: list[IndexedRoute[int]], asked: list[RequestView], keep: bool
) -> None:
    hidden = shadowed(RouteIndex.empty(keep).update((), frontends))
    event(f"shadowed: {len(hidden)}")
    by_key = {each.key: each for each in frontends}
    ordered = in_order(frontends)
    for request in asked:
        found = scan(ordered, request, keep)
        assert found is None or found.key not in hidden
    for key, other in hidden.items():
        assert by_key[other].order < by_key[key].order


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("Host:a.test", "Host:a.test;Path:/x", True),
        ("Host:a.test,b.test", "Host:b.test", True),
        ("Host:a.test", "Host:a.test,b.test", False),
        ("Host:a.test;Path:/x", "Host:a.test", False),
        ("PathPrefix:/a", "Path:/ab,/a/{x}", True),
        ("PathPrefix:/a", "Path:/ab,/b", False),
        ("PathPrefix:/a/", "Path:/a/", False),
        ("Path:/a/{x}", "PathStrip:/a/{x};Method:GET", True),
        ("Path:/a/{x}", "PathPrefix:/a/{x}", False),
        ("HostRegexp:{x}.test", "Host:a.test", True),
        ("HostRegexp:{x}.test", "HostRegexp:{x}.test,b.test", True),
        ("HostRegexp:{x}.test", "HostRegexp:{y:.*}", False),
        ("HostRegexp:{x:(?-i)a}.test", "Host:a.test", False),
        ("Method:GET,POST", "Method:POST", True),
        ("Method:GET", "Method:GET,POST", False),
        ("Headers:X-A, ", "Headers:x-a,1,X-B,2", True),
        ("Headers:X-A,1", "Headers:X-A, ", False),
        ("HeadersRegexp:X-A,a", "HeadersRegexp:x-a,a,X-B,b", True),
        ("HeadersRegexp:X-A,a", "HeadersRegexp:X-A,ab", False),
        ("Query:a=1", "Query:b={x},a=1", True),
        ("Query:a={x}", "Query:a=1", False),
    ],
)
def test_covers(first: str, second: str, expected: bool) -> None:
    assert covers(parse_rules({"r": first}), parse_rules({"r": second})) is expected


def test_everything_after_a_frontend_without_routes_and_a_high_priority_is_shadowed() -> None:
    index = RouteIndex.empty(True).update(
        (),
        [
            IndexedRoute(("file", "all"), 1000, parse_rules({}), None),
            IndexedRoute(("file", "a"), 0, parse_rules({"r": "Host:a.test;Path:/x/"}), None),
            IndexedRoute(("kv", "b"), 2000, parse_rules({"r": "Path:/x/"}), None),
            IndexedRoute(("kv", "c"), 1500, parse_rules({"r": "Path:/x/;Method:GET"}), None),
        ],
    )
    assert shadowed(index) == {("file", "a"): ("file", "all"), ("kv", "c"): ("kv", "b")}
