"""The turns that the supervisor asks the kernel for."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import subprocess
import sys

import pytest

from kvproxy.turns import LONG_TURN_NANOSECONDS

READ_CALL = {"x86_64": 315, "aarch64": 275}
PROGRAM = """
import os, subprocess, sys
from kvproxy.turns import ask_for_long_turns
assert ask_for_long_turns()
print(os.getpid(), flush=True)
program = "from kvproxy.turns import *; ask_for_usual_turns(); print(1, flush=True); input()"
pipe = subprocess.PIPE
child = subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe)
child.stdout.readline()
print(child.pid, flush=True)
input()
child.communicate(b"\\n")
"""


def attributes(process: int) -> tuple[int, int, int]:
    """Return (policy, nice value, turn in nanoseconds) of a process."""
    buffer = ctypes.create_string_buffer(48)
    number = READ_CALL[platform.machine()]
    assert ctypes.CDLL(None).syscall(number, process, buffer, 48, 0) == 0
    _, policy, _, nice, _, turn, _, _ = struct.unpack("=IIQiIQQQ", buffer.raw)
    return policy, nice, turn


@pytest.mark.skipif(platform.machine() not in READ_CALL, reason="no call number for this machine")
def test_a_supervisor_asks_and_its_worker_takes_it_back() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        own, child = int(process.stdout.readline()), int(process.stdout.readline())
        usual = attributes(os.getpid())
        asked = attributes(own)
        inherited = attributes(child)
        process.communicate("\n", timeout=10)
    assert process.returncode == 0
    assert asked[:2] == inherited[:2] == usual[:2]
    # Kernels before 6.12 take the wish and tell a turn of 0 for everybody.
    assert asked[2] in (LONG_TURN_NANOSECONDS, usual[2])
    assert inherited[2] == usual[2]
