"""``kvproxy status`` and ``kvproxy confirm`` against a running proxy on the embedded store."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess
from tests.unit.cli.support import StoreFile, kvproxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Running:
    """A proxy and its store."""

    def __init__(self, proxy: ProxyProcess, store: StoreFile) -> None:
        self.proxy = proxy
        self.store = store
        self.state = f"--stateDir={proxy.directory / 'state'}"

    def status(self, *arguments: str) -> dict[str, Any]:
        result = kvproxy("status", self.state, "--output", "json", *arguments)
        assert result.exit_code == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        return found

    def text(self) -> str:
        result = kvproxy("status", self.state)
        assert result.exit_code == 0, result.stderr
        return result.stdout

    def put(self, *pairs: str) -> dict[str, Any]:
        """Write keys and wait until every worker serves them."""
        revision = self.store.done("put", *pairs).split()[1]
        return self.status("--wait", f"embedded={revision}")


def frontend(name: str, rule: str = "") -> list[str]:
    return [
        *(f"kvproxy/frontends/{name}/backend", "web"),
        *(f"kvproxy/frontends/{name}/routes/main/rule", rule or f"Host:{name}.localhost"),
    ]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    store = StoreFile(tmp_path / "store.db")
    store.done("put", "kvproxy/backends/web/servers/one/url", "http://127.0.0.1:9001")
    with ProxyProcess(None, arguments=("--embedded", store.flag)) as proxy:
        yield Running(proxy, store)


def test_it_shows_what_is_served(running: Running) -> None:
    status = running.put(*frontend("web"))
    assert status["generation"]["frontends"] == 1
    assert status["generation"]["live"] is True
    text = running.text()
    assert f"Generation {status['generation']['number']}, served by every worker" in text
    assert f"digest {status['generation']['digest']}" in text
    assert "1 frontend, 1 backend" in text
    assert f"entry point http: 127.0.0.1:{running.proxy.port}" in text
    (worker,) = running.proxy.worker_pids()
    assert f"\n  0     {worker}" in text
    revision = status["providers"][0]["revision"]
    assert f"embedded: revision {revision}, 1 frontend, 1 backend, proven" in text
    assert "quarantine" not in text
    assert "Problems" not in text


def test_it_shows_entries_in_quarantine_and_warnings(running: Running) -> None:
    running.put(*frontend("web"))
    running.put(*frontend("web", "Hots:web.localhost"), "kvproxy/frontends/web/prio", "1")
    text = running.text()
    quarantine = text.partition("In quarantine")[2].partition("Problems")[0]
    assert "frontends `web` of embedded, its previous version goes on, for" in quarantine
    assert "did you mean `Host`?" in quarantine
    running.put(*frontend("web"))
    text = running.text()
    assert "quarantine" not in text
    assert "Warning (embedded): " in text.partition("Problems")[2]
    assert "did you mean `priority`?" in text


def test_it_waits_for_a_generation(running: Running) -> None:
    number = running.put(*frontend("one"))["generation"]["number"]
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "kvproxy", "status", running.state, "--output", "json"),
            *("--wait", str(number + 1), "--timeout", "20"),
        ],
        stdout=subprocess.PIPE,
    ) as waiting:
        running.put(*frontend("two"))
        output, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert json.loads(output)["generation"]["frontends"] == 2


def test_waiting_in_vain_ends_in_time(running: Running) -> None:
    result = kvproxy("status", running.state, "--wait", "1000000", "--timeout", "0.2")
    assert result.exit_code == 1
    assert "not served by every worker within 0.2 s" in result.stderr


def test_a_held_revision_is_shown_and_can_be_confirmed(running: Running) -> None:
    names = [f"f{number}" for number in range(20)]
    running.put(*(part for name in names for part in frontend(name)))
    running.store.done("del", "--recursive", "kvproxy/frontends")
    held = wait_until(
        lambda: text if "HELD" in (text := running.text()) else "", "the guard to hold it"
    )
    result = kvproxy("confirm", running.state, "embedded")
    assert "would remove 20 of 20 frontends" in held
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "applied\n"
    wait_until(lambda: running.status()["generation"]["frontends"] == 0, "the deletion")


def test_nothing_to_confirm_is_an_error(running: Running) -> None:
    result = kvproxy("confirm", running.state, "embedded")
    assert result.exit_code == 1
    assert "no revision of `embedded` is held" in result.stderr


def test_no_proxy_is_an_error_that_names_the_place(tmp_path: Path) -> None:
    for command in (["status"], ["confirm", "embedded"]):
        result = kvproxy(*command, f"--stateDir={tmp_path}")
        assert result.exit_code == 1
        assert f"no supervisor answers on {tmp_path / 'control.sock'}" in result.stderr


@pytest.mark.parametrize("wanted", ["embedded", "=5", "embedded=", "12x"])
def test_a_wish_that_is_neither_generation_nor_revision(tmp_path: Path, wanted: str) -> None:
    result = kvproxy("status", f"--stateDir={tmp_path}", "--wait", wanted)
    assert result.exit_code == 2
    assert "expected a generation such as 12" in result.stderr
