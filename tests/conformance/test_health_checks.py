"""Section 7.7 and rows B13, B14, B20 to B28 of table 10.11: what requests see of health checks.

What is asked and what answers mean: tests/unit/control/health/test_checks.py.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Answer, Backend, plain_answer
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

INTERVAL = "100ms"
NAMES = ("a", "b")


class Servers:
    """Two servers, whose answer to ``/health`` can be set."""

    def __init__(self, loop_thread: LoopThread) -> None:
        self.by_name = {name: Backend(loop_thread, name) for name in NAMES}

    def say(self, name: str, status: str, path: str = "/health") -> None:
        self.by_name[name].on(path, Answer((plain_answer(status=status),)))

    def well(self, *names: str) -> None:
        for name in NAMES:
            self.say(name, "200 OK" if name in names else "503 Service Unavailable")

    def stop(self) -> None:
        for server in self.by_name.values():
            server.stop()


@pytest.fixture(scope="module")
def servers(loop_thread: LoopThread) -> Iterator[Servers]:
    made = Servers(loop_thread)
    yield made
    made.stop()


def routes(servers: Servers) -> dict[str, Any]:
    """One frontend a host for each kind of backend; ``drr`` is on another entry point."""
    urls = {name: {"url": servers.by_name[name].url} for name in NAMES}
    check = {"path": "/health", "interval": INTERVAL}
    port = servers.by_name["a"].port
    backends: dict[str, Any] = {
        "wrr": {"servers": urls, "healthCheck": check},
        "drr": {"servers": urls, "healthCheck": check, "loadBalancer": {"method": "drr"}},
        "sticky": {
            "servers": urls,
            "healthCheck": check,
            "loadBalancer": {"stickiness": {"cookieName": "s"}},
        },
        "port": {
            "servers": {"wrong": {"url": "http://127.0.0.1:1"}},
            "healthCheck": {"path": "/health-of-port", "interval": INTERVAL, "port": port},
        },
        "unchecked": {"servers": urls},
    }
    frontends = {
        name: {
            "backend": name,
            "entryPoints": ["two" if name == "drr" else "one"],
            "routes": {"host": {"rule": f"Host:{name}"}},
        }
        for name in backends
    }
    return {"backends": backends, "frontends": frontends}


@pytest.fixture(scope="module")
def proxy(servers: Servers) -> Iterator[ProxyProcess]:
    servers.well(*NAMES)
    entry_points: dict[str, dict[str, Any]] = {"one": {}, "two": {}}
    with ProxyProcess(routes(servers), entry_points=entry_points, workers=2) as running:
        yield running


def seen(proxy: ProxyProcess, host: str, times: int = 12, **options: Any) -> set[str]:
    """Return who answers: names of servers, or a status of the proxy itself."""
    point = "two" if host == "drr" else "one"
    answers = [proxy.fetch(host=host, entry_point=point, **options) for _ in range(times)]
    names = ((answer.value("X-Server") or b"").decode() for answer in answers)
    return {name or str(answer.status) for name, answer in zip(names, answers, strict=True)}


def until(proxy: ProxyProcess, host: str, wanted: set[str]) -> None:
    wait_until(lambda: seen(proxy, host) == wanted, f"{host} to be answered by {wanted}", 10)


STORIES = {
    "B21-out-after-one-failure": [("a", {"a"})],
    "B22-back-after-one-success": [("a", {"a"}), ("ab", {"a", "b"})],
    "B24-out-then-back": [("b", {"b"}), ("ab", {"a", "b"}), ("a", {"a"})],
    "B25-all-down-is-503": [("", {"503"}), ("b", {"b"})],
}


@pytest.mark.parametrize("host", ["wrr", "drr"])
@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_who_is_asked(
    story: list[tuple[str, set[str]]], host: str, proxy: ProxyProcess, servers: Servers
) -> None:
    """Also row B26: both entry points, both methods."""
    for well, wanted in story:
        servers.well(*well)
        until(proxy, host, wanted)
    servers.well(*NAMES)
    until(proxy, host, {"a", "b"})


def test_b23_a_server_that_stays_ill_stays_out(proxy: ProxyProcess, servers: Servers) -> None:
    servers.well("a")
    until(proxy, "wrr", {"a"})
    checks = len(servers.by_name["b"].requests_for("/health"))
    servers.by_name["b"].wait_for("/health", checks + 3)
    assert seen(proxy, "wrr") == {"a"}
    servers.well(*NAMES)
    until(proxy, "wrr", {"a", "b"})


def test_b13_b14_the_cookie_of_a_server_that_is_down(proxy: ProxyProcess, servers: Servers) -> None:
    url = servers.by_name["b"].url
    cookie = {"headers": (("Cookie", f"s={url}"),)}
    assert seen(proxy, "sticky", **cookie) == {"b"}
    servers.well("a")
    until(proxy, "sticky", {"a"})
    answer = proxy.fetch(host="sticky", entry_point="one", **cookie)
    assert answer.value("X-Server") == b"a"
    assert answer.value("Set-Cookie") == f"s={servers.by_name['a'].url}; Path=/".encode()
    servers.well(*NAMES)
    until(proxy, "sticky", {"a", "b"})
    assert seen(proxy, "sticky", **cookie) == {"b"}
    assert proxy.fetch(host="sticky", entry_point="one", **cookie).value("Set-Cookie") is None


def test_b27_the_port_of_the_check_decides(proxy: ProxyProcess, servers: Servers) -> None:
    """The server refuses connections while its check, on another port, passes: 502, then 503."""
    servers.say("a", "200 OK", "/health-of-port")
    until(proxy, "port", {"502"})
    servers.say("a", "500 Internal Server Error", "/health-of-port")
    until(proxy, "port", {"503"})


def test_other_backends_of_the_same_servers_go_on(proxy: ProxyProcess, servers: Servers) -> None:
    servers.well()
    until(proxy, "wrr", {"503"})
    assert seen(proxy, "unchecked") == {"a", "b"}
    servers.well(*NAMES)
    until(proxy, "wrr", {"a", "b"})


def test_what_is_down_stays_down_in_the_next_generation(
    proxy: ProxyProcess, servers: Servers
) -> None:
    """Differs: the reference enables every server with each change of anything."""
    servers.well("a")
    until(proxy, "wrr", {"a"})
    changed = routes(servers)
    changed["frontends"]["more"] = {
        "backend": "wrr",
        "entryPoints": ["one"],
        "routes": {"host": {"rule": "Host:more"}},
        "passHostHeader": True,
    }
    changed["backends"]["wrr"]["servers"] = {
        name: {"url": servers.by_name[name].url, "weight": 2} for name in NAMES
    }
    proxy.apply(changed)
    assert seen(proxy, "wrr") == {"a"}
    assert seen(proxy, "more") == {"a"}
    servers.well(*NAMES)
    until(proxy, "more", {"a", "b"})
    proxy.apply(routes(servers))


@pytest.mark.serial
def test_a_new_worker_knows_what_is_down(proxy: ProxyProcess, servers: Servers) -> None:
    servers.well("a")
    until(proxy, "wrr", {"a"})
    down = proxy.ask("status")["serversDown"]
    assert servers.by_name["b"].url in {each["server"] for each in down}
    before = proxy.worker_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(before) & set(proxy.worker_pids()), "the workers to be replaced")
    proxy.wait_for_routes()
    assert seen(proxy, "wrr", 24) == {"a"}
    servers.well(*NAMES)
    until(proxy, "wrr", {"a", "b"})
