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
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

ENTRY_POINTS = {
    "http": {},
    "other": {},
    "traefik": {"auth": {"basic": {"users": [USER]}}},
}
STATIC: dict[str, Any] = {"api": {}, "ping": {}, "metrics": {"prometheus": {}}}


def routes(url: str, **options: Any) -> dict[str, Any]:
    return single_backend(url, {"all": "Host:all"}, entryPoints=["http", "other"], **options)


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    made.on("/bad", Answer((plain_answer(b"bad", status="500 Internal Server Error"),)))
    made.on("/moved", Answer((plain_answer(b"", "Location: /", status="302 Found"),)))
    yield made
    made.stop()


@pytest.fixture
def proxy(backend: Backend) -> Iterator[ProxyProcess]:
    with ProxyProcess(
        routes(backend.url), entry_points=ENTRY_POINTS, static=STATIC, workers=2
    ) as made:
        yield made


def counted(api: ApiClient, kind: str, **labels: str) -> dict[str, float]:
    """Return the requests by class of their status."""
    wanted = set(labels.items())
    return {
        dict(found)["code"]: value
        for (name, found), value in api.metrics().items()
        if name == f"traefik_{kind}_requests_total" and wanted <= found
    }


def test_every_request_is_counted_once(proxy: ProxyProcess) -> None:
    api = ApiClient(proxy)
    for path, times in (("/", 12), ("/bad", 3), ("/moved", 2)):
        for _ in range(times):
            proxy.fetch(path, host="all")
    for _ in range(5):
        assert proxy.fetch("/", host="all", entry_point="other").status == 200
        assert proxy.fetch("/", host="nobody").status == 404
        # The proxy's own paths are not counted.
        assert proxy.fetch("/ping", entry_point="traefik").status == 200
        assert api.get("/api").status == 200
    expected = {"2xx": 12.0, "3xx": 2.0, "4xx": 5.0, "5xx": 3.0}
    wait_until(lambda: counted(api, "entrypoint", entrypoint="http") == expected, "http", 10)
    wait_until(lambda: counted(api, "entrypoint", entrypoint="other") == {"2xx": 5.0}, "other", 10)
    assert counted(api, "backend", backend="server", provider="file") == {
        "2xx": 17.0,
        "3xx": 2.0,
        "5xx": 3.0,
    }
    assert counted(api, "entrypoint", entrypoint="traefik") == {}
    health = api.json("/health")
    # The one of 503 and more are those by which the test knows that the routes are served.
    own = counted(api, "entrypoint", entrypoint="ready")
    total = {"2xx": 17.0, "3xx": 2.0, "4xx": 5.0, "5xx": 3.0}
    for code, number in own.items():
        total[code] = total.get(code, 0.0) + number
    assert health["total_status_code_count"] == total
    assert health["total_count"] == sum(total.values())
    assert health["average_response_time_sec"] > 0


def test_the_histogram_holds_every_request(proxy: ProxyProcess, backend: Backend) -> None:
    api = ApiClient(proxy)
    for _ in range(7):
        assert proxy.fetch("/", host="all").status == 200
    name = "traefik_backend_request_duration_seconds"
    labels = {"backend": "server", "provider": "file"}
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
    proxy: ProxyProcess, backend: Backend
) -> None:
    api = ApiClient(proxy)
    document = routes(backend.url)
    document["backends"]["gone"] = {"servers": {"one": {"url": "http://127.0.0.1:1"}}}
    document["frontends"]["gone"] = {
        "backend": "gone",
        "entryPoints": ["http"],
        "routes": {"rule": {"rule": "Host:gone"}},
    }
    proxy.apply(document)
    for _ in range(4):
        assert proxy.fetch("/", host="gone").status == 502
    wait_until(lambda: counted(api, "backend", backend="gone") == {"5xx": 4.0}, "502s", 10)


def test_one_connection_many_ways(proxy: ProxyProcess) -> None:
    """An answer of the proxy's own does not count for the backend of the request before."""
    api = ApiClient(proxy)
    with proxy.connect() as connection:
        for _ in range(3):
            assert connection.request(build_request("/", host="all")).status == 200
            assert connection.request(build_request("/", host="nobody")).status == 404
    wait_until(
        lambda: counted(api, "entrypoint", entrypoint="http") == {"2xx": 3.0, "4xx": 3.0},
        "six requests",
        10,
    )
    assert counted(api, "backend", backend="server") == {"2xx": 3.0}


def test_counts_of_an_entry_point_outlive_backends_and_workers(
    proxy: ProxyProcess, backend: Backend
) -> None:
    api = ApiClient(proxy)
    for _ in range(6):
        assert proxy.fetch("/", host="all").status == 200
    seen = {"2xx": 6.0}
    wait_until(lambda: counted(api, "entrypoint", entrypoint="http") == seen, "six", 10)
    proxy.apply({"frontends": {}, "backends": {}})
    wait_until(lambda: counted(api, "backend", backend="server") == {}, "no backend", 10)
    assert counted(api, "entrypoint", entrypoint="http") == seen
    for worker in proxy.worker_pids():
        os.kill(worker, signal.SIGKILL)
    wait_until(
        lambda: sum(each["restarts"] for each in proxy.ask("status")["workers"]) == 2,
        "two new workers",
        20,
    )
    wait_until(lambda: proxy.ask("status")["generation"]["live"], "the new workers", 20)
    assert counted(api, "entrypoint", entrypoint="http") == seen
    assert api.metric("kvproxy_worker_restarts_total", slot="0") == 1
    proxy.apply(routes(backend.url))
    assert proxy.fetch("/", host="all").status == 200
    wait_until(lambda: counted(api, "backend", backend="server") == {"2xx": 1.0}, "one", 10)
    assert counted(api, "entrypoint", entrypoint="http") == {"2xx": 7.0}


def test_open_connections(proxy: ProxyProcess) -> None:
    api = ApiClient(proxy)

    def open_now() -> float | None:
        return api.metric("traefik_entrypoint_open_connections", entrypoint="http")

    wait_until(lambda: open_now() == 0, "no connection", 10)
    connections = [proxy.connect() for _ in range(5)]
    try:
        for connection in connections:
            assert connection.request(build_request("/", host="all")).status == 200
        wait_until(lambda: open_now() == 5, "five connections", 10)
    finally:
        for connection in connections:
            connection.close()
    wait_until(lambda: open_now() == 0, "no connection", 10)


def test_reloads_and_what_is_refused(proxy: ProxyProcess, backend: Backend) -> None:
    api = ApiClient(proxy)
    before = api.metric("traefik_config_reloads_total")
    assert before is not None
    assert api.metric("traefik_config_reloads_failure_total") == 0
    document = routes(backend.url)
    document["frontends"]["broken"] = {
        "backend": "server",
        "entryPoints": ["http"],
        "routes": {"rule": {"rule": "Hots:x"}},
    }
    proxy.apply(document)
    assert api.metric("traefik_config_reloads_total") == before + 1
    assert api.metric("traefik_config_reloads_failure_total") == 1
    applied = api.metric("traefik_config_last_reload_success")
    refused = api.metric("traefik_config_last_reload_failure")
    assert applied is not None
    assert refused is not None
    assert abs(applied - refused) < 60
    assert api.metric("kvproxy_quarantined") == 1
    assert api.metric("kvproxy_generation") == proxy.generation()
    assert api.metric("kvproxy_generation_live") == 1
    assert api.metric("kvproxy_provider_failing", provider="file") == 0
    assert api.metric("process_resident_memory_bytes") or 0 > 1e6
