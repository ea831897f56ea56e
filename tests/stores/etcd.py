"""The harness of etcd."""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.etcd import EtcdStore
from tests.support.etcd import EtcdServer

if TYPE_CHECKING:
    from pathlib import Path

    from kvproxy.provider import Store


def open_store(address: str) -> EtcdStore:
    """Open the etcd at ``address``."""
    return EtcdStore(address)


class EtcdHarness:
    """An etcd of its own."""

    kind = "etcd"
    open_store = "tests.stores.etcd:open_store"
    maximum_value_bytes = 1_572_864 - 39
    transaction_keys = 128
    torn_read_tries = 10_000
    odd_keys = ("new\nline", "tab\there", "quote'\"`", "semicolon;--", "x" * 4000, "\u202eright")
    refused_keys = ("", "/", "/lead", "trail/", "a//b", "nul\0", "half \ud800", "x" * 5000)

    def __init__(self, directory: Path) -> None:
        self.server = EtcdServer(directory)
        self.server.start()
        self.address = self.server.endpoint

    async def compact(self, store: Store, prefix: str) -> bool:
        self.server.compact()
        return True

    async def remember(self) -> bool:
        self.server.remember()
        return True

    async def restore_older(self) -> bool:
        self.server.restore()
        return True

    async def close(self) -> None:
        self.server.kill()
