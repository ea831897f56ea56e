"""The harness of Consul."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.model.static_providers import ConsulProvider
from providers.consul import ConsulStore, plugin
from providers.consul_requests import MAXIMUM_VALUE_BYTES
from tests.stores.served import SecuredServer, ServedHarness, open_with_options
from tests.support.certificates import authority
from tests.support.consul import ConsulServer

if TYPE_CHECKING:
    from kvproxy.provider import Store

_POLICY = "proxy"
_WRITE = 'key_prefix "t" { policy = "write" } session_prefix "" { policy = "write" }'
_NOTHING = 'key_prefix "elsewhere/" { policy = "read" }'


def open_store(address: str) -> ConsulStore:
    """Open the Consul at ``address``."""
    return ConsulStore(address, probe_prefix="t")


def open_secured(address: str) -> Store:
    """Open the plugin with the options in ``address``."""
    return open_with_options(plugin, ConsulProvider, address)


class SecuredConsul(SecuredServer):
    """A Consul with TLS, client certificates and ACLs."""

    kind = "consul"
    open_store = "tests.stores.consul:open_secured"

    def __init__(self, directory: Path) -> None:
        self.server = ConsulServer(directory, tls=True, acl=True)
        self.server.start()
        token = self.server.make_token(_POLICY, _WRITE)
        bundle = str(authority().bundle("proxy"))
        trusting = {"ca": str(authority().path)}
        own = {"endpoint": self.server.endpoint, "token": token}
        complete = own | {"tls": trusting | {"cert": bundle, "key": Path(bundle).read_text()}}
        unknown = "99999999-8888-7777-6666-555555555555"
        self.address = json.dumps(complete)
        self.refused = {
            "unknown token": (json.dumps(complete | {"token": unknown}), "ACL not found"),
            "no token": (json.dumps(complete | {"token": ""}), "no permission"),
            "no certificate": (json.dumps(own | {"tls": trusting}), "127.0.0.1"),
            "unknown authority": (json.dumps(own | {"tls": {}}), "certificate is not trusted"),
            "without TLS": (json.dumps(own), "127.0.0.1"),
        }
        self.secrets = (token, unknown)

    async def revoke(self) -> None:
        self.server.change_policy(_POLICY, _NOTHING)

    async def grant(self) -> None:
        self.server.change_policy(_POLICY, _WRITE)


class ConsulHarness(ServedHarness):
    """A Consul; a watch compares whole answers, so nothing can be forgotten."""

    kind = "consul"
    server_kind = ConsulServer
    open_store = "tests.stores.consul:open_store"
    maximum_value_bytes = MAXIMUM_VALUE_BYTES
    transaction_keys = 64
    torn_read_tries = 10_000
    # Characters that cannot be printed are refused in the address of a read.
    odd_keys = ("quote'\"`", "semicolon;--", "x" * 4000)
    refused_keys = ("", "/", "/lead", "trail/", "a//b", "nul\0", "half \ud800", "x" * 5000)
    secured = SecuredConsul

    def empty(self) -> None:
        self.server.delete_everything()

    async def reads(self) -> int | None:
        return self.server.whole_reads()
