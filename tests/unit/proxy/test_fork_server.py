"""The program that makes workers, without a supervisor."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path


def start(control: socket.socket) -> subprocess.Popen[bytes]:
    """Start the program with one side of a socket pair."""
    return subprocess.Popen(
        [sys.executable, "-m", "kvproxy.proxy", "--control", str(control.fileno())],
        pass_fds=[control.fileno()],
        stderr=subprocess.PIPE,
    )


def test_it_ends_with_its_supervisor() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = start(theirs)
    ours.close()
    assert process.communicate(timeout=20) == (None, b"")
    assert process.returncode == 0


def test_workers_that_are_told_nothing_end_with_their_supervisor() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = start(theirs)
    channel, other = socket.socketpair()
    ours.settimeout(20)
    with ours, channel, other:
        socket.send_fds(ours, [b"\0"], [other.fileno()])
        pid = int.from_bytes(ours.recv(4), sys.byteorder)
        title = Path(f"/proc/{process.pid}/cmdline").read_bytes().strip(b"\0")
        assert title == b"kvproxy: fork server"
        assert Path(f"/proc/{pid}").exists()
    # The worker has the error output, too: it is closed when both have ended.
    assert process.communicate(timeout=20) == (None, b"")
    assert process.returncode == 0
