"""A store whose certificate has expired, seen by a proxy that runs and by one that starts."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from kvproxy.config.plugins import load_plugin
from kvproxy.model.dynamic import ClientTLS
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import ConsulProvider, EtcdProvider, ZookeeperProvider
from kvproxy.provider import Transaction
from tests.stores.following import retried
from tests.support.backend import Answer, Backend, LoopThread, plain_answer
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess
from tests.support.stores import PREFIX, SERVERS, server, web

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.support.store_server import StoreServer

RECOVERY_SECONDS = 30.0
SECTIONS = {"consul": ConsulProvider, "etcd": EtcdProvider, "zookeeper": ZookeeperProvider}
NAMES = ("127.0.0.1", "localhost")


class Site:
    """A server with TLS, and a proxy that follows it and shows it a certificate of its own."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self.server: StoreServer = SERVERS[kind](directory, tls=True)
        bundle = str(authority().bundle("proxy"))
        self._options = {"ca": str(authority().path), "cert": bundle, "key": bundle}
        flags = {"endpoint": self.server.endpoint, "prefix": PREFIX}
        flags |= {f"tls.{name}": value for name, value in self._options.items()}
        self.proxy = ProxyProcess(
            None, arguments=tuple(f"--{kind}.{name}={value}" for name, value in flags.items())
        )

    def put(self, values: Mapping[str, bytes]) -> None:
        """Write keys; tried again until the store takes them."""

        async def write() -> None:
            section = SECTIONS[self.kind](
                endpoint=self.server.endpoint, prefix=PREFIX, tls=ClientTLS(**self._options)
            )
            plugin = load_plugin(self.kind)
            assert plugin.open_store is not None
            store = plugin.open_store(section, StaticConfiguration())
            try:
                async with asyncio.timeout(RECOVERY_SECONDS):
                    await retried(lambda: store.write(Transaction(put=values)))
            finally:
                await store.close()

        asyncio.run(write())

    def until_served(self, host: str) -> None:
        wait_until(
            lambda: self.proxy.fetch(host=host).status == 200, f"{host} served", RECOVERY_SECONDS
        )

    def until_named(self, log_before: str = "") -> None:
        """Wait until the proxy has said, since its log was that, whose certificate has expired."""

        def named() -> bool:
            lines = self.proxy.log().removeprefix(log_before).splitlines()
            return any(
                f"provider={self.kind}" in line
                and self.server.endpoint in line
                and "certificate has expired" in line
                for line in lines
            )

        wait_until(named, "a word about the certificate", RECOVERY_SECONDS)


@pytest.fixture
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread, script={"/": Answer((plain_answer(),))})
    yield made
    made.stop()


@pytest.fixture(params=SECTIONS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    made = Site(request.param, tmp_path)
    made.server.start()
    yield made
    made.proxy.stop()
    made.server.kill()


def test_an_expired_certificate_is_named_and_costs_nothing(site: Site, backend: Backend) -> None:
    site.put({**server(backend.url), **web("known")})
    site.proxy.start(30.0)
    site.until_served("known")

    site.server.restart_with(authority().issue(*NAMES, expired=True))
    site.until_named()
    assert site.proxy.fetch(host="known").status == 200

    site.proxy.signal(signal.SIGTERM)
    assert site.proxy.wait_for_exit() == 0
    before = site.proxy.log()
    site.proxy.start(30.0)
    site.until_served("known")
    site.until_named(before)
    assert "STALE" in site.proxy.log().removeprefix(before)

    site.server.restart_with(authority().issue(*NAMES))
    site.put(web("new"))
    site.until_served("new")
    assert site.proxy.fetch(host="known").status == 200
