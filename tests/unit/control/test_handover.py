from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kvproxy.channel import Channel
from kvproxy.control import handover
from kvproxy.control.generations.delta import full
from kvproxy.control.generations.generation import Changes, Generation
from kvproxy.control.handover import (
    Complete,
    HandOverError,
    Inherit,
    Inheritance,
    Predecessor,
    Serving,
    Successor,
    TakeOver,
)
from kvproxy.control.state_directory import StateDirectory
from kvproxy.control.workers.records import ProcessName, WorkerRecords, process_name
from kvproxy.model.dynamic import Backend, Frontend
from kvproxy.model.messages import BackendEntry, FrontendEntry

GENERATION = Generation(
    number=12,
    digest="abc",
    revisions={"one": "7"},
    frontends={
        ("one", f"f{number}"): FrontendEntry("one", f"f{number}", b"d", Frontend(backend="b"))
        for number in range(5000)
    },
    backends={("one", "b"): BackendEntry("one", "b", b"d", Backend())},
    created_at=5.0,
    base=11,
    changes=Changes(),
)


def dead_process() -> ProcessName:
    process = subprocess.Popen([sys.executable, "-c", ""])
    name = process_name(process.pid)
    process.wait()
    return name


class Old:
    """The old supervisor's end of a hand-over."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.descriptor = theirs.detach()
        self.channel: Channel[Serving] = Channel(ours, Serving)

    def greet(self, process: ProcessName, generation: Generation | None = None) -> None:
        lock, other = os.pipe()
        revisions = generation.revisions if generation else {}
        created_at = generation.created_at if generation else 0.0
        told = Predecessor(
            process, "/state", generation is not None, revisions, created_at, down=[b"a check"]
        )
        self.channel.send(told, [lock])
        os.close(lock)
        os.close(other)


def close(inheritance: Inheritance) -> None:
    inheritance.close_unused({})


async def test_everything_arrives() -> None:
    old = Old()
    old.greet(process_name(os.getpid()), GENERATION)
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    old.channel.send(Inherit("web", ":80"), [listening[0].fileno()])
    old.channel.send(Inherit("web", ":80"), [listening[1].fileno()])
    old.channel.send(Inherit("other", ":81"), [listening[2].fileno()])
    for part in full(GENERATION):
        old.channel.send(part)
    old.channel.send(Complete())
    inheritance = await handover.receive(old.descriptor)
    got = inheritance.generation
    assert got is not None
    assert (got.number, got.digest, got.revisions, got.created_at) == (12, "abc", {"one": "7"}, 5.0)
    assert inheritance.down == [b"a check"]
    assert got.frontends == GENERATION.frontends
    assert got.backends == GENERATION.backends
    addresses = {
        place: [each.getsockname() for each in held] for place, held in inheritance.sockets.items()
    }
    assert addresses == {
        ("web", ":80"): [each.getsockname() for each in listening[:2]],
        ("other", ":81"): [listening[2].getsockname()],
    }
    used = inheritance.sockets["web", ":80"]
    inheritance.close_unused({("web", ":80"): [[used[0]], [used[1]]]})
    assert [each.fileno() >= 0 for each in used] == [True, True]
    assert inheritance.sockets["other", ":81"][0].fileno() == -1
    close(inheritance)
    for each in listening:
        each.close()
    old.channel.close()


async def test_without_a_generation() -> None:
    old = Old()
    old.greet(process_name(os.getpid()))
    old.channel.send(Complete())
    inheritance = await handover.receive(old.descriptor)
    assert inheritance.generation is None
    close(inheritance)
    old.channel.close()


async def test_an_old_supervisor_that_ends_in_the_middle() -> None:
    old = Old()
    old.channel.close()
    with pytest.raises(HandOverError, match="did not hand over"):
        await handover.receive(old.descriptor)


async def test_an_old_supervisor_that_does_not_introduce_itself() -> None:
    old = Old()
    old.channel.send(Complete())
    with pytest.raises(HandOverError, match="who it is"):
        await handover.receive(old.descriptor)
    old.channel.close()


async def inherited(old: Old, process: ProcessName) -> Inheritance:
    old.greet(process)
    old.channel.send(Complete())
    return await handover.receive(old.descriptor)


async def test_the_lock_is_that_of_one_directory() -> None:
    old = Old()
    inheritance = await inherited(old, process_name(os.getpid()))
    assert inheritance.lock_of(Path("/another")) is None
    lock = inheritance.lock_of(Path("/state"))
    assert lock is not None
    inheritance.close_unused({})
    os.close(lock)
    old.channel.close()


async def test_taking_over_when_the_old_one_says_so() -> None:
    old = Old()
    inheritance = await inherited(old, process_name(os.getpid()))
    taking = asyncio.create_task(inheritance.take_over())
    assert await old.channel.receive() == (Serving(), [])
    assert not taking.done()
    old.channel.send(TakeOver())
    assert await taking is True
    close(inheritance)
    old.channel.close()


async def test_taking_over_when_the_old_one_is_dead() -> None:
    old = Old()
    inheritance = await inherited(old, dead_process())
    old.channel.close()
    assert await inheritance.take_over() is False
    close(inheritance)


async def test_an_old_one_that_goes_on_is_left_alone() -> None:
    old = Old()
    inheritance = await inherited(old, process_name(os.getpid()))
    old.channel.close()
    with pytest.raises(HandOverError, match="goes on"):
        await inheritance.take_over()
    close(inheritance)


def test_the_descriptor_is_taken_from_the_environment_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(handover.VARIABLE, "17")
    assert handover.inherited_descriptor() == 17
    assert handover.inherited_descriptor() is None
    monkeypatch.setenv(handover.VARIABLE, "nonsense")
    assert handover.inherited_descriptor() is None


async def test_a_successor_that_ends_is_noticed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit(1)"]
    started = Successor.start(StateDirectory(tmp_path), {}, GENERATION, command)
    with pytest.raises(HandOverError, match="ended before it served"):
        async with asyncio.timeout(10):
            await started.serving()
    await started.abandon(WorkerRecords(tmp_path / "workers"))


async def test_a_successor_that_hangs_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "SERVING_SECONDS", 0.2)
    monkeypatch.setattr(handover, "ENDING_SECONDS", 1.0)
    program = "import signal, time; signal.signal(15, signal.SIG_IGN); print(); time.sleep(60)"
    command = [sys.executable, "-c", program]
    started = Successor.start(StateDirectory(tmp_path), {}, GENERATION, command)
    with pytest.raises(HandOverError, match=r"after 0\.2 s"):
        await started.serving()
    async with asyncio.timeout(10):
        await started.abandon(WorkerRecords(tmp_path / "workers"))
    with pytest.raises(ProcessLookupError):
        process_name(started.pid)


def test_the_own_command_is_the_one_that_was_given() -> None:
    program = "from kvproxy.control.handover import own_command; print(own_command())"
    output = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", program, "--flag", "a b"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    assert output.strip() == str([sys.executable, "-X", "utf8", "-c", program, "--flag", "a b"])
