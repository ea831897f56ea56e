"""``kvproxy run`` and ``kvproxy`` without a command."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import ReservedPort
from tests.support.deadline import wait_until
from tests.unit.cli.support import kvproxy

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("command", [[], ["run"]], ids=["bare", "run"])
def test_it_serves_until_it_is_told_to_stop(command: list[str], tmp_path: Path) -> None:
    state = f"--stateDir={tmp_path / 'state'}"
    with ReservedPort() as port, (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "kvproxy", *command, state, "--workers=1"),
                *("--embedded", f"--entryPoints=Name:http Address:127.0.0.1:{port.port}"),
            ],
            stderr=log,
            cwd=tmp_path,
        )
        try:
            wait_until(
                lambda: kvproxy("status", state, "--wait", "0").exit_code == 0, "the proxy", 30
            )
            with socket.create_connection(("127.0.0.1", port.port), timeout=5):
                process.send_signal(signal.SIGTERM)
                assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--configFile=/no/such.toml"], 1, "`/no/such.toml` does not exist"),
        (["run", "--workers=many"], 1, "`many` is not a whole number"),
        (["run", "--workers", "-1"], 1, "workers"),
        (["run", "--entryPoints=Name:http Address:nowhere"], 1, "`nowhere` is no address"),
        (["run", "--configFil=x"], 2, "Did you mean `--configFile`?"),
        (["--configFil=x"], 2, "Did you mean `--configFile`?"),
        (["run", "stray"], 2, "stray"),
        (["run", "--debug=maybe"], 2, "`maybe` is not a boolean"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_settings_that_cannot_be_used(arguments: list[str], code: int, message: str) -> None:
    result = kvproxy(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_all_problems_are_named_before_it_gives_up(tmp_path: Path) -> None:
    file = tmp_path / "kvproxy.toml"
    file.write_text('workers = "two"\nlogLevel = 7\n[entryPoints.http]\nadress = ":80"\n')
    result = kvproxy("run", f"--configFile={file}")
    assert result.exit_code == 1
    for line, message in ((1, "workers"), (2, "logLevel"), (4, "did you mean `address`?")):
        assert any(
            f"{file}:{line}" in each and message in each for each in result.stderr.splitlines()
        )


def test_an_address_in_use_ends_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run(
            [
                *(sys.executable, "-m", "kvproxy", "run", f"--stateDir={tmp_path}"),
                *("--embedded", f"--entryPoints=Name:http Address:{address}"),
            ],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert result.returncode == 1
    assert address in result.stderr


def test_help_lists_the_options_that_have_an_effect() -> None:
    result = kvproxy("run", "--help")
    assert result.exit_code == 0
    for flag in ("-c, --configFile=", "--embedded.path=", "--file.watch", "--entryPoints='Name:"):
        assert flag in result.output
    assert "--docker" not in result.output
