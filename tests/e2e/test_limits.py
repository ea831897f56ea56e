"""Connection limits over four real workers: exact under load, and whole again after kill -9."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Answer, Backend, Gate, plain_answer
from tests.support.deadline import wait_until
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess, single_backend
from tests.support.websocket import WebSocketServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.backend import LoopThread

AMOUNT = 10
CLIENTS = 200
BURST = 70
WORKERS = 4
REFUSAL = b"max connections reached: 10"


def limited(url: str, **limit: Any) -> dict[str, Any]:
    routes = single_backend(url, {"all": "PathPrefix:/"})
    maximum = {"amount": AMOUNT, "extractorFunc": "request.host", **limit}
    routes["backends"]["server"]["maxConn"] = maximum
    return routes


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def proxy(backend: Backend) -> Iterator[ProxyProcess]:
    routes = limited(backend.url)
    routes["backends"]["unlimited"] = {"servers": {"one": {"url": backend.url}}}
    rate = {"period": "1h", "average": 1, "burst": BURST}
    routes["frontends"]["rated"] = {
        "backend": "unlimited",
        "routes": {"r": {"rule": "Host:rated"}},
        "priority": 1000,
        "ratelimit": {"extractorFunc": "client.ip", "rateset": {"r": rate}},
    }
    with ProxyProcess(routes, workers=WORKERS) as running:
        yield running


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def clients(port: int, count: int) -> AsyncIterator[list[Stream]]:
    """Open connections, which the kernel deals out to the workers."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def ask(stream: Stream, target: str, host: str) -> tuple[int, bytes]:
    reader, writer = stream
    writer.write(build_request(target, host=host))
    async with asyncio.timeout(20):
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        return int(head[9:12]), await reader.readexactly(length)


async def test_of_two_hundred_at_once_exactly_ten_reach_the_server(
    proxy: ProxyProcess, backend: Backend
) -> None:
    """The server holds what reaches it until everybody else has been refused."""
    async with clients(proxy.port, CLIENTS) as streams:
        for number in range(5):
            gate = Gate()
            target = f"/round-{number}"
            backend.on(target, Answer((gate, plain_answer())))
            tasks = [asyncio.create_task(ask(each, target, "h")) for each in streams]
            answers: Counter[tuple[int, bytes]] = Counter()
            async with asyncio.timeout(20):
                for done in asyncio.as_completed(tasks):
                    answers[await done] += 1
                    if answers.total() == CLIENTS - AMOUNT:
                        gate.open()
            assert answers == {(200, b"ok"): AMOUNT, (429, REFUSAL): CLIENTS - AMOUNT}
            seen = [request for request in backend.requests if request.target == target.encode()]
            assert len(seen) == AMOUNT


async def test_ten_busy_clients_are_never_refused(proxy: ProxyProcess) -> None:
    async def keep_asking(stream: Stream) -> Counter[int]:
        return Counter([(await ask(stream, "/", "busy"))[0] for _ in range(100)])

    async with clients(proxy.port, AMOUNT) as streams:
        counts = await asyncio.gather(*map(keep_asking, streams))
    assert sum(counts, Counter()) == {200: AMOUNT * 100}


async def test_workers_share_the_tokens_of_a_rate(proxy: ProxyProcess) -> None:
    async with clients(proxy.port, CLIENTS) as streams:
        answers = await asyncio.gather(*(ask(each, "/", "rated") for each in streams))
    assert Counter(status for status, _ in answers) == {200: BURST, 429: CLIENTS - BURST}


async def test_hosts_are_limited_apart(proxy: ProxyProcess, backend: Backend) -> None:
    gate = Gate()
    backend.on("/apart", Answer((gate, plain_answer())))
    async with clients(proxy.port, 2 * AMOUNT) as streams:
        tasks = [
            asyncio.create_task(ask(each, "/apart", f"host-{number % 2}"))
            for number, each in enumerate(streams)
        ]
        await asyncio.to_thread(
            wait_until,
            lambda: sum(each.target == b"/apart" for each in backend.requests) == 2 * AMOUNT,
            "all requests to reach the server",
        )
        gate.open()
        assert {status for status, _ in await asyncio.gather(*tasks)} == {200}


@pytest.mark.serial
async def test_a_killed_worker_takes_its_counts_with_it(
    proxy: ProxyProcess, backend: Backend
) -> None:
    gate = Gate()
    backend.on("/held", Answer((gate, plain_answer())))
    async with clients(proxy.port, AMOUNT) as streams:
        tasks = [asyncio.create_task(ask(each, "/held", "killed")) for each in streams]
        await asyncio.to_thread(
            wait_until,
            lambda: sum(each.target == b"/held" for each in backend.requests) == AMOUNT,
            "all ten to reach the server",
        )
        async with clients(proxy.port, 1) as (eleventh,):
            assert await ask(eleventh, "/held", "killed") == (429, REFUSAL)
        for pid in proxy.worker_pids():
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*tasks, return_exceptions=True)
    gate.open()
    proxy.wait_for_routes()
    again = Gate()
    backend.on("/again", Answer((again, plain_answer())))
    async with clients(proxy.port, AMOUNT + 1) as streams:
        tasks = [asyncio.create_task(ask(each, "/again", "killed")) for each in streams]
        done, _ = await asyncio.wait(tasks, timeout=20, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [(429, REFUSAL)]
        again.open()
        statuses = Counter(status for status, _ in await asyncio.gather(*tasks))
    assert statuses == {200: AMOUNT, 429: 1}


HANDSHAKE = build_request(
    headers=(
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    )
)


def test_a_web_socket_counts_until_it_ends(loop_thread: LoopThread) -> None:
    """Buffering has no part in it."""
    server = WebSocketServer(loop_thread)
    routes = limited(server.url, amount=1)
    routes["backends"]["server"]["buffering"] = {"maxRequestBodyBytes": 1}
    with ProxyProcess(routes) as proxy:
        with proxy.connect() as first:
            first.send(HANDSHAKE)
            assert first.read_head().status == 101
            assert proxy.fetch().status == 429
            first.close()
        wait_until(lambda: proxy.fetch().status != 429, "the WebSocket to be counted no more")
    server.stop()
