"""Real ZooKeeper servers: one alone, or several that agree with each other."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
from pathlib import Path
from typing import Self

import pytest

from tests.support.certificates import authority
from tests.support.closing import Closing
from tests.support.store_server import StoreServer, find_program, free_ports, own_context

_JARS = Path("/usr/share/java")


class ZookeeperServer(StoreServer):
    """One ZooKeeper. ``tls``: speaks nothing but TLS and asks for client certificates.

    ``super_user`` and a password: who may do everything, whatever the permissions say.
    """

    name = "zookeeper"

    def __init__(
        self,
        directory: Path,
        *,
        tls: bool = False,
        super_user: tuple[str, str] | None = None,
        peers: tuple[int, tuple[str, ...]] | None = None,
    ) -> None:
        """Choose the port and write the configuration.

        ``peers``: the number of this server (from 1) and the addresses of all of an ensemble.
        """
        super().__init__(directory)
        self.tls = tls
        (self.port,) = free_ports(1)
        self.endpoint = f"127.0.0.1:{self.port}"
        self._java = find_program("java")
        if not (_JARS / "zookeeper.jar").exists():
            pytest.skip("no zookeeper on this machine; scripts/servers gets it")
        self._super_user = super_user
        self._context: ssl.SSLContext | None = None
        settings = {
            "dataDir": self.data,
            "secureClientPort" if tls else "clientPort": self.port,
            "secureClientPortAddress" if tls else "clientPortAddress": "0.0.0.0",
            # Sessions last two ticks at least.
            "tickTime": 2000,
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "ruok,srvr,mntr,cons",
        }
        if tls:
            settings |= self._security()
        if peers is not None:
            number, addresses = peers
            settings |= {"initLimit": 10, "syncLimit": 5}
            settings |= {f"server.{n}": address for n, address in enumerate(addresses, 1)}
            self.data.mkdir(parents=True)
            (self.data / "myid").write_text(f"{number}")
        directory.mkdir(parents=True, exist_ok=True)
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        (directory / "zoo.cfg").write_text("".join(lines))

    def command(self) -> list[str]:
        """Return Java with the jars that ZooKeeper's own script leaves out."""
        jars = [_JARS / "zookeeper.jar", *sorted(_JARS.glob("netty-*.jar"))]
        options = {
            "zookeeper.preAllocSize": "1024",
            # Killed processes lose nothing that the kernel has; only power cuts would.
            "zookeeper.forceSync": "no",
            "zookeeper.extendedTypesEnabled": "true",
            "org.slf4j.simpleLogger.defaultLogLevel": "warn",
        }
        if self.tls:
            options["zookeeper.serverCnxnFactory"] = (
                "org.apache.zookeeper.server.NettyServerCnxnFactory"
            )
        if self._super_user is not None:
            user, password = self._super_user
            options["zookeeper.DigestAuthenticationProvider.superDigest"] = digest(user, password)
        return [
            self._java,
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Xshare:auto",
            "-cp",
            ":".join(map(str, jars)),
            *(f"-D{name}={value}" for name, value in options.items()),
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            str(self.directory / "zoo.cfg"),
        ]

    def ready(self) -> bool:
        """Tell whether it serves."""
        try:
            return self.ask("ruok") == "imok" and "Mode: " in self.ask("srvr")
        except OSError:
            return False

    def ask(self, word: str) -> str:
        """Return the answer to one of the four-letter words."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as plain:
            connection = plain
            if self._context is not None:
                connection = self._context.wrap_socket(plain, server_hostname="127.0.0.1")
            with connection:
                connection.sendall(word.encode())
                answer = b""
                while part := connection.recv(65536):
                    answer += part
        return answer.decode()

    def _security(self) -> dict[str, str]:
        self.bundle = authority().bundle("127.0.0.1", "localhost")
        self._context = own_context(self.bundle)
        return {
            # ZooKeeper takes PEM files where the name ends so: key and certificates in one.
            "ssl.keyStore.location": str(self.bundle),
            "ssl.trustStore.location": str(authority().path),
            "ssl.clientAuth": "need",
        }


class ZookeeperEnsemble(Closing):
    """Several servers that hold the same; they answer as long as a majority of them runs."""

    def __init__(self, directory: Path, count: int) -> None:
        """Choose the ports."""
        ports = free_ports(2 * count)
        addresses = tuple(
            f"127.0.0.1:{first}:{second}"
            for first, second in zip(ports[:count], ports[count:], strict=True)
        )
        self.servers = [
            ZookeeperServer(directory / f"{number}", peers=(number, addresses))
            for number in range(1, count + 1)
        ]
        self.endpoint = ",".join(server.endpoint for server in self.servers)

    def __enter__(self) -> Self:
        """Start all servers and wait until each follows or leads."""
        for server in self.servers:
            server.begin()
        for server in self.servers:
            server.await_ready()
        return self

    def close(self) -> None:
        """End all servers."""
        for server in self.servers:
            server.kill()

    def of_session(self, number: int) -> ZookeeperServer:
        """Return the server that a session is connected to."""
        identity = f"sid=0x{number & (2**64 - 1):x}"
        return next(server for server in self.servers if identity in server.ask("cons"))


def digest(user: str, password: str) -> str:
    """Return what ZooKeeper's access lists hold for a user of the scheme ``digest``."""
    sha1 = hashlib.sha1(f"{user}:{password}".encode()).digest()
    return f"{user}:{base64.b64encode(sha1).decode()}"
