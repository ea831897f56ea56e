"""Announcing on a real embedded store; what is served is said by the test."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from kvproxy.control.nodes.announcement import Announcement, decode_all
from kvproxy.control.nodes.announcer import Announcer, Rhythm, Served
from kvproxy.provider import ReadOnly, StoreError
from providers.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

DEADLINE = 10.0
KEY = "kvproxy-nodes/one"


class CountingStore(EmbeddedStore):
    """An embedded store that counts what is announced, and fails when it is told to."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.times: list[float] = []
        self.error: Exception | None = None
        self.hangs = False

    async def announce(self, key: str, value: bytes) -> None:
        self.times.append(time.monotonic())
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        await super().announce(key, value)


class Node:
    """An announcer, its store, and a second client that sees what others see."""

    def __init__(self, path: Path, patience: float) -> None:
        self.served: Served | None = None
        self.store = CountingStore(path)
        self.observer = EmbeddedStore(path)
        self._changed = asyncio.Event()
        self.announcer = Announcer(
            "embedded",
            "kvproxy",
            "one",
            lambda: self.store,
            lambda: self.served,
            self._wait,
            Rhythm(patience=patience, first_pause=0.02, longest_pause=0.1),
        )

    async def _wait(self) -> None:
        await self._changed.wait()

    def serve(self, revision: int) -> None:
        self.served = Served(revision, 7, revision, "d", 0)
        self._changed.set()
        self._changed = asyncio.Event()

    async def seen(self) -> Announcement | None:
        found, _ = decode_all((await self.observer.read("kvproxy-nodes")).values)
        return found.get(KEY)

    async def until(self, check: Callable[[Announcement | None], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not check(await self.seen()):
                await asyncio.sleep(0.002)

    async def until_revision(self, revision: int) -> None:
        await self.until(lambda found: found is not None and found.revision == revision)


@pytest.fixture
def patience() -> float:
    """Seconds that a write may take: on a busy machine no write may be given up and repeated."""
    return 60.0


@pytest.fixture
async def node(tmp_path: Path, patience: float) -> AsyncIterator[Node]:
    made = Node(tmp_path / "store.db", patience)
    made.announcer.start()
    yield made
    await made.announcer.close()
    await made.observer.close()


async def test_it_announces_what_is_served_and_takes_it_back(node: Node) -> None:
    assert await node.seen() is None
    node.serve(3)
    await node.until_revision(3)
    found = await node.seen()
    assert found is not None
    expected = {"node": "one", "keys": 7, "generation": 3, "digest": "d", "problems": 0}
    assert expected.items() <= msgspec.structs.asdict(found).items()
    assert abs(time.time() - found.since) < DEADLINE
    await node.announcer.close()
    await node.until(lambda found: found is None)


@pytest.mark.serial
async def test_a_single_change_is_announced_at_once(node: Node) -> None:
    """The fastest of some: other work on the machine must not decide."""
    node.serve(1)
    await node.until_revision(1)
    delays = []
    for revision in range(2, 8):
        await asyncio.sleep(Rhythm().busy)
        began = time.monotonic()
        node.serve(revision)
        await node.until_revision(revision)
        delays.append(node.store.times[-1] - began)
    assert min(delays) < Rhythm().quiet, delays


@pytest.mark.serial
async def test_a_fast_stream_costs_few_writes_and_its_end_is_not_late(node: Node) -> None:
    ends = []
    for stream in range(3):
        for number in range(1, 101):
            node.serve(stream * 100 + number)
            await asyncio.sleep(0.01)
        ended = time.monotonic()
        await node.until_revision(stream * 100 + 100)
        ends.append(node.store.times[-1] - ended)
    # About a second each; on a busy machine longer, which makes as many more writes right.
    took = time.monotonic() - node.store.times[0]
    assert len(node.store.times) <= took / Rhythm().busy + 3 * 3
    assert min(ends) < 2 * Rhythm().quiet, ends


async def test_what_is_served_already_is_not_written_again(node: Node) -> None:
    node.serve(1)
    await node.until_revision(1)
    for _ in range(3):
        node.serve(1)
        await asyncio.sleep(0)
    node.serve(2)
    await node.until_revision(2)
    assert len(node.store.times) == 2


@pytest.mark.parametrize(
    ("failure", "patience"),
    [("error", 60.0), ("defect", 60.0), ("no-answer", 0.2)],
    ids=["error", "defect", "no-answer"],
)
async def test_a_store_that_does_not_take_it_is_tried_again(
    node: Node, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node.store.hangs = failure == "no-answer"
    if failure != "no-answer":
        node.store.error = StoreError("no right") if failure == "error" else RuntimeError("broken")
    node.serve(1)
    async with asyncio.timeout(DEADLINE):
        while len(node.store.times) < 4:
            await asyncio.sleep(0.005)
    node.serve(2)
    node.store.error, node.store.hangs = None, False
    await node.until_revision(2)
    async with asyncio.timeout(DEADLINE):
        while "announced again" not in caplog.text:
            await asyncio.sleep(0.005)
    assert caplog.text.count("cannot announce what it serves") == 1


async def test_a_read_only_store_is_asked_once(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    node.store.error = ReadOnly("a file of somebody else")
    node.serve(1)
    async with asyncio.timeout(DEADLINE):
        while "read-only" not in caplog.text:
            await asyncio.sleep(0.005)
    node.serve(2)
    await asyncio.sleep(0.1)
    assert len(node.store.times) == 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.serial
async def test_closing_does_not_wait_for_a_store_that_hangs(node: Node) -> None:
    node.store.hangs = True
    node.serve(1)
    async with asyncio.timeout(DEADLINE):
        while not node.store.times:
            await asyncio.sleep(0.005)
    began = time.monotonic()
    await node.announcer.close()
    assert time.monotonic() - began < 1.0
