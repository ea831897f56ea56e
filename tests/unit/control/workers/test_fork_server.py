"""Real fork servers, and the processes that they make."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from kvproxy.control.workers import fork_server as module
from kvproxy.control.workers.fork_server import ForkServer

PROGRAM = """
import os, socket, sys
from kvproxy.proxy import fork_server
with socket.socket(fileno=int(sys.argv[2])) as control:
    channel = fork_server.run(control)
if channel is not None:
    with socket.socket(fileno=channel) as told:
        told.send(f"{os.getpid()} {len(os.listdir('/proc/self/fd'))}".encode())
        sys.exit(int(told.recv(10) or 99))
"""
"""Each process says its id and the number of its descriptors, and ends as it is told."""

COMMAND = (sys.executable, "-c", PROGRAM)


async def fork(server: ForkServer) -> tuple[int, socket.socket]:
    """Return the id of a new process and our side of its channel."""
    pid, channel = await server.fork()
    channel.settimeout(20)
    return pid, channel


def end(pid: int, channel: socket.socket, code: int = 0) -> int:
    """Let a process end with ``code``; returns the exit code that it ended with."""
    with channel:
        channel.send(str(code).encode())
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def running(server: ForkServer) -> int:
    """Return the id of the fork server's process."""
    assert server._running is not None
    return server._running[0].pid


async def test_a_process_is_a_child_and_has_its_channel_and_nothing_else() -> None:
    with ForkServer(COMMAND) as server:
        first, second = await fork(server), await fork(server)
        for number, (pid, channel) in enumerate((first, second)):
            # Standard input, output and errors, the channel, and the directory that is listed.
            assert channel.recv(100) == f"{pid} 5".encode()
            assert end(pid, channel, number) == number


async def test_processes_are_wanted_at_the_same_time() -> None:
    with ForkServer(COMMAND) as server:
        made = await asyncio.gather(*(fork(server) for _ in range(5)))
        assert len({pid for pid, _ in made}) == 5
        for pid, channel in made:
            assert channel.recv(100).split()[0] == str(pid).encode()
            assert end(pid, channel) == 0


async def test_how_a_process_was_killed_is_known() -> None:
    with ForkServer(COMMAND) as server:
        pid, channel = await fork(server)
        with channel:
            os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL


async def test_processes_outlive_their_fork_server() -> None:
    with ForkServer(COMMAND) as server:
        pid, channel = await fork(server)
    assert end(pid, channel, 7) == 7


async def test_a_fork_server_that_was_killed_is_replaced() -> None:
    with ForkServer(COMMAND) as server:
        first = await fork(server)
        before = running(server)
        os.kill(before, signal.SIGKILL)
        os.waitid(os.P_PID, before, os.WEXITED | os.WNOWAIT)
        second = await fork(server)
        assert running(server) != before
        assert [end(*first), end(*second)] == [0, 0]


async def test_signals_to_the_whole_group_do_not_end_it() -> None:
    with ForkServer(COMMAND) as server:
        first = await fork(server)
        before = running(server)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(before, number)
        second = await fork(server)
        assert running(server) == before
        assert [end(*first), end(*second)] == [0, 0]


async def test_a_program_that_ends_at_once_is_named_each_time_it_is_tried() -> None:
    with ForkServer((sys.executable, "-c", "raise SystemExit(3)")) as server:
        for _ in range(2):
            with pytest.raises(OSError, match="the fork server ended, exit code 3"):
                await fork(server)


async def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    with ForkServer((str(tmp_path / "missing"),)) as server, pytest.raises(FileNotFoundError):
        await fork(server)


async def test_a_program_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORK_SECONDS", 0.2)
    slow = (sys.executable, "-c", "import time; time.sleep(60)")
    with ForkServer(slow) as server, pytest.raises(OSError, match=r"no process within 0\.2 s"):
        await fork(server)


async def test_an_answer_that_nobody_waits_for_is_not_taken_for_another_one() -> None:
    with ForkServer(COMMAND) as server:
        given_up = asyncio.create_task(fork(server))
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        pid, channel = await fork(server)
        assert channel.recv(100).split()[0] == str(pid).encode()
        assert end(pid, channel) == 0
