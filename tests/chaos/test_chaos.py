"""A store that dies, freezes, is cut off and compacted while routes change and clients ask.

Through all of it no request is lost to the configuration, and afterwards the proxy serves what the
store holds. ``KVPROXY_CHAOS_SECONDS`` gives the length of each run (12); ``scripts/chaos`` runs
longer ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import time
from typing import TYPE_CHECKING

import pytest

from kvproxy.provider import Store, StoreError, Transaction
from tests.chaos.traffic import Traffic, ask
from tests.chaos.writer import BAD_RULE, Writer
from tests.support.backend import Backend, LoopThread
from tests.support.etcd import EtcdServer
from tests.support.proxy_process import ProxyProcess
from tests.support.relay import Relay
from tests.support.stores import PREFIX, STORES, ProxyStore, server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.support.store_server import StoreServer

SECONDS = float(os.environ.get("KVPROXY_CHAOS_SECONDS", "12"))
CHANGES_A_SECOND = 50
REQUESTS_A_SECOND = 200
RECOVERY_SECONDS = 5.0
"""How long after the store answers again the proxy may still serve something older."""

STORE_SECONDS = 30.0
WORKERS = 2


class Site:
    """A store, the relay through which the proxy reaches it, two servers and the proxy."""

    def __init__(self, store: ProxyStore, loop_thread: LoopThread) -> None:
        self.store = store
        self.servers = [Backend(loop_thread, name) for name in ("one", "two")]
        self.relay = None
        if store.server is not None:
            self.relay = Relay(loop_thread, store.server.port)  # type: ignore[attr-defined]
        endpoint = "" if self.relay is None else self.relay.endpoint
        self.proxy = ProxyProcess(None, arguments=store.flags(endpoint), workers=WORKERS)

    def close(self) -> None:
        for each in self.servers:
            each.stop()
        if self.relay is not None:
            self.relay.close()
        self.store.close()


@pytest.fixture(params=STORES)
def site(request: pytest.FixtureRequest, tmp_path: Path, loop_thread: LoopThread) -> Iterator[Site]:
    made = Site(ProxyStore(request.param, tmp_path / "store"), loop_thread)
    yield made
    made.close()


async def kill(site: Site) -> None:
    """Kill the server; it is started again a moment later."""
    found = _server(site)
    await asyncio.to_thread(found.kill)
    await asyncio.sleep(random.uniform(0.1, 1.0))
    await asyncio.to_thread(found.start)


async def freeze(site: Site) -> None:
    found = _server(site)
    found.freeze()
    await asyncio.sleep(random.uniform(0.5, 2.0))
    found.thaw()


async def cut(site: Site) -> None:
    assert site.relay is not None
    await asyncio.to_thread(site.relay.cut)
    await asyncio.sleep(random.uniform(0.2, 1.5))
    site.relay.mend()


async def stall(site: Site) -> None:
    assert site.relay is not None
    site.relay.stall()
    await asyncio.sleep(random.uniform(0.5, 2.0))
    site.relay.mend()


async def compact_while_cut(site: Site) -> None:
    """Forget what the proxy has not seen yet."""
    assert site.relay is not None
    await asyncio.to_thread(site.relay.cut)
    await asyncio.sleep(0.5)
    assert isinstance(site.store.server, EtcdServer)
    await asyncio.to_thread(site.store.server.compact)
    site.relay.mend()


async def lock(site: Site) -> None:
    """Keep everybody else from writing for a while, as a program that hangs would."""
    other = _database(site)
    try:
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")
        await asyncio.sleep(random.uniform(0.2, 1.5))
        other.execute("ROLLBACK")
    finally:
        other.close()


async def checkpoint(site: Site) -> None:
    """Move the log into the file, which resets the log under its readers."""
    other = _database(site)
    try:
        await asyncio.to_thread(other.execute, "PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        other.close()
    await asyncio.sleep(0.2)


_OF_SERVERS: tuple[Callable[[Site], Awaitable[None]], ...] = (kill, freeze, cut, stall)
TROUBLES: dict[str, tuple[Callable[[Site], Awaitable[None]], ...]] = {
    "embedded": (lock, checkpoint),
    "etcd": (*_OF_SERVERS, compact_while_cut),
    "consul": _OF_SERVERS,
    "zookeeper": _OF_SERVERS,
}


def _database(site: Site) -> sqlite3.Connection:
    return sqlite3.connect(
        site.store.endpoint, isolation_level=None, timeout=10.0, check_same_thread=False
    )


def _server(site: Site) -> StoreServer:
    assert site.store.server is not None
    return site.store.server


async def make_trouble(site: Site, until: float) -> list[str]:
    """Do each trouble once, then any of them, with pauses, until the time has come."""
    loop = asyncio.get_running_loop()
    troubles = list(TROUBLES[site.store.kind])
    random.shuffle(troubles)
    done = []
    while loop.time() < until or troubles:
        trouble = troubles.pop() if troubles else random.choice(TROUBLES[site.store.kind])
        await trouble(site)
        done.append(trouble.__name__)
        await asyncio.sleep(random.uniform(0.2, 1.5))
    return done


async def written(store: Store, transaction: Transaction) -> None:
    """Write as soon as the store takes it."""
    async with asyncio.timeout(STORE_SECONDS):
        while True:
            try:
                await store.write(transaction)
            except StoreError:
                await asyncio.sleep(0.05)
            else:
                return


async def expected(store: Store, writer: Writer) -> dict[str, tuple[int, str]]:
    """Return what each host must be answered by what the store holds now."""
    values = (await store.read(PREFIX)).values
    found = {}
    for host in (*writer.steady, *writer.switching, *writer.coming, *writer.broken):
        backend = values.get(f"{PREFIX}/frontends/{host}/backend")
        rule = values.get(f"{PREFIX}/frontends/{host}/routes/main/rule")
        # A rule that is none leaves the good one before it in force: `one`, which never changes.
        known = backend is not None or rule == BAD_RULE
        found[host] = (200, (backend or b"one").decode()) if known else (404, "")
    return found


async def difference(
    port: int, wanted: dict[str, tuple[int, str]]
) -> dict[str, tuple[object, object]]:
    """Return the hosts that are answered otherwise, asking until every worker has been met."""
    wrong: dict[str, tuple[object, object]] = {}
    for host, answer in wanted.items():
        answers = await asyncio.gather(*(ask(port, host) for _ in range(3 * WORKERS)))
        if set(answers) != {answer}:
            wrong[host] = (answers, answer)
    return wrong


async def run(site: Site) -> None:
    """One run; the proxy serves the first routes."""
    loop = asyncio.get_running_loop()
    store = site.store.open()
    observer = site.store.open()
    writer = Writer(store, CHANGES_A_SECOND)
    one, two = (200, "one"), (200, "two")
    allowed = {
        **dict.fromkeys((*writer.steady, *writer.broken), (one,)),
        **dict.fromkeys(writer.switching, (one, two)),
        **dict.fromkeys(writer.coming, (one, two, (404, ""))),
    }
    backends = {
        key: value
        for name, each in zip(("one", "two"), site.servers, strict=True)
        for key, value in server(each.url, name).items()
    }
    await written(store, Transaction(put=backends))
    await written(store, writer.start())
    await asyncio.to_thread(site.proxy.start, 30.0)
    port = site.proxy.port
    wanted = await expected(store, writer)
    async with asyncio.timeout(STORE_SECONDS):
        while await difference(port, wanted):
            await asyncio.sleep(0.05)
    traffic = Traffic(port, allowed, REQUESTS_A_SECOND)
    began = loop.time()
    asking, writing = asyncio.create_task(traffic.run()), asyncio.create_task(writer.run())
    troubles = await make_trouble(site, began + SECONDS)
    # Every trouble is over: when the store answers, the time of the proxy begins.
    await written(observer, Transaction(put={"chaos/over": b"1"}))
    answered_at = loop.time()
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    wanted = await expected(observer, writer)
    wrong = await difference(port, wanted)
    while wrong and loop.time() - answered_at < RECOVERY_SECONDS:
        await asyncio.sleep(0.02)
        wrong = await difference(port, wanted)
    recovered = loop.time() - answered_at
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    figures = {
        "store": site.store.kind,
        "seconds": round(answered_at - began, 1),
        "troubles": troubles,
        "written": writer.written,
        "refused": writer.failed,
        "requests": traffic.answered,
        "wrong": dict(traffic.wrong),
        "recoverySeconds": round(recovered, 2),
    }
    print(json.dumps(figures))
    assert not wrong, f"{recovered:.1f} s after the store answered: {wrong}"
    assert not traffic.wrong, figures
    assert traffic.answered > 0.5 * REQUESTS_A_SECOND * (answered_at - began)
    assert writer.written > 0
    # What has been put right is served: nothing stays in quarantine.
    put = {f"{PREFIX}/frontends/{host}/routes/main/rule": f"Host:{host}" for host in writer.broken}
    await written(observer, Transaction(put={key: rule.encode() for key, rule in put.items()}))
    ends = time.monotonic() + RECOVERY_SECONDS
    while site.proxy.ask("status")["quarantined"]:
        assert time.monotonic() < ends, "still in quarantine"
        await asyncio.sleep(0.02)
    await store.close()
    await observer.close()


@pytest.mark.serial
def test_chaos(site: Site) -> None:
    try:
        asyncio.run(run(site))
    finally:
        site.proxy.stop()
        if os.environ.get("KVPROXY_CHAOS_LOG"):
            print(site.proxy.log())
