"""Health checks: what is asked, what the answers mean, which checks there are (section 7.7)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kvproxy.control.generations.generation import EMPTY, Changes
from kvproxy.control.health.checks import HealthChecks
from kvproxy.control.health.client import HealthClient
from kvproxy.control.health.request import health_request, parsed
from kvproxy.http.trust import server_context
from kvproxy.model.dynamic import Backend as BackendOptions
from kvproxy.model.dynamic import HealthCheck, Server
from kvproxy.model.health import check_key
from kvproxy.model.messages import BackendEntry
from tests.support.backend import Answer, Backend, Gate, plain_answer
from tests.support.certificates import authority
from tests.support.http2_backend import Http2Backend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from kvproxy.control.generations.generation import Generation
    from kvproxy.model.messages import HealthChange
    from tests.support.backend import Behaviour, LoopThread

SHORT = 0.3
SILENCE = "no answer within 0.3 s"

URLS = {
    "path": ("http://backend1:80", {"path": "/test"}, "http://backend1:80/test"),
    "port": ("http://backend2:80", {"path": "/test", "port": 8080}, "http://backend2:8080/test"),
    "no port": ("http://backend1", {"path": "/health"}, "http://backend1/health"),
    "port added": (
        "http://backend2",
        {"path": "/health", "port": 8080},
        "http://backend2:8080/health",
    ),
    "scheme": (
        "https://backend1:80",
        {"path": "/test", "scheme": "http"},
        "http://backend1:80/test",
    ),
    "query": (
        "http://backend1:80",
        {"path": "/health?powpow=do&do=powpow"},
        "http://backend1:80/health?powpow=do&do=powpow",
    ),
    "path of the server is replaced": ("http://a/x/y", {"path": "/z"}, "http://a/z"),
    "relative path": ("http://a/x/y", {"path": "z"}, "http://a/x/z"),
    "IPv6": ("http://[::1]:81", {"path": "/", "port": 82}, "http://[::1]:82/"),
    "IPv6 without port": ("http://[::1]", {"path": "/"}, "http://[::1]/"),
    "user name": ("http://u:p@a:80", {"path": "/"}, "http://a:80/"),
    "wss": ("wss://a", {"path": "/"}, "https://a/"),
    "h2c": ("h2c://a:81/x", {"path": "y"}, "h2c://a:81/y"),
    "h2c with another scheme": ("h2c://a", {"path": "/", "scheme": "http"}, "http://a/"),
}


@pytest.mark.parametrize(("server", "options", "url"), URLS.values(), ids=URLS)
def test_url(server: str, options: dict[str, Any], url: str) -> None:
    assert health_request(server, HealthCheck(**options), 30.0).url == url


def test_a_scheme_that_cannot_be_checked() -> None:
    with pytest.raises(ValueError, match="ftp"):
        health_request("ftp://a", HealthCheck(path="/"), 30.0)


INTERVALS = {
    "B29-unparsable": (None, 30.0),
    "B29-negative": (-1.0, 30.0),
    "B29-5m": (300.0, 300.0),
    "too short": (1e-9, 0.01),
}


@pytest.mark.parametrize(("given", "used"), INTERVALS.values(), ids=INTERVALS)
def test_interval(given: float | None, used: float) -> None:
    check = HealthCheck(path="/", interval=given)
    assert health_request("http://a", check, 30.0).interval == used


def test_credentials_of_a_server_are_not_named() -> None:
    request = health_request("http://u:secret@a", HealthCheck(path="/"), 30.0)
    assert "secret" not in repr(request)


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    yield made
    made.stop()


@pytest.fixture
async def client() -> AsyncIterator[HealthClient]:
    made = HealthClient(server_context([authority().pem], verify=True), 20.0)
    yield made
    await made.close()


def patience(expected: str) -> float:
    """Return the time-out of a check: short only where it is to pass."""
    return SHORT if expected == SILENCE else 20.0


def status(line: str, *headers: str) -> Answer:
    return Answer((plain_answer(b"", *headers, status=line),))


ANSWERS: dict[str, tuple[Behaviour, str]] = {
    "B20-200": (status("200 OK"), ""),
    "B20-204": (Answer((b"HTTP/1.1 204 No Content\r\n\r\n",)), ""),
    "304": (Answer((b"HTTP/1.1 304 Not Modified\r\n\r\n",)), ""),
    "399": (status("399 Odd"), ""),
    "B20-308-without-location": (status("308 Permanent Redirect"), ""),
    "302-without-location": (status("302 Found"), ""),
    "400": (status("400 Bad Request"), "status 400"),
    "404": (status("404 Not Found"), "status 404"),
    "500": (status("500 Internal Server Error"), "status 500"),
    "B21-503": (status("503 Service Unavailable"), "status 503"),
    "redirect to a good answer": (status("302 Found", "Location: /redirected-well"), ""),
    "redirect to a bad answer": (
        status("301 Moved Permanently", "Location: /redirected-ill"),
        "status 500",
    ),
    "redirects for ever": (
        status("302 Found", "Location: /redirects-for-ever"),
        "more than 10 redirects",
    ),
    "no answer": (Answer(after="hang"), SILENCE),
    "half an answer": (Answer((b"HTTP/1.1 20",), "hang"), SILENCE),
    "a body that never ends": (
        Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",), "hang"),
        "",
    ),
}


@pytest.mark.parametrize(("name", "case"), ANSWERS.items(), ids=ANSWERS)
async def test_answers(
    name: str, case: tuple[Behaviour, str], client: HealthClient, backend: Backend
) -> None:
    behaviour, expected = case
    path = f"/{name.replace(' ', '-')}"
    backend.on(path, behaviour)
    backend.on("/redirected-well", status("200 OK"))
    backend.on("/redirected-ill", status("500 Internal Server Error"))
    check = HealthCheck(path=path, timeout=patience(expected))
    request = health_request(backend.url, check, 30.0)
    assert await client.ask(request, parsed(request)) == expected


FAILURES: dict[str, Behaviour] = {
    "garbage": Answer((b"garbage\r\n\r\n",), "close"),
    "closes": Answer(after="close"),
    "resets": Answer(after="reset"),
    "says-nothing-but-1xx": Answer((b"HTTP/1.1 102 Processing\r\n\r\n" * 1000,), "hang"),
    "a-head-without-end": Answer((b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * 50_000,), "hang"),
    "a-line-without-end": Answer((b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 500_000,), "hang"),
    "http-0.9": Answer((b"<html>well</html>\n",), "close"),
    "http-2": Answer((b"\x00\x00\x00\x04\x00\x00\x00\x00\x00",), "hang"),
    "two-lengths": Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",)),
}


@pytest.mark.parametrize(("name", "behaviour"), FAILURES.items(), ids=FAILURES)
async def test_servers_that_do_not_answer(
    name: str, behaviour: Behaviour, client: HealthClient, backend: Backend
) -> None:
    """What is no answer is found out from what came, not by waiting for more."""
    backend.on(f"/{name}", behaviour)
    request = health_request(backend.url, HealthCheck(path=f"/{name}", timeout=60.0), 30.0)
    assert await client.ask(request, parsed(request)) not in ("", "no answer within 60 s")


async def test_a_server_that_refuses_connections(client: HealthClient) -> None:
    request = health_request("http://127.0.0.1:1", HealthCheck(path="/"), 30.0)
    assert "127.0.0.1:1" in await client.ask(request, parsed(request))


async def test_b28_hostname_and_headers(client: HealthClient, backend: Backend) -> None:
    check = HealthCheck(
        path="/b28?x=1", hostname="myhost", headers={"X-Token": "t", "Host": "no effect"}
    )
    request = health_request(backend.url, check, 30.0)
    assert await client.ask(request, parsed(request)) == ""
    (seen,) = backend.requests_for("/b28")
    assert (seen.method, seen.target) == (b"GET", b"/b28?x=1")
    assert seen.values("Host") == [b"myhost"]
    assert seen.values("X-Token") == [b"t"]
    assert seen.values("Accept-Encoding") == []
    (agent,) = seen.values("User-Agent")
    assert agent.startswith(b"kvproxy/")


async def test_servers_with_tls_are_verified(client: HealthClient, loop_thread: LoopThread) -> None:
    known = Backend(loop_thread, tls=authority().server_context("127.0.0.1"))
    other = Backend(loop_thread, tls=authority().server_context("other.test"))
    for server, well in ((known, True), (other, False)):
        request = health_request(server.url, HealthCheck(path="/"), 30.0)
        assert (await client.ask(request, parsed(request)) == "") is well
        server.stop()


HTTP2 = {
    "well": ("/status/204", ""),
    "ill": ("/status/503", "status 503"),
    "redirect is not followed": ("/status/302", ""),
    "reset": ("/reset", "the stream was reset with code 2"),
    "silent": ("/wait", SILENCE),
}


@pytest.mark.parametrize(("path", "expected"), HTTP2.values(), ids=HTTP2)
async def test_servers_that_speak_nothing_but_http2(
    path: str, expected: str, client: HealthClient, loop_thread: LoopThread
) -> None:
    server = Http2Backend(loop_thread)
    check = HealthCheck(
        path=path, timeout=patience(expected), hostname="myhost", headers={"X-Token": "t"}
    )
    request = health_request(server.url, check, 30.0)
    assert await client.ask(request, parsed(request)) == expected
    server.stop()


async def test_a_server_that_speaks_no_http2(client: HealthClient, backend: Backend) -> None:
    url = backend.url.replace("http:", "h2c:")
    request = health_request(url, HealthCheck(path="/", timeout=20.0), 30.0)
    assert await client.ask(request, parsed(request)) != ""
    refused = health_request("h2c://127.0.0.1:1", HealthCheck(path="/"), 30.0)
    assert await client.ask(refused, parsed(refused)) != ""


class World:
    """Checks against real servers, and everything that workers are told."""

    def __init__(self, client: HealthClient, known_down: Sequence[bytes] = ()) -> None:
        self.told: list[HealthChange] = []
        self.down: set[bytes] = set()
        self.checks = HealthChecks(client, 30.0, self.tell, known_down)
        self.number = 0
        self.backends: dict[tuple[str, str], BackendEntry] = {}

    def tell(self, change: HealthChange) -> None:
        self.told.append(change)
        self.down = (self.down | set(change.down)) - set(change.up)

    def serve(self, *, whole: bool = False, **backends: BackendOptions | None) -> None:
        """Serve a generation in which these backends differ from before; None removes one."""
        changes = {}
        for name, content in backends.items():
            key = ("p", name)
            old = self.backends.pop(key, None)
            new = None
            if content is not None:
                new = self.backends[key] = BackendEntry("p", name, b"", content)
            changes[key] = (old, new)
        self.number += 1
        generation: Generation = msgspec.structs.replace(
            EMPTY,
            number=self.number,
            backends=dict(self.backends),
            base=-1 if whole else self.number - 1,
            changes=Changes(backends=changes),
        )
        self.checks.serve(generation)

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not wanted():
                await asyncio.sleep(0.005)


@pytest.fixture
async def world(client: HealthClient) -> AsyncIterator[World]:
    made = World(client)
    yield made
    await made.checks.close()


def checked(backend: Backend, path: str, interval: float = 0.05) -> BackendOptions:
    return BackendOptions(
        servers={"s": Server(url=backend.url)},
        health_check=HealthCheck(path=path, interval=interval),
    )


def key_of(options: BackendOptions) -> bytes:
    (server,) = options.servers.values()
    return check_key(server.url, options.health_check)


async def test_a_server_goes_down_after_one_failure_and_comes_back(
    world: World, backend: Backend
) -> None:
    """Rows B21 to B24."""
    options = checked(backend, "/flaps")
    backend.on("/flaps", status("503 Service Unavailable"))
    world.serve(b=options)
    await world.until(lambda: world.down == {key_of(options)})
    seen = len(backend.requests_for("/flaps"))
    (state,) = world.checks.states().values()
    assert (state.up, state.reason, state.server) == (False, "status 503", backend.url)
    await world.until(lambda: len(backend.requests_for("/flaps")) > seen + 2)
    assert len(world.told) == 1
    backend.on("/flaps", status("200 OK"))
    await world.until(lambda: not world.down)
    (state,) = world.checks.states().values()
    assert state.up
    assert [len(change.down) for change in world.told] == [1, 0]


async def test_one_check_however_many_backends_use_it(world: World, backend: Backend) -> None:
    options = checked(backend, "/shared", interval=30.0)
    backend.on("/shared", status("500 Internal Server Error"))
    world.serve(a=options, b=options)
    await world.until(lambda: bool(world.down))
    world.serve(c=options, a=None)
    world.serve(whole=True, d=options)
    assert len(world.checks.states()) == 1
    assert len(backend.requests_for("/shared")) == 1
    world.serve(b=None, c=None, d=None)
    assert world.checks.states() == {}


async def test_other_settings_are_another_check_that_starts_as_down(
    world: World, backend: Backend
) -> None:
    """Differs: the reference enables every server at each reload."""
    backend.on("/first", status("500 Internal Server Error"))
    backend.on("/second", Answer(after="hang"))
    first, second = checked(backend, "/first", 30.0), checked(backend, "/second", 30.0)
    world.serve(b=first)
    await world.until(lambda: bool(world.down))
    world.serve(b=second)
    assert key_of(second) in world.down
    backend.on("/third", status("200 OK"))
    third = checked(backend, "/third", 30.0)
    world.serve(b=third)
    await world.until(lambda: key_of(third) not in world.down)


async def test_what_a_predecessor_saw_fail_starts_as_down(
    client: HealthClient, backend: Backend
) -> None:
    backend.on("/silent", Answer(after="hang"))
    options = checked(backend, "/silent", 30.0)
    world = World(client, known_down=[key_of(options), b"a check that is gone"])
    world.backends = {("p", "b"): BackendEntry("p", "b", b"", options)}
    world.serve(whole=True)
    assert world.down == {key_of(options)}
    assert world.checks.down() == [key_of(options)]
    world.serve(b=None)
    world.serve(b=options)
    assert world.down == set()
    await world.checks.close()


async def test_keys_that_nobody_uses_are_forgotten(world: World, backend: Backend) -> None:
    backend.on("/gone", status("500 Internal Server Error"))
    options = checked(backend, "/gone", 30.0)
    world.serve(b=options)
    await world.until(lambda: bool(world.down))
    world.serve(b=None)
    world.serve(c=checked(backend, "/other", 30.0))
    assert world.down == set()


async def test_a_removed_check_tells_nothing_any_more(world: World, backend: Backend) -> None:
    gate = Gate()
    backend.on("/slow", Answer((gate, plain_answer(status="500 Internal Server Error"))))
    backend.on("/after", status("500 Internal Server Error"))
    world.serve(b=checked(backend, "/slow"))
    await world.until(lambda: bool(backend.requests_for("/slow")))
    after = checked(backend, "/after")
    world.serve(b=None, c=after)
    gate.open()
    await world.until(lambda: bool(world.told))
    assert world.down == {key_of(after)}


async def test_without_a_path_nothing_is_checked(world: World, backend: Backend) -> None:
    world.serve(b=checked(backend, ""))
    assert world.checks.states() == {}


async def test_checks_are_spread_over_the_interval(world: World) -> None:
    """Each tenth of an hour after the first gets about as many of the second turns.

    The URLs, and so what is worked out from them, are the same in every run.
    """
    count, hour = 900, 3600.0
    servers = {str(number): Server(url=f"http://127.0.0.1:1/{number}") for number in range(count)}
    check = HealthCheck(path="/", interval=hour)
    world.serve(b=BackendOptions(servers=servers, health_check=check))
    began = time.monotonic()
    await world.until(lambda: len(world.down) == count and not world.checks._running)
    # The first turns take their time, and the second ones are as much later.
    due = [min(int((when - began) / (hour / 10)), 9) for when, _, _ in world.checks._due]
    tenths = Counter(due)
    assert sorted(tenths) == list(range(1, 10))
    assert all(60 <= turns <= 140 for turns in tenths.values()), tenths
