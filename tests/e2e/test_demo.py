"""The demonstration is what a newcomer sees first: it has to work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deadline import wait_until

DEMO = [sys.executable, "-m", "kvproxy", "demo"]


def environment(marker: Path) -> dict[str, str]:
    """What started processes can be found by: they inherit the temporary directory."""
    return {**os.environ, "TMPDIR": str(marker)}


def started_by(marker: Path) -> list[str]:
    """Return the command lines of living processes whose environment holds the marker."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={marker}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_demo_once_shows_changes_without_a_failed_request(tmp_path: Path) -> None:
    result = subprocess.run(
        [*DEMO, "--once"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    changes = re.findall(
        r"served by (\w+) ([0-9.]+) ms after .*; (\d+) requests meanwhile, (\d+) failed",
        result.stdout,
    )
    assert [name for name, *_ in changes] == ["green", "blue", "green"]
    assert all(int(requests) > 0 and failed == "0" for _, _, requests, failed in changes)
    assert "Hots" in result.stdout
    assert "The bad version is in quarantine, the last good one goes on" in result.stdout
    assert started_by(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "terminate"])
def test_a_signal_ends_the_demo_and_all_it_started(tmp_path: Path, number: signal.Signals) -> None:
    log = tmp_path / "log"
    directory = tmp_path / "temporary"
    directory.mkdir()
    with log.open("w") as output:
        process = subprocess.Popen(
            DEMO,
            env=environment(directory),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(
            lambda: "Ctrl-C ends everything" in log.read_text() or process.poll() is not None,
            "the end of the demonstration",
            60,
        )
        process.send_signal(number)
        assert process.wait(40) == 0, log.read_text()
        wait_until(lambda: started_by(directory) == [], "the end of all processes", 10)
        assert list(directory.iterdir()) == []
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
