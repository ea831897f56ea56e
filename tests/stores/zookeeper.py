"""The harness of ZooKeeper."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kazoo.client import KazooClient
from kazoo.security import make_acl

from kvproxy.model.static_providers import ZookeeperProvider
from providers.zookeeper import ZookeeperStore, plugin
from providers.zookeeper_nodes import MAXIMUM_VALUE_BYTES
from tests.stores.served import SecuredServer, ServedHarness, open_with_options
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
    """Open the plugin with the options in ``address``."""
    return open_with_options(plugin, ZookeeperProvider, address)


def _only(user: str) -> list[Any]:
    return [make_acl("digest", digest(user, _PASSWORD), all=True)]


class SecuredZookeeper(SecuredServer):
    """A ZooKeeper that speaks only TLS, asks for a client certificate, and closes ``/t``."""

    kind = "zookeeper"
    open_store = "tests.stores.zookeeper:open_secured"

    def __init__(self, directory: Path) -> None:
        self.server = ZookeeperServer(directory, tls=True, super_user=("super", _PASSWORD))
        self.server.start()
        self._certificate = str(authority().bundle("client"))
        with self._administrator() as client:
            client.create("/t", acl=_only(_USER))
        trusting = {
            "ca": str(authority().path),
            "cert": self._certificate,
            "key": self._certificate,
        }
        own = {"endpoint": self.server.endpoint, "username": _USER, "password": _PASSWORD}
        self.address = json.dumps(own | {"tls": trusting})
        anonymous = {"endpoint": self.server.endpoint, "tls": trusting}
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

    def _set_permissions(self, user: str) -> None:
        with self._administrator() as client:
            paths = ["/t"]
            for path in paths:
                client.set_acls(path, _only(user))
                paths += [f"{path}/{name}" for name in client.get_children(path)]

    @contextmanager
    def _administrator(self) -> Iterator[KazooClient]:
        client = KazooClient(
            self.server.endpoint,
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


class ZookeeperHarness(ServedHarness):
    """A ZooKeeper; a watch compares trees, so nothing can be forgotten."""

    kind = "zookeeper"
    server_kind = ZookeeperServer
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

    def empty(self) -> None:
        lines = self.server.ask("mntr").splitlines()
        counts = [line.split()[1] for line in lines if "znode_count" in line]
        if int(counts[0]) > _FEW_NODES:
            self.server.wipe()
            return
        client = KazooClient(self.server.endpoint)
        client.start()
        for name in client.get_children("/"):
            if name != "zookeeper":
                client.delete(f"/{name}", recursive=True)
        client.stop()
        client.close()
