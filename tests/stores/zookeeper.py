"""The harness of ZooKeeper."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kazoo.client import KazooClient
from kazoo.security import make_acl

from kvproxy.model.dynamic import ClientTLS
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import ZookeeperProvider
from providers.zookeeper import ZookeeperStore, plugin
from providers.zookeeper_nodes import MAXIMUM_VALUE_BYTES
from tests.support.certificates import Authority, authority
from tests.support.zookeeper import ZookeeperServer, digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvproxy.provider import Store

_USER, _PASSWORD = "proxy", "correct horse"
_FEW_NODES = 300
"""So many are deleted faster than a server is started."""


def open_store(address: str) -> ZookeeperStore:
    """Open a store of the server at ``address``."""
    return ZookeeperStore(address)


def open_secured(address: str) -> Store:
    """Open the plugin with the options in ``address``, a JSON object, for the prefix ``t``."""
    options = json.loads(address)
    tls = options.pop("tls", None)
    section = ZookeeperProvider(
        **options, prefix="t", tls=None if tls is None else ClientTLS(**tls)
    )
    assert plugin.open_store is not None
    return plugin.open_store(section, StaticConfiguration(zookeeper=section))


def _only(user: str) -> list[Any]:
    return [make_acl("digest", digest(user, _PASSWORD), all=True)]


@cache
def _server() -> ZookeeperServer:
    server = ZookeeperServer(Path(tempfile.mkdtemp(prefix="kvproxy-zookeeper-")))
    server.start()
    return server


class SecuredZookeeper:
    """A ZooKeeper that speaks only TLS, asks for a client certificate, and closes ``/t``."""

    kind = "zookeeper"
    open_store = "tests.stores.zookeeper:open_secured"

    def __init__(self, directory: Path) -> None:
        self._server = ZookeeperServer(directory, tls=True, super_user=("super", _PASSWORD))
        self._server.start()
        self._certificate = str(authority().bundle("client"))
        with self._administrator() as client:
            client.create("/t", acl=_only(_USER))
        trusting = {
            "ca": str(authority().path),
            "cert": self._certificate,
            "key": self._certificate,
        }
        own = {"endpoint": self._server.endpoint, "username": _USER, "password": _PASSWORD}
        self.address = json.dumps(own | {"tls": trusting})
        anonymous = {"endpoint": self._server.endpoint, "tls": trusting}
        foreign = {**trusting, "ca": str(Authority("another").path)}
        self.refused = {
            "wrong password": (
                json.dumps(own | {"tls": trusting, "password": "guess"}),
                "no permission",
            ),
            "no user": (json.dumps(anonymous), "no permission"),
            "no client certificate": (
                json.dumps(own | {"tls": {"ca": trusting["ca"]}}),
                "no connection",
            ),
            "unknown authority": (json.dumps(own | {"tls": foreign}), "certificate"),
            "without TLS": (json.dumps(own), "no connection"),
        }
        self.secrets = (_PASSWORD, "guess")

    async def revoke(self) -> None:
        self._set_permissions("somebody else")

    async def grant(self) -> None:
        self._set_permissions(_USER)

    async def restart(self) -> None:
        self._server.restart()

    async def close(self) -> None:
        self._server.kill()

    def _set_permissions(self, user: str) -> None:
        with self._administrator() as client:
            paths = ["/t"]
            for path in paths:
                client.set_acls(path, _only(user))
                paths += [f"{path}/{name}" for name in client.get_children(path)]

    @contextmanager
    def _administrator(self) -> Iterator[KazooClient]:
        client = KazooClient(
            self._server.endpoint,
            auth_data=[("digest", f"super:{_PASSWORD}")],
            use_ssl=True,
            ca=str(authority().path),
            certfile=self._certificate,
            keyfile=self._certificate,
        )
        client.start()
        try:
            yield client
        finally:
            client.stop()
            client.close()


class ZookeeperHarness:
    """One server for all tests, emptied before each."""

    kind = "zookeeper"
    open_store = "tests.stores.zookeeper:open_store"
    maximum_value_bytes = MAXIMUM_VALUE_BYTES
    # Each key of the suite is four nodes, and a request has at most 1 MiB.
    transaction_keys = 1_000
    torn_read_tries = 10_000
    odd_keys = ("quote'\"`", "semicolon;--", "x" * 3000, "\u202eright", "...", ".a.", "zookeeper")
    refused_keys = (
        "",
        "/",
        "/lead",
        "trail/",
        "a//b",
        "nul\0",
        "half \ud800",
        "x" * 5000,
        "new\nline",
        "emoji-\U0001f680",
        "t/./a",
        "t/..",
        "zookeeper/a",
    )

    secured = SecuredZookeeper

    def __init__(self, directory: Path) -> None:
        self.server = _server()
        self.address = self.server.endpoint
        _empty(self.server)

    async def compact(self, store: Store, prefix: str) -> bool:
        # ZooKeeper has no history at all: a watch compares trees.
        return False

    async def remember(self) -> bool:
        self.server.remember()
        return True

    async def restore_older(self) -> bool:
        self.server.restore()
        return True

    async def reads(self) -> int | None:
        # A tree is one request a node.
        return None

    async def close(self) -> None:
        return None


def _empty(server: ZookeeperServer) -> None:
    counts = [line.split()[1] for line in server.ask("mntr").splitlines() if "znode_count" in line]
    if int(counts[0]) > _FEW_NODES:
        server.wipe()
        return
    client = KazooClient(server.endpoint)
    client.start()
    for name in client.get_children("/"):
        if name != "zookeeper":
            client.delete(f"/{name}", recursive=True)
    client.stop()
    client.close()
