"""The metrics of a running proxy: every request is in them once."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.api import USER, ApiClient
from tests.support.backend import Answer, Backend, plain_answer
from tests.support.deadline import wait_until
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

TESTS = ("count", "second", "times", "gone", "retry", "turns", "outlive", "open", "reload")
"""Each test has an entry point and a backend of this name; the second test's has two."""

ENTRY_POINTS: dict[str, Any] = {
    **{name: {} for name in TESTS},
    "traefik": {"auth": {"basic": {"users": [USER]}}},
}
STATIC: dict[str, Any] = {"api": {}, "ping": {}, "metrics": {"prometheus": {}}, "retry": {}}


def routes(url: str, names: tuple[str, ...] = TESTS) -> dict[str, Any]:
    """Return a frontend with ``Host:all`` and a backend for each name."""
    document: dict[str, Any] = {"frontends": {}, "backends": {}}
    for name in names:
        points = [name, "second"] if name == "count" else [name]
        document["frontends"][name] = {
            "backend": name,
            "entryPoints": points,
            "routes": {"rule": {"rule": "Host:all"}},
        }
        server = "http://127.0.0.1:1" if name == "gone" else url
        document["backends"][name] = {"servers": {"one": {"url": server}}}
    if "retry" in names:
        document["backends"]["retry"]["servers"]["two"] = {"url": "http://127.0.0.1:1"}
    return document


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    made.on("/bad", Answer((plain_answer(b"bad", status="500 Internal Server Error"),)))
    made.on("/moved", Answer((plain_answer(b"", "Location: /", status="302 Found"),)))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def proxy(backend: Backend) -> Iterator[ProxyProcess]:
    with ProxyProcess(
        routes(backend.url), entry_points=ENTRY_POINTS, static=STATIC, workers=2
    ) as made:
        yield made


@pytest.fixture(scope="module")
def api(proxy: ProxyProcess) -> ApiClient:
    return ApiClient(proxy)


def counted(api: ApiClient, kind: str, **labels: str) -> dict[str, float]:
    """Return the requests by class of their status."""
    wanted = set(labels.items())
    return {
        dict(found)["code"]: value
        for (name, found), value in api.metrics().items()
        if name == f"traefik_{kind}_requests_total" and wanted <= found
    }


def test_every_request_is_counted_once(proxy: ProxyProcess, api: ApiClient) -> None:
    for path, times in (("/", 12), ("/bad", 3), ("/moved", 2)):
        for _ in range(times):
            proxy.fetch(path, host="all", entry_point="count")
    for _ in range(5):
        assert proxy.fetch("/", host="all", entry_point="second").status == 200
        assert proxy.fetch("/", host="nobody", entry_point="count").status == 404
        # The proxy's own paths are not counted.
        assert proxy.fetch("/ping", entry_point="traefik").status == 200
        assert api.get("/api").status == 200
    expected = {"2xx": 12.0, "3xx": 2.0, "4xx": 5.0, "5xx": 3.0}
    wait_until(lambda: counted(api, "entrypoint", entrypoint="count") == expected, "count", 10)
    wait_until(lambda: counted(api, "entrypoint", entrypoint="second") == {"2xx": 5.0}, "second")
    assert counted(api, "backend", backend="count", provider="file") == {
        "2xx": 17.0,
        "3xx": 2.0,
        "5xx": 3.0,
    }
    assert counted(api, "entrypoint", entrypoint="traefik") == {}


def test_health_is_the_sum_of_the_entry_points(proxy: ProxyProcess, api: ApiClient) -> None:
    def totals() -> dict[str, float]:
        found: dict[str, float] = {}
        for (name, labels), value in api.metrics().items():
            if name == "traefik_entrypoint_requests_total":
                code = dict(labels)["code"]
                found[code] = found.get(code, 0.0) + value
        return found

    assert proxy.fetch("/", host="all", entry_point="count").status == 200
    health = wait_until(
        lambda: (found := api.json("/health"))["total_status_code_count"] == totals() and found,
        "equal sums",
        10,
    )
    assert health["total_count"] == sum(totals().values())
    assert health["total_count"] > 0
    assert health["average_response_time_sec"] > 0


def test_the_histogram_holds_every_request(proxy: ProxyProcess, api: ApiClient) -> None:
    for _ in range(7):
        assert proxy.fetch("/", host="all", entry_point="times").status == 200
    name = "traefik_backend_request_duration_seconds"
    labels = {"backend": "times", "provider": "file"}
    wait_until(lambda: api.metric(f"{name}_count", **labels) == 7, "seven requests", 10)
    metrics = api.metrics()
    buckets = [
        metrics[f"{name}_bucket", frozenset({**labels, "le": bound}.items())]
        for bound in ("0.1", "0.3", "1.2", "5.0", "+Inf")
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 7
    total = api.metric(f"{name}_sum", **labels)
    assert total is not None
    assert total > 0


def test_a_server_that_cannot_be_reached_counts_for_its_backend(
    proxy: ProxyProcess, api: ApiClient
) -> None:
    for _ in range(4):
        assert proxy.fetch("/", host="all", entry_point="gone").status == 502
    wait_until(lambda: counted(api, "backend", backend="gone") == {"5xx": 4.0}, "502s", 10)


def test_attempts_at_another_server_are_counted(proxy: ProxyProcess, api: ApiClient) -> None:
    # On one connection, so that one worker's rotation decides. An attempt takes a place in it, so
    # from the second request on the first choice is the server that is not there.
    with proxy.connect("retry") as connection:
        for _ in range(8):
            assert connection.request(build_request("/", host="all")).status == 200
    labels = {"backend": "retry", "provider": "file"}
    wait_until(lambda: api.metric("traefik_backend_retries_total", **labels) == 7, "retries", 10)
    assert counted(api, "backend", backend="retry") == {"2xx": 8.0}
    assert api.metric("traefik_backend_retries_total", backend="times", provider="file") in (
        0,
        None,
    )


def test_one_connection_many_ways(proxy: ProxyProcess, api: ApiClient) -> None:
    """An answer of the proxy's own does not count for the backend of the request before."""
    with proxy.connect("turns") as connection:
        for _ in range(3):
            assert connection.request(build_request("/", host="all")).status == 200
            assert connection.request(build_request("/", host="nobody")).status == 404
    wait_until(
        lambda: counted(api, "entrypoint", entrypoint="turns") == {"2xx": 3.0, "4xx": 3.0},
        "six requests",
        10,
    )
    assert counted(api, "backend", backend="turns") == {"2xx": 3.0}


def test_open_connections(proxy: ProxyProcess, api: ApiClient) -> None:
    def open_now() -> float | None:
        return api.metric("traefik_entrypoint_open_connections", entrypoint="open")

    wait_until(lambda: open_now() == 0, "no connection", 10)
    connections = [proxy.connect("open") for _ in range(5)]
    try:
        for connection in connections:
            assert connection.request(build_request("/", host="all")).status == 200
        wait_until(lambda: open_now() == 5, "five connections", 10)
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: open_now() == 0, "no connection", 10)


def test_reloads_and_what_is_refused(proxy: ProxyProcess, api: ApiClient, backend: Backend) -> None:
    before = api.metric("traefik_config_reloads_total")
    refusals = api.metric("traefik_config_reloads_failure_total")
    assert before is not None
    assert refusals is not None
    document = routes(backend.url)
    document["frontends"]["broken"] = {
        "backend": "reload",
        "entryPoints": ["reload"],
        "routes": {"rule": {"rule": "Hots:x"}},
    }
    proxy.apply(document)
    assert api.metric("traefik_config_reloads_total") == before + 1
    assert api.metric("traefik_config_reloads_failure_total") == refusals + 1
    applied = api.metric("traefik_config_last_reload_success")
    refused = api.metric("traefik_config_last_reload_failure")
    assert applied is not None
    assert refused is not None
    assert abs(applied - refused) < 60
    assert api.metric("kvproxy_quarantined") == 1
    assert api.metric("kvproxy_generation") == proxy.generation()
    assert api.metric("kvproxy_generation_live") == 1
    assert api.metric("kvproxy_provider_failing", provider="file") == 0
    assert (api.metric("process_resident_memory_bytes") or 0) > 1e6
    assert "broken" not in api.json("/api/providers/file/frontends")
    assert [each["name"] for each in api.json("/api/status")["quarantined"]] == ["broken"]
    proxy.apply(routes(backend.url))
    assert api.metric("kvproxy_quarantined") == 0


def test_counts_of_an_entry_point_outlive_backends_and_workers(
    proxy: ProxyProcess, api: ApiClient, backend: Backend
) -> None:
    for _ in range(6):
        assert proxy.fetch("/", host="all", entry_point="outlive").status == 200
    seen = {"2xx": 6.0}
    wait_until(lambda: counted(api, "entrypoint", entrypoint="outlive") == seen, "six", 10)
    proxy.apply(routes(backend.url, tuple(name for name in TESTS if name != "outlive")))
    wait_until(lambda: counted(api, "backend", backend="outlive") == {}, "no backend", 10)
    assert counted(api, "entrypoint", entrypoint="outlive") == seen
    # What was counted in the last moment of a worker that is killed is lost; there is none of that.
    workers = [each["pid"] for each in proxy.ask("status")["workers"]]
    for worker in workers:
        os.kill(worker, signal.SIGKILL)

    def replaced() -> bool:
        status = proxy.ask("status")
        pids = {each["pid"] for each in status["workers"]}
        return (
            len(pids) == len(workers) and not pids & set(workers) and status["generation"]["live"]
        )

    wait_until(replaced, "new workers", 20)
    assert counted(api, "entrypoint", entrypoint="outlive") == seen
    restarts = [api.metric("kvproxy_worker_restarts_total", slot=slot) for slot in "01"]
    assert all(each and each >= 1 for each in restarts)
    proxy.apply(routes(backend.url))
    assert proxy.fetch("/", host="all", entry_point="outlive").status == 200
    wait_until(lambda: counted(api, "backend", backend="outlive") == {"2xx": 1.0}, "one", 10)
    assert counted(api, "entrypoint", entrypoint="outlive") == {"2xx": 7.0}
