"""Case table 10.9: redirects to entry points and by expression, on sockets.

R25 is in `test_access_log`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import frontend
from tests.support.backend import echoed
from tests.support.http_client import build_request, fetch
from tests.support.proxy_process import ProxyProcess
from tests.support.tls_client import open_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.cases import Servers
    from tests.support.http_client import Response

FOO = r"^(?:http?:\/\/)(foo)(\.com)(:\d+)(.*)$"
ENTRY_POINTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "secure": {"tls": {}},
    "to-secure": {"redirect": {"entryPoint": "secure"}},
    "to-secure-for-good": {"redirect": {"entryPoint": "secure", "permanent": True}},
    "to-plain": {"redirect": {"entryPoint": "plain"}},
    "to-plain-for-good": {"redirect": {"entryPoint": "plain", "permanent": True}},
    "from-tls": {"tls": {}, "redirect": {"entryPoint": "plain"}},
    "from-tls-for-good": {"tls": {}, "redirect": {"entryPoint": "plain", "permanent": True}},
    "foo": {"redirect": {"regex": FOO, "replacement": "https://${1}bar$2:443$4"}},
    "template": {
        "redirect": {
            "regex": FOO,
            "replacement": 'https://${1}{{ .Request.Header.Get "X-Foo" }}$2:443$4',
        }
    },
    "bad-result": {"redirect": {"regex": "^(.*)$", "replacement": "http://192.168.0.%31/"}},
    "both": {
        "redirect": {"entryPoint": "secure", "regex": "^(.*)$", "replacement": "http://wrong/"}
    },
    "guarded": {
        "redirect": {"entryPoint": "secure"},
        "auth": {"basic": {"users": ["u:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="]}},
        "whiteList": {"sourceRange": ["10.0.0.1"]},
    },
}
TO_OTHER = {"redirect": {"regex": "^http://red/(.*)$", "replacement": "http://other/$1"}}


@dataclass(frozen=True)
class Row:
    """One request and its redirect; ``location`` None: it reaches a server.

    ``{NAME}`` in a location stands for the port of an entry point.
    """

    identity: str
    entry_point: str
    host: str
    status: int
    location: str | None = None
    target: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()


HTTPS = (("X-Forwarded-Proto", "https"),)
PATHS = (
    *("/api", "/api/", "/api//", "/api/bacon", "/api/bacon/", "/api/bacon//"),
    *("/", "//", "/wtf", "/wtf/", "/wtf/foo"),
)
ROWS = [
    Row("R01", "to-secure", "foo:80", 302, "https://foo:{secure}/"),
    Row("R02", "from-tls", "foo:443", 302, "http://foo:{plain}/"),
    Row("R03", "to-plain", "foo:80", 302, "http://foo:{plain}/"),
    Row("R04", "to-secure-for-good", "foo:80", 301, "https://foo:{secure}/"),
    Row("R05", "from-tls-for-good", "foo:443", 301, "http://foo:{plain}/"),
    Row("R06", "to-plain", "foo:90", 307, "http://foo:{plain}/", method="POST"),
    Row("R07", "to-plain-for-good", "foo:90", 308, "http://foo:{plain}/", method="POST"),
    Row("R09", "to-plain", "[::1]", 302, "http://[::1]:{plain}/"),
    Row("R09-port", "to-plain", "[::1]:80", 302, "http://[::1]:{plain}/"),
    Row("R10", "to-secure", "[::1]", 302, "https://[::1]:{secure}/"),
    Row("R10-port", "to-secure", "[::1]:80", 302, "https://[::1]:{secure}/"),
    Row("R11", "foo", "foo.com:80", 302, "https://foobar.com:443/"),
    Row(
        "R12", "template", "foo.com:80", 302, "https://foobar.com:443/", headers=(("X-Foo", "bar"),)
    ),
    Row("R13", "foo", "bar.com:80", 404),
    Row("R14", "bad-result", "any", 502),
    Row("R16", "both", "foo.com:80", 302, "https://foo.com:{secure}/"),
    *(
        Row(f"R17-{path}", "to-secure", "foo", 302, f"https://foo:{{secure}}{path}", path)
        for path in PATHS
    ),
    Row("R18", "plain", "strip", 302, "http://strip:{to-plain}/s/abc?x=1", "/s/abc?x=1"),
    Row("R19", "plain", "red", 302, "http://other/abc?x=1", "/abc?x=1"),
    Row("R20-head", "plain", "red", 307, "http://other/abc", "/abc", "HEAD"),
    Row("R20-post", "plain", "red", 307, "http://other/abc", "/abc", "POST"),
    Row("R21", "plain", "red", 200, None, "/abc", headers=HTTPS),
    Row("R22-case", "plain", "RED", 200, None, "/abc"),
    Row("R22-port", "plain", "red:81", 200, None, "/abc"),
    Row("R23", "plain", "own", 200, None, "/abc"),
    Row("R24", "to-secure", "h", 302, "https://h:{secure}/a?x=%20", "/a?x=%20"),
    Row("5.1-redirect-comes-first", "guarded", "h", 302, "https://h:{secure}/"),
    Row("9.6-unmatched-requests-too", "to-secure", "no.such", 302, "https://no.such:{secure}/"),
]


@pytest.fixture(scope="module")
def proxy(servers: Servers) -> Iterator[ProxyProcess]:
    def to(entry_point: str, *rules: str) -> dict[str, Any]:
        return frontend(
            *rules, entryPoints=["plain"], redirect={"entryPoint": entry_point, "permanent": False}
        )

    routes = {
        "backends": {"echo": {"servers": {"one": {"url": servers["echo"].url}}}},
        "frontends": {
            "strip": to("to-plain", "Host:strip;PathPrefixStrip:/s"),
            "own": to("plain", "Host:own"),
            "red": frontend("HostRegexp:{any:(?i)red}", entryPoints=["plain"], **TO_OTHER),
            "R08": to("nowhere", "Host:nowhere"),
            "R15": frontend(
                "Host:bad", entryPoints=["plain"], redirect={"regex": "^(.*", "replacement": "x"}
            ),
        },
    }
    static = {"allowUnsafePaths": True}
    with ProxyProcess(routes, entry_points=ENTRY_POINTS, static=static) as running:
        yield running


def ask(proxy: ProxyProcess, row: Row) -> Response:
    request = build_request(row.target, host=row.host, method=row.method, headers=row.headers)
    port = proxy.ports[row.entry_point]
    if "tls" in ENTRY_POINTS[row.entry_point]:
        with open_connection(port, "foo") as connection:
            return connection.request(request)
    return fetch(port, request)


@pytest.mark.parametrize("row", ROWS, ids=[row.identity for row in ROWS])
def test_redirects(proxy: ProxyProcess, row: Row) -> None:
    answer = ask(proxy, row)
    assert answer.status == row.status, answer.raw
    if row.location is None:
        assert answer.values("Location") == []
        if row.status == 200:
            assert echoed(answer).target == row.target.encode()
        return
    location = row.location
    for name, port in proxy.ports.items():
        location = location.replace(f"{{{name}}}", str(port))
    assert answer.values("Location") == [location.encode()]
    assert answer.value("Content-Type") == b"text/plain; charset=utf-8"
    if row.method == "GET":
        assert answer.body == {301: b"Moved Permanently", 302: b"Found"}[row.status]


def test_r24_an_encoded_path(proxy: ProxyProcess) -> None:
    row = Row("R24", "to-secure", "h", 302, target="/a%2Fb/?x=%20")
    location = f"https://h:{proxy.ports['secure']}/a%2Fb/?x=%20"
    assert ask(proxy, row).values("Location") == [location.encode()]


@pytest.mark.parametrize("host", ["nowhere", "bad"], ids=["R08", "R15"])
def test_what_cannot_be_put_into_effect_is_refused(proxy: ProxyProcess, host: str) -> None:
    assert ask(proxy, Row(host, "plain", host, 404)).status == 404
    assert "redirect" in proxy.log()


def test_a_client_cannot_inject_template_actions(proxy: ProxyProcess) -> None:
    """Only what the operator wrote is a template (specification section 11.2)."""
    sent = "/{{.Request.Header}}"
    answer = ask(proxy, Row("injection", "plain", "red", 302, target=sent))
    assert answer.status == 302
    assert answer.value("Location") in (
        b"http://other/{{.Request.Header}}",
        b"http://other/%7B%7B.Request.Header%7D%7D",
    )


def test_the_proto_of_an_untrusted_client_does_not_count(servers: Servers) -> None:
    """Who is not believed cannot get round a redirect to TLS."""
    routes = {
        "backends": {"echo": {"servers": {"one": {"url": servers["echo"].url}}}},
        "frontends": {"red": frontend("Host:red", **TO_OTHER)},
    }
    points = {"http": {"forwardedHeaders": {"trustedIPs": ["10.0.0.1"]}}}
    with ProxyProcess(routes, entry_points=points) as proxy:
        assert proxy.fetch("/abc", host="red", headers=HTTPS).status == 302
