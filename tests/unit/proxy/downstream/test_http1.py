"""Single stories of a client connection in front of one pooled server connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kvproxy.proxy.downstream import http1 as client
from kvproxy.proxy.downstream.http1 import ClientConnection
from kvproxy.proxy.upstream import http1 as upstream
from kvproxy.proxy.upstream.http1 import UpstreamConnection
from tests.unit.proxy.wires import FakeTransport, Wires
from tests.unit.proxy.worlds import World, backend, frontend, whole

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Stage:
    """A client and an idle connection to the only server."""

    async def start(self, monkeypatch: pytest.MonkeyPatch) -> None:
        wires = Wires()
        for module in (client, upstream):
            monkeypatch.setattr(module, "send", wires.send)
        self.world = World()
        await self.world.apply(
            whole(1, backend("b", {"http://s": 1}), frontend("f", "Host:a", "b"))
        )
        self.connection = ClientConnection(self.world.listeners["http"])
        self.client = FakeTransport(wires, self.connection, 10**6)
        (self.server,) = self.world.plan.servers
        self.pooled = UpstreamConnection(self.server)
        self.pooled.used_at = 1.0
        self.upstream = FakeTransport(wires, self.pooled, 10**6)
        self.server.idle.append(self.pooled)

    def ask(self, data: bytes) -> None:
        self.connection.data_received(data)

    def answer(self, data: bytes) -> bytes:
        self.pooled.data_received(data)
        return self.client.read(10**6)


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    stage = Stage()
    await stage.start(monkeypatch)
    return stage


async def test_interim_answers_of_many_requests_do_not_add_up(stage: Stage) -> None:
    for _ in range(100):
        stage.ask(GET)
        read = stage.answer(b"HTTP/1.1 103 Early Hints\r\n\r\n" + EMPTY)
        assert read.count(b"HTTP/1.1 103 ") == 1
        assert read.count(b"HTTP/1.1 200 ") == 1
    assert stage.server.idle == [stage.pooled]


async def test_too_many_interim_answers_are_502(stage: Stage) -> None:
    stage.ask(GET)
    assert b"HTTP/1.1 502 " in stage.answer(b"HTTP/1.1 102 Processing\r\n\r\n" * 33)


@pytest.mark.parametrize("status", [600, 799, 999])
async def test_odd_statuses_are_counted_as_answers(stage: Stage, status: int) -> None:
    stage.ask(GET)
    stage.answer(b"HTTP/1.1 %d Odd\r\nContent-Length: 0\r\n\r\n" % status)
    counters = stage.world.plan.backends["p", "b"].counters["http"]
    assert counters[status // 100] == 1
    assert sum(counters[:10]) == 1
    assert counters[10] < 5


async def test_a_request_whose_body_is_gone_is_not_sent_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dial(_: Any) -> Any:
        raise AssertionError("the request was sent once more, without its body")

    monkeypatch.setattr(type(stage.server), "dial", dial)
    stage.ask(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")
    stage.upstream.reset()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert stage.client.read(10**6).startswith(b"HTTP/1.1 502 ")


async def test_a_tunnel_has_no_deadline(stage: Stage) -> None:
    stage.ask(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\nearly"
    )
    assert b"early" not in stage.upstream.read(10**6)
    switching = b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert stage.answer(switching + b"first").endswith(b"\r\n\r\nfirst")
    assert stage.upstream.read(10**6) == b"early"
    assert stage.answer(b"second") == b"second"
    assert stage.connection.deadline == float("inf")


async def test_forwarded_lines_are_there_for_an_empty_host(stage: Stage) -> None:
    await stage.world.apply(whole(2, frontend("g", "PathPrefix:/", "b"), base=1))
    stage.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert b"X-Forwarded-For: 192.0.2.9\r\n" in stage.upstream.read(10**6)
