from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kvproxy import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kvproxy", "completion", shell],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "_KVPROXY_COMPLETE" in result.stdout


def test_another_shell_is_a_usage_error() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "kvproxy", "completion", "tcsh"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2


def complete(words: str) -> list[str]:
    """Return what bash would offer for the last word of a command line."""
    result = subprocess.run(
        [sys.executable, "-m", "kvproxy"],
        env={
            **os.environ,
            "_KVPROXY_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return [line.partition(",")[2] for line in result.stdout.splitlines()]


def test_commands_are_completed() -> None:
    assert complete("kvproxy ") == sorted(cli.COMMANDS)
    assert complete("kvproxy ex") == ["explain"]


@pytest.mark.parametrize("command", ["run", "check", "explain GET /", "kv get"])
def test_flags_of_the_configuration_are_completed(command: str) -> None:
    assert "--embedded.path" in complete(f"kvproxy {command} --embedded.p")
