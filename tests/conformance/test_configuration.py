"""Case table 10.16 and what belongs to it: how configurations are applied."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from kvproxy.config.settings import load_settings
from tests.support.backend import Answer, Backend, Gate, echoed, plain_answer
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess, single_backend
from tests.support.toml import to_toml, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from tests.support.backend import LoopThread

MARKS = [f"change-{number}" for number in range(5)]


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def other(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread, "other")
    yield made
    made.stop()


@pytest.fixture(scope="module")
def shared_proxy(backend: Backend) -> Iterator[ProxyProcess]:
    with ProxyProcess(single_backend(backend.url, {"a": "Host:a", "b": "Host:b"})) as started:
        yield started


@pytest.fixture
def proxy(shared_proxy: ProxyProcess, backend: Backend) -> ProxyProcess:
    """Return a proxy that serves the hosts ``a`` and ``b``."""
    shared_proxy.apply(single_backend(backend.url, {"a": "Host:a", "b": "Host:b"}))
    return shared_proxy


def status(proxy: ProxyProcess, host: str) -> int:
    return proxy.fetch(host=host).status


def test_n01_throttle_keeps_the_newest(backend: Backend) -> None:
    """Five changes 100 ms apart with a throttle of 300 ms: three are applied, one the last."""
    routes = single_backend(backend.url, {"a": "Host:a"})
    static = {"providersThrottleDuration": "300ms"}
    with ProxyProcess(routes, static=static) as proxy:
        time.sleep(0.4)  # the throttle's own time: until it is open again
        before = proxy.generation()
        started = time.monotonic()
        for number, mark in enumerate(MARKS):
            wait_until(
                lambda due=started + number * 0.1: time.monotonic() >= due,  # type: ignore[misc]
                "the next change to be due",
            )
            write_whole(
                proxy.routes_path,
                to_toml(single_backend(backend.url, {"a": "Host:a", mark: f"Host:{mark}"})),
            )
        wait_until(lambda: status(proxy, MARKS[-1]) == 200, "the last change")
        assert 2 <= proxy.generation() - before <= 3
        assert [status(proxy, mark) for mark in MARKS] == [404, 404, 404, 404, 200]


@pytest.mark.serial
def test_n01_no_throttle_by_default(proxy: ProxyProcess, backend: Backend) -> None:
    """Differs: 0 s in place of 2 s; a change is live in milliseconds."""
    seconds = []
    for mark in MARKS:
        started = time.monotonic()
        proxy.apply(
            single_backend(backend.url, {"a": "Host:a", "b": "Host:b", mark: f"Host:{mark}"})
        )
        seconds.append(time.monotonic() - started)
        assert status(proxy, mark) == 200
    # The middle one: other work on the machine must not decide.
    assert sorted(seconds)[len(seconds) // 2] < 1.0, seconds


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "[frontends]\n[backends]\n"])
def test_n02_empty_configuration_is_not_applied(proxy: ProxyProcess, text: str) -> None:
    write_whole(proxy.routes_path, text)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert (status(proxy, "a"), status(proxy, "b")) == (200, 200)


def test_n03_same_configuration_twice_is_applied_once(proxy: ProxyProcess) -> None:
    before = proxy.generation()
    text = proxy.routes_path.read_text()
    for comment in ("# one\n", "# two\n", ""):
        written = time.time()
        write_whole(proxy.routes_path, comment + text)
        wait_until(
            lambda since=written: proxy.ask("status")["providers"][0]["freshAt"] >= since,  # type: ignore[misc]
            "the file to be read again",
        )
    write_whole(proxy.routes_path, text.replace("Host:b", "Host:c"))
    wait_until(lambda: status(proxy, "c") == 200, "the change")
    assert proxy.generation() == before + 1


def import_routes(proxy: ProxyProcess, path: Path, routes: dict[str, Any]) -> None:
    """Put routes into the embedded store."""
    path.write_text(to_toml(routes))
    proxy.command("kv", "import", str(path))


def test_n04_two_providers(backend: Backend, other: Backend, tmp_path: Path) -> None:
    """With row B09: the same names in two providers do not collide."""
    routes = single_backend(backend.url, {"same": "Host:from-file"})
    store = {"embedded": {"path": str(tmp_path / "store.db")}}
    with ProxyProcess(routes, static=store) as proxy:
        in_store = single_backend(other.url, {"same": "Host:from-store"})
        import_routes(proxy, tmp_path / "store.toml", in_store)
        wait_until(lambda: status(proxy, "from-store") == 200, "the store's route")
        assert proxy.fetch(host="from-store").value("X-Server") == b"other"
        assert proxy.fetch(host="from-file").value("X-Server") == b"echo"


def test_key_in_the_store_is_live(backend: Backend, other: Backend, tmp_path: Path) -> None:
    static = {"embedded": {"path": str(tmp_path / "store.db")}}
    with ProxyProcess(None, static=static) as proxy:
        assert status(proxy, "k") == 404
        routes = single_backend(backend.url, {"k": "Host:k"}, passHostHeader=True)
        import_routes(proxy, tmp_path / "store.toml", routes)
        wait_until(lambda: status(proxy, "k") == 200, "the route")
        assert echoed(proxy.fetch(host="k")).values("Host") == [b"k"]
        proxy.command("kv", "put", "kvproxy/backends/server/servers/one/url", other.url)
        wait_until(lambda: proxy.fetch(host="k").value("X-Server") == b"other", "the other server")


def test_n06_default_entry_points_may_name_unknown_ones(backend: Backend) -> None:
    routes = single_backend(backend.url, {"a": "Host:a"})
    with ProxyProcess(routes, static={"defaultEntryPoints": ["nowhere", "http"]}) as proxy:
        assert status(proxy, "a") == 200


def test_n07_no_entry_point_at_all() -> None:
    """Port 80 belongs to the machine: the settings are looked at, nothing is opened."""
    settings = load_settings(["--file.filename=routes.toml"], environment={}).static
    addresses = {name: each.address for name, each in settings.entry_points.items()}
    assert addresses == {"http": ":80"}
    assert settings.default_entry_points == ("http",)


@pytest.mark.parametrize(
    ("identity", "broken"),
    [
        ("N08", {"basicAuth": [""], "routes": {"r": {"rule": "Host:broken"}}}),
        ("N10-rule", {"routes": {"r": {"rule": "Hots:broken"}}}),
        ("N10-expression", {"routes": {"r": {"rule": "Host:broken;HeadersRegexp:X-A,("}}}),
        ("N10-backend", {"backend": "nowhere", "routes": {"r": {"rule": "Host:broken"}}}),
        ("N10-type", {"priority": "high", "routes": {"r": {"rule": "Host:broken"}}}),
        ("N10-entry-point", {"entryPoints": ["no"], "routes": {"r": {"rule": "Host:broken"}}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_broken_frontend_among_others(
    proxy: ProxyProcess, backend: Backend, identity: str, broken: dict[str, Any]
) -> None:
    routes = single_backend(backend.url, {"a": "Host:a", "b": "Host:b", "new": "Host:new"})
    routes["frontends"]["broken"] = {"backend": "server", **broken}
    proxy.apply(routes)
    statuses = [status(proxy, host) for host in ("a", "b", "new", "broken")]
    assert statuses == [200, 200, 200, 404], identity


def test_broken_entry_goes_on_serving_its_previous_version(
    proxy: ProxyProcess, backend: Backend
) -> None:
    """Differs: the reference drops a frontend that became unusable."""
    routes = single_backend(backend.url, {"a": "Hots:a", "b": "Host:b", "new": "Host:new"})
    proxy.apply(routes)
    assert [status(proxy, host) for host in ("a", "b", "new")] == [200, 200, 200]
    (held,) = proxy.ask("status")["quarantined"]
    assert (held["section"], held["name"], held["serving"]) == ("frontends", "a", True)
    proxy.apply(single_backend(backend.url, {"a": "Host:a2", "b": "Host:b"}))
    assert [status(proxy, host) for host in ("a", "a2", "new")] == [404, 200, 404]
    assert proxy.ask("status")["quarantined"] == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text[: len(text) // 2], id="truncated"),
        pytest.param(lambda text: text + "\n[frontends", id="half-written"),
        pytest.param(lambda text: "\0" * len(text), id="zeros"),
        pytest.param(lambda text: text.replace("Host", "\udcff"), id="not-utf-8"),
    ],
)
def test_broken_file_takes_nothing_down(proxy: ProxyProcess, backend: Backend, damage: Any) -> None:
    text = damage(proxy.routes_path.read_text())
    proxy.routes_path.write_bytes(text.encode(errors="surrogateescape"))
    wait_until(lambda: proxy.ask("status")["problems"], "the problem to be reported")
    assert [status(proxy, host) for host in ("a", "b")] == [200, 200]
    proxy.apply(single_backend(backend.url, {"a": "Host:a", "c": "Host:c"}))
    assert [status(proxy, host) for host in ("a", "b", "c")] == [200, 404, 200]


def test_missing_file_takes_nothing_down(proxy: ProxyProcess, backend: Backend) -> None:
    proxy.routes_path.unlink()
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        assert [status(proxy, host) for host in ("a", "b")] == [200, 200]
    proxy.apply(single_backend(backend.url, {"c": "Host:c"}))
    assert status(proxy, "c") == 200


def test_last_known_good_serves_when_the_file_is_gone(backend: Backend) -> None:
    """After a restart without its file, the proxy serves what it served before."""
    routes = single_backend(backend.url, {"a": "Host:a"})
    proxy = ProxyProcess(routes)
    with proxy:
        assert status(proxy, "a") == 200
        proxy.routes_path.rename(proxy.directory / "away.toml")
        proxy.process.terminate()
        proxy.wait_for_exit()
        proxy.start()
        assert status(proxy, "a") == 200
        shutil.copy(proxy.directory / "away.toml", proxy.routes_path)


def test_requests_before_the_first_configuration_are_404(tmp_path: Path) -> None:
    static = {"embedded": {"path": str(tmp_path / "store.db")}}
    with ProxyProcess(None, static=static) as proxy:
        answer = proxy.fetch(host="anything")
        assert (answer.status, answer.body) == (404, b"404 page not found\n")


@pytest.mark.serial
def test_e23_requests_are_accepted_while_ping_says_no(backend: Backend) -> None:
    gate = Gate()
    backend.on("/in-flight", Answer((gate, plain_answer(b"finished"))))
    routes = single_backend(backend.url, {"a": "Host:a"})
    static = {
        "lifeCycle": {"requestAcceptGraceTimeout": "4s", "graceTimeOut": "20s"},
        "ping": {"entryPoint": "http"},
    }
    with ProxyProcess(routes, static=static) as proxy:
        answer = proxy.fetch("/ping", host="any")
        assert (answer.status, answer.body) == (200, b"OK")
        with proxy.connect() as client:
            client.send(b"GET /in-flight HTTP/1.1\r\nHost: a\r\n\r\n")
            assert gate.reached.wait(5)
            started = time.monotonic()
            proxy.process.terminate()
            wait_until(lambda: proxy.fetch("/ping", host="any").status == 503, "ping to say no")
            assert status(proxy, "a") == 200
            assert time.monotonic() - started < 4.0, "the grace was over before it was looked at"
            wait_until(lambda: time.monotonic() - started > 4.3, "the end of the time of accepting")
            assert proxy.process.poll() is None, "a request is in flight"
            gate.open()
            answer = client.read_response()
            assert (answer.status, answer.body) == (200, b"finished")
            assert answer.values("Connection") in ([], [b"close"])
            client.assert_closed()
        assert proxy.wait_for_exit() == 0
