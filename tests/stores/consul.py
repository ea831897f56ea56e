"""The harness of Consul."""

from __future__ import annotations

from typing import TYPE_CHECKING

from providers.consul import ConsulStore
from providers.consul_requests import MAXIMUM_VALUE_BYTES
from tests.support.consul import ConsulServer

if TYPE_CHECKING:
    from pathlib import Path

    from kvproxy.provider import Store


def open_store(address: str) -> ConsulStore:
    """Open the Consul at ``address``."""
    return ConsulStore(address)


class ConsulHarness:
    """A Consul of its own."""

    kind = "consul"
    open_store = "tests.stores.consul:open_store"
    maximum_value_bytes = MAXIMUM_VALUE_BYTES
    transaction_keys = 64
    torn_read_tries = 10_000
    # Characters that cannot be printed are refused in the address of a read.
    odd_keys = ("quote'\"`", "semicolon;--", "x" * 4000)
    refused_keys = ("", "/", "/lead", "trail/", "a//b", "nul\0", "half \ud800", "x" * 5000)

    def __init__(self, directory: Path) -> None:
        self.server = ConsulServer(directory)
        self.server.start()
        self.address = self.server.endpoint

    async def compact(self, store: Store, prefix: str) -> bool:
        # A watch gets whole trees, whatever was forgotten meanwhile.
        return False

    async def remember(self) -> bool:
        self.server.remember()
        return True

    async def restore_older(self) -> bool:
        self.server.restore()
        return True

    async def close(self) -> None:
        self.server.kill()
