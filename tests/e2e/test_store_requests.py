"""What a change costs the store: its requests are counted on the wire."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from kvproxy.provider import Store, Transaction
from tests.support.backend import LoopThread
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess
from tests.support.relay import Relay
from tests.support.stores import PREFIX, SERVERS, ProxyStore, server, web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHANGES = 50
FRONTENDS = 20
ZOOKEEPER_PING = 11


class HttpTap:
    """Counts requests of HTTP/1.1 by method and path."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._line = b""

    def __call__(self, part: bytes) -> None:
        *lines, self._line = (self._line + part).split(b"\r\n")
        for line in lines:
            if line.endswith(b" HTTP/1.1"):
                self._counts[line.decode().rpartition(" ")[0].partition("?")[0]] += 1


class ZookeeperTap:
    """Counts requests of ZooKeeper by the number of their kind; not what keeps the session."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._data = b""
        self._connected = False

    def __call__(self, part: bytes) -> None:
        self._data += part
        while len(self._data) >= 4:
            length = int.from_bytes(self._data[:4], "big")
            if len(self._data) < 4 + length:
                return
            frame, self._data = self._data[4 : 4 + length], self._data[4 + length :]
            kind = int.from_bytes(frame[4:8], "big", signed=True)
            if self._connected and kind != ZOOKEEPER_PING:
                self._counts[f"request {kind}"] += 1
            self._connected = True


class Site:
    """A proxy that reaches its store through a relay which counts."""

    def __init__(self, store: ProxyStore, loop_thread: LoopThread) -> None:
        assert store.server is not None
        self.store = store
        self.counts: Counter[str] = Counter()
        kind = ZookeeperTap if store.kind == "zookeeper" else HttpTap
        tap: Callable[[], Callable[[bytes], None]] = lambda: kind(self.counts)  # noqa: E731
        self.relay = Relay(loop_thread, store.server.port, tap)  # type: ignore[attr-defined]
        arguments = (*store.flags(self.relay.endpoint), "--announce=false")
        self.proxy = ProxyProcess(None, arguments=arguments)


@pytest.fixture(params=SERVERS)
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    loop_thread: LoopThread,
) -> Iterator[Site]:
    made = Site(ProxyStore(request.param, tmp_path_factory.mktemp("store")), loop_thread)
    yield made
    made.proxy.stop()
    made.relay.close()
    made.store.close()


def test_a_change_costs_the_store_no_more_than_one_read(site: Site) -> None:
    asyncio.run(count(site))


async def count(site: Site) -> None:
    store = site.store.open()
    values = server("http://127.0.0.1:9")
    for number in range(FRONTENDS):
        values |= web(f"host-{number}")
    await store.write(Transaction(put=values))
    await asyncio.to_thread(site.proxy.start, 30.0)
    await served(site, "host-0")
    started = sum(site.counts.values())
    began = time.monotonic()
    site.counts.clear()
    for number in range(CHANGES):
        await change(site, store, f"changed-{number}")
    seconds = time.monotonic() - began
    await store.close()
    print(site.store.kind, started, dict(site.counts), round(seconds, 1))
    # The start reads twice (static settings, routes); a connection may need some words before.
    assert started < 20
    # Probes come beside the changes: one or two requests each 3 s.
    assert sum(site.counts.values()) <= CHANGES + 2 * (seconds / 3 + 2), site.counts


async def change(site: Site, store: Store, host: str) -> None:
    """Lead a frontend to another host and wait until it is served."""
    key = f"{PREFIX}/frontends/host-0/routes/main/rule"
    await store.write(Transaction(put={key: f"Host:{host}".encode()}))
    await served(site, host)


async def served(site: Site, host: str) -> None:
    await asyncio.to_thread(
        wait_until, lambda: site.proxy.fetch(host=host).status == 502, f"{host} served", 20.0
    )
