"""AccessLogSuite and LogRotationSuite (specification 12.3), and row R25 of the redirects.

Names of frontends are those that the reference's tests get from a provider.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import frontend
from tests.support.access_log import parse_line, raw_lines
from tests.support.deadline import wait_until
from tests.support.digest import digest_answer
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.cases import Servers
    from tests.support.access_log import Line

USERS = {"basic": {"users": ["test:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="]}}
DIGEST = {"digest": {"users": ["test:traefik:a2688e031edb4be6a3797f3882655c05"]}}
CREDENTIALS = (("Authorization", "Basic dGVzdDp0ZXN0"),)
NOBODY = {"sourceRange": ["8.8.8.8/32"]}
SLOW = {"period": "60s", "average": 4, "burst": 2}

ENTRY_POINTS: dict[str, dict[str, Any]] = {
    "http": {},
    "httpRedirect": {"redirect": {"entryPoint": "http"}},
    "httpAuth": {"auth": USERS},
    "httpDigest": {"auth": DIGEST},
    "httpWhitelistReject": {"whiteList": NOBODY},
}


@dataclass(frozen=True)
class Wanted:
    """What a line must say; ``frontend`` and ``url`` are beginnings."""

    status: int
    user: str
    frontend: str
    url: str


@dataclass(frozen=True)
class Row:
    """Requests to hosts, and their lines."""

    identity: str
    hosts: tuple[str, ...]
    lines: tuple[Wanted, ...]
    entry_point: str = "http"
    headers: tuple[tuple[str, str], ...] = ()


def served(name: str, user: str = "-") -> Wanted:
    return Wanted(200, user, name, "http://127.0.0.1:")


ROWS = [
    Row(
        "TestAccessLog",
        ("frontend1.docker.local", "frontend2.docker.local", "frontend2.docker.local"),
        (served("Host-frontend1"), served("Host-frontend2"), served("Host-frontend2")),
    ),
    Row(
        "TestAccessLogAuthFrontend",
        ("frontend.auth.docker.local",),
        (Wanted(401, "-", "Auth for frontend-Host-frontend-auth-docker-local", "/"),),
    ),
    Row(
        "TestAccessLogAuthFrontendSuccess",
        ("frontend.auth.docker.local",),
        (served("Host-frontend-auth-docker-local", "test"),),
        headers=CREDENTIALS,
    ),
    Row(
        "TestAccessLogAuthEntrypoint",
        ("entrypoint.auth.docker.local",),
        (Wanted(401, "-", "Auth for entrypoint httpAuth", "/"),),
        "httpAuth",
    ),
    Row(
        "TestAccessLogAuthEntrypointSuccess",
        ("entrypoint.auth.docker.local",),
        (served("Host-entrypoint-auth-docker-local", "test"),),
        "httpAuth",
        CREDENTIALS,
    ),
    Row(
        "TestAccessLogEntrypointRedirect",
        ("frontend1.docker.local",),
        (Wanted(302, "-", "entrypoint redirect for httpRedirect", "/"),),
        "httpRedirect",
    ),
    Row(
        "R25-entry-point",
        ("frontend1.docker.local",),
        (Wanted(302, "-", "entrypoint redirect for httpRedirect", "/"),),
        "httpRedirect",
    ),
    Row(
        "TestAccessLogFrontendRedirect",
        ("frontend.redirect.docker.local",),
        (Wanted(302, "-", "frontend redirect for frontend-Path-", "/"),),
    ),
    Row(
        "R25-frontend",
        ("frontend.redirect.docker.local",),
        (Wanted(302, "-", "frontend redirect for frontend-Path-", "/"),),
    ),
    Row(
        "TestAccessLogRateLimit",
        ("ratelimit.docker.local",) * 3,
        (
            served("Host-ratelimit"),
            served("Host-ratelimit"),
            Wanted(429, "-", "rate limit for frontend-Host-ratelimit-docker-local", "/"),
        ),
    ),
    Row(
        "TestAccessLogBackendNotFound",
        ("backendnotfound.docker.local",),
        (Wanted(404, "-", "backend not found", "/"),),
    ),
    Row(
        "TestAccessLogEntrypointWhitelist",
        ("no.docker.local",),
        (Wanted(403, "-", "ipwhitelister for entrypoint httpWhitelistReject", "/"),),
        "httpWhitelistReject",
    ),
    Row(
        "TestAccessLogFrontendWhitelist",
        ("frontend.whitelist.docker.local",),
        (
            Wanted(
                403,
                "-",
                "ipwhitelister for frontend-Host-frontend-whitelist-docker-local",
                "/",
            ),
        ),
    ),
    Row(
        "8.2-connection-limit",
        ("connectionlimit.docker.local",),
        (Wanted(429, "-", "connection limit for frontend-Host-connectionlimit", "/"),),
    ),
    Row(
        "8.2-no-server-reached",
        ("dead.docker.local",),
        (Wanted(502, "-", "Host-dead", "http://127.0.0.1:"),),
    ),
    Row("8.2-no-server-left", ("empty.docker.local",), (Wanted(503, "-", "Host-empty", "/"),)),
]


def routes(servers: Servers) -> dict[str, Any]:
    def to(host: str, **options: Any) -> dict[str, Any]:
        return frontend(f"Host:{host}", entryPoints=list(ENTRY_POINTS), **options)

    def name(host: str) -> str:
        return "frontend-Host-" + host.replace(".", "-")

    plain = ("frontend1.docker.local", "frontend2.docker.local", "entrypoint.auth.docker.local")
    limit = {"extractorFunc": "client.ip", "rateSet": {"powpow": SLOW}}
    echo = {"one": {"url": servers["echo"].url}}
    return {
        "backends": {
            "echo": {"servers": echo},
            "limited": {"servers": echo, "maxConn": {"amount": -1, "extractorFunc": "client.ip"}},
            "dead": {"servers": {"one": {"url": servers.addresses["dead"]}}},
            "empty": {"servers": {}},
        },
        "frontends": {
            **{name(host): to(host) for host in plain},
            name("frontend.auth.docker.local"): to("frontend.auth.docker.local", auth=USERS),
            "frontend-Path-": to(
                "frontend.redirect.docker.local",
                redirect={"regex": "^(.*)$", "replacement": "http://frontend1.docker.local/"},
            ),
            name("ratelimit.docker.local"): to("ratelimit.docker.local", ratelimit=limit),
            name("frontend.whitelist.docker.local"): to(
                "frontend.whitelist.docker.local", whiteList=NOBODY
            ),
            name("connectionlimit.docker.local"): to(
                "connectionlimit.docker.local", backend="limited"
            ),
            name("dead.docker.local"): to("dead.docker.local", backend="dead"),
            name("empty.docker.local"): to("empty.docker.local", backend="empty"),
        },
    }


@pytest.fixture(scope="module")
def log_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("access-log") / "folder" / "access.log"


@pytest.fixture(scope="module")
def proxy(servers: Servers, log_path: Path) -> Iterator[ProxyProcess]:
    static = {"accessLog": {"filePath": str(log_path)}, "logLevel": "ERROR"}
    with ProxyProcess(routes(servers), entry_points=ENTRY_POINTS, static=static) as running:
        yield running


def check(line: Line, wanted: Wanted) -> None:
    assert line.status == str(wanted.status), line
    assert line.user == wanted.user, line
    assert line.frontend.startswith(wanted.frontend), line
    assert line.url.startswith(wanted.url), line
    assert (line.host, line.referer, line.protocol) == ("127.0.0.1", "-", "HTTP/1.1")
    assert re.fullmatch(r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000", line.time)


def new_lines(path: Path, marker: str, count: int) -> list[Line]:
    """Wait for the lines of requests to ``marker``; all lines so far are numbered in order."""

    def found() -> list[Line]:
        lines = [parse_line(line) for line in path.read_text().splitlines(keepends=True)]
        assert [line.count for line in lines] == [str(each + 1) for each in range(len(lines))]
        return [line for line in lines if line.path == marker]

    wait_until(lambda: len(found()) >= count, f"{count} lines of {marker}", 10.0)
    lines = found()
    assert len(lines) == count
    return lines


@pytest.mark.parametrize("row", ROWS, ids=[row.identity for row in ROWS])
def test_access_log(proxy: ProxyProcess, log_path: Path, row: Row) -> None:
    path = f"/{row.identity}"
    for host in row.hosts:
        proxy.fetch(path, host=host, entry_point=row.entry_point, headers=row.headers)
    for line, wanted in zip(new_lines(log_path, path, len(row.hosts)), row.lines, strict=True):
        check(line, wanted)
        if wanted.url == "/":
            assert line.url == path
    assert proxy.log() == ""


def test_access_log_digest_auth_entrypoint(proxy: ProxyProcess, log_path: Path) -> None:
    """Row TestAccessLogDigestAuthEntrypoint."""
    path, host = "/digest", "entrypoint.auth.docker.local"
    refused = proxy.fetch(path, host=host, entry_point="httpDigest")
    challenge = refused.value("Www-Authenticate")
    assert challenge is not None
    proof = (("Authorization", digest_answer(challenge, path, 1)),)
    assert proxy.fetch(path, host=host, entry_point="httpDigest", headers=proof).status == 200
    first, second = new_lines(log_path, path, 2)
    check(first, Wanted(401, "-", "Auth for entrypoint httpDigest", "/"))
    check(second, served("Host-entrypoint-auth-docker-local", "test"))


def test_access_log_rotation(servers: Servers, tmp_path: Path) -> None:
    """Row TestAccessLogRotation."""
    path, moved = tmp_path / "access.log", tmp_path / "access.log.rotated"
    static = {"accessLog": {"filePath": str(path)}, "logLevel": "ERROR"}
    with ProxyProcess(routes(servers), entry_points=ENTRY_POINTS, static=static) as proxy:
        proxy.fetch("/before", host="frontend1.docker.local")
        new_lines(path, "/before", 1)
        path.rename(moved)
        proxy.signal(signal.SIGUSR1)
        wait_until(path.exists, "a new file", 10.0)
        for number in range(2):
            proxy.fetch(f"/after-{number}", host="frontend1.docker.local")
        after = [parse_line(line) for line in raw_lines(path, 2)]
        before = [parse_line(line) for line in moved.read_text().splitlines(keepends=True)]
        assert proxy.log() == ""
    assert before[-1].path == "/before"
    assert [line.path for line in after] == ["/after-0", "/after-1"]
    counts = [line.count for line in (*before, *after)]
    assert counts == [str(number + 1) for number in range(len(counts))]
