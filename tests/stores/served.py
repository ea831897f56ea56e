"""What the harnesses of stores with a server have in common."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from kvproxy.model.dynamic import ClientTLS
from kvproxy.model.static import StaticConfiguration

if TYPE_CHECKING:
    from kvproxy.provider import Plugin, Store
    from tests.support.store_server import StoreServer


@cache
def shared_server(kind: type[StoreServer]) -> StoreServer:
    """Return the one running server of a kind that the tests of this process share."""
    server = kind(Path(tempfile.mkdtemp(prefix=f"kvproxy-{kind.name}-")))
    server.start()
    return server


def open_with_options(plugin: Plugin, section: type[Any], address: str) -> Store:
    """Open a plugin as a proxy does, for the prefix ``t``; ``address``: the options as JSON."""
    options = json.loads(address)
    tls = options.pop("tls", None)
    settings = section(prefix="t", tls=None if tls is None else ClientTLS(**tls), **options)
    assert plugin.open_store is not None
    return plugin.open_store(settings, StaticConfiguration())


class ServedHarness:
    """One server for all tests of a process, emptied before each.

    A subclass names the kind of server, and says how it is emptied and what it counts.
    """

    server_kind: ClassVar[type[StoreServer]]

    def __init__(self, directory: Path) -> None:
        self.server = shared_server(self.server_kind)
        self.address = self.server.endpoint
        self.empty()

    def empty(self) -> None:
        """Delete all keys."""
        raise NotImplementedError

    async def compact(self, store: Store, prefix: str) -> bool:
        return False

    async def remember(self) -> bool:
        self.server.remember()
        return True

    async def restore_older(self) -> bool:
        self.server.restore()
        return True

    async def reads(self) -> int | None:
        return None

    async def close(self) -> None:
        return None


class SecuredServer:
    """The part of a secured store that is the same for all: ``server`` is its own."""

    server: StoreServer

    async def restart(self) -> None:
        self.server.restart()

    async def close(self) -> None:
        self.server.kill()
