"""The BoltDB store: what Traefik 1.7 has written, files that come and go, and no writing."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import BoltdbProvider
from kvproxy.provider import Changes, Compacted, ReadOnly, StoreError, Transaction, Tree
from providers.boltdb import BoltdbStore, plugin
from tests.support.bolt import BoltWriter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 10.0


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[BoltWriter]:
    writer = BoltWriter(tmp_path / "store.db")
    yield writer
    writer.close()


@pytest.fixture
def store(tmp_path: Path) -> BoltdbStore:
    return BoltdbStore(tmp_path / "store.db")


async def test_it_reads_the_keys_that_traefik_wrote(writer: BoltWriter, store: BoltdbStore) -> None:
    """Keys as `traefik storeconfig` makes them, markers of directories included."""
    put = {
        "/traefik/api/": b"",
        "/traefik/api/entrypoint": b"traefik",
        "/traefik/entrypoints/http/address": b":8000",
        "/traefik/frontends/Web One/backend": b"b",
        "/traefik_configurations/1/backends/b/servers/s/url": b"http://127.0.0.1:1",
        "/other": b"x",
    }
    writer.write(put=put)
    tree = await store.read("/traefik")
    expected = {key[1:]: value for key, value in put.items() if key.startswith("/traefik/")}
    assert tree.values == expected
    assert (await store.read("")).values == {key[1:]: value for key, value in put.items()}


async def test_keys_without_a_leading_slash_are_read_too(
    writer: BoltWriter, store: BoltdbStore
) -> None:
    writer.write(put={"t/a": b"1", "t/b": b"2", "/t/b": b"3", "//t/c": b"4"})
    assert (await store.read("t")).values == {"t/a": b"1", "t/b": b"3", "t/c": b"4"}


async def test_a_key_that_is_not_text_keeps_its_neighbours(
    writer: BoltWriter, store: BoltdbStore, tmp_path: Path
) -> None:
    writer.write(put={"/t/aXb": b"1", "/t/c": b"2"})
    path = tmp_path / "store.db"
    path.write_bytes(path.read_bytes().replace(b"/t/aXb", b"/t/a\xffb"))
    assert (await store.read("t")).values == {"t/a\\xffb": b"1", "t/c": b"2"}


async def test_a_value_without_a_counter_is_named(writer: BoltWriter, store: BoltdbStore) -> None:
    writer.write(put={"/t/short": b"1234567"}, raw=True)
    with pytest.raises(StoreError, match="`t/short` is too short"):
        await store.read("t")
    assert (await store.read("u")).values == {}


async def test_a_file_without_buckets_is_empty(writer: BoltWriter, store: BoltdbStore) -> None:
    assert (await store.read("t")).values == {}


async def test_a_file_with_only_other_buckets_is_an_error(
    writer: BoltWriter, store: BoltdbStore
) -> None:
    writer.write(bucket=["key"], put={"/t/a": b"1"})
    with pytest.raises(StoreError, match="no bucket `traefik` in it, but `key`"):
        await store.read("t")


async def test_writing_is_refused_and_the_embedded_store_named(
    writer: BoltWriter, store: BoltdbStore, tmp_path: Path
) -> None:
    before = (tmp_path / "store.db").read_bytes()
    with pytest.raises(ReadOnly, match="embedded store"):
        await store.write(Transaction(put={"t/a": b"1"}))
    with pytest.raises(ReadOnly, match="embedded store"):
        await store.announce("t/a", b"1")
    assert (tmp_path / "store.db").read_bytes() == before


async def test_a_missing_file_is_an_error_and_not_empty(store: BoltdbStore, tmp_path: Path) -> None:
    for call in (store.read("t"), store.probe(), anext(store.watch("t", 1))):
        with pytest.raises(StoreError, match=r"store\.db`: No such file"):
            await call
    assert not (tmp_path / "store.db").exists()


async def test_a_file_that_goes_ends_the_watch_and_one_that_comes_back_is_followed(
    writer: BoltWriter, store: BoltdbStore, tmp_path: Path
) -> None:
    writer.write(put={"/t/a": b"1"})
    path = tmp_path / "store.db"
    tree = await store.read("t")
    async with asyncio.timeout(DEADLINE):
        watch = store.watch("t", tree.version)
        waiting = asyncio.ensure_future(anext(watch))
        path.rename(tmp_path / "aside.db")
        with pytest.raises(StoreError, match="No such file"):
            await waiting
        (tmp_path / "aside.db").rename(path)
        watch = store.watch("t", tree.version)
        waiting = asyncio.ensure_future(anext(watch))
        version = writer.write(put={"/t/b": b"2"})["version"]
        assert await waiting == Changes(version, {"t/b": b"2"})
        await watch.aclose()


@pytest.mark.parametrize("in_place", [True, False], ids=["copied over", "renamed over"])
async def test_another_file_in_its_place_is_read_anew(
    in_place: bool, writer: BoltWriter, store: BoltdbStore, tmp_path: Path
) -> None:
    """Both files are at the same transaction: only the file itself tells."""
    path, other = tmp_path / "store.db", tmp_path / "other.db"
    other_writer = BoltWriter(other)
    versions = {
        writer.write(put={"/t/a": b"1"})["version"],
        other_writer.write(put={"/t/a": b"2"})["version"],
    }
    other_writer.close()
    assert len(versions) == 1
    tree = await store.read("t")
    waiting = asyncio.ensure_future(anext(store.watch("t", tree.version)))
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    if in_place:
        shutil.copy(other, path)
    else:
        other.rename(path)
    async with asyncio.timeout(DEADLINE):
        with pytest.raises(Compacted):
            await waiting
    assert (await store.read("t")).values == {"t/a": b"2"}


async def test_damage_is_an_error_and_what_follows_is_seen(
    writer: BoltWriter, store: BoltdbStore, tmp_path: Path
) -> None:
    writer.write(put={"/t/a": b"1"})
    path = tmp_path / "store.db"
    good = path.read_bytes()
    tree = await store.read("t")
    path.write_bytes(good[:5000])
    with pytest.raises(StoreError, match="cut off"):
        await store.read("t")
    path.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError, match="not a BoltDB database"):
        await store.probe()
    path.write_bytes(good)
    assert await store.read("t") == tree


async def test_a_version_that_this_client_never_read_gives_a_tree(
    writer: BoltWriter, tmp_path: Path
) -> None:
    first = writer.write(put={"/t/a": b"1"})["version"]
    second = writer.write(put={"/u": b"2"})["version"]
    store = BoltdbStore(tmp_path / "store.db")
    async with asyncio.timeout(DEADLINE), aclosing(store.watch("t", first)) as watch:
        assert await anext(watch) == Tree(second, {"t/a": b"1"})
        third = writer.write(put={"/t/b": b"3"})["version"]
        assert await anext(watch) == Changes(third, {"t/b": b"3"})


ENDPOINTS = {
    "127.0.0.1:4001": "no file",
    ":4001": "no file",
    "": "no file",
    "/a.db,/b.db": "several files",
}


@pytest.mark.parametrize(("endpoint", "message"), ENDPOINTS.items(), ids=list(ENDPOINTS))
def test_endpoints_that_are_no_path_are_refused(endpoint: str, message: str) -> None:
    assert plugin.open_store is not None
    settings = BoltdbProvider(endpoint=endpoint)
    with pytest.raises(StoreError, match=message):
        plugin.open_store(settings, StaticConfiguration(boltdb=settings))


async def test_a_relative_path_is_taken(
    writer: BoltWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.write(put={"/kvproxy/a": b"1"})
    monkeypatch.chdir(tmp_path)
    assert plugin.open_store is not None
    settings = BoltdbProvider(endpoint="store.db")
    store = plugin.open_store(settings, StaticConfiguration(boltdb=settings))
    assert (await store.read(settings.prefix)).values == {"kvproxy/a": b"1"}
    await store.close()
