"""``kvproxy nodes`` and ``kvproxy wait`` against a running proxy on the embedded store."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy_process import ProxyProcess
from tests.unit.cli.support import StoreFile, kvproxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result


class Running:
    """A proxy on a store of its own."""

    def __init__(self, proxy: ProxyProcess, store: StoreFile) -> None:
        self.proxy = proxy
        self.store = store
        self.flags = (f"--stateDir={proxy.directory / 'state'}", self.store.flag)

    def put(self, host: str) -> str:
        """Write a frontend; returns what the command printed."""
        return self.store.done(
            *("put", f"kvproxy/frontends/{host}/backend", "web"),
            *(f"kvproxy/frontends/{host}/routes/main/rule", f"Host:{host}"),
        )

    def wait(self, *arguments: str, stdin: str | None = None) -> Result:
        return kvproxy("wait", *self.flags, *arguments, stdin=stdin)

    def status(self, host: str) -> int:
        return self.proxy.fetch(host=host).status


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    store = StoreFile(tmp_path_factory.mktemp("store") / "store.db")
    store.done("put", "kvproxy/backends/web/servers/one/url", "http://127.0.0.1:9")
    arguments = ("--embedded", store.flag, "--nodeName=first")
    with ProxyProcess(None, arguments=arguments) as proxy:
        yield Running(proxy, store)


@pytest.mark.parametrize("everybody", [(), ("--all",)], ids=["this-node", "every-node"])
def test_what_was_written_is_served_after_the_wait(
    running: Running, everybody: tuple[str, ...]
) -> None:
    for number in range(5):
        host = f"host-{len(everybody)}-{number}"
        written = running.put(host)
        result = running.wait("--revision", "-", *everybody, stdin=written)
        assert result.exit_code == 0, result.output
        assert running.status(host) == 502


@pytest.mark.parametrize("everybody", [(), ("--all",)], ids=["this-node", "every-node"])
def test_a_revision_that_changed_nothing_of_the_configuration_is_served(
    running: Running, everybody: tuple[str, ...]
) -> None:
    revision = running.store.done("put", "elsewhere/key", "1").split()[1]
    result = running.wait("--revision", revision, *everybody)
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("everybody", [(), ("--all",)], ids=["this-node", "every-node"])
def test_waiting_in_vain_has_an_exit_code_of_its_own(
    running: Running, everybody: tuple[str, ...]
) -> None:
    result = running.wait("--revision", "1000000", "--timeout", "0.5", *everybody)
    assert result.exit_code == 124
    assert "within 0.5 s: `" in result.stderr
    assert ("first` serves" if everybody else "embedded` is at revision") in result.stderr


def test_it_waits_for_enough_nodes(running: Running) -> None:
    revision = running.store.done("put", "elsewhere/key", "2").split()[1]
    result = running.wait("--revision", revision, "--all", "--nodes", "2", "--timeout", "0.3")
    assert result.exit_code == 124
    assert "1 node of at least 2 announce themselves" in result.stderr


def test_a_wait_ends_with_the_change_that_it_is_for(running: Running) -> None:
    now = json.loads(running.store.done("ls", "--output", "json"))["revision"]
    command = [
        *(sys.executable, "-m", "kvproxy", "wait", *running.flags),
        *("--all", "--timeout", "20", "--revision"),
    ]
    # The announcements of this node are writes too: the one that counts comes after them.
    with subprocess.Popen([*command, str(now + 3)]) as waiting:
        for number in range(3):
            running.put(f"more-{number}")
        assert waiting.wait(30) == 0


@pytest.mark.parametrize(
    ("text", "revision"),
    [("revision 1\n", 1), ("1", 1), ('{\n  "revision": 1,\n  "keys": []\n}', 1)],
)
def test_forms_of_a_revision(running: Running, text: str, revision: int) -> None:
    assert running.wait("--revision", "-", stdin=text).exit_code == 0


@pytest.mark.parametrize("text", ["", "nothing", "1x", "revision", "-3"])
def test_what_is_no_revision_is_refused(running: Running, text: str) -> None:
    result = running.wait("--revision", "-", stdin=text)
    assert result.exit_code == 2
    assert "expected a number" in result.stderr


def test_nodes_are_listed(running: Running) -> None:
    revision = running.put("listed").split()[1]
    assert running.wait("--revision", revision, "--all").exit_code == 0
    (node,) = json.loads(kvproxy("nodes", *running.flags, "--output", "json").stdout)["nodes"]
    status = json.loads(kvproxy("status", *running.flags, "--output", "json").stdout)
    assert node["node"] == "first"
    assert node["pid"] == running.proxy.process.pid
    assert node["inStep"] is True
    assert node["revision"] == int(revision)
    assert node["generation"] == status["generation"]["number"]
    assert node["digest"] == status["generation"]["digest"]
    text = kvproxy("nodes", *running.flags).stdout
    assert text.startswith("1 node, the store is at revision ")
    assert text.splitlines()[2].split()[:2] == ["first", revision]
    assert text.splitlines()[2].endswith("yes")


def test_what_is_no_announcement_is_named_and_the_others_are_listed(running: Running) -> None:
    running.store.done("put", "kvproxy-nodes/odd", "hello")
    result = kvproxy("nodes", *running.flags)
    running.store.done("del", "kvproxy-nodes/odd")
    assert result.exit_code == 0
    assert "kvproxy-nodes/odd: is no announcement of a node" in result.stderr
    assert "first" in result.stdout


def test_a_node_that_was_told_to_be_silent_is_silent(tmp_path: Path) -> None:
    store = StoreFile(tmp_path / "store.db")
    arguments = ("--embedded", store.flag, "--announce=false")
    with ProxyProcess(None, arguments=arguments) as proxy:
        running = Running(proxy, store)
        revision = running.put("quiet").split()[1]
        assert running.wait("--revision", revision).exit_code == 0
        assert running.wait("--revision", revision, "--all", "--timeout", "0.3").exit_code == 124
        assert kvproxy("nodes", *running.flags).stdout.startswith("0 nodes")


def test_no_proxy_is_an_error(tmp_path: Path) -> None:
    result = kvproxy("wait", f"--stateDir={tmp_path}", "--revision", "1")
    assert result.exit_code == 1
    assert "no supervisor answers" in result.stderr
