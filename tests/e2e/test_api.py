"""The API of a running proxy: what it shows, to whom, and how soon."""

from __future__ import annotations

import json
import os
import signal
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import AUTHORIZATION, USER, ApiClient
from tests.support.backend import Answer, Backend, plain_answer
from tests.support.deadline import wait_until
from tests.support.http2_client import LibraryClient
from tests.support.http_client import ConnectionEndedError, TooSlowError
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

EXPRESSION = "ResponseCodeRatio(500, 600, 0, 600) > 0.5"
ENTRY_POINTS = {"http": {}, "traefik": {"auth": {"basic": {"users": [USER]}}}}
STATIC: dict[str, Any] = {"api": {}, "ping": {}, "metrics": {"prometheus": {}}}


def routes(url: str) -> dict[str, Any]:
    document = single_backend(url, {"all": "Host:all"}, entryPoints=["http"])
    backends = document["backends"]
    for name in ("breaking", "checked"):
        document["frontends"][name] = {
            "backend": name,
            "entryPoints": ["http"],
            "routes": {"rule": {"rule": f"Host:{name}"}},
        }
        backends[name] = {"servers": {"one": {"url": url}}}
    backends["breaking"]["circuitBreaker"] = {"expression": EXPRESSION}
    backends["checked"]["healthCheck"] = {"path": "/health-of-it", "interval": "300ms"}
    document["frontends"]["own"] = {
        "backend": "server",
        "entryPoints": ["traefik"],
        "routes": {"rule": {"rule": "PathPrefix:/api/own"}},
    }
    return document


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    made.on("/bad", Answer((plain_answer(b"bad", status="500 Internal Server Error"),)))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def proxy(backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    store = {"embedded": {"path": str(tmp_path_factory.mktemp("store") / "store.db")}}
    made = ProxyProcess(
        routes(backend.url), entry_points=ENTRY_POINTS, static={**STATIC, **store}, workers=2
    )
    with made:
        yield made


@pytest.fixture(scope="module")
def api(proxy: ProxyProcess) -> ApiClient:
    return ApiClient(proxy)


def test_providers(api: ApiClient, backend: Backend) -> None:
    everything = wait_until(
        lambda: len(found := api.json("/api")) == 2 and found, "both providers", 10
    )
    assert everything == api.json("/api/providers")
    assert everything["embedded"] == {}
    file = everything["file"]
    assert api.json("/api/providers/file") == file
    assert file["frontends"]["all"] == {
        "backend": "server",
        "entryPoints": ["http"],
        "routes": {"rule": {"rule": "Host:all"}},
        "priority": 0,
        "basicAuth": None,
    }
    breaking = file["backends"]["breaking"]
    assert breaking["circuitBreaker"] == {"expression": EXPRESSION}
    assert breaking["loadBalancer"] == {"method": "wrr"}
    assert api.json("/api/providers/file/backends/breaking/servers/one")["url"] == backend.url
    assert api.json("/api/providers/file/frontends/all/routes/rule") == {"rule": "Host:all"}
    raw = api.get("/api/providers/file/backends/breaking").body
    assert b"\\u003e 0.5" in raw
    assert b">" not in raw


def test_status_is_what_the_command_shows(api: ApiClient, proxy: ProxyProcess) -> None:
    shown = api.json("/api/status")
    asked = proxy.ask("status")
    assert shown.keys() == asked.keys() - {"ok"}
    assert shown["generation"] == asked["generation"]
    assert shown["generation"]["live"] is True
    assert shown["pid"] == proxy.process.pid


def test_version(api: ApiClient) -> None:
    assert api.json("/api/version").keys() == {"Version", "Codename"}


# What is asked, and the status with and without a password.
PROTECTED = [
    ("/api", 200, 401),
    ("/api/", 301, 301),
    ("/api/providers/file", 200, 401),
    ("/api/providers/nobody", 404, 401),
    ("/api/status", 200, 401),
    ("/api/breakers", 200, 401),
    ("/api/servers", 200, 401),
    ("/health", 200, 401),
    ("/metrics", 200, 401),
    ("/ping", 200, 200),
    ("/api/own/x", 200, 401),
    ("/other", 404, 401),
]


@pytest.mark.parametrize(("path", "status", "stranger"), PROTECTED, ids=[r[0] for r in PROTECTED])
def test_the_entry_points_authentication_protects_all_but_ping(
    api: ApiClient, proxy: ProxyProcess, path: str, status: int, stranger: int
) -> None:
    assert api.get(path).status == status
    assert proxy.fetch(path, entry_point="traefik").status == stranger


# Method, path, status: what is no path of the API is the frontends'.
STRANGE = [
    ("GET", "/api/own", 200),
    ("POST", "/api/own", 200),
    ("POST", "/api", 404),
    ("DELETE", "/api/providers/file", 404),
    ("PUT", "/api/providers/web", 404),
    ("OPTIONS", "/api", 404),
    ("GET", "/api/nothing", 404),
    ("GET", "/api/providers/", 404),
    ("GET", "/api/providers/file/backends/nothing", 404),
    ("GET", "/api/providers/file/backends/breaking/servers/one/url", 404),
    ("GET", "/api/providers/file/%3Cscript%3E", 404),
    ("GET", "/api/providers/file/backends/%F0%9F%92%A9", 404),
    ("GET", "/api/providers/file/backends/%ff%fe", 404),
    ("GET", "/api/providers/%2e%2e/status", 400),
    ("GET", "/api/providers/file%2Fbackends", 400),
    ("GET", "/api/providers/%00", 400),
    ("GET", "/api/providers/" + "a" * 20_000, 404),
    ("GET", "/api/status?" + "q" * 20_000, 200),
    ("GET", "/api/status?%zz&&&==", 200),
]


@pytest.mark.parametrize(
    ("method", "path", "status"), STRANGE, ids=[f"{row[0]} {row[1][:50]}" for row in STRANGE]
)
def test_strange_requests(api: ApiClient, method: str, path: str, status: int) -> None:
    response = api.get(path, method)
    assert response.status == status
    if status == 404:
        assert response.body == b"404 page not found\n"


def test_answers_do_not_name_the_library(api: ApiClient) -> None:
    for path in ("/api", "/metrics", "/api/providers/nobody"):
        assert api.get(path).values("Server") == []


def test_head_has_no_body(api: ApiClient) -> None:
    answer = api.get("/api/status", "HEAD")
    assert answer.status == 200
    assert answer.body == b""


def test_elsewhere_the_paths_are_the_frontends(proxy: ProxyProcess) -> None:
    for path in ("/api", "/health", "/metrics", "/ping"):
        assert proxy.fetch(path, host="all").status == 200
        assert proxy.fetch(path, host="nobody").status == 404


def test_over_http2(api: ApiClient, proxy: ProxyProcess) -> None:
    name, value = AUTHORIZATION
    with LibraryClient(proxy.ports["traefik"]) as client:
        assert client.fetch(b"/ping").status == 200
        assert client.fetch(b"/api").status == 401
        answer = client.fetch(b"/api/version", (name.lower().encode(), value.encode()))
        assert answer.status == 200
        assert json.loads(answer.body) == api.json("/api/version")


def test_the_socket_is_its_owners_alone(api: ApiClient, proxy: ProxyProcess) -> None:
    mode = (proxy.directory / "state" / "api.sock").stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_a_breaker_that_trips_is_seen(api: ApiClient, proxy: ProxyProcess) -> None:
    def state() -> dict[str, Any]:
        (found,) = api.json("/api/breakers")
        return dict(found)

    labels = {
        "entrypoint": "http",
        "provider": "file",
        "frontend": "breaking",
        "backend": "breaking",
    }
    assert (state()["state"], state()["trips"]) == ("standby", 0)
    assert api.metric("kvproxy_circuit_breaker_state", **labels, state="standby") == 1
    wait_until(
        lambda: proxy.fetch("/bad", host="breaking").status == 503, "the breaker to trip", 20
    )
    assert state() == {
        "entryPoint": "http",
        "provider": "file",
        "frontend": "breaking",
        "backend": "breaking",
        "state": "tripped",
        "trips": 1,
    }
    assert api.metric("kvproxy_circuit_breaker_state", **labels, state="tripped") == 1
    assert api.metric("kvproxy_circuit_breaker_state", **labels, state="standby") == 0
    assert api.metric("kvproxy_circuit_breaker_trips_total", **labels) == 1


def test_a_server_that_fails_its_check_is_seen(
    api: ApiClient, proxy: ProxyProcess, backend: Backend
) -> None:
    def up() -> bool:
        (server,) = api.json("/api/servers")
        assert (server["provider"], server["backend"]) == ("file", "checked")
        assert server["server"] == backend.url
        assert server["up"] is (not server["reason"])
        gauge = {"provider": "file", "backend": "checked", "url": backend.url}
        return bool(server["up"] and api.metric("traefik_backend_server_up", **gauge) == 1)

    wait_until(up, "the server to be up", 10)
    backend.on("/health-of-it", Answer((plain_answer(b"", status="503 Service Unavailable"),)))
    wait_until(lambda: not up(), "the server to be down", 10)
    wait_until(lambda: api.json("/api/servers")[0]["reason"] == "status 503", "the reason", 10)
    assert api.json("/api/status")["serversDown"][0]["server"] == backend.url
    backend.on("/health-of-it", Answer((plain_answer(),)))
    wait_until(up, "the server to be up again", 10)


def test_a_change_in_the_store_is_seen(
    api: ApiClient, proxy: ProxyProcess, backend: Backend
) -> None:
    before = api.json("/api/status")["generation"]["number"]
    proxy.command("kv", "put", "kvproxy/backends/born/servers/s/url", backend.url)
    found = wait_until(
        lambda: api.json("/api/providers/embedded").get("backends"), "the backend", 10
    )
    assert found == {
        "born": {
            "servers": {"s": {"url": backend.url, "weight": 1}},
            "loadBalancer": {"method": "wrr"},
        }
    }
    assert api.json("/api/status")["generation"]["number"] > before


def test_many_reloads_while_it_is_asked(
    api: ApiClient, proxy: ProxyProcess, backend: Backend
) -> None:
    over = threading.Event()
    answers: list[tuple[int, int]] = []

    def ask() -> None:
        while not over.is_set():
            answer = api.get("/api")
            answers.append((answer.status, len(json.loads(answer.body)["file"]["frontends"])))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for number in range(6):
            document = routes(backend.url)
            document["frontends"] |= single_backend(
                backend.url,
                {f"more-{number}-{each}": f"Host:m{each}" for each in range(50 * number)},
            )["frontends"]
            proxy.apply(document, 20)
    finally:
        over.set()
        asking.join(20)
    assert {status for status, _ in answers} == {200}
    assert len(answers) > 6
    count = len(routes(backend.url)["frontends"]) + 1
    assert {frontends - count for _, frontends in answers} <= {0, 50, 100, 150, 200, 250}
    proxy.apply(routes(backend.url), 20)


def test_thousands_of_frontends(api: ApiClient, proxy: ProxyProcess, backend: Backend) -> None:
    """Such documents are written beside the event loop; parts of them are found as well."""
    document = routes(backend.url)
    document["frontends"] |= single_backend(
        backend.url, {f"many-{number}": f"Host:many-{number}" for number in range(1500)}
    )["frontends"]
    proxy.apply(document, 30)
    everything = api.json("/api")["file"]
    assert len(everything["frontends"]) == len(document["frontends"]) + 1
    one = api.json("/api/providers/file/frontends/many-1499")
    assert one == everything["frontends"]["many-1499"]
    assert one["routes"] == {"rule": {"rule": "Host:many-1499"}}
    assert api.get("/api/providers/file/frontends/many-1500").status == 404
    # The mass-deletion guard takes two reads to believe that all of these are gone.
    proxy.apply(routes(backend.url), 30)
    wait_until(
        lambda: "many-1" not in api.json("/api/providers/file/frontends"), "the few again", 30
    )


def test_a_new_supervisor_answers(backend: Backend) -> None:
    with ProxyProcess(routes(backend.url), entry_points=ENTRY_POINTS, static=STATIC) as own:
        api = ApiClient(own)
        old = api.json("/api/status")["pid"]
        own.signal(signal.SIGUSR2)

        def pid() -> int:
            try:
                answer = api.get("/api/status")
            except (OSError, ConnectionEndedError, TooSlowError):
                return 0
            return int(json.loads(answer.body)["pid"]) if answer.status == 200 else 0

        new = wait_until(lambda: pid() not in (0, old) and pid(), "the new supervisor", 30)
        wait_until(lambda: own.process.poll() is not None, "the old one to end", 20)
        assert pid() == new


def test_without_a_supervisor_requests_go_on(backend: Backend) -> None:
    with ProxyProcess(routes(backend.url), entry_points=ENTRY_POINTS, static=STATIC) as own:
        api = ApiClient(own)
        workers = own.worker_pids()
        own.process.kill()
        own.process.wait(10)
        try:
            assert own.fetch("/", host="all").status == 200
            assert api.get("/api").status == 502
            assert api.get("/ping").status == 200
        finally:
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
