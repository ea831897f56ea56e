"""What the documentation shows is run: commands, TOML and Python examples, and links."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from contextlib import ExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from kvproxy import cli
from kvproxy.provider import Failure, Snapshot
from tests.conftest import COLLECTED
from tests.support.backend import ReservedPort
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.documents import ROOT, blocks, commands, documents, links, matches, modules

if TYPE_CHECKING:
    from tests.support.documents import Block

DOCUMENTS = documents()
BLOCKS = [block for path in DOCUMENTS for block in blocks(path)]
RUN = [path for path in DOCUMENTS if any(block.tested for block in blocks(path))]
PORTS = ("8080", "9001", "9002", "9003")
"""Ports that documents write; each is replaced by a free one."""


CERTIFICATES = "/etc/certificates"
"""Where documents keep certificates, keys (``.key``) and authorities."""


def write_certificates(text: str, folder: Path) -> None:
    """Write the files that a document names below `CERTIFICATES` into ``folder``: one pair."""
    pair = authority().issue("example.com")
    for name in re.findall(rf"{CERTIFICATES}/([\w.-]+)", text):
        content = pair.key if name.endswith(".key") else pair.certificate
        (folder / name).write_text(content)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", RUN, ids=name_of)
def test_the_commands_of_a_document_do_what_it_says(path: Path, tmp_path: Path) -> None:
    run = [command for block in blocks(path) if block.tested for command in commands(block)]
    with ExitStack() as stack:
        reserved = [stack.enter_context(ReservedPort()) for _ in PORTS]
        ports = {port: str(each.port) for port, each in zip(PORTS, reserved, strict=True)}
    script = ["set -o pipefail"]
    for number, command in enumerate(run):
        text = command.text
        for port, replacement in ports.items():
            text = text.replace(f":{port}", f":{replacement}")
        script += [f"(\nset -e\n{text}) >{tmp_path}/out.{number} 2>&1", "code=$?"]
        script += [f"[ $code = 0 ] || {{ echo {number} $code; exit 1; }}"]
    result = run_script("\n".join(script), tmp_path)
    outputs = []
    for number in range(len(run)):
        file = tmp_path / f"out.{number}"
        outputs.append(file.read_text() if file.exists() else "")
        for port, replacement in ports.items():
            outputs[-1] = outputs[-1].replace(f":{replacement}", f":{port}")
    transcript = "\n".join(
        f"$ {command.text}{output}" for command, output in zip(run, outputs, strict=True)
    )
    assert result == "", f"command number and exit code: {result}\n{transcript}"
    for command, output in zip(run, outputs, strict=True):
        if command.expected is not None:
            assert matches(command.expected, output), (
                f"{command.place}: {command.text}shows\n{command.expected}\nbut prints\n{output}"
            )


def run_script(script: str, directory: Path) -> str:
    """Run a bash script and end everything that it started; returns what it printed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(directory),
    }
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=120)
    finally:
        end_group(process.pid)
        process.wait(5)
    return output


def members(group: int) -> list[int]:
    """Return the processes of a process group that are no zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, process_group = entry.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(process_group) == group and state != "Z":
            found.append(int(entry.parent.name))
    return found


def end_group(group: int) -> None:
    """End every process of a group: ask first, insist after 15 s."""
    for pid in members(group):
        if Path(f"/proc/{pid}").exists():
            signal_quietly(pid, signal.SIGTERM)
    try:
        wait_until(lambda: not members(group), "the end of what a document started", 15)
    finally:
        for pid in members(group):
            signal_quietly(pid, signal.SIGKILL)


def signal_quietly(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


PYTHON = [block for block in BLOCKS if block.language == "python"]


@pytest.mark.parametrize("block", PYTHON, ids=[block.place for block in PYTHON])
def test_the_source_of_the_plugin_guide_works(block: Block, tmp_path: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile(block.text, block.place, "exec"), names)
    plugin = names["plugin"]
    file = tmp_path / "ports.txt"
    source = names["PortsSource"](file)

    async def first() -> Snapshot | Failure:
        async with aclosing(source.snapshots()) as events:
            event: Snapshot | Failure = await asyncio.wait_for(anext(events), 5)
            return event

    failed = asyncio.run(first())
    assert isinstance(failed, Failure)
    assert "No such file" in str(failed.problems[0])
    file.write_text("web 9001\nbad line\n")
    snapshot = asyncio.run(first())
    assert isinstance(snapshot, Snapshot)
    assert snapshot.provider == plugin.name == "ports"
    assert snapshot.configuration.frontends["web"].routes["host"].rule == "Host:web.localhost"
    assert [problem.entry for problem in snapshot.problems] == [("frontends", "bad")]


LINKS = [(path, link) for path in DOCUMENTS for link in links(path)]


@pytest.mark.parametrize(("path", "link"), LINKS, ids=[f"{name_of(p)}-{t}" for p, t in LINKS])
def test_links_lead_somewhere(path: Path, link: str) -> None:
    assert (path.parent / link).exists()


SOURCES = [
    f"/{path.relative_to(ROOT)}"
    for folder in ("kvproxy", "providers", "tests", "bench")
    for suffix in ("py", "c")
    for path in (ROOT / folder).rglob(f"*.{suffix}")
]


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if modules(path)], ids=name_of)
def test_every_module_that_is_named_exists(path: Path) -> None:
    named = modules(path)
    assert [name for name in named if not any(each.endswith(f"/{name}") for each in SOURCES)] == []


TOML = [
    block
    for block in BLOCKS
    if block.language == "toml" and not block.text.startswith("# pyproject.toml")
]


@pytest.mark.parametrize("block", TOML, ids=[block.place for block in TOML])
def test_configurations_are_valid(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_certificates(block.text, tmp_path)
    text = block.text.replace(CERTIFICATES, str(tmp_path))
    (tmp_path / "kvproxy.toml").write_text(text)
    (tmp_path / "routes.toml").write_text("[frontends]\n[backends]\n")
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "a.toml").write_text("[frontends]\n[backends]\n")
    key = "kvproxy/backends/web/servers/one/url"
    put = ["kv", "put", "--embedded.path=store.db", key, "http://127.0.0.1:9001"]
    assert CliRunner().invoke(cli.group(), put).exit_code == 0
    result = CliRunner().invoke(cli.group(), ["check", "--configFile=kvproxy.toml", "--strict"])
    assert result.exit_code == 0, result.output


HELD = [
    test
    for line in (ROOT / "docs" / "compatibility.md").read_text().splitlines()
    if line.startswith("| ") and "test |" not in line
    for test in re.findall(r"`([^`]+)`", line.rpartition(" | ")[2]) or [line]
]


@pytest.mark.parametrize("test", HELD)
def test_each_difference_is_held_by_a_test_that_exists(
    test: str, pytestconfig: pytest.Config
) -> None:
    """Its row of a case table is only known when that file is part of the run."""
    name = re.fullmatch(r"([\w/]+\.py)::(test_\w+)(\[.+\])?", test)
    assert name is not None, "the row names no test"
    source = (ROOT / "tests" / name[1]).read_text()
    assert f"def {name[2]}(" in source
    collected = pytestconfig.stash[COLLECTED]
    if name[3] and any(each.startswith(f"tests/{name[1]}::{name[2]}") for each in collected):
        assert f"tests/{test}" in collected
