"""Random frontends and requests over a small world of names, so that they often meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from kvproxy.http.target import canonical_target
from kvproxy.routing.linear import IndexedRoute
from kvproxy.routing.request import RequestView
from kvproxy.rules.parser import parse_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTS = ("a.test", "b.test", "x.a.test", "A.Test", "1.test")
HOST_TEMPLATES = (
    "{sub}.test",
    "{sub:[a-z]+}.a.test",
    "{x:(}",
    "{a:[ab]}.{b:test|tost}",
    "{all:.*}",
    "{x}.Kel.TEST",
    "{x:.*}t",
    "{x}a.test",
    "{x}.t\u017ft",
)
PATHS = ("/", "/a", "/a/", "/ab", "/a/b", "/a/b/", "/a/b/c", "/b", "/\u00e4", "/a//", "a", "")
PATH_TEMPLATES = (
    *("/{x}", "/a/{x}", "/a/{x}/", "/{x:[ab]+}/b", "/a/{x:.*}", "/a{x:(b|/)}", "/a/{x", "/{x:.*/}"),
    *("/\ufffd{x}", "/{x:a$}", "/{q}/c"),
)
METHODS = ("GET", "POST", "get", "PUT")
HEADERS = ("X-A", "x-b", "Host")
VALUES = ("", "1", "2", "ab")
QUERIES = ("a=1", "b=2", "a=", "a={x:[0-9]+}", "b={q}", "a=1=b=2", "={x}", "c={x:(}")
REQUEST_HOSTS = (
    *("a.test", "A.TEST:80", "b.test", "x.a.test", "1.test:8080", "c.test", "test", "", "[::1]:80"),
    *("x.a.test.", "x.kel.test", "x.\u212ael.test", "x.t\u017ft", "x.tst", "xa.test", ".test"),
)
REQUEST_PATHS = (
    *("/", "/a", "/a/", "/ab", "/a/b", "/a/b/", "/a/b/c", "/b", "/b/", "/%c3%a4", "/%e9a", "/a//"),
    *("/a///", "/c", "/a/%ff/b", "*"),
)
REQUEST_QUERIES = (
    *("", "a=1", "a=1&b=2", "b=2&a=2&a=1", "a", "a=%31", "a=1;b=2", "=7", "b=%zz&b=2", "a=+&b=x+y"),
    "a=%ff",
)


def _values(*choices: Sequence[str]) -> st.SearchStrategy[str]:
    pool = [choice for some in choices for choice in some]
    return st.lists(st.sampled_from(pool), min_size=1, max_size=3).map(",".join)


def _element(name: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return values.map(lambda text: f"{name}:{text} ")


_PAIRS = st.tuples(st.sampled_from(HEADERS), st.sampled_from(VALUES)).map(", ".join)
_EXACT = _values(PATHS, PATH_TEMPLATES)

elements = st.one_of(
    _element("Host", _values(HOSTS)),
    _element("Host", _values(HOSTS)),
    _element("HostRegexp", _values(HOSTS, HOST_TEMPLATES)),
    *(_element(name, _EXACT) for name in ("Path", "PathStrip", "PathStripRegex")),
    *(_element(name, _EXACT) for name in ("PathPrefix", "PathPrefixStrip", "PathPrefixStripRegex")),
    _element("Method", _values(METHODS)),
    _element("Headers", _PAIRS),
    _element("HeadersRegexp", _PAIRS),
    _element("Query", st.sampled_from(QUERIES)),
    st.sampled_from(("AddPrefix:/x", "ReplacePath:/y", "ReplacePathRegex:a b")),
)

rules = st.one_of(
    elements,
    st.tuples(elements, elements).map(";".join),
    st.lists(elements, min_size=3, max_size=4).map(";".join),
)

keys = st.tuples(st.sampled_from(("file", "kv")), st.sampled_from([f"f{n}" for n in range(12)]))


@st.composite
def routes(draw: st.DrawFn) -> IndexedRoute[int]:
    """Return a frontend with one or two routes, or none, and a number to tell it by."""
    count = draw(st.sampled_from((1, 1, 1, 1, 1, 2, 2, 0)))
    texts = [draw(rules) for _ in range(count)]
    rule = parse_rules({f"r{number}": text for number, text in enumerate(texts)})
    priority = draw(st.sampled_from((0, 0, 0, -3, 5, 20, 21)))
    return IndexedRoute(draw(keys), priority, rule, draw(st.integers(0, 10**9)))


@st.composite
def requests(draw: st.DrawFn) -> RequestView:
    """Return a request as it comes out of the scan."""
    method = draw(st.sampled_from(METHODS))
    host = draw(st.sampled_from(REQUEST_HOSTS))
    target = draw(st.sampled_from(REQUEST_PATHS))
    query = draw(st.sampled_from(REQUEST_QUERIES))
    lines = draw(
        st.lists(st.tuples(st.sampled_from(HEADERS[:2]), st.sampled_from(VALUES)), max_size=3)
    )
    canonical = canonical_target(target.encode(), True)
    assert canonical is not None
    head = f"{method} {target}?{query} HTTP/1.1\r\nHost: {host}\r\n" + "".join(
        f"{name}:  {value} \r\n" for name, value in lines
    )
    return RequestView(
        method.encode(), host.encode(), canonical.path, query.encode(), head.encode() + b"\r\n"
    )
