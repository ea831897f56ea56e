from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest

from kvproxy.control import control_plane
from kvproxy.control.control_plane import ControlPlane
from kvproxy.control.sources.runner import Opener
from kvproxy.model.dynamic import Backend, Configuration, Frontend, Route, Server
from kvproxy.model.problem import Problem
from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.provider import Failure, Snapshot, Unchanged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from kvproxy.control.generations.generation import Generation

SETTINGS = StaticConfiguration(entry_points={"http": EntryPoint(address=":80")})


def snapshot(revision: str, *hosts: str, provider: str = "one") -> Snapshot:
    frontends = {
        host: Frontend(backend="b", routes={"r": Route(rule=f"Host:{host}")}) for host in hosts
    }
    backends = {"b": Backend(servers={"s": Server(url="http://127.0.0.1:1")})} if hosts else {}
    return Snapshot(
        provider=provider,
        revision=revision,
        configuration=Configuration(frontends=frontends, backends=backends),
        read_at=time.time(),
    )


def failure(text: str = "no answer", provider: str = "one") -> Failure:
    return Failure(provider=provider, problems=(Problem(message=text),), failed_at=time.time())


class Controlled:
    """A source that says what the test tells it to."""

    def __init__(self, name: str, *first: Snapshot | Failure) -> None:
        self.name = name
        self.events: asyncio.Queue[Snapshot | Failure] = asyncio.Queue()
        self.opened = 0
        self._first = first

    def open(self) -> Controlled:
        self.opened += 1
        for event in self._first:
            self.events.put_nowait(event)
        return self

    async def snapshots(self) -> AsyncIterator[Snapshot | Failure]:
        while True:
            yield await self.events.get()

    async def close(self) -> None:
        pass


class Rig:
    """A control plane above controlled sources, and what it had served."""

    def __init__(
        self, directory: Path, *named: Controlled, settings: StaticConfiguration = SETTINGS
    ) -> None:
        self.served: list[Generation] = []
        self.heard = 0
        self.plane = ControlPlane(
            settings,
            [Opener(source.name, source.open) for source in named],
            directory,
            self.served.append,
            self._hear,
        )

    def _hear(self) -> None:
        self.heard += 1

    def hosts(self) -> set[str]:
        return {name for _, name in self.served[-1].frontends}

    async def until(self, check: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not check():
                await asyncio.sleep(0.002)


@asynccontextmanager
async def running(
    directory: Path,
    *named: Controlled,
    serving: Generation | None = None,
    settings: StaticConfiguration = SETTINGS,
) -> AsyncIterator[Rig]:
    rig = Rig(directory, *named, settings=settings)
    await rig.plane.start(serving)
    try:
        yield rig
    finally:
        await rig.plane.close()


async def test_the_start_waits_for_the_providers_but_no_longer_than_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_plane, "SILENCE_SECONDS", 60.0)
    began = time.monotonic()
    async with running(tmp_path, Controlled("one", snapshot("1", "a"))) as rig:
        assert time.monotonic() - began < 20.0
        assert [len(each.frontends) for each in rig.served] == [1]


async def test_silence_without_a_journal_serves_nothing_until_somebody_speaks(
    tmp_path: Path,
) -> None:
    source = Controlled("one")
    async with running(tmp_path, source) as rig:
        assert [len(each.frontends) for each in rig.served] == [0]
        source.events.put_nowait(snapshot("1", "a"))
        await rig.until(lambda: len(rig.served) == 2)
        assert rig.hosts() == {"a"}


@pytest.mark.serial
@pytest.mark.parametrize("first", [(), (failure(),)], ids=["silent", "failing"])
async def test_the_last_known_good_is_served_and_marked_stale(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, first: tuple[Failure, ...]
) -> None:
    async with running(tmp_path, Controlled("one", snapshot("7", "a", "b"))) as before:
        good = before.served[-1]
    source = Controlled("one", *first)
    began = time.monotonic()
    async with running(tmp_path, source) as rig:
        assert time.monotonic() - began < 5.0
        assert (rig.served[-1].digest, rig.served[-1].number) == (good.digest, good.number)
        assert "STALE" in caplog.text
        assert rig.plane.pipeline is not None
        assert rig.plane.pipeline.providers()[0].stale
        source.events.put_nowait(snapshot("8", "a", "b", "c"))
        await rig.until(lambda: len(rig.served) == 2)
        assert rig.hosts() == {"a", "b", "c"}
        assert rig.served[-1].number == good.number + 1
        assert not rig.plane.pipeline.providers()[0].stale


async def test_a_provider_that_answers_is_not_called_stale(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, Controlled("one", snapshot("7", "a"))):
        pass
    caplog.clear()
    caplog.set_level(logging.INFO)
    async with running(tmp_path, Controlled("one", snapshot("7", "a"))) as rig:
        assert len(rig.served) == 1
    assert "STALE" not in caplog.text
    assert "problem" not in caplog.text


async def test_one_silent_provider_does_not_keep_the_other_waiting(tmp_path: Path) -> None:
    both = (snapshot("1", "a"), snapshot("1", "z", provider="two"))
    async with running(tmp_path, Controlled("one", both[0]), Controlled("two", both[1])) as rig:
        assert rig.hosts() == {"a", "z"}
    silent = Controlled("two")
    async with running(tmp_path, Controlled("one", snapshot("2", "b")), silent) as rig:
        assert rig.hosts() == {"b", "z"}


async def test_who_was_asked_in_vain_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, Controlled("one", snapshot("7", "a"))):
        pass
    monkeypatch.setattr(control_plane, "SILENCE_SECONDS", 60.0)
    rig = Rig(tmp_path, Controlled("one"), Controlled("two", snapshot("1", "b", provider="two")))
    async with asyncio.timeout(20):
        await rig.plane.start(mute="one")
    assert [{name for _, name in each.frontends} for each in rig.served] == [{"a", "b"}]
    await rig.plane.close()


async def test_who_was_asked_in_vain_is_asked_again_when_it_is_time(tmp_path: Path) -> None:
    async with running(tmp_path, Controlled("one", snapshot("7", "a"))):
        pass
    rig = Rig(tmp_path, Controlled("one", snapshot("8", "b")), Controlled("two"))
    await rig.plane.start(mute="one")
    assert rig.hosts() == {"a"}
    rig.plane.start_mute()
    rig.plane.start_mute()
    await rig.until(lambda: rig.hosts() == {"b"})
    await rig.plane.close()


async def test_what_a_predecessor_served_is_not_replaced_by_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "old", Controlled("one", snapshot("1", "a"))) as old:
        handed_over = old.served[-1]
    silent = Controlled("one")
    async with running(tmp_path / "new", silent, serving=handed_over) as rig:
        assert rig.served == []
        silent.events.put_nowait(snapshot("1", "a"))
        await rig.until(lambda: rig.served)
        assert rig.served[-1].digest == handed_over.digest


async def test_frozen_means_nothing_is_applied_and_thawed_the_newest_is(tmp_path: Path) -> None:
    source = Controlled("one", snapshot("1", "a"))
    async with running(tmp_path, source) as rig:
        rig.plane.freeze()
        source.events.put_nowait(snapshot("2", "b"))
        source.events.put_nowait(snapshot("3", "c"))
        await rig.until(source.events.empty)
        await asyncio.sleep(0)
        assert len(rig.served) == 1
        rig.plane.thaw()
        assert rig.hosts() == {"c"}
        assert len(rig.served) == 2
        source.events.put_nowait(snapshot("4", "d"))
        await rig.until(lambda: len(rig.served) == 3)


async def test_frozen_loses_no_snapshot_to_what_comes_after_it(tmp_path: Path) -> None:
    source = Controlled("one", snapshot("1", "a"))
    async with running(tmp_path, source) as rig:
        rig.plane.freeze()
        source.events.put_nowait(snapshot("2", "b"))
        source.events.put_nowait(Unchanged(provider="one", revision="3", read_at=1.0))
        source.events.put_nowait(Failure(provider="one", problems=(), failed_at=2.0))
        await rig.until(source.events.empty)
        await asyncio.sleep(0)
        rig.plane.thaw()
        assert rig.hosts() == {"b"}


async def test_a_mass_deletion_is_read_again_or_confirmed(tmp_path: Path) -> None:
    hosts = [f"h{number}" for number in range(20)]
    source = Controlled("one", snapshot("1", *hosts))
    async with running(tmp_path, source) as rig:
        source.events.put_nowait(snapshot("2", "h0"))
        await rig.until(source.events.empty)
        await asyncio.sleep(0)
        assert len(rig.served) == 1
        assert rig.plane.confirm("nobody") is False
        assert rig.plane.confirm("one") is True
        assert rig.hosts() == {"h0"}
        assert rig.plane.confirm("one") is False


async def test_a_second_read_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvproxy.control.pipeline.guard.CONFIRM_SECONDS", 0.05)
    source = Controlled("one", snapshot("1", *(f"h{number}" for number in range(20))))
    async with running(tmp_path, source) as rig:
        source._first = (snapshot("2", "h0"),)
        source.events.put_nowait(snapshot("2", "h0"))
        await rig.until(lambda: rig.hosts() == {"h0"})
        assert source.opened == 2


async def test_the_throttle_is_woken(tmp_path: Path) -> None:
    settings = msgspec.structs.replace(SETTINGS, providers_throttle_duration=0.1)
    source = Controlled("one", snapshot("1", "a"))
    async with running(tmp_path, source, settings=settings) as rig:
        for number in range(2, 6):
            source.events.put_nowait(snapshot(str(number), f"h{number}"))
        await rig.until(lambda: rig.hosts() == {"h5"})
        assert len(rig.served) < 5


async def test_problems_are_logged_once_and_when_they_are_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = Controlled("one", snapshot("1", "a"))
    async with running(tmp_path, source) as rig:
        for event in (failure("gone"), failure("gone"), snapshot("2", "a")):
            heard = rig.heard
            source.events.put_nowait(event)
            await rig.until(lambda heard=heard: rig.heard > heard)  # type: ignore[misc]
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if line.startswith("problem")] == [
        "problem provider=one problem=gone"
    ]
    assert [line for line in lines if line.startswith("resolved")] == [
        "resolved provider=one problem=gone"
    ]


async def test_a_generation_is_logged_with_what_changed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = Controlled("one", snapshot("1", "a", "b"))
    async with running(tmp_path, source) as rig:
        source.events.put_nowait(snapshot("2", "b", "c", "d"))
        await rig.until(lambda: len(rig.served) == 2)
        generation = rig.served[-1]
    expected = (
        f"new generation number={generation.number} digest={generation.digest[:12]} "
        "revisions=one:2 frontends=+2~0-1 backends=+0~0-0 "
        "certificates=+0~0-0"
    )
    assert expected in [record.getMessage() for record in caplog.records]


async def test_the_journal_is_complete_when_the_plane_is_closed(tmp_path: Path) -> None:
    source = Controlled("one", snapshot("1", "a"))
    async with running(tmp_path, source) as rig:
        for number in range(2, 30):
            source.events.put_nowait(snapshot(str(number), f"h{number}"))
        await rig.until(lambda: rig.hosts() == {"h29"})
        last = rig.served[-1]
    async with running(tmp_path, Controlled("one")) as rig:
        assert (rig.served[-1].number, rig.served[-1].digest) == (last.number, last.digest)


async def test_no_providers(tmp_path: Path) -> None:
    began = time.monotonic()
    async with running(tmp_path) as rig:
        assert time.monotonic() - began < control_plane.SILENCE_SECONDS
        assert [len(each.frontends) for each in rig.served] == [0]
