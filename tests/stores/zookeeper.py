"""The harness of ZooKeeper."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kazoo.client import KazooClient

from providers.zookeeper import ZookeeperStore
from providers.zookeeper_nodes import MAXIMUM_VALUE_BYTES
from tests.support.zookeeper import ZookeeperServer

if TYPE_CHECKING:
    from kvproxy.provider import Store

_FEW_NODES = 300
"""So many are deleted faster than a server is started."""


def open_store(address: str) -> ZookeeperStore:
    """Open a store of the server at ``address``."""
    return ZookeeperStore(address)


@cache
def _server() -> ZookeeperServer:
    server = ZookeeperServer(Path(tempfile.mkdtemp(prefix="kvproxy-zookeeper-")))
    server.start()
    return server


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

    secured = None

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
