"""Five nodes on one store of each kind: who is there, and when all serve a revision."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.provider import ANNOUNCEMENT_SECONDS
from tests.support.backend import Answer, Backend, LoopThread, plain_answer
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess
from tests.support.stores import STORES, ProxyStore
from tests.unit.cli.support import kvproxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result

NODES = 5


class Nodes:
    """The proxies of one store."""

    def __init__(self, store: ProxyStore, proxies: dict[str, ProxyProcess]) -> None:
        self.store = store
        self.proxies = proxies
        self._flags = store.flags()

    def put(self, host: str) -> str:
        """Write a frontend; returns what the command printed."""
        result = kvproxy(
            *("kv", "put", *self._flags),
            *(f"kvproxy/frontends/{host}/backend", "web"),
            *(f"kvproxy/frontends/{host}/routes/main/rule", f"Host:{host}"),
        )
        assert result.exit_code == 0, result.output
        return result.stdout

    def wait(self, revision: str, *arguments: str) -> Result:
        """Wait for what `put` printed."""
        return kvproxy("wait", "--all", "--revision=-", *self._flags, *arguments, stdin=revision)

    def listed(self) -> list[dict[str, Any]]:
        result = kvproxy("nodes", *self._flags, "--output", "json")
        assert result.exit_code == 0, result.output
        found: list[dict[str, Any]] = json.loads(result.stdout)["nodes"]
        return found

    def statuses(self, host: str) -> dict[str, int]:
        """Ask each node for a host."""
        return {name: proxy.fetch(host=host).status for name, proxy in self.proxies.items()}


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread, script={"/": Answer((plain_answer(),))})
    yield made
    made.stop()


@pytest.fixture(scope="module", params=STORES)
def nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, backend: Backend
) -> Iterator[Nodes]:
    store = ProxyStore(request.param, tmp_path_factory.mktemp("store"))
    proxies = {
        name: ProxyProcess(None, arguments=(*store.flags(), f"--nodeName={name}"))
        for name in (f"node-{number}" for number in range(NODES))
    }
    with ThreadPoolExecutor(NODES) as pool:
        try:
            written = kvproxy(
                "kv", "put", *store.flags(), "kvproxy/backends/web/servers/one/url", backend.url
            )
            assert written.exit_code == 0, written.output
            list(pool.map(lambda proxy: proxy.start(60.0), proxies.values()))
            yield Nodes(store, proxies)
        finally:
            list(pool.map(ProxyProcess.stop, proxies.values()))
            store.close()


def test_after_the_wait_every_node_serves_what_was_written(nodes: Nodes) -> None:
    for number in range(5):
        host = f"host-{number}"
        result = nodes.wait(nodes.put(host), f"--nodes={NODES}", "--timeout=20")
        assert result.exit_code == 0, result.output
        assert nodes.statuses(host) == dict.fromkeys(nodes.proxies, 200)


def test_all_are_in_step_and_serve_the_same(nodes: Nodes) -> None:
    assert nodes.wait(nodes.put("same"), f"--nodes={NODES}").exit_code == 0
    listed = nodes.listed()
    assert [node["node"] for node in listed] == list(nodes.proxies)
    assert [node["pid"] for node in listed] == [
        proxy.process.pid for proxy in nodes.proxies.values()
    ]
    assert {node["inStep"] for node in listed} == {True}
    assert len({node["digest"] for node in listed}) == 1


def test_a_revision_of_a_write_elsewhere_is_served_by_all(nodes: Nodes) -> None:
    written = kvproxy("kv", "put", *nodes.store.flags(), "elsewhere/key", str(time.time()))
    assert nodes.wait(written.stdout, f"--nodes={NODES}").exit_code == 0
    assert {node["inStep"] for node in nodes.listed()} == {True}


def test_one_node_that_lags_is_named_and_waited_for(nodes: Nodes) -> None:
    late = nodes.proxies["node-3"]
    late.signal(signal.SIGSTOP)
    try:
        written = nodes.put("late")
        result = nodes.wait(written, "--timeout=1")
        assert result.exit_code == 124
        assert "`node-3` serves " in result.stderr
        assert "node-0" not in result.stderr
        assert [node["node"] for node in nodes.listed() if not node["inStep"]] == ["node-3"]
        command = [sys.executable, "-m", "kvproxy", "wait", "--all", *nodes.store.flags()]
        waiting = subprocess.Popen(
            [*command, "--revision=-", "--timeout=20"], stdin=subprocess.PIPE, text=True
        )
        assert waiting.stdin is not None
        waiting.stdin.write(written)
        waiting.stdin.close()
    finally:
        late.signal(signal.SIGCONT)
    assert waiting.wait(30) == 0
    assert nodes.statuses("late") == dict.fromkeys(nodes.proxies, 200)


def test_a_node_that_dies_is_waited_for_no_longer(nodes: Nodes) -> None:
    dead = nodes.proxies.pop("node-4")
    os.killpg(dead.process.pid, signal.SIGKILL)
    died = time.monotonic()
    written = nodes.put("after")
    limit = ANNOUNCEMENT_SECONDS + 1.0
    result = nodes.wait(written, f"--timeout={limit + 10}")
    elapsed = time.monotonic() - died
    dead.stop()
    assert result.exit_code == 0, result.output
    assert elapsed < limit
    assert [node["node"] for node in nodes.listed()] == list(nodes.proxies)
    assert nodes.statuses("after") == dict.fromkeys(nodes.proxies, 200)


def test_a_node_that_stops_is_gone_at_once(nodes: Nodes) -> None:
    nodes.proxies.pop("node-2").stop()
    wait_until(
        lambda: [node["node"] for node in nodes.listed()] == list(nodes.proxies),
        "the stopped node to be gone",
        3.0,
    )
