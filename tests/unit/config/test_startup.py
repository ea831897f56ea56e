"""Which settings a proxy starts with, on a real embedded store."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kvproxy.config.last_keys import keep
from kvproxy.config.settings import LocalSources, SettingsError
from kvproxy.config.startup import Start, again, examine, prepare
from kvproxy.config.static_keys import StaticKeys
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore


class World:
    """A store in a file, a state directory and arguments."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "store.db"
        self.sources = LocalSources(
            [f"--embedded.path={self.path}", "--workers=3", "--entryPoints=Name:http Address::81"],
            {},
        )

    async def put(self, **values: str | bytes) -> None:
        store = EmbeddedStore(self.path)
        put = {
            f"kvproxy/{key.replace('__', '/')}": value.encode() if isinstance(value, str) else value
            for key, value in values.items()
        }
        await store.write(Transaction(put=put, delete_prefixes=("kvproxy",)))
        await store.close()

    async def start(self) -> Start:
        return await prepare(self.sources, self.sources.stores(), self.directory)

    def remember(self, **values: str) -> None:
        (place,) = self.sources.stores()
        held = {key.replace("__", "/"): value.encode() for key, value in values.items()}
        keep(self.directory, StaticKeys(place, 1, held))

    def damage(self) -> None:
        self.path.write_bytes(b"no database" * 100)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_without_a_store_file_and_arguments_count(tmp_path: Path) -> None:
    sources = LocalSources(["--workers=3"], {})
    start = await prepare(sources, sources.stores(), tmp_path)
    assert (start.origin, start.place, start.keys) == ("no store", None, None)
    assert start.settings.static.workers == 3


async def test_the_store_is_above_the_arguments(world: World) -> None:
    await world.put(workers="5", loglevel="DEBUG")
    start = await world.start()
    assert (start.origin, start.complaints, start.unanswered) == ("store", (), False)
    static = start.settings.static
    assert (static.workers, static.log_level) == (5, "DEBUG")
    assert start.settings.sources["workers"] == "store"
    assert start.keys is not None
    assert start.keys.values == {"workers": b"5", "loglevel": b"DEBUG"}


async def test_a_store_that_holds_nothing_says_nothing(world: World) -> None:
    start = await world.start()
    assert (start.origin, start.complaints) == ("store", ())
    assert start.settings.static.workers == 3


async def test_a_store_that_does_not_answer_leaves_the_arguments(world: World) -> None:
    world.damage()
    began = time.monotonic()
    start = await prepare(world.sources, world.sources.stores(), world.directory, patience=0.3)
    assert 0.2 < time.monotonic() - began < 3.0
    assert (start.origin, start.unanswered) == ("nothing", True)
    assert start.settings.static.workers == 3
    first, second = map(str, start.complaints)
    assert "not an embedded store" in first
    assert "started without the static settings of the store" in second


@pytest.mark.serial
async def test_a_store_that_does_not_answer_is_taken_as_it_was(world: World) -> None:
    world.remember(workers="7")
    world.damage()
    began = time.monotonic()
    start = await world.start()
    assert time.monotonic() - began < 3.0
    assert (start.origin, start.unanswered) == ("last", True)
    assert start.settings.static.workers == 7
    assert "STALE" in str(start.complaints[-1])


async def test_an_emptied_store_is_taken_for_a_loss(world: World) -> None:
    world.remember(workers="7")
    await world.put()
    start = await world.start()
    assert (start.origin, start.unanswered) == ("last", False)
    assert start.settings.static.workers == 7
    assert "the store is empty" in str(start.complaints[0])


async def test_static_keys_that_were_deleted_are_deleted(world: World) -> None:
    world.remember(workers="7")
    await world.put(frontends__web__backend="web")
    start = await world.start()
    assert start.origin == "store"
    assert start.settings.static.workers == 3


async def test_keys_that_cannot_be_used_leave_the_last_ones(world: World) -> None:
    world.remember(workers="7")
    await world.put(workers="two")
    start = await world.start()
    assert (start.origin, start.unanswered) == ("last", False)
    assert start.settings.static.workers == 7
    assert str(start.complaints[0]).startswith("kvproxy/workers: workers: `two` is not")
    assert start.complaints[0].fatal


async def test_keys_that_cannot_be_used_are_an_error_when_nothing_else_is_known(
    world: World,
) -> None:
    await world.put(workers="two", loglevel=b"\xff")
    with pytest.raises(SettingsError) as raised:
        await world.start()
    found = [str(problem) for problem in raised.value.problems if problem.fatal]
    assert [text.partition(":")[0] for text in found] == ["kvproxy/loglevel", "kvproxy/workers"]


async def test_the_store_does_not_move_itself(world: World) -> None:
    await world.put(embedded__path="/elsewhere.db", embedded__prefix="x", embedded__watch="false")
    start = await world.start()
    assert start.settings.static.embedded is not None
    assert start.settings.static.embedded.path == str(world.path)
    assert start.settings.static.embedded.prefix == "kvproxy"
    assert start.settings.static.embedded.watch is False
    assert [problem.path for problem in start.settings.problems] == [
        "embedded.path",
        "embedded.prefix",
    ]
    assert not any(problem.fatal for problem in start.settings.problems)


async def test_a_store_that_says_where_it_is_as_well_is_no_reason_for_a_word(
    world: World,
) -> None:
    await world.put(embedded__path=str(world.path), embedded__prefix="kvproxy")
    assert (await world.start()).settings.problems == ()


@pytest.mark.parametrize("name", ["statedir", "StateDir", "configfile"])
async def test_what_belongs_to_the_machine_is_not_read(world: World, name: str) -> None:
    await world.put(**{name: "/elsewhere"})
    start = await world.start()
    assert (start.settings.static.state_dir, start.settings.static.config_file) == ("", "")
    (problem,) = start.settings.problems
    assert str(problem) == (
        f"kvproxy/{name}: {name}: belongs to the machine: it is not read from a store"
    )


async def test_the_first_store_decides(tmp_path: Path) -> None:
    sources = LocalSources(
        [f"--embedded.path={tmp_path / 'store.db'}", "--etcd", "--consul.endpoint=c:1"], {}
    )
    places = sources.stores()
    assert [place.store for place in places] == ["consul", "etcd", "embedded"]
    assert [place.address for place in places] == [
        "c:1",
        "127.0.0.1:2379",
        str(tmp_path / "store.db"),
    ]


async def test_examining_reads_what_the_store_says_now(world: World) -> None:
    world.remember(workers="7")
    await world.put(workers="5")
    places = world.sources.stores()
    assert (await examine(world.sources, places)).static.workers == 5
    await world.put(workers="two")
    with pytest.raises(SettingsError):
        await examine(world.sources, places)


async def test_examining_a_store_that_does_not_answer_is_a_warning(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvproxy.config.startup.PATIENCE_SECONDS", 0.1)
    world.damage()
    settings = await examine(world.sources, world.sources.stores())
    assert settings.static.workers == 3
    assert "not an embedded store" in str(settings.problems[0])
    assert not settings.problems[0].fatal


async def test_settings_that_are_read_again_take_nothing_for_the_store(world: World) -> None:
    await world.put(entrypoints__extra__address=":82")
    (place,) = world.sources.stores()
    first = await again(world.sources, (place,), None)
    assert set(first.settings.static.entry_points) == {"http", "extra"}
    await world.put()
    with pytest.raises(SettingsError, match="the store is empty, which is taken for a loss"):
        await again(world.sources, (place,), first.keys)
    world.damage()
    with pytest.raises(SettingsError):
        await again(world.sources, (place,), first.keys)
    assert (await again(world.sources, (), None)).origin == "no store"
