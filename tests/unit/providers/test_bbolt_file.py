"""Our reader of bbolt files against bbolt itself, and against every kind of damage."""

from __future__ import annotations

import os
import sqlite3
import struct
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.bbolt_file import BadFile, BboltFile, Content, Meta, find_meta
from tests.support.bolt import BoltWriter, churn, dump
from tests.support.deadline import wait_until
from tests.support.etcd import EtcdServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 4096
META = struct.Struct("<IIIIQQQQQQ")


def read(path: Path) -> Content:
    return BboltFile(path).content()[0]


def everything(content: Content, *path: bytes) -> dict[tuple[bytes, ...], dict[bytes, bytes]]:
    """Return all keys of all buckets, those in buckets included."""
    found = {path: dict(content.items(*path))} if path else {}
    for name in content.buckets(*path):
        found |= everything(content, *path, name)
    return found


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[BoltWriter]:
    writer = BoltWriter(tmp_path / "store.db")
    yield writer
    writer.close()


SHAPES = {
    "empty value": {"/t/a": b""},
    "one page": {f"/t/{number}": b"x" * number for number in range(40)},
    "branches": {f"/t/{number:05}": b"v" * 100 for number in range(3000)},
    "two levels of branches": {f"/t/{number:05}/{'k' * 900}": b"v" for number in range(800)},
    "overflow": {"/t/a": b"1", "/t/b": bytes(range(256)) * 2000, "/t/c": b"3"},
    "overflow of many": {f"/t/{number}": os.urandom(5000 * number) for number in range(30)},
    "odd keys": {"\n": b"1", "/": b"2", "a\tb": b"3", "\U0001f680": b"4", "k" * 30_000: b"5"},
}


@pytest.mark.parametrize("put", SHAPES.values(), ids=SHAPES)
def test_it_reads_what_bbolt_reads(
    put: dict[str, bytes], writer: BoltWriter, tmp_path: Path
) -> None:
    writer.write(put=put)
    writer.write(bucket=["traefik", "in\nside", "deeper"], put=put)
    writer.write(bucket=["other"], put={"k": b"v"})
    writer.write(delete=list(put)[::3])
    path = tmp_path / "store.db"
    content = read(path)
    assert everything(content) == dump(path)
    assert len(everything(content)) == 4


def test_it_reads_what_bbolt_reads_after_every_transaction(
    writer: BoltWriter, tmp_path: Path
) -> None:
    """Pages split, merge and are used again; the state is in one meta record and the other."""
    path = tmp_path / "store.db"
    for number in range(40):
        put = {f"/t/{key:03}": b"x" * (number * key % 700) for key in range(number * 7 % 150)}
        answer = writer.write(deletePrefixes=[f"/t/{number % 7}"], put=put)
        content = read(path)
        assert content.meta.transaction == answer["version"]
        assert everything(content) == dump(path)


def test_it_reads_the_database_of_an_etcd(tmp_path: Path) -> None:
    with EtcdServer(tmp_path / "etcd") as server:
        for number in range(50):
            body = {"key": "a2V5" if number % 2 else "b3RoZXI=", "value": "dmFsdWU="}
            server.call("kv/put", body)
        revision = int(server.call("kv/range", {"key": "a2V5"})["header"]["revision"])
        path = server.data / "member" / "snap" / "db"

        def stored() -> int:
            return sum(1 for _ in read(path).items(b"key"))

        # etcd commits in the background. Each revision is a key; the first one has none.
        wait_until(lambda: stored() == revision - 1, "etcd's commit", 10)
        names = set(read(path).buckets())
        assert {b"key", b"meta", b"lease", b"auth", b"members"} <= names
    assert everything(read(path)) == dump(path)


def test_a_bucket_that_is_missing_is_a_key_error(writer: BoltWriter, tmp_path: Path) -> None:
    writer.write(put={"a": b"1"})
    content = read(tmp_path / "store.db")
    for path in ((b"missing",), (b"traefik", b"a"), (b"traefik", b"missing")):
        with pytest.raises(KeyError):
            list(content.items(*path))


def test_states_read_while_somebody_writes_are_never_torn(tmp_path: Path) -> None:
    """The writer holds the lock all the time, uses pages again and lets the file grow."""
    path = tmp_path / "store.db"
    process = churn(path)
    try:
        file = BboltFile(path)
        states = set()
        reads = 0
        deadline = time.monotonic() + 60
        while len(states) < 150:
            assert time.monotonic() < deadline, f"{len(states)} states in {reads} reads"
            content, _ = file.content()
            if not content.buckets():
                continue
            numbers = {value[8:].split(b" ")[0] for _, value in content.items(b"traefik")}
            assert len(numbers) == 1, "torn"
            number = int(numbers.pop())
            assert len(list(content.items(b"traefik"))) == 50 + number % 200
            states.add(number)
            reads += 1
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@cache
def real_files() -> tuple[bytes, ...]:
    """Return small real databases: pages of all kinds, nested buckets, overflow."""
    found = []
    with TemporaryDirectory() as directory:
        for number in range(3):
            path = Path(directory) / f"{number}.db"
            writer = BoltWriter(path)
            count = (3, 300, 40)[number]
            for _ in range(3):
                put = {f"/t/{key}": b"v" * 70 for key in range(count)}
                writer.write(put=put)
                writer.write(bucket=["traefik", "inside"], put={"a": b"1" * (number * 3000)})
            writer.close()
            found.append(path.read_bytes())
    return tuple(found)


def survives(data: bytes) -> None:
    """Read everything; nothing but `BadFile` may come out, and soon."""
    started = time.monotonic()
    try:
        everything(Content(data))
    except BadFile as error:
        assert str(error)
    assert time.monotonic() - started < 5


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_damaged_files_are_named_errors(data: st.DataObject) -> None:
    """Bytes are changed anywhere, mostly where pages and elements are described."""
    original = data.draw(st.sampled_from(real_files()))
    damaged = bytearray(original)
    pages = len(original) // PAGE
    for _ in range(data.draw(st.integers(1, 6))):
        page = data.draw(st.integers(0, pages - 1))
        offset = data.draw(st.one_of(st.integers(0, 80), st.integers(0, PAGE - 8)))
        width = data.draw(st.sampled_from((1, 2, 4, 8)))
        value = data.draw(st.one_of(st.integers(0, pages + 2), st.integers(0, 256**width - 1)))
        start = page * PAGE + offset
        damaged[start : start + width] = (value % 256**width).to_bytes(width, "little")
    repair = data.draw(st.booleans())
    survives(with_valid_meta(damaged) if repair else bytes(damaged))


def with_valid_meta(data: bytearray) -> bytes:
    """Make the checksums right again, so that the damage behind them is reached."""
    for page in (0, 1):
        start = page * PAGE + 16
        fields = list(META.unpack_from(data, start))
        fields[:3] = [0xED0CDAED, 2, PAGE]
        META.pack_into(data, start, *fields)
        fields[-1] = fnv1a(bytes(data[start : start + META.size - 8]))
        META.pack_into(data, start, *fields)
    return bytes(data)


def fnv1a(data: bytes) -> int:
    value = 14695981039346656037
    for byte in data:
        value = (value ^ byte) * 1099511628211 % 2**64
    return value


@pytest.mark.parametrize("number", [0, 1, 2])
def test_truncated_files_are_named_errors(number: int) -> None:
    original = real_files()[number]
    used = find_meta(original).pages * PAGE
    for length in {*range(0, used, 509), *range(0, used, PAGE), 15, 16, 79, 80, used - 1}:
        survives(original[:length])
    with pytest.raises(BadFile):
        everything(Content(original[: 3 * PAGE]))


@given(st.binary(max_size=300))
def test_random_bytes_are_no_database(data: bytes) -> None:
    with pytest.raises(BadFile):
        Content(data)


def corrupted(change: Callable[[bytearray, Meta], None]) -> bytes:
    """Return the file with branches, changed and with right checksums."""
    data = bytearray(real_files()[1])
    change(data, find_meta(bytes(data)))
    return with_valid_meta(data)


def tree_root(data: bytearray, meta: Meta) -> int:
    """Return the page at which the tree of the bucket `traefik` begins."""
    element = meta.root * PAGE + 16
    _, position, key_size, _ = struct.unpack_from("<IIII", data, element)
    root: int = struct.unpack_from("<Q", data, element + position + key_size)[0]
    return root


def point_to_itself(data: bytearray, meta: Meta) -> None:
    root = tree_root(data, meta)
    struct.pack_into("<Q", data, root * PAGE + 16 + 8, root)


def point_twice(data: bytearray, meta: Meta) -> None:
    root = tree_root(data, meta)
    first = struct.unpack_from("<Q", data, root * PAGE + 16 + 8)[0]
    struct.pack_into("<Q", data, root * PAGE + 16 + 16 + 8, first)


def point_outside(data: bytearray, meta: Meta) -> None:
    struct.pack_into("<Q", data, tree_root(data, meta) * PAGE + 16 + 8, 2**60)


def claim_many_elements(data: bytearray, meta: Meta) -> None:
    struct.pack_into("<H", data, tree_root(data, meta) * PAGE + 10, 65535)


def claim_much_overflow(data: bytearray, meta: Meta) -> None:
    struct.pack_into("<I", data, tree_root(data, meta) * PAGE + 12, 2**32 - 1)


def claim_other_number(data: bytearray, meta: Meta) -> None:
    struct.pack_into("<Q", data, tree_root(data, meta) * PAGE, 77)


def claim_other_kind(data: bytearray, meta: Meta) -> None:
    struct.pack_into("<H", data, tree_root(data, meta) * PAGE + 8, 0x10)


def claim_long_value(data: bytearray, meta: Meta) -> None:
    struct.pack_into("<I", data, meta.root * PAGE + 16 + 12, 2**32 - 1)


DAMAGE = {
    "a page that points to itself": (point_to_itself, "used twice"),
    "a page that is pointed to twice": (point_twice, "used twice"),
    "a page that is not there": (point_outside, "not among"),
    "more elements than a page has": (claim_many_elements, "too small for 65535"),
    "more overflow than the file has": (claim_much_overflow, "cut off within"),
    "another page's number": (claim_other_number, "says that it is page 77"),
    "a page of another kind": (claim_other_kind, "kind 0x10"),
    "a value longer than the page": (claim_long_value, "outside"),
}


@pytest.mark.parametrize(("change", "message"), DAMAGE.values(), ids=DAMAGE)
def test_the_error_says_what_is_damaged(
    change: Callable[[bytearray, Meta], None], message: str
) -> None:
    with pytest.raises(BadFile, match=message):
        everything(Content(corrupted(change)))


@pytest.mark.parametrize("page", [0, 1])
def test_a_torn_meta_record_leaves_the_other(page: int) -> None:
    original = real_files()[0]
    data = bytearray(original)
    data[page * PAGE + 16 + 40] ^= 0xFF
    both = {META.unpack_from(original, each * PAGE + 16)[8] for each in (0, 1)}
    lost = META.unpack_from(original, page * PAGE + 16)[8]
    assert {Content(bytes(data)).meta.transaction} == both - {lost}


def meta_record(change: dict[int, int], order: str = "<") -> bytes:
    fields = list(META.unpack_from(real_files()[0], 16))
    for index, value in change.items():
        fields[index] = value
    return b"\0" * 16 + struct.pack(order + META.format[1:], *fields) + b"\0" * 3 * PAGE


OTHER_FILES = {
    "empty": (lambda: b"", "empty"),
    "short": (lambda: b"short", "5 bytes is too short"),
    "text": (lambda: b"[frontends]\n" * 100, "not a BoltDB database"),
    "zeros": (lambda: bytes(9000), "not a BoltDB database"),
    "another version": (lambda: meta_record({1: 3}), "format version 3"),
    "other byte order": (lambda: meta_record({}, ">"), "other byte order"),
    "wrong checksums": (lambda: meta_record({8: 99}), "checksums"),
}


@pytest.mark.parametrize(("make", "message"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_files_that_are_something_else_are_named(
    make: Callable[[], bytes], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(make())
    with pytest.raises(BadFile, match=message):
        BboltFile(path).content()
    with pytest.raises(BadFile, match=message):
        BboltFile(path).meta()


def test_another_program_s_database_is_named(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "file") as database:
        database.execute("CREATE TABLE t (a)")
    with pytest.raises(BadFile, match="not a BoltDB database"):
        read(tmp_path / "file")


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe"):
        with pytest.raises(BadFile, match="not a regular file"):
            BboltFile(tmp_path / name).content()
    with pytest.raises(FileNotFoundError):
        BboltFile(tmp_path / "missing").meta()


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.touch()
    os.truncate(path, 2 << 30)
    with pytest.raises(BadFile, match="2,147,483,648 bytes"):
        BboltFile(path).content()
