from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kvproxy.control import state_directory
from kvproxy.control.state_directory import StateDirectory, StateDirectoryError


def test_the_directory_is_made_and_private(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "deep" / "state")
    assert (tmp_path / "deep" / "state").stat().st_mode & 0o777 == 0o700
    assert directory.workers.is_dir()
    directory.close()


def test_two_supervisors_cannot_share_it(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path)
    first.sign()
    with pytest.raises(StateDirectoryError, match=rf"in use.*\(process {os.getpid()}\)"):
        StateDirectory(tmp_path)
    first.close()
    StateDirectory(tmp_path).close()


def test_a_handed_over_lock_is_held_until_the_last_holder_ends(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path)
    second = StateDirectory(tmp_path, os.dup(first.lock))
    first.close()
    with pytest.raises(StateDirectoryError):
        StateDirectory(tmp_path)
    second.close()
    StateDirectory(tmp_path).close()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib\n"
        "from kvproxy.control.state_directory import StateDirectory\n"
        "StateDirectory(pathlib.Path(sys.argv[1])).sign()\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=30)
    assert (tmp_path / "lock").read_text().strip().isdigit()
    StateDirectory(tmp_path).close()


def test_a_directory_of_somebody_else_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    StateDirectory(tmp_path).close()
    assert tmp_path.stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "workers").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_everybody_can_write_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    with pytest.raises(StateDirectoryError, match="every user"):
        StateDirectory(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_no_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateDirectoryError):
        StateDirectory(tmp_path)


def test_an_unusable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateDirectoryError, match=r"file/state.*stateDir"):
        StateDirectory(tmp_path / "file" / "state")


@pytest.mark.parametrize(
    ("setting", "user", "environment", "expected"),
    [
        ("/a/b", 0, {}, "/a/b"),
        ("", 0, {"XDG_STATE_HOME": "/x"}, "/var/lib/kvproxy"),
        ("", 1000, {"XDG_STATE_HOME": "/x"}, "/x/kvproxy"),
        ("", 1000, {"XDG_STATE_HOME": "relative", "HOME": "/h"}, "/h/.local/state/kvproxy"),
        ("", 1000, {"HOME": "/h"}, "/h/.local/state/kvproxy"),
        ("~/s", 1000, {"HOME": "/h"}, "/h/s"),
    ],
)
def test_default(
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    user: int,
    environment: dict[str, str],
    expected: str,
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert state_directory.resolve(setting) == Path(expected)


def test_a_relative_setting_is_made_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert state_directory.resolve("state") == tmp_path / "state"
