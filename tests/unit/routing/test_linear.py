from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.routing.linear import IndexedRoute, explain, in_order, scan
from kvproxy.routing.request import RequestView
from kvproxy.rules.explain import ElementVerdict
from kvproxy.rules.parser import parse_rules
from tests.unit.routing.strategies import requests, routes


def route(name: str, *rules: str, priority: int = 0) -> IndexedRoute[str]:
    rule = parse_rules({f"r{number}": text for number, text in enumerate(rules)})
    return IndexedRoute(("file", name), priority, rule, name)


def test_order_is_priority_then_name_then_provider() -> None:
    rule = parse_rules({"r": "Path:/x"})
    expected = [("a", "z"), ("b", "a"), ("a", "b"), ("b", "b"), ("a", "c")]
    priorities = [9, 8, 0, -4, 0]
    given_routes = [
        IndexedRoute(key, priority, rule, None)
        for key, priority in zip(expected, priorities, strict=True)
    ]
    assert [each.key for each in in_order(reversed(given_routes))] == expected


@settings(max_examples=100)
@given(st.lists(routes(), max_size=8, unique_by=lambda each: each.key), requests(), st.booleans())
def test_explains_what_the_scan_does(
    frontends: list[IndexedRoute[int]], request: RequestView, keep: bool
) -> None:
    found = scan(in_order(frontends), request, keep)
    verdicts = explain(frontends, request, keep)
    assert [each.key for each in verdicts] == [each.key for each in in_order(frontends)]
    taken = [(each.key, each.redirect) for each in verdicts if each.taken]
    assert taken == ([] if found is None else [(found.key, found.redirect)])


def test_explain_names_each_matcher_and_what_it_saw() -> None:
    head = b"PUT /a/?x=1 HTTP/1.1\r\nHost: A.test:80\r\nX-Key: one\r\nx-key: two\r\n\r\n"
    request = RequestView(b"PUT", b"A.test:80", b"/a/", b"x=1", head)
    rule = (
        "Host: a.test, b.test;HostRegexp:{x}.test;Path:/a;PathPrefix:/b;Method:GET,PUT;"
        "Headers:X-Key,three;HeadersRegexp:X-Key,^t,X-None,x;Query:x=1,y=2;AddPrefix:/p"
    )
    (verdict,) = explain([route("only", rule)], request, False)
    assert not verdict.matches
    assert not verdict.taken
    assert not verdict.redirect
    assert verdict.elements == (
        ElementVerdict("Host:a.test,b.test", True, False, "a.test"),
        ElementVerdict("HostRegexp:{x}.test", True, False, "A.test"),
        ElementVerdict("Path:/a", True, True, "/a/"),
        ElementVerdict("PathPrefix:/b", False, False, "/a/"),
        ElementVerdict("Method:GET,PUT", True, False, "PUT"),
        ElementVerdict("Headers:X-Key,three", False, False, "x-key: one | two"),
        ElementVerdict(
            "HeadersRegexp:X-Key,^t,X-None,x", False, False, "x-key: one | two, x-none: (absent)"
        ),
        ElementVerdict("Query:x=1,y=2", False, False, "x=1&(y absent)"),
    )


def test_explain_marks_the_first_that_matches_as_taken() -> None:
    request = RequestView(b"GET", b"a.test", b"/x", b"", b"")
    verdicts = explain(
        [route("all"), route("a", "Host:a.test"), route("b", "Host:b.test", priority=99)],
        request,
        False,
    )
    assert [(each.key[1], each.priority, each.matches, each.taken) for each in verdicts] == [
        ("b", 99, False, False),
        ("a", 11, True, True),
        ("all", 0, True, False),
    ]
