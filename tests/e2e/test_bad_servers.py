"""Servers that break the rules: a status for the client, a line in the log, nothing for others.

Each case is met on the direct way, through the attempts of a backend with options, and through
buffers.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from tests.support.backend import Answer, Backend, Endless, plain_answer
from tests.support.deadline import wait_until
from tests.support.http_client import ConnectionEndedError, RawConnection, build_request
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import Behaviour, LoopThread
    from tests.support.http_client import Response

WAYS = ("direct", "sticky", "buffered")
IMPATIENT = {"forwardingTimeouts": {"responseHeaderTimeout": "500ms"}}
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SECRET = b"the secret of the first client"


class Case(NamedTuple):
    """What a server does, and what its client is told; 0: its answer is cut.

    ``buffered``: what the client is told when the answer is read completely first.
    """

    behaviour: Behaviour
    status: int
    buffered: int | None = None
    logged: bool = True


def raw(*parts: bytes | float, after: Any = "close") -> Answer:
    return Answer(parts, after)


CASES = {
    "garbage": Case(raw(b"\x00\x01garbage\r\n\r\n"), 500),
    "half a status line": Case(raw(b"HTTP/1.1 20"), 502),
    "half a head": Case(raw(b"HTTP/1.1 200 OK\r\nContent-Le"), 502),
    "half a body": Case(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"), 0, 502),
    "half a chunk": Case(
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nha"), 0, 502
    ),
    "no last chunk": Case(
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"), 0, 502
    ),
    "a bad chunk": Case(
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf\r\n"), 0, 502
    ),
    "endless headers": Case(Endless(b"HTTP/1.1 200 OK\r\n", b"X-More: more\r\n" * 1000), 500),
    "an endless header": Case(Endless(b"HTTP/1.1 200 OK\r\nX: ", b"x" * 8192), 500),
    "endless 1xx": Case(Endless(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 40), 502),
    "never answers": Case(Answer(after="hang"), 504),
    "half a head, then nothing": Case(raw(b"HTTP/1.1 200 OK\r\nX", after="hang"), 504),
    "closes at once": Case(Answer(after="close"), 502),
    "resets": Case(Answer(after="reset"), 502),
    "says less than its length": Case(
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + SECRET), 0, 502
    ),
    "says more than its length": Case(
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" + SECRET, after="keep"),
        200,
        logged=False,
    ),
    "two answers": Case(
        raw(plain_answer() + plain_answer(SECRET), after="keep"), 200, logged=False
    ),
    "two lengths": Case(
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\nok" + SECRET), 500
    ),
    "length and chunked": Case(
        raw(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"2\r\nok\r\n0\r\n\r\n"
        ),
        500,
    ),
    "a negative length": Case(raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), 500),
    "HTTP/0.9": Case(raw(b"<html>hello</html>"), 500),
    "HTTP/2": Case(raw(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\x00" * 18), 500),
    "HTTP/3.0": Case(raw(b"HTTP/3.0 200 OK\r\nContent-Length: 0\r\n\r\n"), 500),
    "an unasked 101": Case(
        raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), 500
    ),
    "a 204 with a body": Case(
        raw(b"HTTP/1.1 204 No Content\r\nContent-Length: 30\r\n\r\n" + SECRET, after="keep"),
        204,
        logged=False,
    ),
}


class Stage(NamedTuple):
    """The running proxies and, by case, a server that does nothing else than break the rules.

    ``impatient`` does not wait for answers as long as a busy machine may need for one.
    """

    proxy: ProxyProcess
    impatient: ProxyProcess
    servers: dict[str, Backend]


def host(case: str, way: str) -> str:
    return f"{case.replace(' ', '-').replace('/', '-').replace(',', '')}.{way}".lower()


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    servers = {}
    backends: dict[str, Any] = {}
    frontends: dict[str, Any] = {}
    for case, way in itertools.product(CASES, WAYS):
        name = host(case, way)
        server = servers[name] = Backend(loop_thread, name)
        server.on("/bad", CASES[case].behaviour)
        backends[name] = {"servers": {"a": {"url": server.url}}}
        if way == "sticky":
            backends[name]["loadBalancer"] = {"stickiness": {}}
        if way == "buffered":
            backends[name]["buffering"] = {}
        frontends[name] = {"backend": name, "routes": {"r": {"rule": f"Host:{name}"}}}
    routes = {"backends": backends, "frontends": frontends}
    with ProxyProcess(routes) as proxy, ProxyProcess(routes, static=IMPATIENT) as impatient:
        yield Stage(proxy, impatient, servers)
    for server in servers.values():
        server.stop()


def cut_or_502(client: RawConnection) -> bool:
    """Whether the answer is cut; it is a 502 when the damage came together with its head."""
    try:
        return client.read_response().status == 502
    except ConnectionEndedError:
        return True


def served(stage: Stage, proxy: ProxyProcess, host: str) -> Response:
    """Ask for something good; the impatient proxy may not have waited long enough for it."""

    def ask() -> Response | None:
        answer = proxy.fetch("/good", host=host)
        return None if proxy is stage.impatient and answer.status == 504 else answer

    return wait_until(ask, "a good answer in time")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_one_client_is_told_and_the_next_is_served(name: str, way: str, stage: Stage) -> None:
    case = CASES[name]
    status = case.status if way != "buffered" or case.buffered is None else case.buffered
    known_as = host(name, way)
    asked = stage.impatient if status == 504 else stage.proxy
    with asked.connect() as client:
        client.send(build_request("/bad", host=known_as))
        if status:
            answer = client.read_response()
            assert answer.status == status
            assert SECRET not in answer.raw
        else:
            assert cut_or_502(client)
    # The next client has a connection of its own and asks for something else.
    following = served(stage, asked, known_as)
    assert following.status == 200
    assert following.value("X-Server") == known_as.encode()
    assert following.body.startswith(b"GET /good ")
    assert SECRET not in following.raw
    if case.logged:
        server = stage.servers[known_as].url
        wait_until(lambda: server in asked.log(), f"a line that names {server}")
