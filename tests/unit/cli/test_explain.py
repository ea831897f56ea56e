"""``kvproxy explain``: which frontend, why, and why not the others."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.cli.support import StoreFile, kvproxy

if TYPE_CHECKING:
    from pathlib import Path

ROUTES = {
    "api": ("Host:web.localhost;PathPrefixStrip:/api", "api"),
    "web": ("Host:web.localhost", "web"),
    "versioned": ("Host:web.localhost;Headers:X-Version,2", "web"),
    "posts": ("Host:form.localhost;Method:POST", "web"),
    "slash": ("Host:slash.localhost;Path:/here/", "web"),
    "empty": ("Host:empty.localhost", "empty"),
}
POINTS = ("--entryPoints=Name:http Address::8000", "--entryPoints=Name:admin Address::8001")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> StoreFile:
    found = StoreFile(tmp_path_factory.mktemp("explain") / "store.db")
    pairs = ["kvproxy/backends/web/servers/one/url", "http://127.0.0.1:9001"]
    pairs += ["kvproxy/backends/web/servers/one/weight", "3"]
    pairs += ["kvproxy/backends/api/servers/one/url", "http://127.0.0.1:9002"]
    pairs += ["kvproxy/backends/empty/loadbalancer/method", "wrr"]
    for name, (rule, backend) in ROUTES.items():
        pairs += [f"kvproxy/frontends/{name}/backend", backend]
        pairs += [f"kvproxy/frontends/{name}/routes/main/rule", rule]
    pairs += ["kvproxy/frontends/admin/backend", "web", "kvproxy/frontends/admin/entrypoints"]
    pairs += ["admin", "kvproxy/frontends/bad/backend", "web"]
    pairs += ["kvproxy/frontends/bad/routes/main/rule", "Hots:bad.localhost"]
    found.done("put", *pairs)
    return found


def explain(store: StoreFile, *arguments: str) -> tuple[int, str, str]:
    result = kvproxy("explain", "--embedded", store.flag, *POINTS, *arguments)
    return result.exit_code, result.stdout, result.stderr


def taken_by(store: StoreFile, *arguments: str) -> dict[str, Any] | None:
    _, output, _ = explain(store, "--output", "json", *arguments)
    taken: dict[str, Any] | None = json.loads(output)["explanation"]["takenBy"]
    return taken


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("GET", "http://web.localhost/"), "web"),
        (("GET", "web.localhost"), "web"),
        (("GET", "https://WEB.localhost:8443/x"), "web"),
        (("GET", "http://web.localhost/api/v1?x=1"), "api"),
        (("GET", "http://web.localhost/", "-H", "X-Version: 2"), "versioned"),
        (("GET", "http://web.localhost/", "-H", "x-version:2"), "versioned"),
        (("GET", "http://web.localhost/", "-H", "X-Version: 3"), "web"),
        (("GET", "http://other/", "-H", "Host: web.localhost"), "web"),
        (("POST", "http://form.localhost/"), "posts"),
        (("GET", "http://form.localhost/"), None),
        (("GET", "http://nobody.localhost/"), None),
        (("GET", "http://bad.localhost/"), None),
        (("GET", "http://anything/", "--on", "admin"), "admin"),
        (("GET", "http://web.localhost/", "--on", "admin"), "admin"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_the_frontend_that_takes_a_request(
    store: StoreFile, arguments: tuple[str, ...], name: str | None
) -> None:
    found = taken_by(store, *arguments)
    assert (found["name"] if found else None) == name
    assert explain(store, *arguments)[0] == (0 if name else 1)


def test_what_the_server_gets_is_shown(store: StoreFile) -> None:
    _, output, _ = explain(store, "GET", "http://web.localhost/api/v1?x=1")
    assert "Taken by `api` (embedded, priority 39)" in output
    assert "Host:web.localhost " in output
    assert "PathPrefixStrip:/api " in output
    assert "sent on as /v1?x=1 to backend `api`:" in output
    assert "one: http://127.0.0.1:9002 (weight 1)" in output


def test_what_would_match_too_and_what_does_not_is_listed(store: StoreFile) -> None:
    _, output, _ = explain(store, "GET", "http://web.localhost/api")
    later = output.partition("Would match too")[2].partition("Do not match")[0]
    assert "`web` (embedded, priority 18): Host:web.localhost" in later
    others = output.partition("Do not match")[2]
    assert "`versioned`" in others
    assert "Headers:X-Version,2, but it has" in others
    assert (
        "`posts` (embedded, priority 31): Host:form.localhost, but it has web.localhost" in others
    )


def test_a_refused_frontend_is_mentioned(store: StoreFile) -> None:
    code, output, _ = explain(store, "GET", "http://bad.localhost/")
    assert code == 1
    assert "No frontend takes it: 404" in output
    assert "Refused, so not considered" in output
    assert "kvproxy/frontends/bad/routes/main/rule" in output


def test_a_redirect_is_told(store: StoreFile) -> None:
    _, output, _ = explain(store, "GET", "http://slash.localhost/here")
    assert "Taken by `slash`" in output
    assert "redirect to the same path with its trailing slash changed" in output
    _, output, _ = explain(store, "GET", "http://slash.localhost/here", "--keepTrailingSlash")
    assert "No frontend takes it" in output


def test_a_backend_without_servers_is_told(store: StoreFile) -> None:
    _, output, _ = explain(store, "GET", "http://empty.localhost/")
    assert "it has no server: 503" in output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("GET", "http://web.localhost/a%2fb"), "the path is refused with status 400"),
        (("GET", "http://web.localhost/a/../b"), "the path is refused with status 400"),
        (("GET", "ftp://web.localhost/"), "no http URL"),
        (("GET", "http:///path"), "no http URL"),
        (("CONNECT", "http://web.localhost/"), "refused with status 405"),
        (("G ET", "http://web.localhost/"), "refused with status 400"),
        (("GET", "http://web.localhost/", "-H", "nonsense"), "expected `Name: value`"),
        (("GET", "http://web.localhost/", "-H", "Bad Name: x"), "refused with status 400"),
        (("GET", "http://web.localhost/", "-H", f"X: {'y' * 70000}"), "refused with status 431"),
    ],
)
def test_a_request_that_no_proxy_would_route(
    store: StoreFile, arguments: tuple[str, ...], message: str
) -> None:
    code, _, errors = explain(store, *arguments)
    assert code == 1
    assert message in errors


def test_unsafe_paths_follow_the_setting(store: StoreFile) -> None:
    arguments = ("GET", "http://web.localhost/a%2fb", "--allowUnsafePaths")
    found = taken_by(store, *arguments)
    assert found is not None
    assert found["name"] == "web"
    assert "sent on as /a%2fb to" in explain(store, *arguments)[1]


def test_an_unknown_entry_point_names_the_nearest(store: StoreFile) -> None:
    code, _, errors = explain(store, "GET", "http://web.localhost/", "--on", "adnim")
    assert code == 2
    assert "Did you mean `admin`?" in errors


def test_no_provider_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    result = kvproxy("explain", "GET", "http://web.localhost/")
    assert result.exit_code == 1
    assert "no provider is configured" in result.stderr


def test_many_frontends_are_shortened_unless_all_are_asked_for(tmp_path: Path) -> None:
    store = StoreFile(tmp_path / "store.db")
    pairs = ["kvproxy/backends/b/servers/one/url", "http://127.0.0.1:9001"]
    for number in range(30):
        pairs += [f"kvproxy/frontends/f{number}/backend", "b"]
        pairs += [f"kvproxy/frontends/f{number}/routes/r/rule", f"Host:h{number}.localhost"]
    store.done("put", *pairs)
    _, output, _ = explain(store, "GET", "http://h7.localhost/")
    assert "and 19 more (--all)" in output
    _, output, _ = explain(store, "GET", "http://h7.localhost/", "--all")
    assert output.count("but it has") == 29
