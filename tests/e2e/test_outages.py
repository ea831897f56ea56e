"""What a proxy does while its store is down, at its start and later; on each kind of store."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.provider import StoreError, Transaction
from tests.support.backend import Answer, Backend, LoopThread, plain_answer
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess
from tests.support.stores import SERVERS, ProxyStore, server, web

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.support.store_server import StoreServer

RECOVERY_SECONDS = 30.0


class Site:
    """A store with a server of its own, and one proxy that starts and stops."""

    def __init__(self, kind: str, store: ProxyStore, backend: Backend) -> None:
        assert store.server is not None
        self.store = store
        self.server: StoreServer = store.server
        self.proxy = ProxyProcess(None, arguments=store.flags())
        self.kind = kind
        self.put(server(backend.url))

    def put(self, values: Mapping[str, bytes], seconds: float = 20.0) -> int:
        """Write keys; tried again until the store takes them."""
        return asyncio.run(self._put(values, seconds))

    async def _put(self, values: Mapping[str, bytes], seconds: float) -> int:
        store = self.store.open()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        return await store.write(Transaction(put=values))
                    except StoreError:
                        await asyncio.sleep(0.1)
        finally:
            await store.close()

    def until_served(self, host: str, seconds: float = RECOVERY_SECONDS) -> None:
        wait_until(lambda: self.proxy.fetch(host=host).status == 200, f"{host} served", seconds)

    def start(self, host: str) -> float:
        """Start the proxy; returns the seconds until it serves ``host``."""
        began = time.monotonic()
        self.proxy.start(30.0)
        self.until_served(host)
        return time.monotonic() - began

    def stop(self) -> None:
        """Stop the proxy; what it keeps on disk stays."""
        self.proxy.process.terminate()
        assert self.proxy.process.wait(20) == 0

    def provider(self) -> dict[str, Any]:
        """Return where the provider stands."""
        (found,) = self.proxy.ask("status")["providers"]
        assert found["provider"] == self.kind
        return dict(found)

    def seconds_behind(self) -> float:
        """Return how long ago the store last proved what is served."""
        return time.time() - float(self.provider()["freshAt"])


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread, script={"/": Answer((plain_answer(),))})
    yield made
    made.stop()


@pytest.fixture(params=SERVERS)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, backend: Backend
) -> Iterator[Site]:
    store = ProxyStore(request.param, tmp_path_factory.mktemp("store"))
    made = Site(request.param, store, backend)
    yield made
    made.proxy.stop()
    print(made.proxy.log())
    store.close()


def test_a_start_without_the_store_serves_the_last_known_good(site: Site) -> None:
    site.put(web("known"))
    usual = site.start("known")
    digest = site.proxy.ask("status")["generation"]["digest"]
    for outage in ("dead", "frozen"):
        site.stop()
        if outage == "dead":
            site.server.kill()
        else:
            site.server.start()
            site.server.freeze()
        took = site.start("known")
        # A start takes some time by itself; none of the store's own time-outs may be in it.
        assert took < 2 * usual + 1.0, (outage, usual, took)
        assert site.proxy.ask("status")["generation"]["digest"] == digest
        assert site.provider()["stale"] is True
        assert site.provider()["freshAt"] == 0.0
        assert "STALE" in site.proxy.log()
    site.server.thaw()
    site.put(web("new"))
    site.until_served("new")
    assert site.provider()["stale"] is False


def test_a_first_start_without_the_store_answers_404_and_goes_on_trying(site: Site) -> None:
    site.put(web("wanted"))
    site.server.kill()
    site.proxy.start(30.0)
    assert site.proxy.fetch(host="wanted").status == 404
    wait_until(lambda: "no configuration yet" in site.proxy.log(), "a word about what is missing")
    wait_until(
        lambda: f"ERROR problem provider={site.kind}" in site.proxy.log(),
        "a word about the store",
        10.0,
    )
    assert site.store.endpoint in site.proxy.log()
    assert site.provider()["failedSince"] is not None
    site.server.start()
    site.until_served("wanted")
    assert site.provider()["failedSince"] is None


@pytest.mark.parametrize("outage", ["dead", "frozen"])
def test_while_the_store_is_away_everything_is_served_and_the_age_is_shown(
    site: Site, outage: str
) -> None:
    site.put(web("known"))
    site.start("known")
    assert site.seconds_behind() < 10.0
    if outage == "dead":
        site.server.kill()
    else:
        site.server.freeze()
    wait_until(lambda: site.provider()["failedSince"] is not None, "the outage to be seen", 20.0)
    before = site.provider()["freshAt"]
    assert site.proxy.fetch(host="known").status == 200
    assert "FAILING for " in site.proxy.command("status")
    if outage == "dead":
        site.server.start()
    else:
        site.server.thaw()
    site.put(web("new"))
    site.until_served("new")
    assert site.proxy.fetch(host="known").status == 200
    wait_until(lambda: site.provider()["failedSince"] is None, "the end of the outage")
    assert site.provider()["freshAt"] > before
