"""Requests of the proxy's own."""

from __future__ import annotations

import asyncio
import gc
from functools import cache
from typing import TYPE_CHECKING

import pytest

from kvproxy.middleware.fetching import Fetched, FetchError
from kvproxy.model.static import ForwardingTimeouts, StaticConfiguration
from kvproxy.proxy.clock import Clock
from kvproxy.proxy.upstream import fetch as module
from kvproxy.proxy.upstream.fetch import MAX_FETCHED_BYTES, ServerFetch
from kvproxy.proxy.upstream.server import Server
from kvproxy.proxy.upstream.transport import TransportSettings
from tests.support.backend import Answer, Backend, Endless, InTurn, plain_answer
from tests.support.deadline import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

HEAD = b"GET %b HTTP/1.1\r\nAccept: */*\r\n"


@pytest.fixture
def server(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    yield made
    made.stop()


@cache
def transport() -> TransportSettings:
    timeouts = ForwardingTimeouts(dial_timeout=5.0)
    return TransportSettings(StaticConfiguration(forwarding_timeouts=timeouts))


def fetcher(url: str) -> ServerFetch:
    return ServerFetch(Server(url, transport()), Clock())


async def ask(fetch: ServerFetch, path: bytes = b"/") -> Fetched:
    async with asyncio.timeout(10):
        return await fetch(HEAD % path)


async def test_an_answer_and_the_connection_is_kept(server: Backend) -> None:
    server.on("/a", Answer((plain_answer(b"body", "X-A: b", "Keep-Alive: x"),)))
    fetch = fetcher(server.url)
    for _ in range(3):
        assert await ask(fetch, b"/a") == Fetched(200, ((b"X-A", b"b"),), b"body")
    assert len(server.connections) == 1
    assert server.requests[0].head == (
        b"GET /a HTTP/1.1\r\nAccept: */*\r\nHost: " + server.authority.encode() + b"\r\n\r\n"
    )


BODIES = {
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
        "keep",
        b"abcd",
    ),
    "close": (b"HTTP/1.1 200 OK\r\n\r\nabcd", "close", b"abcd"),
    "none": (b"HTTP/1.1 204 No Content\r\n\r\n", "keep", b""),
    "after-100": (b"HTTP/1.1 103 Early Hints\r\n\r\n" + plain_answer(b"x"), "keep", b"x"),
}


@pytest.mark.parametrize(("wire", "after", "body"), BODIES.values(), ids=BODIES)
async def test_bodies(server: Backend, wire: bytes, after: str, body: bytes) -> None:
    half = len(wire) // 2
    server.on("/", Answer((wire[:half], 0.01, wire[half:]), after=after))  # type: ignore[arg-type]
    fetched = await ask(fetcher(server.url))
    assert fetched.body == body
    assert fetched.headers == ()


FAILURES = {
    "closed": Answer((), after="close"),
    "reset": Answer((), after="reset"),
    "nonsense": Answer((b"nonsense\r\n\r\n",), after="close"),
    "cut": Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",), after="close"),
    "too-large": Endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536),
    "too-large-announced": Answer((plain_answer(b"x" * (MAX_FETCHED_BYTES + 1)),)),
    "switch": Answer((b"HTTP/1.1 101 Switching Protocols\r\n\r\n",)),
}


@pytest.mark.parametrize("behaviour", FAILURES.values(), ids=FAILURES)
async def test_failures(server: Backend, behaviour: Answer | Endless) -> None:
    server.on("/", behaviour)
    fetch = fetcher(server.url)
    with pytest.raises(FetchError, match=server.authority):
        await ask(fetch)
    assert fetch.server.idle == []


async def test_nobody_there(server: Backend) -> None:
    server.stop()
    with pytest.raises(FetchError, match=server.authority):
        await ask(fetcher(server.url))


async def test_an_answer_that_takes_too_long(
    server: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FETCH_SECONDS", 0.2)
    server.on("/", Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",), after="hang"))
    with pytest.raises(FetchError, match=r"no answer within 0\.2 s"):
        await ask(fetcher(server.url))


async def test_a_connection_that_died_in_the_pool_is_replaced(server: Backend) -> None:
    ok = Answer((plain_answer(b"ok"),))
    server.on("/", InTurn((ok, Answer((), after="close"))))
    fetch = fetcher(server.url)
    for _ in range(3):
        assert (await ask(fetch)).body == b"ok"


async def test_idle_connections_end_with_it(server: Backend) -> None:
    fetch = fetcher(server.url)
    await ask(fetch)
    del fetch
    gc.collect()
    await asyncio.to_thread(
        wait_until, lambda: server.connections[0].ended == "closed", "the end of the connection"
    )
