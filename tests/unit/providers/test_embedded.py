"""The embedded store's file: made, shared, damaged, locked, deleted. Behaviour: tests/stores."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

import pytest

from kvproxy.model.static import EmbeddedProvider, StaticConfiguration
from kvproxy.provider import StoreError, Transaction
from providers import embedded_database, inotify
from providers.embedded import EmbeddedStore, plugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

DEADLINE = 10.0


@pytest.fixture
async def open_store(tmp_path: Path) -> AsyncIterator[Callable[[], EmbeddedStore]]:
    stores: list[EmbeddedStore] = []

    def make() -> EmbeddedStore:
        stores.append(EmbeddedStore(tmp_path / "store.db"))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


async def test_a_missing_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "store.db"
    store = EmbeddedStore(path)
    assert (await store.read("")).values == {}
    await store.write(Transaction(put={"a": b"1"}))
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await store.close()


def _write_once(path: str, key: str) -> int:
    async def run() -> int:
        store = EmbeddedStore(path)
        version = await store.write(Transaction(put={key: b"1"}))
        await store.close()
        return version

    return asyncio.run(run())


async def test_many_processes_make_the_file_at_the_same_time(tmp_path: Path) -> None:
    path = str(tmp_path / "store.db")
    with ProcessPoolExecutor(6, mp_context=get_context("spawn")) as pool:
        versions = list(pool.map(_write_once, [path] * 12, [f"k{n}" for n in range(12)]))
    assert sorted(versions) == list(range(1, 13))
    store = EmbeddedStore(path)
    assert len((await store.read("")).values) == 12
    await store.close()


def make_text(path: Path) -> None:
    path.write_text("this is a text file, longer than the header of a database" * 10)


def make_cut(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.executemany("INSERT INTO t VALUES (?)", [("x" * 500,) for _ in range(100)])
    connection.close()
    path.write_bytes(path.read_bytes()[:5000])


def make_other(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()


def make_other_with_version(path: Path) -> None:
    make_other(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def make_newer(path: Path) -> None:
    asyncio.run(_make_store(path))
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


def make_directory(path: Path) -> None:
    path.mkdir()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


async def _make_store(path: Path) -> None:
    store = EmbeddedStore(path)
    await store.write(Transaction(put={"a": b"1"}))
    await store.close()


BAD_FILES = {
    "text": (make_text, "not an embedded store"),
    "cut": (make_cut, "damaged"),
    "other-program": (make_other, "another program's database"),
    "other-program-with-version": (make_other_with_version, "another program's database"),
    "newer-format": (make_newer, "format 99 is newer"),
    "directory": (make_directory, "not a regular file"),
    "pipe": (make_pipe, "not a regular file"),
}


@pytest.mark.parametrize(("make", "message"), BAD_FILES.values(), ids=BAD_FILES)
async def test_a_bad_file_is_named_and_not_touched(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "store.db"
    await asyncio.to_thread(make, path)
    before = path.read_bytes() if path.is_file() else b""
    store = EmbeddedStore(path)
    for action in (
        store.read(""),
        store.probe(),
        store.write(Transaction(put={"a": b"2"})),
        anext(store.watch("", 0)),
    ):
        with pytest.raises(StoreError, match=message) as caught:
            await action
        assert str(path) in str(caught.value)
    assert (path.read_bytes() if path.is_file() else b"") == before
    # When a good file takes its place, the same store object uses it.
    good = tmp_path / "good.db"
    await _make_store(good)
    if path.is_dir():
        path.rmdir()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    good.rename(path)
    assert (await store.read("")).values == {"a": b"1"}
    await store.close()


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = EmbeddedStore(tmp_path / "file" / "store.db")
    with pytest.raises(StoreError, match=r"file/store\.db`: Not a directory"):
        await store.read("")
    await store.close()


async def test_damage_in_the_middle_of_the_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = EmbeddedStore(path)
    await store.write(Transaction(put={f"k{n}": bytes(200) for n in range(2000)}))
    await store.close()
    content = bytearray(path.read_bytes())
    content[8192:-4096] = os.urandom(len(content) - 8192 - 4096)
    path.write_bytes(content)
    store = EmbeddedStore(path)
    with pytest.raises(StoreError, match=r"store\.db`: damaged"):
        await store.read("")
    await store.close()


@pytest.mark.serial
async def test_a_write_waits_for_its_turn_and_delays_nothing_else(
    tmp_path: Path, open_store: Callable[[], EmbeddedStore]
) -> None:
    store = open_store()
    await store.write(Transaction(put={"a": b"1"}))
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.ensure_future(store.write(Transaction(put={"a": b"2"})))
    began = time.monotonic()
    for _ in range(20):
        assert (await store.read("")).values == {"a": b"1"}
        assert await store.probe() == 1
    assert time.monotonic() - began < 1.0
    assert not writing.done()
    other.execute("ROLLBACK")
    assert await writing == 2
    other.close()


async def test_a_lock_that_is_never_released_is_an_error(
    tmp_path: Path, open_store: Callable[[], EmbeddedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_database, "BUSY_SECONDS", 0.2)
    store = open_store()
    await store.write(Transaction(put={"a": b"1"}))
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"store\.db`: locked by another process"):
        await store.write(Transaction(put={"a": b"2"}))
    other.execute("ROLLBACK")
    other.close()
    assert await store.write(Transaction(put={"a": b"3"})) == 2


async def test_a_deleted_file_is_an_error_for_readers_until_somebody_writes(
    tmp_path: Path, open_store: Callable[[], EmbeddedStore]
) -> None:
    """An empty store in its place would look as if all routes had been deleted."""
    store = open_store()
    await store.write(Transaction(put={"a": b"1"}))
    tree = await store.read("")
    watching = asyncio.ensure_future(anext(store.watch("", tree.version)))
    done, _ = await asyncio.wait({watching}, timeout=0.05)
    assert not done
    for file in tmp_path.iterdir():
        file.unlink()
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(StoreError, match="has been deleted"):
            await watching
    for _ in range(2):
        with pytest.raises(StoreError, match="has been deleted"):
            await store.read("")
    assert list(tmp_path.iterdir()) == []
    assert await open_store().write(Transaction(put={"b": b"2"})) == 1
    assert (await store.read("")).values == {"b": b"2"}


async def test_a_watch_hears_of_a_write_within_milliseconds(
    open_store: Callable[[], EmbeddedStore],
) -> None:
    store, writer = open_store(), open_store()
    watch = store.watch("", await store.probe())
    delays = []
    for number in range(30):
        news = asyncio.ensure_future(anext(watch))
        await asyncio.wait({news}, timeout=0.005)
        await writer.write(Transaction(put={"a": b"%d" % number}))
        began = time.monotonic()
        async with asyncio.timeout(DEADLINE):
            assert (await news).values == {"a": b"%d" % number}
        delays.append(time.monotonic() - began)
    # Looking at intervals alone would take a quarter of a second on average.
    assert sorted(delays)[len(delays) // 2] < 0.05


async def test_a_quiet_watch_costs_next_to_nothing(
    open_store: Callable[[], EmbeddedStore],
) -> None:
    store = open_store()
    news = asyncio.ensure_future(anext(store.watch("", await store.probe())))
    await asyncio.wait({news}, timeout=0.3)
    began = time.process_time()
    await asyncio.wait({news}, timeout=2.0)
    assert time.process_time() - began < 2.0 * 0.02
    news.cancel()
    await asyncio.gather(news, return_exceptions=True)


async def test_a_watch_works_without_inotify(
    open_store: Callable[[], EmbeddedStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError("no more instances")

    monkeypatch.setattr(inotify, "Inotify", refuse)
    store = open_store()
    news = asyncio.ensure_future(anext(store.watch("", await store.probe())))
    await asyncio.wait({news}, timeout=0.05)
    await open_store().write(Transaction(put={"a": b"1"}))
    async with asyncio.timeout(DEADLINE):
        assert (await news).values == {"a": b"1"}


async def test_memory_of_deletions_is_bounded(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store.db", retained_deletions=10)
    for number in range(50):
        await store.write(Transaction(put={f"k{number}": b""}))
        await store.write(Transaction(delete=(f"k{number}",)))
    await store.close()
    with sqlite3.connect(tmp_path / "store.db") as connection:
        assert connection.execute("SELECT count(*) FROM deletions").fetchone()[0] <= 11
    connection.close()


async def test_a_file_of_the_format_without_announcements_is_brought_up_to_date(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    await _make_store(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE announcements")
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    store = EmbeddedStore(path)
    assert (await store.read("")).values == {"a": b"1"}
    await store.announce("b", b"2")
    assert (await store.read("")).values == {"a": b"1", "b": b"2"}
    await store.close()


async def test_announcing_does_not_make_a_deleted_file_again(
    tmp_path: Path, open_store: Callable[[], EmbeddedStore]
) -> None:
    store = open_store()
    await store.announce("a", b"1")
    for file in tmp_path.iterdir():
        file.unlink()
    with pytest.raises(StoreError, match="has been deleted"):
        await store.announce("a", b"2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["path", "state-directory"])
async def test_the_settings_say_where_the_file_is(tmp_path: Path, given: str) -> None:
    expected = tmp_path / ("given.db" if given == "path" else "state/kvproxy.db")
    settings = EmbeddedProvider(path=str(expected) if given == "path" else "")
    static = StaticConfiguration(state_dir=str(tmp_path / "state"), embedded=settings)
    assert plugin.open_store is not None
    store = plugin.open_store(settings, static)
    await store.write(Transaction(put={"a": b"1"}))
    assert expected.exists()
    await store.close()


def test_no_place_for_the_file_is_an_error() -> None:
    assert plugin.open_store is not None
    with pytest.raises(StoreError, match="stateDir"):
        plugin.open_store(EmbeddedProvider(), StaticConfiguration())
