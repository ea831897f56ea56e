"""Every state of a connection has a deadline: slow, silent and half-open clients and servers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Answer, Backend, Endless, ManualServer, echoed, plain_answer
from tests.support.deadline import wait_until
from tests.support.http_client import ConnectionEndedError, RawConnection, build_request
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.backend import LoopThread

LIMIT = 0.6
"""The configured time-outs, seconds."""

LATE = 3.0
"""By when a deadline of `LIMIT` must have been acted on, on a busy machine."""

POST = b"POST /up HTTP/1.1\r\nHost: a\r\n"


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread, script={"/silent": Answer(after="hang")})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def manual() -> Iterator[ManualServer]:
    made = ManualServer()
    yield made
    made.stop()


def routes(backend: Backend, manual: ManualServer) -> dict[str, Any]:
    """Return routes by host: ``a`` to the scripted server, ``manual`` to the other."""
    described = single_backend(backend.url, {"a": "Host:a"})
    described["backends"]["manual"] = {"servers": {"one": {"url": manual.url}}}
    described["frontends"]["manual"] = {
        "backend": "manual",
        "routes": {"rule": {"rule": "Host:manual"}},
    }
    return described


@pytest.fixture(scope="module")
def limited(backend: Backend, manual: ManualServer) -> Iterator[ProxyProcess]:
    """Return a proxy on which all deadlines are `LIMIT`."""
    limit = f"{LIMIT * 1000:.0f}ms"
    responding = {"readTimeout": limit, "writeTimeout": limit, "idleTimeout": limit}
    static = {
        "respondingTimeouts": responding,
        "forwardingTimeouts": {"responseHeaderTimeout": limit},
    }
    with ProxyProcess(routes(backend, manual), static=static) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def unlimited(backend: Backend, manual: ManualServer) -> Iterator[ProxyProcess]:
    """Return a proxy with the deadlines as they are by default."""
    with ProxyProcess(routes(backend, manual)) as proxy:
        yield proxy


def drip(client: RawConnection, data: bytes, pause: float = 0.02) -> float:
    """Send ``data`` byte by byte until the other side has had enough; returns the seconds."""
    started = time.monotonic()
    for position in range(len(data)):
        if not client.send_if_open(data[position : position + 1]):
            break
        if not client.silent_for(pause):
            break
        assert time.monotonic() - started < LATE, "the deadline was not kept"
    return time.monotonic() - started


ENDLESS_HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: a\r\n" * 1000

SLOW: dict[str, Callable[[RawConnection], object]] = {
    "head-byte-by-byte": lambda client: drip(client, ENDLESS_HEAD),
    "half-a-head": lambda client: client.send(b"GET / HTTP/1.1\r\nHost:"),
    "half-a-request-line": lambda client: client.send(b"G"),
    "empty-lines": lambda client: client.send(b"\r\n\r\n"),
    "body-byte-by-byte": lambda client: drip(
        client, POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000, 0.01
    ),
    "half-a-body": lambda client: client.send(POST + b"Content-Length: 10\r\n\r\nhello"),
    "no-body": lambda client: client.send(POST + b"Content-Length: 10\r\n\r\n"),
    "get-with-a-length-and-no-body": lambda client: client.send(
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
    ),
    "half-a-chunk": lambda client: client.send(
        POST + b"Transfer-Encoding: chunked\r\n\r\na\r\nhello"
    ),
    "no-last-chunk": lambda client: client.send(
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_slow_requests_end(limited: ProxyProcess, name: str) -> None:
    with limited.connect(seconds=LATE) as client:
        started = time.monotonic()
        SLOW[name](client)
        answer = client.read_response()
        assert answer.status == 408
        assert answer.values("Connection") == [b"close"]
        client.assert_closed()
        assert time.monotonic() - started > LIMIT * 0.5


@pytest.mark.parametrize("requests", [0, 1])
def test_idle_connections_are_closed_without_a_word(limited: ProxyProcess, requests: int) -> None:
    with limited.connect(seconds=LATE) as client:
        for _ in range(requests):
            assert client.request(build_request(host="a")).status == 200
        started = time.monotonic()
        client.assert_closed()
        assert time.monotonic() - started > LIMIT * 0.5


def test_silent_server_is_504(limited: ProxyProcess, backend: Backend) -> None:
    with limited.connect(seconds=LATE) as client:
        answer = client.request(build_request("/silent", host="a"))
    assert (answer.status, answer.body) == (504, b"Gateway Timeout")
    (request,) = backend.wait_for("/silent")
    wait_until(
        lambda: backend.connections[request.connection].ended, "the server to be let go", LATE
    )


def test_answer_that_does_not_end_is_cut(limited: ProxyProcess, manual: ManualServer) -> None:
    with limited.connect(seconds=LATE) as client:
        client.send(build_request(host="manual"))
        with manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            assert client.read_head().status == 200
            drip(server, b"x" * 100_000)
            assert len(client.read_to_end()) < 100_000


def test_client_that_does_not_read_is_cut(limited: ProxyProcess, backend: Backend) -> None:
    backend.on("/flood", Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536))
    with limited.connect(receive_buffer=4096) as client:
        client.send(build_request("/flood", host="a"))
        (request,) = backend.wait_for("/flood")
        wait_until(
            lambda: backend.connections[request.connection].ended, "the flood to be ended", LATE
        )


@pytest.mark.serial
def test_many_slow_clients_do_not_disturb_the_others(limited: ProxyProcess) -> None:
    slow = [limited.connect(seconds=LATE * 2) for _ in range(300)]
    for client in slow:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: ")
    started = time.monotonic()
    for _ in range(50):
        assert echoed(limited.fetch("/quick", host="a")).target == b"/quick"
    assert time.monotonic() - started < 2
    for client in slow:
        assert client.read_response().status == 408
        client.close()


def test_slow_but_moving_requests_pass_by_default(unlimited: ProxyProcess) -> None:
    with unlimited.connect() as client:
        drip(client, b"GET /slow HTTP/1.1\r\nHost: a\r\n\r", 0.01)
        client.send(b"\n")
        assert echoed(client.read_response()).target == b"/slow"


def test_half_closed_client_gets_its_answer(unlimited: ProxyProcess, backend: Backend) -> None:
    backend.on("/later", Answer((0.2, plain_answer(b"later"))))
    with unlimited.connect() as client:
        client.send(build_request("/later", host="a"))
        client.half_close()
        assert client.read_response().body == b"later"
        client.assert_closed()


def test_client_that_leaves_frees_the_server(unlimited: ProxyProcess, backend: Backend) -> None:
    with unlimited.connect() as client:
        client.send(build_request("/silent?leaves", host="a"))
        seen = wait_until(
            lambda: [each for each in backend.requests if each.target == b"/silent?leaves"],
            "the request",
        )
        client.reset()
    connection = backend.connections[seen[0].connection]
    wait_until(lambda: connection.ended, "the server to be let go")


def test_client_that_leaves_in_the_middle_of_an_answer(
    unlimited: ProxyProcess, backend: Backend
) -> None:
    backend.on("/endless", Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536))
    with unlimited.connect() as client:
        client.send(build_request("/endless", host="a"))
        assert client.read_head().status == 200
        client.reset()
    (request,) = backend.wait_for("/endless")
    connection = backend.connections[request.connection]
    wait_until(lambda: connection.ended, "the server to be let go")


def test_server_that_leaves_in_the_middle_of_a_request(
    unlimited: ProxyProcess, manual: ManualServer
) -> None:
    with unlimited.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: manual\r\nContent-Length: 1000000\r\n\r\nhello")
        with manual.accept() as server:
            server.read_until(b"hello")
        answer = client.read_response()
        assert answer.status == 502
        assert answer.values("Connection") == [b"close"]


def test_server_that_resets_in_the_middle_of_an_answer(
    unlimited: ProxyProcess, manual: ManualServer
) -> None:
    with unlimited.connect() as client:
        client.send(build_request(host="manual"))
        server = manual.accept()
        server.read_until(b"\r\n\r\n")
        server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello")
        assert client.read_head().status == 200
        assert client.read_exactly(5) == b"hello"
        server.reset()
        with pytest.raises(ConnectionEndedError):
            client.read_exactly(1)
