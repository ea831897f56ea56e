from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kvproxy.routing.index import MAX_CACHED_HOSTS, IndexedRoute, RouteIndex
from kvproxy.routing.linear import in_order, scan
from kvproxy.routing.request import RequestView
from kvproxy.rules.parser import parse_rules
from tests.unit.routing.strategies import keys, requests, routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.routing.linear import RouteKey


def route(name: str, *rules: str, priority: int = 0, provider: str = "file") -> IndexedRoute[str]:
    rule = parse_rules({f"r{number}": text for number, text in enumerate(rules)})
    return IndexedRoute((provider, name), priority, rule, name)


def index_of(*added: IndexedRoute[str], keep: bool = False) -> RouteIndex[str]:
    return RouteIndex.empty(keep).update((), added)


def view(
    host: str = "a.test", path: str = "/", method: str = "GET", query: str = ""
) -> RequestView:
    return RequestView(method.encode(), host.encode(), path.encode(), query.encode(), b"")


def found_name(index: RouteIndex[str], request: RequestView) -> str | None:
    found = index.find(request)
    return None if found is None else found.payload


def check(
    index: RouteIndex[int], current: dict[RouteKey, IndexedRoute[int]], asked: Iterable[RequestView]
) -> None:
    ordered = in_order(current.values())
    for request in asked:
        expected = scan(ordered, request, index.keep_trailing_slash)
        found = index.find(request)
        if expected is None:
            assert found is None
            event("none")
            continue
        assert found is not None
        assert (found.key, found.payload, found.redirect) == (
            expected.key,
            expected.payload,
            expected.redirect,
        )
        event("redirect" if expected.redirect else "taken")
        bucket = index.buckets[request.host]
        if bucket is not None and bucket.only_priority > index.floating_priority:
            assert bucket.only == expected.payload
            assert not expected.redirect
            event("only")
    assert dict(index.routes) == current


changes = st.tuples(st.lists(keys, max_size=4), st.lists(routes(), max_size=8))


@settings(max_examples=300)
@given(
    st.booleans(),
    st.lists(changes, min_size=1, max_size=5),
    st.lists(requests(), min_size=1, max_size=20),
)
def test_finds_what_the_plain_scan_finds_after_any_updates(
    keep: bool,
    steps: list[tuple[list[RouteKey], list[IndexedRoute[int]]]],
    asked: list[RequestView],
) -> None:
    index: RouteIndex[int] = RouteIndex.empty(keep)
    current: dict[RouteKey, IndexedRoute[int]] = {}
    versions = [(index, current)]
    for removed, added in steps:
        index = index.update(removed, added)
        current = {key: old for key, old in current.items() if key not in removed}
        current |= {each.key: each for each in added}
        versions.append((index, current))
        check(index, current, asked)
    for version, routes_then in versions:
        check(version, routes_then, asked)
    emptied = index.update(list(current), ())
    assert not emptied.hosts
    assert not emptied.suffixes
    assert emptied.floating_priority == -1
    check(emptied, {}, asked)


@settings(max_examples=100)
@given(
    st.lists(routes(), max_size=12), st.lists(keys, max_size=6), st.lists(requests(), max_size=10)
)
def test_shape_does_not_depend_on_history(
    added: list[IndexedRoute[int]], removed: list[RouteKey], asked: list[RequestView]
) -> None:
    stepwise: RouteIndex[int] = RouteIndex.empty(False)
    for each in added:
        stepwise = stepwise.update((), [each])
    for key in removed:
        stepwise = stepwise.update([key], ())
    left = {each.key: each for each in added if each.key not in removed}
    at_once = RouteIndex.empty(False).update((), left.values())
    assert set(stepwise.hosts) == set(at_once.hosts)
    assert set(stepwise.suffixes) == set(at_once.suffixes)
    assert stepwise.floating_priority == at_once.floating_priority
    for host, bucket in at_once.hosts.items():
        other = stepwise.hosts[host]
        assert (bucket.only, bucket.only_priority) == (other.only, other.only_priority)
    check(stepwise, left, asked)


def test_untouched_buckets_are_shared() -> None:
    index = index_of(
        route("a", "Host:a.test"), route("b", "Host:b.test"), route("c", "PathPrefix:/c")
    )
    changed = index.update([("file", "b")], [route("d", "Host:d.test")])
    assert changed.hosts[b"a.test"] is index.hosts[b"a.test"]
    assert b"b.test" not in changed.hosts
    assert found_name(index, view("b.test")) == "b"
    assert found_name(changed, view("b.test")) is None
    assert found_name(changed, view("d.test")) == "d"


def test_a_change_costs_no_more_than_its_neighbourhood() -> None:
    index = index_of(*(route(f"f{number}", f"Host:h{number}.test") for number in range(3000)))
    changed = index.update((), [route("f7", "Host:h7.test;PathPrefix:/x")])
    shared = sum(changed.hosts[host] is index.hosts[host] for host in index.hosts)
    assert shared == 2999


@pytest.mark.parametrize(
    ("rules", "only", "priority"),
    [
        ([("a", "Host:a.test", 0)], "a", 11),
        ([("a", "Host:a.test,b.test", 7)], "a", 7),
        ([("a", "Host:a.test;PathPrefix:/", 0)], None, -1),
        ([("a", "Host:a.test;Method:GET", 0)], None, -1),
        ([("a", "Host:a.test", 0), ("b", "Host:a.test;Path:/longer", 0)], None, -1),
        ([("a", "Host:a.test", 90), ("b", "Host:a.test;Path:/longer", 0)], "a", 90),
        ([("a", "HostRegexp:A.test", 0)], "a", 17),
        ([("a", "Host:a.test;AddPrefix:/x", 0)], "a", 24),
    ],
)
def test_only(rules: list[tuple[str, str, int]], only: str | None, priority: int) -> None:
    index = index_of(*(route(name, text, priority=value) for name, text, value in rules))
    bucket = index.hosts[b"a.test"]
    assert (bucket.only, bucket.only_priority) == (only, priority)


@pytest.mark.parametrize(
    ("rules", "priority"),
    [
        (["Host:a.test"], -1),
        (["Host:a.test", "PathPrefix:/x"], 13),
        (["HostRegexp:a.test,{x}.test"], 26),
        (["HostRegexp:{x:.*}"], 17),
        (["HostRegexp:{x}.test;Host:a.test"], -1),
        (["Path:nothing"], -1),
    ],
)
def test_floating_priority(rules: list[str], priority: int) -> None:
    index = index_of(*(route(f"f{number}", text) for number, text in enumerate(rules)))
    assert index.floating_priority == priority


def test_a_frontend_without_routes_takes_everything_last() -> None:
    index = index_of(route("all"), route("a", "Host:a.test"), route("b", "Path:/b"))
    assert index.floating_priority == 7
    assert found_name(index, view("a.test")) == "a"
    assert found_name(index, view("z.test", "/b")) == "b"
    assert found_name(index, view("z.test")) == "all"


def test_equal_priorities_go_by_name_then_provider() -> None:
    rule = "PathPrefix:/x"
    index = index_of(
        route("b", rule, provider="a"),
        route("a", rule, provider="z"),
        route("a", rule, provider="k"),
    )
    found = index.find(view(path="/x"))
    assert found is not None
    assert found.key == ("k", "a")


def test_equal_priorities_go_by_name_whether_hosts_are_named_or_not() -> None:
    rules = {"b": "Host:a.test", "a": "PathPrefix:/", "c": "HostRegexp:{x}.test"}
    index = index_of(*(route(name, text, priority=5) for name, text in rules.items()))
    assert found_name(index, view("a.test")) == "a"
    without_a = index.update([("file", "a")], ())
    assert found_name(without_a, view("a.test")) == "b"
    assert found_name(without_a.update([("file", "b")], ()), view("a.test")) == "c"


def test_a_host_must_fit_every_template() -> None:
    index = index_of(route("a", "HostRegexp:a.test,{x}.test;HostRegexp:{y:[bc]}.test"))
    assert found_name(index, view("a.test")) is None
    assert found_name(index, view("b.test")) == "a"


def test_letters_that_fold_to_ascii_are_found() -> None:
    index = index_of(route("a", "HostRegexp:{x}.kel.test"))
    assert found_name(index, view("x.\u212aEL.test")) == "a"
    assert found_name(index, view("x.\u00e4el.test")) is None


def test_two_hosts_in_two_routes_meet_in_their_intersection() -> None:
    index = index_of(route("a", "Host:a.test,b.test", "Host:b.test,c.test"))
    assert set(index.hosts) == {b"b.test"}


@pytest.mark.parametrize(
    ("rule", "hosts", "suffixes", "anywhere"),
    [
        ("Host:a.test", {b"a.test"}, set(), False),
        ("HostRegexp:{x}.a.Test", set(), {b".a.test"}, False),
        ("HostRegexp:B.test,{x}www.a.test,{x}.c", {b"b.test"}, {b".a.test", b".c"}, False),
        ("HostRegexp:{x}.a.test,{x}", set(), set(), True),
        ("HostRegexp:{x}.test;HostRegexp:a.test", {b"a.test"}, set(), False),
        ("HostRegexp:{x}.test;HostRegexp:{y}", set(), {b".test"}, False),
        ("HostRegexp:{x}.t\u00e4st", set(), set(), True),
        ("PathPrefix:/x", set(), set(), True),
        ("Path:x", set(), set(), False),
    ],
)
def test_places(rule: str, hosts: set[bytes], suffixes: set[bytes], anywhere: bool) -> None:
    index = index_of(route("a", rule))
    assert set(index.hosts) == hosts
    assert set(index.suffixes) == suffixes
    assert (index.anywhere.best is not None) == anywhere
    emptied = index.update([("file", "a")], ())
    assert (len(emptied.hosts), len(emptied.suffixes), emptied.anywhere.best) == (0, 0, None)


def test_a_template_that_names_a_host_in_full_takes_it_without_an_expression() -> None:
    index = index_of(route("a", "HostRegexp:a.test,{x}.a.test"))
    assert index.hosts[b"a.test"].only == "a"
    assert found_name(index, view("a.test")) == "a"
    assert found_name(index, view("b.a.test")) == "a"
    assert found_name(index, view("c.test")) is None


def test_many_hosts_times_many_paths_stay_affordable() -> None:
    names = ",".join(f"h{number}.test" for number in range(2000))
    paths = ",".join(f"/p{number}" for number in range(2000))
    started = time.process_time()
    index = index_of(route("a", f"Host:{names};Path:{paths}"))
    assert time.process_time() - started < 2.0
    assert found_name(index, view("h1999.test", "/p1999")) == "a"
    assert found_name(index, view("h1999.test", "/p2000")) is None


def test_contradictory_hosts_are_in_no_bucket() -> None:
    index = index_of(route("a", "Host:a.test;Host:b.test"))
    assert not index.hosts
    assert ("file", "a") in index.routes


def test_prefixes_may_nest_as_deep_as_they_like() -> None:
    depth = 1200
    index = index_of(
        *(route(f"f{n}", f"PathPrefix:/{'a' * n}", priority=n + 1) for n in range(depth))
    )
    assert found_name(index, view(path="/" + "a" * (depth + 5))) == f"f{depth - 1}"
    assert found_name(index, view(path="/aaab")) == "f3"
    half = index.update([("file", f"f{n}") for n in range(0, depth, 2)], ())
    assert found_name(half, view(path="/aab")) == "f1"


def test_the_host_cache_stays_bounded_and_right() -> None:
    index = index_of(route("a", "Host:a.test"))
    for port in range(MAX_CACHED_HOSTS + 10):
        assert found_name(index, view(f"a.test:{port}")) == "a"
    assert len(index.buckets) <= MAX_CACHED_HOSTS
    assert index.buckets[b"A" * 300] is None
    before = len(index.buckets)
    assert index.buckets[b"unknown.test"] is None
    assert len(index.buckets) == before
    assert index.buckets[b"a.test:" + b"1" * 300] is index.hosts[b"a.test"]
    assert b"a.test:" + b"1" * 300 not in index.buckets
