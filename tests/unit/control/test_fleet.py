from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.control import sockets
from kvproxy.control.fleet import Fleet
from kvproxy.control.generation import Changes, Generation
from kvproxy.control.worker_records import WorkerRecords
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
        self.fleet = Fleet(
            settings,
            self.sockets,
            WorkerRecords(directory / "workers"),
            "this-machine",
            (command, str(STAND_IN), str(directory)),
        )

    def behave(self, slot: int, behaviour: str) -> None:
        (self.directory / f"behaviour-{slot}").write_text(behaviour)

    def told(self, slot: int, pid: int | None = None) -> list[str]:
        """What the worker of a slot was told, all of its processes or one of them."""
        path = self.directory / str(slot)
        lines = path.read_text().splitlines() if path.exists() else []
        pairs = [line.split(" ", 1) for line in lines]
        return [text for number, text in pairs if pid is None or int(number) == pid]

    def was_told(self, slot: int, expected: list[str]) -> bool:
        return self.told(slot) == expected

    def pid(self, slot: int) -> int:
        return next(each.pid for each in self.fleet.status() if each.slot == slot)

    async def until(self, check: Callable[[], bool], seconds: float = 8.0) -> None:
        async with asyncio.timeout(seconds):
            while not check():
                await asyncio.sleep(0.01)

    async def live(self) -> None:
        async with asyncio.timeout(8):
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
        sockets.close_all(made.sockets)


async def test_workers_get_routes_before_listeners(tmp_path: Path) -> None:
    async with rig(tmp_path) as it:
        it.fleet.start()
        it.fleet.serve(FIRST)
        await it.live()
        for slot in (0, 1):
            expected = [f"start {slot} this-machine", "apply -1->1 a", "listen web 1"]
            await it.until(partial(it.was_told, slot, expected))
