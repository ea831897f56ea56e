from __future__ import annotations

import pytest

from kvproxy.routing.request import RequestView
from kvproxy.rules.matchers import NO, REDIRECT, YES, Matcher
from kvproxy.rules.parser import parse_rules


def matcher(rule: str) -> Matcher:
    (only,) = parse_rules({"r": rule}).matchers
    return only


def view(
    path: bytes = b"/",
    *,
    host: bytes = b"a.test",
    method: bytes = b"GET",
    query: bytes = b"",
    lines: bytes = b"",
) -> RequestView:
    return RequestView(
        method, host, path, query, b"GET / HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"
    )


@pytest.mark.parametrize(
    ("rule", "path", "redirecting", "keeping"),
    [
        ("Path:/foo", b"/foo", YES, YES),
        ("Path:/foo", b"/foo/", REDIRECT, NO),
        ("Path:/foo", b"/foo//", NO, NO),
        ("Path:/foo", b"", NO, NO),
        ("Path:/foo/", b"/foo", REDIRECT, NO),
        ("Path:/foo/", b"/foo/", YES, YES),
        ("Path:/", b"/", YES, YES),
        ("Path:/", b"", REDIRECT, NO),
        ("Path:/", b"//", NO, NO),
        ("Path:/a//", b"/a//", YES, YES),
        ("Path:/a//", b"/a/", YES, NO),
        ("Path:/a/{x}", b"/a/b", YES, YES),
        ("Path:/a/{x}", b"/a/b/", REDIRECT, NO),
        ("Path:/a/{x}/", b"/a/b", REDIRECT, NO),
        ("Path:/a/{x}/", b"/a/b/", YES, YES),
        ("Path:/a/{x}/", b"/a//", NO, NO),
        ("Path:/a/{x:.*}", b"/a/b/", REDIRECT, YES),
        ("Path:/a/{x:b$}", b"/a/b/", NO, NO),
        ("Path:/a/{x}", b"/a/\xff", YES, YES),
        ("Path:/a/{x}", b"/A/b", NO, NO),
        ("Path:/{x:(?i)abc}d", b"/ABCd", YES, YES),
        ("Path:/{x:(?i)abc}d", b"/ABCD", NO, NO),
        ("Path:/a,/b/", b"/b/", YES, YES),
        ("Path:/a/{x},/a/b/", b"/a/b/", REDIRECT, YES),
        ("PathPrefix:/foo", b"/foo/", YES, YES),
        ("PathPrefix:/foo/", b"/foo", NO, NO),
        ("PathPrefix:/a/{x:[0-9]+}", b"/a/1b/c", YES, YES),
        ("PathPrefix:/a/{x:[0-9]+}", b"/b/a/1", NO, NO),
        ("PathPrefix:/a}", b"/a}b", YES, YES),
        ("Path:/a.b*", b"/a.b*", YES, YES),
        ("Path:/{x:a|b}c", b"/ac", YES, YES),
        ("Path:/{x:a|b}c", b"/a", NO, NO),
        ("Path:/\u00e4", "/\u00e4".encode(), YES, YES),
        ("Path:/\ufffd{x}", b"/\xe9a", YES, YES),
    ],
)
def test_paths(rule: str, path: bytes, redirecting: int, keeping: int) -> None:
    assert matcher(rule).test(view(path), False) == redirecting
    assert matcher(rule).test(view(path), True) == keeping


@pytest.mark.parametrize(
    ("rule", "host", "expected"),
    [
        ("Host:a.test", b"A.TEST:80", YES),
        ("Host:a.test", b"a.test.", NO),
        ("Host:a.test", b"xa.test", NO),
        ("Host:a.test", b"", NO),
        ("Host: ", b"", NO),
        ("HostRegexp:{x:.*}", b"", YES),
        ("HostRegexp:{x}.test", b"A.Test:1", YES),
        ("HostRegexp:{x}.test", b".test", NO),
        ("HostRegexp:{x:(?-i)a}.test", b"A.test", NO),
        ("HostRegexp:{x:(?-i)a}.test", b"a.TEST", YES),
        ("HostRegexp:{x:[0-9a-f:]+}", b"[2001:db8::1]:80", YES),
        ("HostRegexp:a.test", b"A.test:80", YES),
        ("HostRegexp:a.test", b"a.test.", NO),
    ],
)
def test_hosts(rule: str, host: bytes, expected: int) -> None:
    assert matcher(rule).test(view(host=host), False) == expected


@pytest.mark.parametrize(
    ("rule", "lines", "expected"),
    [
        ("Headers:X-A,1", b"x-a: 1\r\n", YES),
        ("Headers:X-A,1", b"X-A: 11\r\n", NO),
        ("Headers:X-A,1", b"X-A: 2\r\nX-A:1\r\n", YES),
        ("Headers:X-A, ", b"X-A:\r\n", YES),
        ("Headers:X-A, ", b"", NO),
        ("Headers:Host,a", b"", NO),
        ("Headers:X-A,\u00e4", "X-A: \u00e4\r\n".encode(), YES),
        ("Headers:X-A,1,x-a,2", b"X-A: 2\r\n", NO),
        ("Headers:X-A,1,X-A,2", b"X-A: 2\r\n", YES),
        ("HeadersRegexp:X-A,^a.c$", b"X-A: a\xffc\r\n", YES),
        ("HeadersRegexp:X-A,(?i)ABC", b"X-A: xabcx\r\n", YES),
        ("HeadersRegexp:X-A, ", b"X-A:\r\n", YES),
        ("HeadersRegexp:X-A, ", b"", NO),
        ("HeadersRegexp:X-A,b", b"X-A: a\r\nX-A: b\r\n", YES),
        ("HeadersRegexp:X-A,a,X-B,b", b"X-A: a\r\n", NO),
    ],
)
def test_headers(rule: str, lines: bytes, expected: int) -> None:
    assert matcher(rule).test(view(lines=lines), False) == expected


@pytest.mark.parametrize(
    ("rule", "query", "expected"),
    [
        ("Query:a=1", b"a=1", YES),
        ("Query:a=1", b"A=1", NO),
        ("Query:a=", b"a=x%0ay", NO),
        ("Query:a={x}", b"a=", YES),
        ("Query:a=x{n:[0-9]}", b"a=x7", YES),
        ("Query:a=x{n:[0-9]}", b"a=x77", NO),
        ("Query:{x}=1", b"a=1", NO),
        ("Query:=1", b"=1", YES),
        ("Query:a={x:(}", b"a=(", NO),
        ("Query:a={x:(},b=1", b"a=1&b=1", NO),
        ("Query:a=\u00e4", b"a=%c3%a4", YES),
    ],
)
def test_queries(rule: str, query: bytes, expected: int) -> None:
    assert matcher(rule).test(view(query=query), False) == expected


def test_methods() -> None:
    assert matcher("Method:get,Post").test(view(method=b"POST"), False) == YES
    assert matcher("Method:get,Post").test(view(method=b"post"), False) == NO


def test_observed_of_undecodable_bytes() -> None:
    assert matcher("Path:/a").observed(view(b"/\xff")) == "/\\xff"
