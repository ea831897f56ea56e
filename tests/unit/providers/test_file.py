"""The file provider on real files: every way in which people and programs replace them."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.control.generations.comparison import compare_maps
from kvproxy.model.sharded import ShardedMap
from kvproxy.model.static import FileProvider, StaticConfiguration
from kvproxy.provider import Failure, Snapshot, Source
from providers import file, file_set, file_watch
from providers.file import FileSource, plugin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

DEADLINE = 10.0


def route(*names: str, host: str = "") -> str:
    """Return the text of a file with these frontends."""
    return "".join(
        f'[frontends.{name}]\nbackend = "b"\n'
        f'[frontends.{name}.routes.r]\nrule = "Host:{host or name}"\n'
        for name in names
    )


class Reader:
    """Takes one snapshot or failure after the other, each with a deadline."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._items = source.snapshots()
        self._waiting: asyncio.Future[Snapshot | Failure] | None = None

    async def next(self) -> Snapshot | Failure:
        waiting, self._waiting = self._waiting, None
        async with asyncio.timeout(DEADLINE):
            return await (waiting or asyncio.ensure_future(anext(self._items)))

    async def snapshot(self) -> Snapshot:
        found = await self.next()
        assert isinstance(found, Snapshot), found
        return found

    async def names(self) -> set[str]:
        return set((await self.snapshot()).configuration.frontends)

    async def until(self, *names: str) -> Snapshot:
        """Take snapshots until one has exactly these frontends."""
        async with asyncio.timeout(DEADLINE):
            while True:
                found = await self.next()
                if not isinstance(found, Snapshot):
                    continue
                if set(found.configuration.frontends) == set(names):
                    return found

    async def failure(self) -> str:
        found = await self.next()
        assert isinstance(found, Failure), found
        return "; ".join(map(str, found.problems))

    async def watching(self) -> None:
        """Go on until the source has looked again after it began to watch."""
        await self.silent(0.1)

    async def silent(self, seconds: float) -> None:
        """Nothing comes for so long."""
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(anext(self._items))
        done, _ = await asyncio.wait({self._waiting}, timeout=seconds)
        assert not done, self._waiting.result()

    async def has_news(self, others: set[asyncio.Future[int]]) -> bool:
        """Wait for the next item or the first of ``others`` that is not done."""
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(anext(self._items))
        pending: set[asyncio.Future[Any]] = {other for other in others if not other.done()}
        pending.add(self._waiting)
        async with asyncio.timeout(DEADLINE):
            await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        return self._waiting.done()

    async def close(self) -> None:
        await self.source.close()
        if self._waiting is not None:
            with pytest.raises(StopAsyncIteration):
                await self._waiting


@pytest.fixture
async def read() -> AsyncIterator[Callable[..., Reader]]:
    readers: list[Reader] = []

    def make(path: Path, **options: bool) -> Reader:
        readers.append(Reader(FileSource(str(path), **options)))
        return readers[-1]

    yield make
    for reader in readers:
        await reader.close()


async def test_one_file(tmp_path: Path, read: Callable[..., Reader]) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("a") + '[backends.b.servers.s]\nurl = "http://h"\n')
    found = await read(path).snapshot()
    assert found.provider == "file"
    assert found.configuration.frontends["a"].routes["r"].rule == "Host:a"
    assert not found.configuration.frontends["a"].pass_host_header
    assert found.configuration.backends["b"].servers["s"].url == "http://h"
    assert found.problems == ()
    assert len(found.revision) == 64
    assert found.read_at == pytest.approx(time.time(), abs=DEADLINE)


def write_in_place(path: Path, text: str) -> None:
    path.write_text(text)


def write_and_sync(path: Path, text: str) -> None:
    with path.open("w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())


def rename_over(path: Path, text: str) -> None:
    new = path.with_name(".new")
    new.write_text(text)
    new.rename(path)


def rename_over_from_elsewhere(path: Path, text: str) -> None:
    (path.parent / "elsewhere").mkdir(exist_ok=True)
    new = path.parent / "elsewhere" / "new"
    new.write_text(text)
    new.rename(path)


def move_away_and_write(path: Path, text: str) -> None:
    """As vim does with `backupcopy=no`."""
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)
    path.with_name(path.name + "~").unlink()


def delete_and_write(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def delete_and_link(path: Path, text: str) -> None:
    new = path.with_name(".new")
    new.write_text(text)
    path.unlink()
    os.link(new, path)


def truncate_and_write_twice(path: Path, text: str) -> None:
    path.write_text("")
    path.write_text(text)


def in_many_small_writes(path: Path, text: str) -> None:
    with path.open("w") as opened:
        for character in text:
            opened.write(character)
            opened.flush()


def replace_by_symbolic_link(path: Path, text: str) -> None:
    target = path.parent / f"target-{time.monotonic_ns()}"
    target.write_text(text)
    link = path.with_name(".link")
    link.symlink_to(target)
    link.rename(path)


WAYS = [
    write_in_place,
    write_and_sync,
    rename_over,
    rename_over_from_elsewhere,
    move_away_and_write,
    delete_and_write,
    delete_and_link,
    truncate_and_write_twice,
    in_many_small_writes,
    replace_by_symbolic_link,
]


@pytest.mark.parametrize("directory", [False, True], ids=["file", "directory"])
@pytest.mark.parametrize("change", WAYS, ids=lambda way: way.__name__)
async def test_every_way_to_replace_a_file(
    tmp_path: Path,
    read: Callable[..., Reader],
    change: Callable[[Path, str], None],
    directory: bool,
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("keep", "a0"))
    reader = read(tmp_path if directory else path, directory=directory)
    assert await reader.names() == {"keep", "a0"}
    await reader.watching()
    kept = None
    for number in range(1, 4):
        await asyncio.to_thread(change, path, route("keep", f"a{number}"))
        # Nothing in between: not a moment without routes, no failure.
        found = await reader.snapshot()
        assert set(found.configuration.frontends) == {"keep", f"a{number}"}
        assert found.problems == ()
        kept = kept or found.configuration.frontends["keep"]
        assert found.configuration.frontends["keep"] is kept
        await reader.silent(0.02)


async def test_a_file_in_the_middle_of_a_write_is_left_alone(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("a", "b"))
    reader = read(path)
    await reader.snapshot()
    await reader.watching()
    with path.open("w") as opened:
        opened.write(route("a"))
        opened.flush()
        await reader.silent(file_watch.QUIET_SECONDS / 2)
        opened.write(route("c"))
        opened.flush()
        await reader.silent(file_watch.QUIET_SECONDS / 2)
    assert await reader.names() == {"a", "c"}


BUSY_WRITER = """
import os, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
names = [f"keep{number}" for number in range(500)]
end = time.monotonic() + seconds
number = 0
while time.monotonic() < end:
    number += 1
    last = f"last{number}"
    text = "".join(
        f'[frontends.{name}]\\nbackend = "b{number}"\\n' for name in [*names, last]
    )
    target = path if number % 3 else path + ".new"
    with open(target, "w", buffering=4096) as opened:
        opened.write(text)
    if target != path:
        os.rename(target, path)
    if number % 20 == 0:
        time.sleep(0.02)
"""


@pytest.mark.parametrize("directory", [False, True], ids=["file", "directory"])
async def test_no_snapshot_is_torn_by_a_busy_writer(
    tmp_path: Path, read: Callable[..., Reader], directory: bool
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("first"))
    reader = read(tmp_path if directory else path, directory=directory)
    await reader.snapshot()
    await reader.watching()
    writer = await asyncio.create_subprocess_exec(sys.executable, "-c", BUSY_WRITER, str(path), "2")
    ending = asyncio.ensure_future(writer.wait())
    seen = 0
    last = ""
    while not ending.done() or f'"{last}"' not in path.read_text():
        if not await reader.has_news({ending}):
            continue
        found = await reader.snapshot()
        backends = {frontend.backend for frontend in found.configuration.frontends.values()}
        assert len(found.configuration.frontends) == 501
        assert len(backends) == 1
        assert found.problems == ()
        last = backends.pop()
        seen += 1
    assert await ending == 0
    assert seen > 3


async def test_a_writer_that_never_closes_is_not_waited_for(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("a"))
    reader = read(path)
    await reader.snapshot()
    await reader.watching()
    with path.open("a") as opened:
        opened.write(route("b"))
        opened.flush()
        assert await reader.names() == {"a", "b"}


BAD = {
    "emptied": (b"", "empty"),
    "white-space": (b"\n \n", "empty"),
    "cut-in-a-table": (route("a", "b").encode()[:-25], "routes.toml:7"),
    "cut-between-tables": (route("a").encode()[:-1], "half-written"),
    "not-utf-8": (b"\xff\xfe\n", "UTF-8"),
    "not-toml": (b"frontends: {}\n", "routes.toml:1"),
    "section-of-wrong-type": (b"frontends = 1\n", "routes.toml:1"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
async def test_bad_content_keeps_what_was_good(
    tmp_path: Path, read: Callable[..., Reader], content: bytes, message: str
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("a", "b"))
    reader = read(path)
    before = await reader.snapshot()
    await reader.watching()
    path.write_bytes(content)
    assert message in await reader.failure()
    path.write_bytes(content)
    await reader.silent(0.05)
    path.write_text(route("a", "b"))
    after = await reader.snapshot()
    assert after.configuration is before.configuration
    assert after.revision == before.revision


async def test_bad_content_at_the_start_is_a_failure_until_it_is_repaired(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text("[frontends.a\n")
    reader = read(path)
    assert "routes.toml:1" in await reader.failure()
    await reader.watching()
    path.write_text(route("a"))
    assert await reader.names() == {"a"}


async def test_a_file_that_is_missing_at_the_start(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    path = tmp_path / "not" / "there" / "routes.toml"
    reader = read(path)
    assert "No such file" in await reader.failure()
    await reader.watching()
    path.parent.mkdir(parents=True)
    path.write_text(route("a"))
    assert await reader.names() == {"a"}


async def test_a_deleted_file_keeps_its_routes(tmp_path: Path, read: Callable[..., Reader]) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("a"))
    reader = read(path)
    before = await reader.snapshot()
    await reader.watching()
    path.unlink()
    assert "No such file" in await reader.failure()
    path.write_text(route("a"))
    assert (await reader.snapshot()).configuration is before.configuration


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_directory(path: Path) -> None:
    path.mkdir()


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_large(path: Path) -> None:
    with path.open("wb") as opened:
        opened.truncate(100 * 1024 * 1024)


ODD_FILES = {
    "pipe": (make_pipe, "not a regular file"),
    "directory": (make_directory, "Is a directory"),
    "link-to-itself": (make_loop, "Too many levels of symbolic links"),
    "100-mb": (make_large, "too large (104,857,600 bytes)"),
}


@pytest.mark.parametrize(("make", "message"), ODD_FILES.values(), ids=ODD_FILES)
async def test_an_odd_file_is_named_and_kept_out(
    tmp_path: Path, read: Callable[..., Reader], make: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "routes.toml"
    make(path)
    reader = read(path)
    failure = await reader.failure()
    assert message in failure
    assert str(path) in failure
    await reader.watching()
    rename_over_directory = path.is_dir() and not path.is_symlink()
    if rename_over_directory:
        path.rmdir()
    rename_over(path, route("a"))
    assert await reader.names() == {"a"}


@pytest.fixture
def directory_without_root() -> Iterator[Path]:
    """Give a directory and drop the rights of root, who may read everything, for the test."""
    with tempfile.TemporaryDirectory() as name:
        nobody = 65534
        root = os.geteuid() == 0
        if root:
            os.chown(name, nobody, nobody)
            os.seteuid(nobody)
        yield Path(name)
        if root:
            os.seteuid(0)


async def test_an_unreadable_directory_keeps_its_routes(
    directory_without_root: Path, read: Callable[..., Reader]
) -> None:
    for name in ("", "sub"):
        (directory_without_root / name).mkdir(exist_ok=True)
        (directory_without_root / name / "r.toml").write_text(route(name or "top"))
    reader = read(directory_without_root, directory=True)
    before = await reader.snapshot()
    await reader.watching()
    (directory_without_root / "sub").chmod(0)
    found = await reader.snapshot()
    assert found.configuration is before.configuration
    assert "sub: cannot be read: Permission denied" in str(found.problems[0])
    await reader.silent(2 * file_set.GONE_SECONDS)
    (directory_without_root / "sub").chmod(0o700)
    found = await reader.snapshot()
    assert found.configuration is before.configuration
    assert found.problems == ()


async def test_an_unreadable_file_keeps_its_routes(
    directory_without_root: Path, read: Callable[..., Reader]
) -> None:
    path = directory_without_root / "routes.toml"
    path.write_text(route("a"))
    reader = read(path)
    await reader.snapshot()
    await reader.watching()
    path.chmod(0)
    assert "Permission denied" in await reader.failure()
    path.chmod(0o600)
    assert await reader.names() == {"a"}


async def test_a_bad_entry_is_left_out_alone(tmp_path: Path, read: Callable[..., Reader]) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("a") + "[frontends.bad]\nbackend = 5\n")
    found = await read(path).snapshot()
    assert set(found.configuration.frontends) == {"a"}
    assert [(p.entry, p.where) for p in found.problems] == [
        (("frontends", "bad"), f"{path}:6"),
    ]


async def test_the_same_content_again_is_no_news(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("a"))
    reader = read(path)
    before = await reader.snapshot()
    await reader.watching()
    path.write_text(route("a"))
    path.touch()
    rename_over(path, route("a"))
    (tmp_path / "neighbour.toml").write_text(route("b"))
    await reader.silent(0.1)
    path.write_text("# comment\n" + route("a"))
    after = await reader.snapshot()
    assert after.configuration is before.configuration
    assert after.revision != before.revision


async def test_without_watch_the_file_is_read_once(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    path = tmp_path / "routes.toml"
    path.write_text(route("a"))
    reader = read(path, watch=False)
    assert await reader.names() == {"a"}
    await reader.watching()
    path.write_text(route("b"))
    await reader.silent(0.2)


async def test_a_change_leaves_what_is_beside_it_in_place(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    path = tmp_path / "routes.toml"
    names = [f"f{number}" for number in range(1000)]
    path.write_text(route(*names))
    reader = read(path)
    before = (await reader.snapshot()).configuration.frontends
    await reader.watching()
    rename_over(path, route(*names[:-1]) + route("f999", host="other"))
    after = (await reader.snapshot()).configuration.frontends
    assert isinstance(before, ShardedMap)
    assert isinstance(after, ShardedMap)
    assert len(list(before.differing(after))) == 1
    assert compare_maps(before, after) == (["f999"], [])


async def test_directory_files_come_and_go(tmp_path: Path, read: Callable[..., Reader]) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "a.toml").write_text(route("a"))
    (tmp_path / "sub" / "deep" / "b.toml").write_text(route("b"))
    (tmp_path / ".hidden.toml").write_text(route("hidden"))
    (tmp_path / "notes.txt").write_text("not TOML")
    reader = read(tmp_path, directory=True)
    before = await reader.snapshot()
    assert set(before.configuration.frontends) == {"a", "b"}
    await reader.watching()
    (tmp_path / "c.toml").write_text(route("c"))
    found = await reader.snapshot()
    assert set(found.configuration.frontends) == {"a", "b", "c"}
    assert found.configuration.frontends["a"] is before.configuration.frontends["a"]
    (tmp_path / "a.toml").unlink()
    assert await reader.names() == {"b", "c"}
    (tmp_path / "new").mkdir()
    await reader.silent(0.05)
    (tmp_path / "new" / "d.toml").write_text(route("d"))
    assert await reader.names() == {"b", "c", "d"}
    (tmp_path / "sub").rename(tmp_path / "renamed")
    await reader.until("b", "c", "d")
    shutil.rmtree(tmp_path / "renamed")
    await reader.until("c", "d")


async def test_a_tree_of_files_made_at_once_is_read_completely(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    reader = read(tmp_path, directory=True)
    assert "there is no *.toml file" in str((await reader.snapshot()).problems[0])
    await reader.watching()
    names = []
    for first in "abc":
        for second in "xyz":
            folder = tmp_path / first / second
            folder.mkdir(parents=True)
            (folder / "r.toml").write_text(route(first + second))
            names.append(first + second)
    await reader.until(*names)


async def test_a_broken_file_in_a_directory_keeps_its_entries(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    (tmp_path / "a.toml").write_text(route("a"))
    (tmp_path / "b.toml").write_text(route("b"))
    reader = read(tmp_path, directory=True)
    before = await reader.snapshot()
    await reader.watching()
    (tmp_path / "a.toml").write_text("[frontends.a\n")
    found = await reader.snapshot()
    assert found.configuration is before.configuration
    assert [problem.where for problem in found.problems] == [f"{tmp_path}/a.toml:1:13"]
    (tmp_path / "b.toml").write_text(route("c"))
    found = await reader.snapshot()
    assert set(found.configuration.frontends) == {"a", "c"}
    assert len(found.problems) == 1
    (tmp_path / "a.toml").write_text(route("a2"))
    found = await reader.snapshot()
    assert set(found.configuration.frontends) == {"a2", "c"}
    assert found.problems == ()


async def test_a_directory_of_broken_files_is_a_failure(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    """An empty configuration would take the place of the last known good one."""
    (tmp_path / "a.toml").write_text("[")
    reader = read(tmp_path, directory=True)
    assert "a.toml:1" in await reader.failure()
    await reader.watching()
    (tmp_path / "b.toml").write_text(route("b"))
    assert await reader.names() == {"b"}


async def test_a_name_defined_twice(tmp_path: Path, read: Callable[..., Reader]) -> None:
    (tmp_path / "1.toml").write_text(route("a", "x", host="first"))
    (tmp_path / "2.toml").write_text("\n" + route("x", "b", host="second"))
    reader = read(tmp_path, directory=True)
    found = await reader.snapshot()
    assert found.configuration.frontends["x"].routes["r"].rule == "Host:first"
    assert [(str(p.where), p.path, p.fatal, p.entry) for p in found.problems] == [
        (f"{tmp_path}/2.toml:2", "frontends.x", False, None)
    ]
    assert f"{tmp_path}/1.toml:5" in found.problems[0].message
    await reader.watching()
    (tmp_path / "0.toml").write_text(route("x", host="zeroth"))
    found = await reader.snapshot()
    assert found.configuration.frontends["x"].routes["r"].rule == "Host:zeroth"
    assert len(found.problems) == 2
    (tmp_path / "0.toml").unlink()
    (tmp_path / "1.toml").write_text(route("a", host="first"))
    found = await reader.until("a", "b", "x")
    while found.problems:
        found = await reader.snapshot()
    assert found.configuration.frontends["x"].routes["r"].rule == "Host:second"


async def test_a_bad_duplicate_that_is_not_used_refuses_nothing(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    (tmp_path / "1.toml").write_text(route("x"))
    (tmp_path / "2.toml").write_text("[frontends.x]\nbackend = 5\n")
    found = await read(tmp_path, directory=True).snapshot()
    assert "x" in found.configuration.frontends
    assert [problem.entry for problem in found.problems] == [None]


async def test_certificates_of_several_files_do_not_collide(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    pair = '[[tls]]\nentryPoints = ["https"]\n[tls.certificate]\ncertFile = "c"\nkeyFile = "k"\n'
    (tmp_path / "1.toml").write_text(pair + pair)
    (tmp_path / "2.toml").write_text(pair)
    found = await read(tmp_path, directory=True).snapshot()
    assert set(found.configuration.tls) == {"1.toml:0", "1.toml:1", "2.toml:0"}


async def test_a_directory_deleted_and_made_again(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    directory = tmp_path / "routes"
    directory.mkdir()
    for name in "abc":
        (directory / f"{name}.toml").write_text(route(name))
    reader = read(directory, directory=True)
    before = await reader.snapshot()
    await reader.watching()
    shutil.rmtree(directory)
    assert "No such file" in await reader.failure()
    directory.mkdir()
    for name in "abc":
        await asyncio.sleep(file_set.GONE_SECONDS)
        (directory / f"{name}.toml").write_text(route(name))
    found = await reader.snapshot()
    assert set(found.configuration.frontends) == {"a", "b", "c"}
    assert found.configuration is before.configuration
    (directory / "a.toml").write_text(route("new"))
    assert await reader.names() == {"new", "b", "c"}


async def test_a_directory_swapped_by_renaming(tmp_path: Path, read: Callable[..., Reader]) -> None:
    for directory, name in (("routes", "a"), ("next", "b")):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "r.toml").write_text(route("keep", name))
    reader = read(tmp_path / "routes", directory=True)
    assert await reader.names() == {"keep", "a"}
    await reader.watching()
    (tmp_path / "routes").rename(tmp_path / "old")
    (tmp_path / "next").rename(tmp_path / "routes")
    assert await reader.names() == {"keep", "b"}


def kubernetes_write(directory: Path, generation: int, files: dict[str, str]) -> None:
    """Update a mounted ConfigMap as the kubelet does: all files switch with one link."""
    data = directory / f"..2026_{generation}"
    data.mkdir()
    for name, text in files.items():
        (data / name).write_text(text)
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")
    (directory / "..data_tmp").symlink_to(data.name)
    (directory / "..data_tmp").rename(directory / "..data")
    for old in directory.glob("..2026_*"):
        if old != data:
            shutil.rmtree(old)


@pytest.mark.parametrize("directory", [False, True], ids=["file", "directory"])
async def test_kubernetes_configuration_maps(
    tmp_path: Path, read: Callable[..., Reader], directory: bool
) -> None:
    kubernetes_write(tmp_path, 0, {"r.toml": route("keep", "a0")})
    reader = read(tmp_path if directory else tmp_path / "r.toml", directory=directory)
    assert await reader.names() == {"keep", "a0"}
    await reader.watching()
    for number in range(1, 5):
        kubernetes_write(tmp_path, number, {"r.toml": route("keep", f"a{number}")})
        assert await reader.names() == {"keep", f"a{number}"}
        await reader.silent(0.02)


async def test_a_write_through_a_chain_of_links(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    real = tmp_path / "real" / "deep"
    real.mkdir(parents=True)
    (real / "r.toml").write_text(route("a"))
    (tmp_path / "second").symlink_to("real/deep")
    (tmp_path / "first.toml").symlink_to(tmp_path / "second" / "r.toml")
    reader = read(tmp_path / "first.toml")
    assert await reader.names() == {"a"}
    await reader.watching()
    (real / "r.toml").write_text(route("b"))
    assert await reader.names() == {"b"}
    other = tmp_path / "real" / "other"
    other.mkdir()
    (other / "r.toml").write_text(route("c"))
    (tmp_path / "third").symlink_to("real/other")
    (tmp_path / "third").rename(tmp_path / "second")
    assert await reader.names() == {"c"}


async def test_a_link_among_the_directories_is_swapped(
    tmp_path: Path, read: Callable[..., Reader]
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "r.toml").write_text(route(name))
    (tmp_path / "current").symlink_to("one")
    reader = read(tmp_path / "current" / "r.toml")
    assert await reader.names() == {"one"}
    await reader.watching()
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "current")
    assert await reader.names() == {"two"}
    await reader.watching()
    began = time.monotonic()
    (tmp_path / "two" / "r.toml").write_text(route("three"))
    assert await reader.names() == {"three"}
    assert time.monotonic() - began < file.LOOK_SECONDS / 2, "found only by looking at intervals"


async def test_odd_names_in_a_directory(tmp_path: Path, read: Callable[..., Reader]) -> None:
    (tmp_path / "blank in name.toml").write_text(route("a"))
    (tmp_path / "umlaut-\u00e4.toml").write_text(route("b"))
    (tmp_path / os.fsdecode(b"not-utf8-\xff.toml")).write_text("[")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.toml").symlink_to("nowhere")
    (tmp_path / "template.tmpl").write_text("{{ }}")
    found = await read(tmp_path, directory=True).snapshot()
    assert set(found.configuration.frontends) == {"a", "b"}
    text = "\n".join(map(str, found.problems))
    text.encode()
    assert "templates are not read" in text
    assert "dangling.toml: cannot be read" in text
    assert "not-utf8-\ufffd.toml" in text


async def test_files_are_found_without_inotify(
    tmp_path: Path, read: Callable[..., Reader], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise OSError("no more instances")

    monkeypatch.setattr("providers.inotify.Inotify", refuse)
    path = tmp_path / "routes.toml"
    path.write_text(route("a", "b"))
    reader = read(path)
    await reader.snapshot()
    await reader.watching()
    with path.open("w") as opened:
        opened.write(route("a"))
        opened.flush()
        await reader.silent(file_watch.QUIET_SECONDS / 2)
        opened.write(route("c"))
    assert await reader.names() == {"a", "c"}


@pytest.mark.parametrize("kind", ["filename", "directory", "main", "directory-wins"])
async def test_the_settings_say_which_files(tmp_path: Path, kind: str) -> None:
    (tmp_path / "routes").mkdir()
    (tmp_path / "routes" / "r.toml").write_text(route("directory"))
    (tmp_path / "r.toml").write_text("nonsense = 1\n" + route("filename"))
    (tmp_path / "kvproxy.toml").write_text("nonsense = 1\n" + route("main"))
    settings = FileProvider(
        filename=str(tmp_path / "r.toml") if kind in ("filename", "directory-wins") else "",
        directory=str(tmp_path / "routes") if kind.startswith("directory") else "",
    )
    static = StaticConfiguration(config_file=str(tmp_path / "kvproxy.toml"), file=settings)
    assert plugin.open_source is not None
    reader = Reader(plugin.open_source(settings, static))
    found = await reader.snapshot()
    expected = {"directory-wins": "directory"}.get(kind, kind)
    assert set(found.configuration.frontends) == {expected}
    assert len(found.problems) == (1 if kind == "filename" else 0)
    await reader.close()
