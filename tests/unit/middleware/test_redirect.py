"""Redirects (specification section 9.6, case table 10.9)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.middleware.redirect import (
    RedirectByExpression,
    RedirectToEntryPoint,
    entry_point_target,
)
from kvproxy.middleware.request_template import TemplateError
from kvproxy.rules.expressions import ExpressionError
from tests.unit.middleware.requests import Fields, Local, a_request, header, now

if TYPE_CHECKING:
    from kvproxy.http.answer import Answer

TO_TLS = (":443", True)
FOO = r"^(?:http?:\/\/)(foo)(\.com)(:\d+)(.*)$"


class Asked(NamedTuple):
    url: str
    method: str = "GET"
    headers: Fields = ()
    uri: str = "/"
    original_uri: str = ""


def ask(middleware: RedirectToEntryPoint | RedirectByExpression, asked: Asked) -> Answer | None:
    scheme, _, host = asked.url.partition("://")
    return now(
        middleware,
        a_request(
            asked.uri,
            host=host,
            method=asked.method,
            headers=asked.headers,
            client=Local(secure=scheme == "https"),
            original_uri=asked.original_uri,
        ),
    )


ENTRY_POINT = {
    "R01": (TO_TLS, False, Asked("http://foo:80"), 302, "https://foo:443/"),
    "R02": ((":80", False), False, Asked("https://foo:443"), 302, "http://foo:80/"),
    "R03": ((":88", False), False, Asked("http://foo:80"), 302, "http://foo:88/"),
    "R04": (TO_TLS, True, Asked("http://foo:80"), 301, "https://foo:443/"),
    "R05": ((":80", False), True, Asked("https://foo:443"), 301, "http://foo:80/"),
    "R06": ((":80", False), False, Asked("http://foo:90", "POST"), 307, "http://foo:80/"),
    "R07": ((":80", False), True, Asked("http://foo:90", "POST"), 308, "http://foo:80/"),
    "R09": ((":8080", False), False, Asked("http://[::1]"), 302, "http://[::1]:8080/"),
    "R09-port": ((":8080", False), False, Asked("http://[::1]:80"), 302, "http://[::1]:8080/"),
    "R10": (TO_TLS, False, Asked("http://[::1]"), 302, "https://[::1]:443/"),
    "R10-port": (TO_TLS, False, Asked("http://[::1]:80"), 302, "https://[::1]:443/"),
    "head": (TO_TLS, False, Asked("http://foo", "HEAD"), 307, "https://foo:443/"),
    "address-with-host": (
        ("10.0.0.1:8443", True),
        False,
        Asked("http://h"),
        302,
        "https://h:8443/",
    ),
    "before-the-modifiers": (
        TO_TLS,
        False,
        Asked("http://h", uri="/abc?x=1", original_uri="/s/abc?x=1"),
        302,
        "https://h:443/s/abc?x=1",
    ),
    "R24": (
        TO_TLS,
        False,
        Asked("http://h", uri="/a%2Fb/?x=%20"),
        302,
        "https://h:443/a%2Fb/?x=%20",
    ),
}


@pytest.mark.parametrize(
    ("target", "permanent", "asked", "status", "location"), ENTRY_POINT.values(), ids=ENTRY_POINT
)
def test_to_an_entry_point(
    target: tuple[str, bool], permanent: bool, asked: Asked, status: int, location: str
) -> None:
    address, secure = target
    middleware = RedirectToEntryPoint(
        entry_point_target(address, secure=secure), permanent=permanent
    )
    answer = ask(middleware, asked)
    assert answer is not None
    assert (answer.status, header(answer, "Location")) == (status, location)
    assert header(answer, "Content-Type") == "text/plain; charset=utf-8"
    if status == 302:
        assert answer.body == b"Found"


@pytest.mark.parametrize("address", [":foo", "foo", ":", ""])
def test_r08_a_target_needs_a_port(address: str) -> None:
    with pytest.raises(ValueError, match="has no port"):
        entry_point_target(address, secure=False)


def test_without_a_host_there_is_nowhere_to_go() -> None:
    middleware = RedirectToEntryPoint(entry_point_target(":443", secure=True), permanent=False)
    answer = ask(middleware, Asked("http://"))
    assert answer is not None
    assert answer.status == 400


TEMPLATE = 'https://${1}{{ .Request.Header.Get "X-Foo" }}$2:443$4'
TO_OTHER = ("^http://red/(.*)$", "http://other/$1")
HTTPS = (("X-Forwarded-Proto", "https"),)
EXPRESSION = {
    "R11": (
        (FOO, "https://${1}bar$2:443$4"),
        Asked("http://foo.com:80"),
        (302, "https://foobar.com:443/"),
    ),
    "R12": (
        (FOO, TEMPLATE),
        Asked("http://foo.com:80", headers=(("X-Foo", "bar"),)),
        (302, "https://foobar.com:443/"),
    ),
    "R13": ((FOO, "https://${1}bar$2:443$4"), Asked("http://bar.com:80"), None),
    "R14": (("^(.*)$", "http://192.168.0.%31/"), Asked("http://foo.com:80"), (502, None)),
    "R19": (TO_OTHER, Asked("http://red", uri="/abc?x=1"), (302, "http://other/abc?x=1")),
    "R20-head": (TO_OTHER, Asked("http://red", "HEAD", uri="/abc"), (307, "http://other/abc")),
    "R20-post": (TO_OTHER, Asked("http://red", "POST", uri="/abc"), (307, "http://other/abc")),
    "R21": (TO_OTHER, Asked("http://red", headers=HTTPS, uri="/abc"), None),
    "R22-case": (TO_OTHER, Asked("http://RED", uri="/abc"), None),
    "R22-port": (TO_OTHER, Asked("http://red:81", uri="/abc"), None),
    "unchanged": (("^(.*)$", "$1"), Asked("http://red", uri="/abc"), None),
    "modifiers-undone": (
        ("^http://red/(.*)$", "http://other/$1?q=2"),
        Asked("http://red", uri="/abc", original_uri="/s/abc"),
        (302, "http://other/s/abc?q=2"),
    ),
    "client-cannot-inject-actions": (
        ("^http://red/(.*)$", "http://other/$1"),
        Asked("http://red", uri="/{{.Request.Header}}"),
        (302, "http://other/{{.Request.Header}}"),
    ),
    "header-cannot-inject-lines": (
        ("^http://red/$", 'http://o/{{.Request.Header.Get "X"}}'),
        Asked("http://red", headers=(("X", "a b\xe9\t"),)),
        (302, "http://o/a%20b%E9"),
    ),
    "header-cannot-make-a-bad-host": (
        ("^http://red/$", 'http://{{.Request.Header.Get "X"}}/'),
        Asked("http://red", headers=(("X", "a b"),)),
        (502, None),
    ),
    "path-alone": (
        ("^http://red/(.*)$", "/new/$1"),
        Asked("http://red", uri="/a"),
        (302, "/new/a"),
    ),
    "no-open-redirect": (
        ("^http://red(/.*)/old$", "$1"),
        Asked("http://red", uri="//evil.test/old"),
        (302, "/evil.test"),
    ),
    "scheme-relative-on-purpose": (
        ("^http://red/(.*)$", "//other/$1"),
        Asked("http://red", uri="/a"),
        (302, "//other/a"),
    ),
    "bad-escape": (("^(.*)$", "http://o/%zz"), Asked("http://red"), (502, None)),
    "no-url": (("^(.*)$", "nonsense"), Asked("http://red"), (502, None)),
    "ipv6": (
        ("^http://red", "http://[::1]:8080"),
        Asked("http://red"),
        (302, "http://[::1]:8080/"),
    ),
    "every-match": (("a", "b"), Asked("http://h", uri="/aaa"), (302, "http://h/bbb")),
}


@pytest.mark.parametrize(("settings", "asked", "expected"), EXPRESSION.values(), ids=EXPRESSION)
def test_by_expression(
    settings: tuple[str, str], asked: Asked, expected: tuple[int, str | None] | None
) -> None:
    answer = ask(RedirectByExpression(*settings, permanent=False), asked)
    if expected is None:
        assert answer is None
    else:
        assert answer is not None
        assert (answer.status, header(answer, "Location")) == expected


def test_r15_a_bad_expression_is_an_error() -> None:
    with pytest.raises(ExpressionError):
        RedirectByExpression("^(.*", "x", permanent=False)


@pytest.mark.parametrize(
    "text", ["{{ .Request.Header }}", "{{", "{{ printf }}", "{{.Request.Header.Get X}}", "a\x00b"]
)
def test_templates_that_are_not_known_are_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        RedirectByExpression("^(.*)$", text, permanent=False)


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60))
def test_whatever_a_client_asks_the_location_is_one_line_on_the_same_host(path: str) -> None:
    middleware = RedirectByExpression("^http://red/(.*)$", "http://other/$1", permanent=True)
    answer = ask(middleware, Asked("http://red", uri="/" + path))
    assert answer is not None
    location = header(answer, "Location")
    if answer.status == 301:
        assert location is not None
        assert location.startswith("http://other/")
        assert location.isascii()
        assert location.isprintable()
    else:
        assert answer.status == 502
