"""A real etcd."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from tests.support.certificates import authority
from tests.support.store_server import StoreServer, find_program, free_ports, own_context

if TYPE_CHECKING:
    from pathlib import Path

ROOT_PASSWORD = "root secret"


class EtcdServer(StoreServer):
    """One etcd. ``tls``: with a certificate of the test authority; ``client_certificates``: asking
    for those of clients too, with which etcd's gateway does not take users and passwords.
    """

    name = "etcd"

    def __init__(
        self, directory: Path, *, tls: bool = False, client_certificates: bool = False
    ) -> None:
        """Choose the ports."""
        super().__init__(directory)
        self.tls = tls
        self.cluster: tuple[EtcdServer, ...] = (self,)
        self.port, self._peer_port = free_ports(2)
        self.endpoint = f"127.0.0.1:{self.port}"
        self.name_in_cluster = directory.name
        self._program = find_program("etcd")
        self._token = ""
        self._security: list[str] = []
        self._context: ssl.SSLContext | None = None
        if tls:
            self.bundle = authority().bundle("127.0.0.1", "localhost")
            self._security = [f"--cert-file={self.bundle}", f"--key-file={self.bundle}"]
            self._context = own_context(self.bundle)
            if client_certificates:
                self._security += [f"--trusted-ca-file={authority().path}", "--client-cert-auth"]

    @property
    def url(self) -> str:
        """The address of the JSON gateway."""
        return f"http{'s' if self.tls else ''}://{self.endpoint}"

    @property
    def peer(self) -> str:
        """The address for other members."""
        return f"http://127.0.0.1:{self._peer_port}"

    def command(self) -> list[str]:
        """Return the program and its flags."""
        members = ",".join(f"{each.name_in_cluster}={each.peer}" for each in self.cluster)
        return [
            self._program,
            f"--name={self.name_in_cluster}",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self.peer}",
            f"--initial-advertise-peer-urls={self.peer}",
            f"--initial-cluster={members}",
            "--logger=zap",
            "--log-level=warn",
            *self._security,
        ]

    def ready(self) -> bool:
        """Tell whether it has a leader and answers."""
        try:
            self.call("maintenance/status", {})
        except urllib.error.HTTPError as error:
            return error.code in (400, 401, 403)
        except OSError:
            return False
        return True

    def call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Post to the gateway; HTTPError when etcd refuses."""
        request = urllib.request.Request(
            f"{self.url}/v3/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        if self._token:
            request.add_header("Authorization", self._token)
        with urllib.request.urlopen(request, timeout=5, context=self._context) as response:
            answer: dict[str, Any] = json.load(response)
        return answer

    def ranges(self) -> int:
        """Return how many range reads it has answered."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        wanted = 'grpc_server_handled_total{grpc_code="OK",grpc_method="Range"'
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(wanted))

    def delete_everything(self) -> None:
        """Delete all keys."""
        self.call("kv/deleterange", {"key": "AA==", "range_end": "AA=="})

    def compact(self) -> None:
        """Forget everything but the newest revision."""
        revision = self.call("kv/range", {"key": _text("x")})["header"]["revision"]
        self.call("kv/compaction", {"revision": revision, "physical": True})

    def enable_authentication(self, user: str, password: str, prefix: str) -> None:
        """Turn authentication on; ``user`` may read and write the keys that begin with ``prefix``.

        Later calls of `call` are made as root.
        """
        self.call("auth/user/add", {"name": "root", "password": ROOT_PASSWORD})
        self.call("auth/role/add", {"name": "root"})
        self.call("auth/user/grant", {"user": "root", "role": "root"})
        self.call("auth/user/add", {"name": user, "password": password})
        self.call("auth/role/add", {"name": user})
        self.grant(user, prefix)
        self.call("auth/user/grant", {"user": user, "role": user})
        self.call("auth/enable", {})
        self.log_in()

    def log_in(self) -> None:
        """Make later calls as root; tokens do not outlive the server."""
        self._token = ""
        body = {"name": "root", "password": ROOT_PASSWORD}
        self._token = self.call("auth/authenticate", body)["token"]

    def grant(self, role: str, prefix: str) -> None:
        """Let ``role`` read and write the keys that begin with ``prefix``."""
        permission = {"permType": "READWRITE", "key": _text(prefix), "range_end": _after(prefix)}
        self.call("auth/role/grant", {"name": role, "perm": permission})

    def revoke(self, role: str, prefix: str) -> None:
        """Take back what `grant` gave."""
        body = {"role": role, "key": _text(prefix), "range_end": _after(prefix)}
        self.call("auth/role/revoke", body)


def start_cluster(directory: Path, members: int) -> tuple[EtcdServer, ...]:
    """Start a cluster of so many members and wait until all of them answer."""
    places = [directory / f"member{number}" for number in range(members)]
    for place in places:
        place.mkdir()
    cluster = tuple(EtcdServer(place) for place in places)
    for member in cluster:
        member.cluster = cluster
        member.begin()
    for member in cluster:
        member.await_ready()
    return cluster


def _text(key: str) -> str:
    return base64.b64encode(key.encode()).decode()


def _after(prefix: str) -> str:
    return _text(prefix[:-1] + chr(ord(prefix[-1]) + 1))
