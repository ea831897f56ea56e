"""What the commands write into real stores, and a proxy that knows nothing but its store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Backend, LoopThread, ReservedPort
from tests.support.consul import ConsulServer
from tests.support.deadline import wait_until
from tests.support.etcd import EtcdServer
from tests.support.http_client import ConnectionEndedError, TooSlowError, build_request, fetch
from tests.support.zookeeper import ZookeeperServer
from tests.unit.cli.support import kvproxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

    from tests.support.store_server import StoreServer

MANY = 150
"""More keys than one transaction of Consul (64) or etcd (128) takes."""

ROUTES = """
[file]
[backends.web.servers.one]
url = "{url}"
[frontends.web]
backend = "web"
[frontends.web.routes.main]
rule = "Host:web.localhost"
"""


class Place:
    """A real server, and the flags that lead a command to it."""

    def __init__(self, kind: str, server: Any, directory: Path) -> None:
        self.kind = kind
        self.server: StoreServer = server
        self.directory = directory
        self.flags = [f"--{kind}.endpoint={server.endpoint}"]

    def prefix(self, name: str) -> str:
        """Return a prefix as this store's users write it."""
        return f"/{name}" if self.kind == "etcd" else name

    def run(self, *arguments: str, prefix: str = "") -> Result:
        flags = [f"--{self.kind}.prefix={self.prefix(prefix)}"] if prefix else []
        return kvproxy(*arguments, *self.flags, *flags)

    def done(self, *arguments: str, prefix: str = "") -> str:
        result = self.run(*arguments, prefix=prefix)
        assert result.exit_code == 0, result.output
        return result.stdout

    def keys(self, prefix: str) -> dict[str, str]:
        found = json.loads(self.done("kv", "ls", "--output=json", prefix=prefix))["keys"]
        return {key.removeprefix(f"{prefix}/"): value for key, value in found.items() if value}


@pytest.fixture(scope="module", params=["etcd", "consul", "zookeeper"])
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp(request.param)
    kinds: dict[str, Any] = {
        "etcd": EtcdServer,
        "consul": ConsulServer,
        "zookeeper": ZookeeperServer,
    }
    (directory / "server").mkdir()
    with kinds[request.param](directory / "server") as server:
        yield Place(request.param, server, directory)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    thread = LoopThread()
    server = Backend(thread)
    yield server
    server.stop()
    thread.stop()


def write_static(file: Path, address: str, more: str = "") -> None:
    file.write_text(f'logLevel = "DEBUG"\n[entryPoints.http]\naddress = "{address}"\n{more}')


def test_a_proxy_starts_from_nothing_but_the_store(place: Place, backend: Backend) -> None:
    with ReservedPort() as port:
        file = place.directory / "start.toml"
        write_static(file, f"127.0.0.1:{port.port}", ROUTES.format(url=backend.url))
        output = place.done("storeconfig", f"--configFile={file}", prefix="start")
        assert "read back and compared" in output
        again = place.done("storeconfig", f"--configFile={file}", prefix="start")
        assert again.startswith(f"nothing to write: {place.kind} ({place.server.endpoint}")
        keys = place.keys("start")
        assert keys["loglevel"] == "DEBUG"
        assert keys["entrypoints/http/address"] == f"127.0.0.1:{port.port}"
        assert keys[f"{place.kind}/endpoint"] == place.server.endpoint
        assert keys["frontends/web/routes/main/rule"] == "Host:web.localhost"
        assert "configfile" not in keys
        report = json.loads(place.run("check", "--output=json", prefix="start").stdout)
        assert (report["valid"], report["frontends"]) == (True, 1), report
        explained = place.run("explain", "GET", "http://web.localhost/", prefix="start")
        assert "Taken by `web`" in explained.stdout, explained.output
        serves(place, "start", port.port)
        place.server.freeze()
        try:
            serves(place, "start", port.port)
        finally:
            place.server.thaw()
        log = (place.directory / "log").read_text()
        assert f"STALE: static settings of {place.kind} are those of the last start" in log


def serves(place: Place, prefix: str, port: int) -> None:
    """Run a proxy until it answers the route."""
    state = place.directory / "state"
    flag = f"--{place.kind}.prefix={place.prefix(prefix)}"
    with (place.directory / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "kvproxy", "run", *place.flags, flag),
                *(f"--stateDir={state}", "--workers=1"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=place.directory,
            start_new_session=True,
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, (place.directory / "log").read_text()
            try:
                return fetch(port, build_request("/", host="web.localhost")).status == 200
            except (OSError, ConnectionEndedError, TooSlowError):
                return False

        wait_until(answers, "the route", 20)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def test_more_than_a_transaction_takes_is_written_whole(place: Place) -> None:
    file = place.directory / "many.toml"
    routes = "[file]\n[backends.b]\n" + "".join(
        f'[frontends.f{number}]\nbackend = "b"\n' for number in range(MANY)
    )
    constraints = ", ".join(f'"tag==t{number}"' for number in range(MANY))
    write_static(file, ":1", routes)
    file.write_text(f"constraints = [{constraints}]\n{file.read_text()}")
    output = place.done("storeconfig", f"--configFile={file}", prefix="many")
    # ZooKeeper bounds the bytes of a transaction, not the keys.
    assert ("the alias names many_configurations/" in output) is (place.kind != "zookeeper")
    keys = place.keys("many")
    assert [keys[f"constraints/{number}"] for number in range(MANY)] == [
        f"tag==t{number}" for number in range(MANY)
    ]
    assert "storeconfig" not in keys
    assert place.done("kv", "export", prefix="many").count("[frontends.") == MANY
    again = place.done("storeconfig", f"--configFile={file}", prefix="many")
    assert again.startswith("nothing to write")
    # Fewer settings and routes, and what is left of the old ones deleted.
    write_static(file, ":1", '[file]\n[frontends.f1]\nbackend = "b"\n[backends.b]\n')
    place.done("storeconfig", f"--configFile={file}", "--prune", prefix="many")
    assert not any(key.startswith("constraints") for key in place.keys("many"))
    assert place.done("kv", "export", prefix="many").count("[frontends.") == 1


def test_a_large_import_is_switched_in(place: Place) -> None:
    place.done("kv", "put", "large/frontends/old/backend", "b", prefix="large")
    file = place.directory / "routes.toml"
    file.write_text(
        "[backends.b]\n"
        + "".join(f'[frontends.f{number}]\nbackend = "b"\n' for number in range(2 * MANY))
    )
    place.done("kv", "import", str(file), prefix="large")
    exported = place.done("kv", "export", prefix="large")
    assert exported.count("[frontends.") == 2 * MANY + 1
    assert "[frontends.old]" in exported


def test_a_prefix_without_keys_points_at_those_of_traefik(place: Place) -> None:
    place.done("kv", "put", "traefik/loglevel", "DEBUG", prefix="traefik")
    result = place.run("check")
    prefix = place.prefix("traefik")
    assert f"--{place.kind}.prefix={prefix} to use them" in result.stderr


def test_a_server_that_is_gone_is_named(place: Place) -> None:
    """Runs last: it ends the server of the module."""
    place.server.kill()
    file = place.directory / "gone.toml"
    write_static(file, ":1")
    for arguments in (["storeconfig", f"--configFile={file}"], ["kv", "ls"]):
        result = place.run(*arguments)
        assert result.exit_code == 1
        assert place.kind in result.stderr
