"""The security options of a frontend (specification section 6.2)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.middleware.security_headers import SecurityChecks, SecurityResponseHeaders
from kvproxy.model.dynamic import Headers
from tests.unit.middleware.requests import Local, a_request, header, now

if TYPE_CHECKING:
    from kvproxy.http.answer import Answer
    from tests.unit.middleware.requests import Fields

TO_SECURE = {"ssl_redirect": True, "ssl_host": "p.ex"}
FORCED = {**TO_SECURE, "ssl_force_host": True}
BEHIND_TLS = {"X-Forwarded-Proto": "https"}
SAYS_TLS = (("X-Forwarded-Proto", "https"),)


def check(
    options: dict[str, Any],
    uri: str = "/",
    *,
    host: str = "h",
    method: str = "GET",
    headers: Fields = (),
    secure: bool = False,
) -> Answer | None:
    middleware = SecurityChecks(Headers(**options))
    request = a_request(uri, host=host, method=method, headers=headers, client=Local(secure=secure))
    return now(middleware, request)


REDIRECTED: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, str] | None]] = {
    "plain": ({"ssl_redirect": True}, {"uri": "/x?q=1"}, (301, "https://h/x?q=1")),
    "port-kept": (
        {"ssl_redirect": True},
        {"uri": "/x", "host": "h:8080", "method": "POST"},
        (301, "https://h:8080/x"),
    ),
    "temporary": (
        {"ssl_redirect": True, "ssl_temporary_redirect": True, "ssl_host": "secure.host"},
        {"uri": "/x"},
        (307, "https://secure.host/x"),
    ),
    "already-secure": ({"ssl_redirect": True}, {"secure": True}, None),
    "secure-by-header": (
        {"ssl_redirect": True, "ssl_proxy_headers": BEHIND_TLS},
        {"headers": SAYS_TLS},
        None,
    ),
    "other-value-of-header": (
        {"ssl_redirect": True, "ssl_proxy_headers": BEHIND_TLS},
        {"headers": (("X-Forwarded-Proto", "HTTPS"),)},
        (301, "https://h/"),
    ),
    "development": ({"ssl_redirect": True, "is_development": True}, {}, None),
    "force-http-host": (FORCED, {"host": "p.ex"}, (301, "https://p.ex/")),
    "force-http-other": (FORCED, {"host": "www.p.ex"}, (301, "https://p.ex/")),
    "force-https-host": (FORCED, {"host": "p.ex", "secure": True}, None),
    "force-https-other": (FORCED, {"host": "www.p.ex", "secure": True}, (301, "https://p.ex/")),
    "force-in-development": (
        {**FORCED, "is_development": True},
        {"host": "www.p.ex"},
        (301, "https://p.ex/"),
    ),
    "no-force-http-other": (TO_SECURE, {"host": "www.p.ex"}, (301, "https://p.ex/")),
    "no-force-https-other": (TO_SECURE, {"host": "www.p.ex", "secure": True}, None),
    "force-without-host": ({"ssl_force_host": True}, {"host": "www.p.ex"}, None),
    "proxy-host": (
        {"ssl_redirect": True, "hosts_proxy_headers": ("X-FH",)},
        {"headers": (("X-FH", "outer"),)},
        (301, "https://outer/"),
    ),
}


@pytest.mark.parametrize(("options", "asked", "expected"), REDIRECTED.values(), ids=REDIRECTED)
def test_redirect(
    options: dict[str, Any], asked: dict[str, Any], expected: tuple[int, str] | None
) -> None:
    answer = check(options, **asked)
    if expected is None:
        assert answer is None
        return
    assert answer is not None
    assert (answer.status, header(answer, "Location")) == expected
    if asked.get("method") == "POST":
        assert answer.body == b""
    elif expected[0] == 301:
        assert answer.body == f'<a href="{expected[1]}">Moved Permanently</a>.\n\n'.encode()


@pytest.mark.parametrize("claimed", ["a b", "a\xe9", 'a"', "evil/", "evil?", "evil#", "u@evil"])
def test_a_claimed_host_that_is_none_is_not_repeated(claimed: str) -> None:
    options = {"ssl_redirect": True, "hosts_proxy_headers": ("X-FH",)}
    answer = check(options, headers=(("X-FH", claimed),))
    assert answer is not None
    assert answer.status == 400


ALLOWED = {"allowed_hosts": ("good.host",)}
HOSTS = {
    "allowed": (ALLOWED, "good.host", (), True),
    "case": (ALLOWED, "GOOD.host", (), True),
    "other": (ALLOWED, "bad.host", (), False),
    "port-counts": (ALLOWED, "good.host:80", (), False),
    "development": ({**ALLOWED, "is_development": True}, "bad.host", (), True),
    "proxy-header": (
        {**ALLOWED, "hosts_proxy_headers": ("X-FH",)},
        "any",
        (("X-FH", "GOOD.host"),),
        True,
    ),
    "proxy-header-wins": (
        {**ALLOWED, "hosts_proxy_headers": ("X-FH",)},
        "good.host",
        (("X-FH", "bad"),),
        False,
    ),
    "first-of-the-proxy-headers": (
        {**ALLOWED, "hosts_proxy_headers": ("X-None", "X-FH", "X-Other")},
        "any",
        (("X-Other", "bad"), ("X-FH", "good.host")),
        True,
    ),
}


@pytest.mark.parametrize(("options", "host", "sent", "passes"), HOSTS.values(), ids=HOSTS)
def test_allowed_hosts(options: dict[str, Any], host: str, sent: Fields, passes: bool) -> None:
    answer = check(options, host=host, headers=sent)
    if passes:
        assert answer is None
        return
    assert answer is not None
    assert (answer.status, answer.body) == (500, b"Bad Host\n")
    assert header(answer, "X-Content-Type-Options") == "nosniff"


def changed(options: dict[str, Any], head: str = "", **asked: Any) -> str:
    """Return the lines of an answer behind its status line."""
    middleware = SecurityResponseHeaders(Headers(**options))
    client = Local(secure=asked.pop("secure", False))
    lines = middleware.response(
        a_request(client=client, **asked), f"HTTP/1.1 200 OK\r\n{head}".encode(), 200
    )
    return lines.decode().removeprefix("HTTP/1.1 200 OK\r\n")


STS = "Strict-Transport-Security: max-age=42"
LINES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "sts-over-http": ({"sts_seconds": 42}, {}, ""),
    "sts-over-tls": ({"sts_seconds": 42}, {"secure": True}, f"{STS}\r\n"),
    "sts-by-header": (
        {"sts_seconds": 42, "ssl_proxy_headers": BEHIND_TLS},
        {"headers": SAYS_TLS},
        f"{STS}\r\n",
    ),
    "sts-forced": ({"sts_seconds": 42, "force_sts_header": True}, {}, f"{STS}\r\n"),
    "sts-in-development": ({"sts_seconds": 42, "is_development": True}, {"secure": True}, ""),
    "sts-all": (
        {"sts_seconds": 42, "sts_include_subdomains": True, "sts_preload": True},
        {"secure": True},
        f"{STS}; includeSubDomains; preload\r\n",
    ),
    "sts-parts-need-seconds": (
        {"sts_include_subdomains": True, "sts_preload": True, "force_sts_header": True},
        {"secure": True},
        "",
    ),
    "frame-deny": ({"frame_deny": True}, {}, "X-Frame-Options: DENY\r\n"),
    "frame-custom": (
        {"frame_deny": True, "custom_frame_options_value": "SAMEORIGIN"},
        {},
        "X-Frame-Options: SAMEORIGIN\r\n",
    ),
    "nosniff": ({"content_type_nosniff": True}, {}, "X-Content-Type-Options: nosniff\r\n"),
    "xss": ({"browser_xss_filter": True}, {}, "X-Xss-Protection: 1; mode=block\r\n"),
    "xss-custom": (
        {"browser_xss_filter": True, "custom_browser_xss_value": "0"},
        {},
        "X-Xss-Protection: 0\r\n",
    ),
    "policy": (
        {"content_security_policy": "default-src 'self'"},
        {},
        "Content-Security-Policy: default-src 'self'\r\n",
    ),
    "pins-over-http": ({"public_key": "pin"}, {}, ""),
    "pins-over-tls": ({"public_key": "pin"}, {"secure": True}, "Public-Key-Pins: pin\r\n"),
    "pins-in-development": ({"public_key": "pin", "is_development": True}, {"secure": True}, ""),
    "referrer": ({"referrer_policy": "no-referrer"}, {}, "Referrer-Policy: no-referrer\r\n"),
    "development-keeps-the-rest": (
        {"frame_deny": True, "is_development": True},
        {},
        "X-Frame-Options: DENY\r\n",
    ),
}


@pytest.mark.parametrize(("options", "asked", "expected"), LINES.values(), ids=LINES)
def test_lines(options: dict[str, Any], asked: dict[str, Any], expected: str) -> None:
    assert changed(options, **asked) == expected


def test_the_servers_own_headers_are_replaced() -> None:
    head = "x-frame-options: ALLOWALL\r\nReferrer-Policy: same-origin\r\nServer: s\r\n"
    options = {"frame_deny": True, "referrer_policy": "no-referrer"}
    assert changed(options, head) == (
        "Server: s\r\nX-Frame-Options: DENY\r\nReferrer-Policy: no-referrer\r\n"
    )


def test_a_nonce_is_fresh_and_the_same_at_each_place() -> None:
    options = {"content_security_policy": "script-src $NONCE; style-src $NONCE"}
    seen = set()
    for _ in range(3):
        line = changed(options, "Content-Security-Policy: weak\r\n")
        found = re.fullmatch(
            r"Content-Security-Policy: script-src 'nonce-(.{22})'; style-src 'nonce-(.{22})'\r\n",
            line,
        )
        assert found, line
        assert found[1] == found[2]
        assert re.fullmatch("[A-Za-z0-9+/]{22}", found[1])
        seen.add(found[1])
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("location", "secure", "expected"),
    [
        ("http://p.ex", True, "https://p.ex"),
        ("http://p.ex/a?b", True, "https://p.ex/a?b"),
        ("http://p.example/", True, "http://p.example/"),
        ("http://p.ex:80/", True, "http://p.ex:80/"),
        ("https://p.ex/", True, "https://p.ex/"),
        ("http://p.ex/", False, "http://p.ex/"),
    ],
)
def test_locations_on_the_host_of_tls(location: str, secure: bool, expected: str) -> None:
    lines = changed({"ssl_host": "p.ex"}, f"Location: {location}\r\n", secure=secure)
    assert lines == f"Location: {expected}\r\n"


def test_what_is_needed() -> None:
    nothing = Headers(custom_request_headers={"X": "y"}, is_development=True, sts_preload=True)
    assert not SecurityChecks.needed(nothing)
    assert not SecurityResponseHeaders.needed(nothing)
    assert SecurityChecks.needed(Headers(allowed_hosts=("a",)))
    assert SecurityResponseHeaders.needed(Headers(content_security_policy="$NONCE"))
    assert SecurityResponseHeaders.needed(Headers(sts_seconds=1))
