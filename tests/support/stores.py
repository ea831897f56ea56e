"""Each kind of store with its real server, as a proxy's store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.config.plugins import load_plugin
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import (
    ConsulProvider,
    EmbeddedProvider,
    EtcdProvider,
    ZookeeperProvider,
)
from tests.support.consul import ConsulServer
from tests.support.etcd import EtcdServer
from tests.support.zookeeper import ZookeeperServer

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from kvproxy.provider import Store
    from tests.support.store_server import StoreServer

PREFIX = "kvproxy"
SERVERS: dict[str, type[StoreServer]] = {
    "etcd": EtcdServer,
    "consul": ConsulServer,
    "zookeeper": ZookeeperServer,
}
STORES = ("embedded", *SERVERS)


class ProxyStore:
    """A store of some kind, empty at first. ``server`` is None for the embedded one.

    ``endpoint``: where clients find it; another may be given to `flags` and `open`, such as that of
    a relay in front of it.
    """

    def __init__(self, kind: str, directory: Path) -> None:
        """Start the server, if there is one; skips the test where it is not to be had."""
        self.kind = kind
        self.server: StoreServer | None = None
        self.endpoint = str(directory / "store.db")
        if kind != "embedded":
            directory.mkdir(parents=True, exist_ok=True)
            self.server = SERVERS[kind](directory)
            self.server.start()
            self.endpoint = f"127.0.0.1:{self.server.port}"

    def flags(self, endpoint: str = "") -> tuple[str, ...]:
        """Return the arguments by which a proxy or a command uses this store."""
        option = "path" if self.kind == "embedded" else "endpoint"
        return (
            f"--{self.kind}",
            f"--{self.kind}.{option}={endpoint or self.endpoint}",
            f"--{self.kind}.prefix={PREFIX}",
        )

    def open(self, endpoint: str = "") -> Store:
        """Return one more client; to be used inside an event loop and closed there."""
        address = endpoint or self.endpoint
        section: Any
        match self.kind:
            case "embedded":
                section = EmbeddedProvider(path=address, prefix=PREFIX)
            case "etcd":
                section = EtcdProvider(endpoint=address, prefix=PREFIX)
            case "consul":
                section = ConsulProvider(endpoint=address, prefix=PREFIX)
            case _:
                section = ZookeeperProvider(endpoint=address, prefix=PREFIX)
        plugin = load_plugin(self.kind)
        assert plugin.open_store is not None
        return plugin.open_store(section, StaticConfiguration())

    def close(self) -> None:
        """End the server."""
        if self.server is not None:
            self.server.kill()


def web(host: str, backend: str = "web") -> dict[str, bytes]:
    """Return the keys of a frontend that is named after its host."""
    stem = f"{PREFIX}/frontends/{host}"
    return {
        f"{stem}/backend": backend.encode(),
        f"{stem}/routes/main/rule": f"Host:{host}".encode(),
    }


def server(url: str, backend: str = "web") -> dict[str, bytes]:
    """Return the key of a backend with one server."""
    return {f"{PREFIX}/backends/{backend}/servers/one/url": url.encode()}
