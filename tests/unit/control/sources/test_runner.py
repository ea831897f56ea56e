from __future__ import annotations

import asyncio
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from kvproxy.config import plugins
from kvproxy.config.plugins import PluginError
from kvproxy.control.sources import runner as sources
from kvproxy.control.sources.runner import Opener, SourceRunner, configured
from kvproxy.control.sources.store_source import StoreSource
from kvproxy.model.dynamic import Configuration
from kvproxy.model.static import EmbeddedProvider, StaticConfiguration
from kvproxy.provider import Failure, Plugin, Snapshot, StoreError
from providers.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SETTINGS = StaticConfiguration(embedded=EmbeddedProvider(path="/nowhere/at/all.db"))


def snapshot(revision: str) -> Snapshot:
    return Snapshot(
        provider="test", revision=revision, configuration=Configuration(), read_at=time.time()
    )


class Scripted:
    """A source that says what it is given; an exception is raised, the end of the list ends it."""

    name = "test"

    def __init__(self, events: list[Snapshot | Failure | Exception], *, last: bool = True) -> None:
        self.events = events
        self.last = last
        self.closed = False

    async def snapshots(self) -> AsyncIterator[Snapshot | Failure]:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event
        if self.last:
            await asyncio.Event().wait()

    async def close(self) -> None:
        self.closed = True


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(5):
        while not check():
            await asyncio.sleep(0.002)


def runner(*opened: Scripted) -> tuple[SourceRunner, list[Snapshot | Failure]]:
    """A runner whose source is the next of ``opened`` each time, and what it was told."""
    waiting = list(opened)
    heard: list[Snapshot | Failure] = []
    return SourceRunner(Opener("test", lambda: waiting.pop(0)), heard.append), heard


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "FIRST_PAUSE_SECONDS", 0.01)


async def test_what_a_source_says_arrives_in_order() -> None:
    source = Scripted([snapshot("1"), snapshot("2")])
    running, heard = runner(source)
    running.start()
    await until(lambda: len(heard) == 2)
    assert [event.revision for event in heard if isinstance(event, Snapshot)] == ["1", "2"]
    await running.stop()
    assert source.closed


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        pytest.param(Scripted([snapshot("1")], last=False), "it ended", id="ends"),
        pytest.param(Scripted([ValueError("a defect")]), "ValueError: a defect", id="raises"),
        pytest.param(Scripted([StoreError("no such file")]), "test: no such file", id="store"),
    ],
)
async def test_a_source_that_stops_is_opened_again(first: Scripted, reason: str) -> None:
    running, heard = runner(first, Scripted([snapshot("2")]))
    running.start()
    await until(lambda: isinstance(heard[-1:][0] if heard else None, Snapshot) and len(heard) > 1)
    failure, after = heard[-2:]
    assert isinstance(failure, Failure)
    assert reason in str(failure.problems[0])
    assert isinstance(after, Snapshot)
    assert after.revision == "2"
    assert first.closed
    await running.stop()


@pytest.mark.parametrize(
    ("error", "traced"),
    [(OSError("not yet"), True), (StoreError("wrong `test.option`"), False)],
    ids=["defect", "setting"],
)
async def test_a_source_that_cannot_be_opened_is_tried_again(
    error: Exception, traced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """What a setting causes is a problem like any other, without a trace of the program."""
    tries = []

    def fail_twice() -> Scripted:
        tries.append(1)
        if len(tries) < 3:
            raise error
        return Scripted([snapshot("1")])

    heard: list[Snapshot | Failure] = []
    running = SourceRunner(Opener("test", fail_twice), heard.append)
    running.start()
    await until(lambda: heard and isinstance(heard[-1], Snapshot))
    assert [type(event) for event in heard] == [Failure, Failure, Snapshot]
    assert isinstance(heard[0], Failure)
    assert str(error) in heard[0].problems[0].message
    assert ("Traceback" in caplog.text) is traced
    await running.stop()


async def test_reading_again_opens_the_source_anew_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sources, "FIRST_PAUSE_SECONDS", 60.0)
    first = Scripted([snapshot("1")])
    running, heard = runner(first, Scripted([snapshot("1")]))
    running.start()
    await until(lambda: len(heard) == 1)
    running.read_again()
    await until(lambda: len(heard) == 2)
    assert all(isinstance(event, Snapshot) for event in heard)
    assert first.closed
    await running.stop()


async def test_a_snapshot_that_breaks_its_consumer_does_not_end_the_source() -> None:
    heard: list[str] = []

    def consume(event: Snapshot | Failure) -> None:
        assert isinstance(event, Snapshot)
        if event.revision == "1":
            raise RuntimeError("of the consumer")
        heard.append(event.revision)

    running = SourceRunner(
        Opener("test", lambda: Scripted([snapshot("1"), snapshot("2")])), consume
    )
    running.start()
    await until(lambda: heard == ["2"])
    await running.stop()


async def test_stopping_ends_a_source_that_waits_between_tries() -> None:
    running, heard = runner(Scripted([ValueError("x")]))
    running.start()
    await until(lambda: heard)
    async with asyncio.timeout(2):
        await running.stop()


# --- plugins


def entry_point(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    found = metadata.EntryPoints([metadata.EntryPoint(name, value, plugins.GROUP)])
    monkeypatch.setattr(plugins, "entry_points", found.select)


def test_only_configured_providers_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point(monkeypatch, "etcd", "no.such.module:plugin")
    assert configured(SETTINGS) == []


def test_a_store_becomes_a_source(tmp_path: Path) -> None:
    embedded = EmbeddedProvider(path=str(tmp_path / "store.db"))
    (opener,) = configured(msgspec.structs.replace(SETTINGS, embedded=embedded))
    assert opener.name == "embedded"
    source = opener.open()
    assert isinstance(source, StoreSource)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no.such.module:plugin", "No module named"),
        ("providers.embedded:no_such_name", "no_such_name"),
        ("providers.embedded:EmbeddedStore", "is no Plugin"),
        (f"{__name__}:EMPTY_PLUGIN", "neither a store nor a source"),
    ],
)
def test_a_plugin_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, reason: str
) -> None:
    entry_point(monkeypatch, "embedded", value)
    with pytest.raises(PluginError, match=reason) as raised:
        configured(SETTINGS)
    assert "`embedded`" in str(raised.value)


EMPTY_PLUGIN = Plugin(name="embedded")
opened_with: list[tuple[Any, Any]] = []


def open_scripted(section: Any, settings: Any) -> Scripted:
    opened_with.append((section, settings))
    return Scripted([])


SOURCE_PLUGIN = Plugin(name="embedded", open_source=open_scripted)


def test_a_store_for_later_is_loaded_when_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = EmbeddedProvider(path=str(tmp_path / "store.db"), prefix="there")
    settings = msgspec.structs.replace(SETTINGS, embedded=embedded)
    entry_point(monkeypatch, "embedded", "no.such.module:plugin")
    (opener,) = configured(settings, later="embedded")
    assert (opener.name, opener.prefix) == ("embedded", "there")
    assert opener.open_store is not None
    for open_it in (opener.open, opener.open_store):
        with pytest.raises(PluginError, match="No module named"):
            open_it()
    entry_point(monkeypatch, "embedded", f"{__name__}:SOURCE_PLUGIN")
    with pytest.raises(PluginError, match="is no key-value store"):
        opener.open()
    entry_point(monkeypatch, "embedded", "providers.embedded:plugin")
    assert isinstance(opener.open(), StoreSource)
    assert isinstance(opener.open_store(), EmbeddedStore)


def test_a_source_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    entry_point(monkeypatch, "embedded", f"{__name__}:SOURCE_PLUGIN")
    (opener,) = configured(SETTINGS)
    opened_with.clear()
    assert isinstance(opener.open(), Scripted)
    assert opened_with == [(SETTINGS.embedded, SETTINGS)]


def test_the_store_of_the_package_is_found() -> None:
    found = {each.name: each.load() for each in metadata.entry_points(group=plugins.GROUP)}
    assert found["embedded"].open_store(EmbeddedProvider(path="/x"), SETTINGS).name == "embedded"
    assert isinstance(
        found["embedded"].open_store(EmbeddedProvider(path="/x"), SETTINGS), EmbeddedStore
    )
