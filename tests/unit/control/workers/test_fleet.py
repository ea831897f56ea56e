from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from kvproxy.control.generations.generation import Changes, Generation
from kvproxy.control.workers import fleet as fleet_module
from kvproxy.control.workers import process as worker_process
from kvproxy.control.workers import sockets
from kvproxy.control.workers.fleet import Fleet, slot_count
from kvproxy.control.workers.fork_server import ForkServer
from kvproxy.control.workers.records import WorkerRecords
from kvproxy.model.dynamic import Frontend
from kvproxy.model.messages import FrontendEntry
from kvproxy.model.static import EntryPoint, StaticConfiguration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

STAND_IN = Path(__file__).with_name("stand_in_worker.py")
SETTINGS = StaticConfiguration(
    entry_points={"web": EntryPoint(address="127.0.0.1:0")}, workers=2, state_dir="/nowhere"
)


def generation(number: int, *names: str, before: Generation | None = None) -> Generation:
    """A generation with frontends of these names; those of the one before stay the same objects."""
    held = before.frontends if before else {}
    keys = [("test", name) for name in names]
    entries = {
        key: held.get(key) or FrontendEntry("test", key[1], b"", Frontend(backend="b"))
        for key in keys
    }
    changes = {
        key: (held.get(key), entries.get(key))
        for key in {*held, *entries}
        if held.get(key) is not entries.get(key)
    }
    return Generation(
        number=number,
        digest=f"digest-{number}",
        revisions={},
        frontends=entries,
        backends={},
        created_at=0.0,
        base=before.number if before else 0,
        changes=Changes(changes, {}),
    )


FIRST = generation(1, "a")


class Rig:
    """A fleet of stand-in workers."""

    def __init__(self, directory: Path, settings: StaticConfiguration, command: str) -> None:
        self.directory = directory
        (directory / "workers").mkdir()
        self.sockets = sockets.bind_all(settings.entry_points, settings.workers)
        self.fork_server = ForkServer((command, str(STAND_IN), str(directory)))
        self.fleet = Fleet(
            settings,
            self.sockets,
            WorkerRecords(directory / "workers"),
            "this-machine",
            self.fork_server,
        )

    def behave(self, slot: int, behaviour: str) -> None:
        (self.directory / f"behaviour-{slot}").write_text(behaviour)

    def told(self, slot: int, pid: int | None = None) -> list[str]:
        """What the worker of a slot was told, all of its processes or one of them."""
        path = self.directory / str(slot)
        lines = path.read_text().splitlines() if path.exists() else []
        pairs = [line.split(" ", 1) for line in lines]
        return [text for number, text in pairs if pid is None or int(number) == pid]

    def pid(self, slot: int) -> int:
        return next((each.pid for each in self.fleet.status() if each.slot == slot), 0)

    async def until(self, check: Callable[[], bool], seconds: float = 20.0) -> None:
        async with asyncio.timeout(seconds):
            while not check():
                await asyncio.sleep(0.01)

    async def live(self) -> None:
        async with asyncio.timeout(20):
            await self.fleet.wait_live()


@asynccontextmanager
async def rig(
    directory: Path, settings: StaticConfiguration = SETTINGS, command: str = sys.executable
) -> AsyncIterator[Rig]:
    made = Rig(directory, settings, command)
    try:
        yield made
    finally:
        made.fleet.kill()
        await made.fleet.stop(0, 0)
        made.fork_server.close()
        sockets.close_all(made.sockets)


@pytest.fixture(autouse=True)
def no_lending(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine one stand-in may start much later than another: not of interest."""
    monkeypatch.setattr(fleet_module, "LEND_SECONDS", 60.0)


@pytest.fixture
def quick_lending(monkeypatch: pytest.MonkeyPatch, no_lending: None) -> None:
    monkeypatch.setattr(fleet_module, "LEND_SECONDS", 0.2)


def first_words(slot: int) -> list[str]:
    return [f"start {slot} this-machine", "apply -1->1 a", f"listen web 1 of {slot}"]


async def test_workers_get_routes_before_listeners(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        await it.until(lambda: it.told(0) == first_words(0))
        await it.until(lambda: it.told(1) == first_words(1))
        assert [each.generation for each in it.fleet.status()] == [1, 1]
        assert sorted(each.name for each in (tmp_path / "workers").iterdir()) == sorted(
            str(each.pid) for each in it.fleet.status()
        )


async def test_workers_do_not_listen_before_the_first_generation(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        await it.until(lambda: len(it.told(0)) == len(it.told(1)) == 1)
        assert not it.fleet.live
        it.fleet.serve(FIRST)
        await it.live()
        await it.until(lambda: it.told(0) == first_words(0))


async def test_a_change_travels_as_a_delta(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        second = generation(2, "a", "b", before=FIRST)
        it.fleet.serve(second)
        assert not it.fleet.live
        await it.live()
        assert it.told(0)[-1] == it.told(1)[-1] == "apply 1->2 b"


async def test_generations_in_quick_succession_do_not_queue_without_bound(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        newest = FIRST
        for number in range(2, 202):
            names = (*(key[1] for key in newest.frontends), f"n{number}")
            newest = generation(number, *names, before=newest)
            it.fleet.serve(newest)
        await it.live()
        assert [each.generation for each in it.fleet.status()] == [201, 201]
        steps = [text for text in it.told(0) if text.startswith("apply")][1:]
        assert len(steps) <= worker_process.WINDOW + 1
        told = {name for step in steps for name in step.split(" ")[2].split(",")}
        assert told == {f"n{number}" for number in range(2, 202)}


async def test_a_dead_worker_is_replaced_at_once(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        before = it.pid(0)
        other = it.pid(1)
        os.kill(before, signal.SIGKILL)
        await it.until(lambda: it.fleet.live and it.pid(0) != before)
        assert it.pid(1) == other
        await it.until(lambda: it.told(0, it.pid(0)) == first_words(0))
        assert [each.restarts for each in it.fleet.status()] == [1, 0]
        assert not (tmp_path / "workers" / str(before)).exists()


async def test_totals_survive_the_death_of_a_worker(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        await it.until(lambda: it.fleet.statistics().requests == 20)
        assert it.fleet.statistics().connections == 2
        os.kill(it.pid(0), signal.SIGKILL)
        await it.until(lambda: it.fleet.statistics().requests == 30)
        assert it.fleet.statistics().statuses == [0, 0, 30, 0, 0, 0]
        assert it.fleet.statistics().connections == 2


@pytest.mark.usefixtures("quick_lending")
async def test_a_crash_loop_is_slowed_down_and_its_sockets_are_served(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.behave(0, "die")
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.until(lambda: it.told(1)[-1:] == ["listen web 1 of 0"])
        assert not it.fleet.live
        it.behave(0, "")
        await it.live()
        await it.until(lambda: it.told(1)[-1:] == ["release 0"])
        await it.until(lambda: it.told(0, it.pid(0)) == first_words(0))


@pytest.mark.usefixtures("quick_lending")
async def test_a_slow_successor_is_stood_in_for(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        it.behave(1, "mute")
        os.kill(it.pid(1), signal.SIGKILL)
        await it.until(lambda: "listen web 1 of 1" in it.told(0, it.pid(0)))
        it.behave(1, "")
        os.kill(it.pid(1), signal.SIGKILL)
        await it.live()
        await it.until(lambda: it.told(0)[-1:] == ["release 1"])


@pytest.mark.usefixtures("quick_lending")
async def test_who_stands_in_is_stood_in_for_too(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, workers=3)
    async with rig(tmp_path, settings) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        for slot in (0, 1):
            it.behave(slot, "mute")
            os.kill(it.pid(slot), signal.SIGKILL)
        expected = {"listen web 1 of 0", "listen web 1 of 1"}
        await it.until(lambda: expected <= set(it.told(2)))
        it.behave(0, "")
        os.kill(it.pid(0), signal.SIGKILL)
        await it.until(lambda: it.told(2)[-1:] == ["release 0"])
        os.kill(it.pid(2), signal.SIGKILL)
        await it.until(lambda: "listen web 1 of 1" in it.told(0, it.pid(0)))


async def test_a_worker_that_hangs_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(fleet_module, "CHECK_SECONDS", 0.1)
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        before = it.pid(1)
        os.kill(before, signal.SIGSTOP)
        await it.until(lambda: it.fleet.live and it.pid(1) != before)
        assert it.fleet.status()[0].restarts == 0


async def test_a_worker_that_does_not_apply_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "APPLY_SECONDS", 0.5)
    monkeypatch.setattr(fleet_module, "CHECK_SECONDS", 0.1)
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        it.behave(0, "deaf")
        os.kill(it.pid(0), signal.SIGKILL)
        await it.until(lambda: it.fleet.status()[0].restarts >= 2)
        it.behave(0, "")
        await it.live()


@pytest.mark.serial
async def test_a_worker_that_never_speaks_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "FIRST_WORD_SECONDS", 0.5)
    monkeypatch.setattr(fleet_module, "CHECK_SECONDS", 0.1)
    async with rig(tmp_path) as it:
        it.behave(0, "mute")
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.until(lambda: any(each.restarts for each in it.fleet.status()))
        it.behave(0, "")
        # Those that do speak may take their time.
        monkeypatch.setattr(worker_process, "FIRST_WORD_SECONDS", 30.0)
        await it.live()


async def test_the_supervisors_own_absence_is_not_held_against_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(fleet_module, "CHECK_SECONDS", 0.1)
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        # The whole event loop stands still, as it may while a huge configuration is compared.
        os.system("sleep 0.8")
        await asyncio.sleep(0.3)
        assert [each.restarts for each in it.fleet.status()] == [0, 0]


async def test_a_digest_that_differs_brings_the_whole_generation(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.behave(0, "wrong-digest")
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        it.fleet.serve(generation(2, "a", "b", before=FIRST))
        await it.live()
        assert it.told(0)[-2:] == ["apply 1->2 b", "apply -1->2 a,b"]
        assert it.told(1)[-1] == "apply 1->2 b"


async def test_a_worker_that_refuses_everything_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "CHECK_SECONDS", 0.1)
    async with rig(tmp_path) as it:
        it.behave(0, "refuse")
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.until(lambda: any(each.restarts for each in it.fleet.status()))
        it.behave(0, "")
        await it.live()


async def test_a_disk_that_takes_no_records_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with rig(tmp_path) as it:
        (tmp_path / "workers").rmdir()
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        assert "worker is not recorded" in caplog.text
        before = it.pid(0)
        os.kill(before, signal.SIGKILL)
        await it.until(lambda: it.fleet.live and it.pid(0) != before)


async def test_stop_tells_every_worker_and_waits(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        pids = [each.pid for each in it.fleet.status()]
        async with asyncio.timeout(5):
            await it.fleet.stop(1.5, 2.5)
        assert it.told(0)[-1] == it.told(1)[-1] == "stop 1.5 2.5"
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert list((tmp_path / "workers").iterdir()) == []


async def test_a_worker_that_does_not_serve_yet_is_not_waited_for(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.behave(0, "mute")
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.until(lambda: any(each.ready for each in it.fleet.status()))
        async with asyncio.timeout(5):
            await it.fleet.stop(0, 30)
        assert it.told(1)[-1] == "stop 0 30"


async def test_a_worker_that_does_not_stop_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_module, "STOP_MARGIN_SECONDS", 0.3)
    async with rig(tmp_path) as it:
        it.behave(0, "linger")
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        pid = it.pid(0)
        async with asyncio.timeout(5):
            await it.fleet.stop(0, 0.1)
        assert not Path(f"/proc/{pid}").exists()


async def test_stop_does_not_wait_for_a_slot_in_a_crash_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kvproxy.control.workers.crash_loop.FREE_DEATHS", 0)
    monkeypatch.setattr("kvproxy.control.workers.crash_loop.FIRST_DELAY_SECONDS", 30.0)
    settings = msgspec.structs.replace(SETTINGS, workers=1)
    async with rig(tmp_path, settings) as it:
        it.behave(0, "die")
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.until(lambda: "worker died" in caplog.text)
        assert it.pid(0) == 0
        async with asyncio.timeout(2):
            await it.fleet.stop(0, 10)


async def test_workers_keep_no_descriptors_of_the_supervisor(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        ours = [each for slots in it.sockets.values() for held in slots for each in held]
        listening = {f"socket:[{os.fstat(each.fileno()).st_ino}]" for each in ours}
        assert len(listening) == 2
        for slot in (0, 1):
            await it.until(lambda slot=slot: it.told(slot) == first_words(slot))  # type: ignore[misc]
            held = Path(f"/proc/{it.pid(slot)}/fd").iterdir()
            links = [str(each.readlink()) for each in held]
            assert len(listening.intersection(links)) == 1, "its own slot's and no other"


async def test_a_worker_program_that_cannot_start_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    async with rig(tmp_path, command=str(program)) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await asyncio.sleep(0)
        assert not it.fleet.live
        temporary = tmp_path / "program.new"
        temporary.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        temporary.chmod(0o755)
        temporary.rename(program)
        await it.live()


def test_slots() -> None:
    assert slot_count(3) == 3
    assert slot_count(0) == len(os.sched_getaffinity(0))
