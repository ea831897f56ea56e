"""Entry points that change while the proxy runs: nothing is restarted and no request is lost."""

from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Answer, Backend, Gate, ReservedPort
from tests.support.certificates import Pair, authority
from tests.support.deadline import wait_until
from tests.support.http_client import (
    ConnectionEndedError,
    RawConnection,
    TooSlowError,
    build_request,
    fetch,
)
from tests.support.proxy_process import READY_ENTRY_POINT, ProxyProcess, single_backend
from tests.support.tls_client import offered, open_connection, tls_options, trusting
from tests.support.toml import to_toml, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.backend import LoopThread

REQUEST = build_request("/", host="a")


class World:
    """A running proxy whose configuration file can be written anew."""

    def __init__(self, backend: Backend, *names: str) -> None:
        """``names``: entry points that get a port of their own."""
        self.reserved = {name: ReservedPort() for name in (*names, READY_ENTRY_POINT)}
        self.backend = backend
        self.routes = single_backend(backend.url, {"all": "PathPrefix:/"})
        self.routes["frontends"]["all"]["entryPoints"] = list(names)
        self.proxy = ProxyProcess(self.routes, workers=2)
        self.proxy.ports = {name: each.port for name, each in self.reserved.items()}

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.reserved[name].port}"

    def configure(self, **entry_points: Mapping[str, Any]) -> None:
        """Write the file: these entry points and the one of the tests."""
        points = {
            name: options if "address" in options else {"address": self.address(name), **options}
            for name, options in entry_points.items()
        }
        points[READY_ENTRY_POINT] = {"address": self.address(READY_ENTRY_POINT)}
        document = {
            "workers": 2,
            "stateDir": str(self.proxy.directory / "state"),
            "logLevel": "DEBUG",
            "lifeCycle": {"graceTimeOut": "2s"},
            "defaultEntryPoints": list(entry_points),
            "entryPoints": points,
            "file": {"filename": str(self.proxy.routes_path), "watch": True},
        }
        write_whole(self.proxy.configuration_path, to_toml(document))

    def reload(self, **entry_points: Mapping[str, Any]) -> list[str]:
        """Write the file and have it read; returns what is wrong."""
        self.configure(**entry_points)
        return [each["text"] for each in self.proxy.ask("reload", 30)["problems"]]

    def status(self, name: str) -> int:
        """Return the status of a request, 0 when nobody listens."""
        try:
            return fetch(self.reserved[name].port, REQUEST).status
        except (ConnectionRefusedError, ConnectionEndedError, ConnectionResetError):
            return 0

    def all_workers(self, name: str) -> set[int]:
        return {self.status(name) for _ in range(16)}

    def stop(self) -> None:
        self.proxy.stop()
        for each in self.reserved.values():
            each.close()


@pytest.fixture(scope="module")
def running(loop_thread: LoopThread) -> Iterator[World]:
    backend = Backend(loop_thread)
    made = World(backend, "one", "two", "three")
    made.configure(one={})
    made.proxy.start()
    yield made
    made.stop()
    backend.stop()


@pytest.fixture
def world(running: World) -> World:
    """Return the proxy with one entry point, ``one``, and a route that takes everything."""
    running.proxy.apply(running.routes)
    assert running.reload(one={}) == []
    return running


def test_an_entry_point_comes_and_goes(world: World) -> None:
    assert world.all_workers("one") == {200}
    assert world.status("two") == 0
    workers = world.proxy.worker_pids()
    assert world.reload(one={}, two={}) == []
    assert world.all_workers("two") == {200}, "with its routes, on every worker"
    assert world.all_workers("one") == {200}
    assert world.reload(two={}) == []
    assert world.status("one") == 0
    assert world.all_workers("two") == {200}
    assert world.reload(one={}, two={}) == []
    assert world.all_workers("one") == {200}, "and once more, with the routes of now"
    assert world.proxy.worker_pids() == workers
    assert set(world.proxy.ask("status")["entryPoints"]) == {"one", "two", READY_ENTRY_POINT}


def test_routes_that_wait_for_an_entry_point(world: World) -> None:
    """A frontend of entry points that are not there is refused, and served when they come."""
    described = dict(world.routes["frontends"])
    described["late"] = {
        "backend": "server",
        "entryPoints": ["three"],
        "routes": {"r": {"rule": "Host:late.test"}},
    }
    described["all"] = {**described["all"], "entryPoints": ["one", "two"]}
    world.proxy.apply({**world.routes, "frontends": described})
    refused = [each["name"] for each in world.proxy.ask("status")["quarantined"]]
    assert refused == ["late"]
    assert world.reload(one={}, three={}) == []
    assert world.proxy.ask("status")["quarantined"] == []
    request = build_request("/", host="late.test")
    port = world.reserved["three"].port
    assert {fetch(port, request).status for _ in range(16)} == {200}
    assert world.all_workers("three") == {404}


def test_an_address_changes(world: World) -> None:
    with RawConnection(world.reserved["one"].port) as client:
        assert client.request(REQUEST).status == 200
        assert world.reload(one={"address": world.address("two")}) == []
        assert client.request(REQUEST).status == 200, "open connections go on"
    assert world.status("one") == 0
    assert world.all_workers("two") == {200}


def test_an_address_moves_to_another_entry_point(world: World) -> None:
    swapped = {"address": world.address("two")}, {"address": world.address("one")}
    assert world.reload(one=swapped[0], other=swapped[1]) == []
    wait_until(lambda: world.all_workers("one") == {404}, "the other entry point, without routes")
    assert world.all_workers("two") == {200}


def test_several_addresses(world: World) -> None:
    both = f"{world.address('one')}, {world.address('two')}"
    assert world.reload(one={"address": both}) == []
    assert world.all_workers("one") == {200}
    assert world.all_workers("two") == {200}
    listed = world.proxy.ask("status")["entryPoints"]["one"]
    assert listed == sorted([world.address("one"), world.address("two")])
    assert world.reload(one={"address": world.address("two")}) == []
    assert world.status("one") == 0
    assert world.all_workers("two") == {200}


def test_tls_comes_changes_and_goes(world: World) -> None:
    port = world.reserved["one"].port
    first, second = (authority().issue("a.test", common=common) for common in ("first", "second"))
    assert world.reload(one=tls_options(first)) == []
    assert {offered(port, "a.test") for _ in range(16)} == {"first"}
    with open_connection(port, "a.test", context=trusting()) as client:
        assert client.request(REQUEST).status == 200
        assert world.reload(one=tls_options(second)) == []
        assert {offered(port, "a.test") for _ in range(16)} == {"second"}
        answer = client.request(REQUEST)
        assert answer.status == 200
        assert answer.value("Connection") is None, "a new certificate ends no connection"
    assert world.reload(one={}) == []
    assert world.all_workers("one") == {200}


def test_dynamic_certificates_follow_an_entry_point(world: World) -> None:
    pair = authority().issue("dynamic.test")
    entry = {"entryPoints": ["two"], "certificate": pair.option()}
    world.proxy.apply({**world.routes, "tls": [entry]})
    assert world.reload(one={}, two={"tls": {}}) == []
    port = world.reserved["two"].port
    assert {offered(port, "dynamic.test") for _ in range(16)} == {"dynamic.test"}
    assert world.reload(one={}) == []
    assert world.reload(one={}, two={"tls": {}}) == []
    assert {offered(port, "dynamic.test") for _ in range(16)} == {"dynamic.test"}


def test_other_rules_hold_for_connections_that_are_open(world: World) -> None:
    """Whoever came in under the old rules is asked to come in again."""
    assert world.reload(one={}) == []
    with RawConnection(world.reserved["one"].port) as client:
        assert client.request(REQUEST).status == 200
        elsewhere = {"whiteList": {"sourceRange": ["192.0.2.1"]}}
        assert world.reload(one=elsewhere) == []
        assert world.all_workers("one") == {403}

        def ended() -> bool:
            try:
                answer = client.request(REQUEST)
            except (ConnectionEndedError, OSError):
                return True
            return answer.status == 403 and answer.value("Connection") == b"close"

        wait_until(ended, "the end of a connection from before")


def test_requests_in_progress_on_an_entry_point_that_goes(world: World) -> None:
    gate = Gate()
    world.backend.on(
        "/slow", Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", gate, b"done"))
    )
    with RawConnection(world.reserved["one"].port) as client:
        client.send(build_request("/slow", host="a"))
        assert gate.reached.wait(5)
        assert world.reload(two={}) == []
        assert world.status("one") == 0
        gate.open()
        answer = client.read_response()
        assert (answer.status, answer.body) == (200, b"done")
        client.assert_closed()


def test_redirects_follow_the_entry_point_they_name(world: World) -> None:
    described = dict(world.routes["frontends"])
    described["all"] = {**described["all"], "redirect": {"entryPoint": "two"}}
    world.proxy.apply({**world.routes, "frontends": described})
    assert world.reload(one={}, two={"tls": {}}) == []

    def location() -> set[bytes | None]:
        port = world.reserved["one"].port
        return {fetch(port, REQUEST).value("Location") for _ in range(16)}

    assert location() == {f"https://a:{world.reserved['two'].port}/".encode()}
    assert world.reload(one={}, two={"address": world.address("three")}) == []
    assert location() == {f"http://a:{world.reserved['three'].port}/".encode()}


@pytest.mark.parametrize("how", ["in use", "no address", "authority", "nothing"])
def test_what_cannot_be_had_changes_nothing_else(world: World, how: str) -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    bad: dict[str, Any] = {
        "in use": {"address": f"127.0.0.1:{taken.getsockname()[1]}"},
        "no address": {"address": "nowhere"},
        "authority": {"tls": {"clientCA": {"files": ["/nowhere.pem"]}}},
        "nothing": {"tls": {"clientCA": {}}},
    }[how]
    with taken:
        problems = world.reload(one={}, two=bad)
        assert problems, how
        assert any("entryPoints.two" in each for each in problems)
        assert world.all_workers("one") == {200}
        texts = [each["text"] for each in world.proxy.ask("status")["problems"]]
        assert set(problems) <= set(texts)
    assert world.reload(one={}, two={}) == []
    assert world.all_workers("two") == {200}
    # One that serves goes on as it was.
    if how == "in use":
        bad = {"address": "192.0.2.1:80"}
    assert world.reload(one={}, two=bad)
    assert world.all_workers("two") == {200}


def test_a_bad_file_changes_nothing(world: World) -> None:
    world.proxy.configuration_path.write_text("entryPoints = 7\n[")
    assert world.proxy.ask("reload")["problems"]
    assert world.all_workers("one") == {200}


def test_other_settings_are_named(world: World) -> None:
    world.configure(one={}, two={})
    text = world.proxy.configuration_path.read_text()
    world.proxy.configuration_path.write_text(text.replace("workers = 2", "workers = 3"))
    (problem,) = world.proxy.ask("reload")["problems"]
    assert "settings differ from those in use: workers" in problem["text"]
    assert not problem["fatal"]
    assert world.all_workers("two") == {200}


def test_the_file_is_watched_and_sighup_reads_it(world: World) -> None:
    world.configure(one={}, two={})
    wait_until(lambda: world.status("two") == 200, "the watched file", 10)
    world.configure(one={}, two={}, three={})
    world.proxy.signal(signal.SIGHUP)
    wait_until(lambda: world.status("three") == 200, "SIGHUP", 10)


def test_the_command(world: World) -> None:
    world.configure(one={}, two={})
    shown = world.proxy.command("reload")
    assert f"entry point two: {world.address('two')}" in shown
    assert world.all_workers("two") == {200}


def test_files_of_certificates_are_watched(world: World) -> None:
    """What renews certificates writes files: nothing else need be done."""
    static, dynamic = (world.proxy.directory / name for name in ("static.pem", "dynamic.pem"))

    def write(path: Any, name: str, common: str) -> None:
        pair = authority().issue(name, common=common)
        write_whole(path, pair.key + pair.certificate)

    write(static, "static.test", "old static")
    write(dynamic, "dynamic.test", "old dynamic")
    pairs = [{"certFile": str(path), "keyFile": str(path)} for path in (static, dynamic)]
    world.proxy.apply({**world.routes, "tls": [{"entryPoints": ["one"], "certificate": pairs[1]}]})
    assert world.reload(one={"tls": {"certificates": [pairs[0]]}}) == []
    port = world.reserved["one"].port
    assert offered(port, "static.test") == "old static"
    assert offered(port, "dynamic.test") == "old dynamic"
    write(static, "static.test", "new static")
    write(dynamic, "dynamic.test", "new dynamic")
    wait_until(
        lambda: {offered(port, "static.test") for _ in range(8)} == {"new static"}, "static", 10
    )
    wait_until(
        lambda: {offered(port, "dynamic.test") for _ in range(8)} == {"new dynamic"}, "dynamic", 10
    )
    write_whole(static, "spoilt")
    wait_until(
        lambda: "tls.certificates.0.certFile: holds no certificate" in world.proxy.log(),
        "the complaint",
        10,
    )
    assert offered(port, "static.test") == "new static"


class Client(threading.Thread):
    """Asks again and again on connections of several requests; counts what goes wrong."""

    def __init__(self, port: int, *, tls: bool) -> None:
        super().__init__()
        self._port, self._tls = port, tls
        self._ended = threading.Event()
        self.done = 0
        self.failures: list[str] = []

    def run(self) -> None:
        """Work until told to end."""
        while not self._ended.is_set():
            try:
                if self._tls:
                    client = open_connection(self._port, "busy.test", context=trusting())
                else:
                    client = RawConnection(self._port)
                with client:
                    for _ in range(20):
                        answer = client.request(REQUEST)
                        if answer.status != 200:
                            self.failures.append(str(answer.status))
                        self.done += 1
                        if answer.value("Connection") == b"close":
                            break
            except (OSError, AssertionError, TooSlowError) as error:
                self.failures.append(repr(error))

    def end(self) -> None:
        """Stop and wait."""
        self._ended.set()
        self.join(10)


@pytest.mark.serial
def test_200_changes_under_load_lose_no_request(world: World) -> None:
    pairs: list[Pair] = [authority().issue("busy.test", common=str(n)) for n in range(3)]
    assert world.reload(one={}, two=tls_options(pairs[0])) == []
    clients = [
        Client(world.reserved["one"].port, tls=False),
        Client(world.reserved["two"].port, tls=True),
    ]
    for client in clients:
        client.start()
    more = ReservedPort()
    try:
        for number in range(200):
            wanted: dict[str, Mapping[str, Any]] = {
                "one": {"compress": number % 8 == 3},
                "two": tls_options(pairs[number % len(pairs)]),
            }
            if number % 2:
                wanted["three"] = {"tls": {}} if number % 4 == 1 else {}
            if number % 5 == 0:
                both = f"{world.address('one')},127.0.0.1:{more.port}"
                wanted["one"] = {**wanted["one"], "address": both}
            assert world.reload(**wanted) == []
    finally:
        for client in clients:
            client.end()
        more.close()
    assert [client.failures for client in clients] == [[], []]
    assert all(client.done > 200 for client in clients)
