"""The harness of etcd."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.model.static_providers import EtcdProvider
from providers.etcd import EtcdStore, plugin
from tests.stores.served import SecuredServer, ServedHarness, open_with_options
from tests.support.certificates import authority
from tests.support.etcd import EtcdServer

if TYPE_CHECKING:
    from kvproxy.provider import Store

_USER = "proxy"
_PASSWORD = "s3cret of the proxy"


def open_store(address: str) -> EtcdStore:
    """Open the etcd at ``address``."""
    return EtcdStore(address, probe_key="t")


def open_secured(address: str) -> Store:
    """Open the plugin with the options in ``address``."""
    return open_with_options(plugin, EtcdProvider, address)


class SecuredEtcd(SecuredServer):
    """An etcd with TLS and authentication."""

    kind = "etcd"
    open_store = "tests.stores.etcd:open_secured"

    def __init__(self, directory: Path) -> None:
        self.server = EtcdServer(directory, tls=True)
        self.server.start()
        self.server.enable_authentication(_USER, _PASSWORD, "t")
        own = {"endpoint": self.server.endpoint, "username": _USER, "password": _PASSWORD}
        trusting = {"tls": {"ca": str(authority().path)}}
        self.address = json.dumps(own | trusting)
        self.refused = {
            "wrong password": (json.dumps(own | trusting | {"password": "guess"}), "invalid user"),
            "no user": (json.dumps({"endpoint": self.server.endpoint} | trusting), "user name"),
            "unknown authority": (json.dumps(own | {"tls": {}}), "certificate is not trusted"),
            "without TLS": (json.dumps(own), "127.0.0.1"),
        }
        self.secrets = (_PASSWORD, "guess")

    async def revoke(self) -> None:
        self.server.revoke(_USER, "t")

    async def grant(self) -> None:
        self.server.grant(_USER, "t")

    async def restart(self) -> None:
        await super().restart()
        self.server.log_in()


class EtcdHarness(ServedHarness):
    """An etcd; watches can be made `Compacted`."""

    kind = "etcd"
    server_kind = EtcdServer
    open_store = "tests.stores.etcd:open_store"
    # A request of 1.5 MiB, of which etcd and the key of the suite take 39 bytes.
    maximum_value_bytes = 1_572_864 - 39
    transaction_keys = 128
    torn_read_tries = 10_000
    odd_keys = ("new\nline", "tab\there", "quote'\"`", "semicolon;--", "x" * 4000, "\u202eright")
    refused_keys = ("", "/", "/lead", "trail/", "a//b", "nul\0", "half \ud800", "x" * 5000)
    secured = SecuredEtcd

    def empty(self) -> None:
        self.server.delete_everything()

    async def compact(self, store: Store, prefix: str) -> bool:
        self.server.compact()
        return True

    async def reads(self) -> int | None:
        return self.server.ranges()
