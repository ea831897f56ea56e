"""Where an edge's routes come from: the embedded store, a file, or a store's real server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, ClassVar, Protocol

from bench.peers import HOST
from bench.writer import StoreWriter
from kvproxy.provider import Transaction
from tests.support.stores import ProxyStore

if TYPE_CHECKING:
    from pathlib import Path

    from kvproxy.provider import Store

TRANSACTION_KEYS = 60
"""So many keys are written at once; Consul takes 64."""


class Origin(Protocol):
    """Filled once; then one frontend is switched between two backends, again and again."""

    @property
    def flags(self) -> list[str]:
        """The arguments by which kvproxy uses it."""
        ...

    def fill(self, frontends: int, ports: list[int]) -> None:
        """Write the routes."""
        ...

    def switch(self, to: int) -> float:
        """Lead the benchmark's frontend to backend 0 or 1; returns the time before the write."""
        ...

    def reads(self) -> int | None:
        """Return how often it has been read; None where nobody counts."""
        ...

    def close(self) -> None:
        """Release what is held."""
        ...


class EmbeddedOrigin:
    """The embedded store."""

    def __init__(self, folder: Path, *, own_backends: bool = False) -> None:
        """``own_backends``: each frontend gets a backend of its own."""
        self.database = folder / "store.db"
        self._routes = folder / "routes.toml"
        self._own_backends = own_backends
        self._writer: StoreWriter | None = None

    @property
    def flags(self) -> list[str]:
        """Return the arguments of kvproxy."""
        return ["--embedded", f"--embedded.path={self.database}"]

    def fill(self, frontends: int, ports: list[int]) -> None:
        """Import a file."""
        self._routes.write_text(routes_toml(frontends, ports, own_backends=self._own_backends))
        command = [sys.executable, "-m", "kvproxy", "kv", "import", str(self._routes)]
        command.append(f"--embedded.path={self.database}")
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")

    def switch(self, to: int) -> float:
        """Write one key."""
        if self._writer is None:
            self._writer = StoreWriter(self.database).__enter__()
        return self._writer.put("kvproxy/frontends/bench/backend", f"b{to}")

    def reads(self) -> None:
        """Nobody counts."""

    def close(self) -> None:
        """Close the client."""
        if self._writer is not None:
            self._writer.__exit__()


class FileOrigin:
    """One TOML file, which is replaced as a whole."""

    def __init__(self, folder: Path) -> None:
        """Nothing is written yet."""
        self._path = folder / "dynamic.toml"
        self._contents: list[bytes] = []

    @property
    def flags(self) -> list[str]:
        """Return the arguments of kvproxy."""
        return ["--file", f"--file.filename={self._path}"]

    def fill(self, frontends: int, ports: list[int]) -> None:
        """Write the file."""
        text = routes_toml(frontends, ports)
        first = '[frontends.bench]\nbackend = "b0"'
        self._contents = [
            text.replace(first, first.replace("b0", b)).encode() for b in ("b0", "b1")
        ]
        self._path.write_bytes(self._contents[0])

    def switch(self, to: int) -> float:
        """Put another file in the place of the present one."""
        began = time.monotonic()
        new = self._path.with_suffix(".new")
        new.write_bytes(self._contents[to])
        new.replace(self._path)
        return began

    def reads(self) -> None:
        """Nobody counts."""

    def close(self) -> None:
        """Nothing is held open."""


class ServerOrigin:
    """A store's real server: ``etcd``, ``consul`` or ``zookeeper``."""

    NAMES: ClassVar = ("etcd", "consul", "zookeeper")

    def __init__(self, kind: str, folder: Path) -> None:
        """Start the server."""
        self._store = ProxyStore(kind, folder / kind)
        self._loop = asyncio.new_event_loop()
        self._client: Store | None = None

    @property
    def flags(self) -> list[str]:
        """Return the arguments of kvproxy."""
        return list(self._store.flags())

    def fill(self, frontends: int, ports: list[int]) -> None:
        """Write the keys, some at a time."""
        keys = {
            f"kvproxy/backends/b{at}/servers/one/url": f"http://127.0.0.1:{port}"
            for at, port in enumerate(ports)
        }
        names = {"bench": HOST, **{f"f{n}": f"h{n}.example.com" for n in range(frontends - 1)}}
        for name, host in names.items():
            keys[f"kvproxy/frontends/{name}/backend"] = "b0"
            keys[f"kvproxy/frontends/{name}/routes/r/rule"] = f"Host:{host}"
        items = list(keys.items())
        for start in range(0, len(items), TRANSACTION_KEYS):
            self._write(dict(items[start : start + TRANSACTION_KEYS]))

    def switch(self, to: int) -> float:
        """Write one key."""
        began = time.monotonic()
        self._write({"kvproxy/frontends/bench/backend": f"b{to}"})
        return began

    def reads(self) -> int | None:
        """Return how many ranges etcd has been asked for; None where nobody counts."""
        if self._store.kind != "etcd":
            return None
        with urllib.request.urlopen(f"http://{self._store.endpoint}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        found = re.findall(
            r'^grpc_server_handled_total\{.*grpc_method="Range".*\} (\S+)$', text, re.MULTILINE
        )
        return round(sum(map(float, found)))

    def close(self) -> None:
        """End client and server."""
        if self._client is not None:
            self._loop.run_until_complete(self._client.close())
        self._loop.close()
        self._store.close()

    def _write(self, values: dict[str, str]) -> None:
        if self._client is None:
            self._client = self._store.open()
        put = {key: value.encode() for key, value in values.items()}
        self._loop.run_until_complete(self._client.write(Transaction(put=put)))


def routes_toml(frontends: int, ports: list[int], *, own_backends: bool = False) -> str:
    """Write ``frontends`` host routes, and the benchmark's own, to the first of two servers."""
    lines = []
    for at, port in enumerate(ports):
        lines.append(f'[backends.b{at}.servers.one]\nurl = "http://127.0.0.1:{port}"')
    lines.append(
        f'[frontends.bench]\nbackend = "b0"\n[frontends.bench.routes.r]\nrule = "Host:{HOST}"'
    )
    for number in range(frontends - 1):
        name = f"own{number}" if own_backends and number else "b0"
        if name != "b0":
            url = f"http://127.{number >> 16}.{number >> 8 & 255}.{number & 255}:9"
            lines.append(f'[backends.{name}.servers.one]\nurl = "{url}"')
        lines.append(
            f'[frontends.f{number}]\nbackend = "{name}"\n'
            f'[frontends.f{number}.routes.r]\nrule = "Host:h{number}.example.com"'
        )
    return "\n".join(lines) + "\n"
