"""A real Consul agent, which is its own server."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.support.certificates import authority
from tests.support.store_server import StoreServer, find_program, free_ports, own_context

if TYPE_CHECKING:
    from pathlib import Path

MASTER_TOKEN = "11111111-2222-3333-4444-555555555555"


class ConsulServer(StoreServer):
    """One Consul. ``tls``: HTTPS that asks for client certificates; ``acl``: tokens are needed."""

    name = "consul"

    def __init__(self, directory: Path, *, tls: bool = False, acl: bool = False) -> None:
        """Choose the ports and write the configuration."""
        super().__init__(directory)
        self.tls = tls
        self.acl = acl
        self.port, server_port, lan_port, wan_port = free_ports(4)
        self.endpoint = f"127.0.0.1:{self.port}"
        self._program = find_program("consul")
        self._context: ssl.SSLContext | None = None
        scheme, other = ("https", "http") if tls else ("http", "https")
        configuration: dict[str, Any] = {
            "server": True,
            "bootstrap_expect": 1,
            "node_name": "test",
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "data_dir": str(self.data),
            "disable_update_check": True,
            # Its log names every request, and is counted.
            "log_level": "debug",
            # Elections within a second, not ten.
            "performance": {"raft_multiplier": 1},
            # Many tests make many connections from one address.
            "limits": {"http_max_conns_per_client": 10_000},
            "ports": {
                scheme: self.port,
                other: -1,
                "dns": -1,
                "grpc": -1,
                "server": server_port,
                "serf_lan": lan_port,
                "serf_wan": wan_port,
            },
        }
        if tls:
            self.bundle = authority().bundle("127.0.0.1", "localhost")
            configuration |= {"cert_file": str(self.bundle), "key_file": str(self.bundle)}
            configuration |= {"ca_file": str(authority().path), "verify_incoming_https": True}
            self._context = own_context(self.bundle)
        if acl:
            configuration["acl"] = {
                "enabled": True,
                "default_policy": "deny",
                "tokens": {"master": MASTER_TOKEN, "agent": MASTER_TOKEN},
            }
        self._configuration = directory / "consul.json"
        self._configuration.write_text(json.dumps(configuration))

    @property
    def url(self) -> str:
        """The address of the HTTP interface."""
        return f"http{'s' if self.tls else ''}://{self.endpoint}"

    def command(self) -> list[str]:
        """Return the program and its flags."""
        return [self._program, "agent", f"-config-file={self._configuration}"]

    def ready(self) -> bool:
        """Tell whether it has a leader that knows what is stored."""
        try:
            self.call("GET", "kv/test-ready?consistent")
        except urllib.error.HTTPError as error:
            return error.code == 404
        except OSError:
            return False
        return True

    def call(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> Any:
        """Ask the HTTP interface with all rights; HTTPError when Consul refuses."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(f"{self.url}/v1/{path}", data, method=method)
        if self.acl:
            request.add_header("X-Consul-Token", MASTER_TOKEN)
        with urllib.request.urlopen(request, timeout=5, context=self._context) as response:
            return json.load(response)

    def whole_reads(self) -> int:
        """Return how many reads of a whole prefix it has answered."""
        lines = self.log.read_text(errors="replace").splitlines()
        return sum("method=GET url=/v1/kv/" in line and "recurse" in line for line in lines)

    def delete_everything(self) -> None:
        """Delete all keys."""
        self.call("DELETE", "kv/?recurse")

    def make_token(self, name: str, rules: str) -> str:
        """Make a policy ``name`` of ``rules`` and return a token that has it."""
        self.call("PUT", "acl/policy", {"Name": name, "Rules": rules})
        token: str = self.call("PUT", "acl/token", {"Policies": [{"Name": name}]})["SecretID"]
        return token

    def change_policy(self, name: str, rules: str) -> None:
        """Replace the rules of the policy ``name``."""
        found = next(each for each in self.call("GET", "acl/policies") if each["Name"] == name)
        body = {"ID": found["ID"], "Name": name, "Rules": rules}
        self.call("PUT", f"acl/policy/{found['ID']}", body)
