"""Lines on their way to a file: whole, in order, bounded, whatever happens to the file."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from kvproxy.proxy.access_log.writer import WAITING_LINES, LineWriter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECONDS = 20.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that the writer's thread does."""
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


async def test_lines_come_in_order(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "below" / "log"
    writer = LineWriter(str(path), 0)
    wanted = [b"line %d\n" % number for number in range(1000)]
    for number, line in enumerate(wanted):
        writer.add(line)
        if number % 100 == 0:
            await asyncio.sleep(0)
    await until(lambda: lines_of(path) == wanted)
    writer.close()
    assert lines_of(path) == wanted


async def test_a_file_is_made_before_the_first_line_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "log"
    first = LineWriter(str(path), 0)
    await until(path.exists)
    first.add(b"one\n")
    first.close()
    second = LineWriter(str(path), 0)
    second.add(b"two\n")
    second.close()
    assert lines_of(path) == [b"one\n", b"two\n"]
    assert path.stat().st_mode & 0o777 == 0o664 & ~current_mask()


def current_mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("hold", [1, 2, 10])
async def test_held_lines_go_out_when_there_are_enough(
    tmp_path: Path, hold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvproxy.proxy.access_log.writer.HOLD_SECONDS", 3600.0)
    path = tmp_path / "log"
    writer = LineWriter(str(path), hold)
    await until(path.exists)
    for _ in range(hold - 1):
        writer.add(b"held\n")
    await asyncio.sleep(0)
    assert lines_of(path) == []
    writer.add(b"last\n")
    await until(lambda: len(lines_of(path)) == hold)
    writer.close()
    assert len(lines_of(path)) == hold


async def test_held_lines_go_out_after_a_while_and_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writer = LineWriter(str(path), 100)
    writer.add(b"after a while\n")
    await until(lambda: lines_of(path) == [b"after a while\n"])
    writer.add(b"at the end\n")
    writer.close()
    assert lines_of(path)[1:] == [b"at the end\n"]


async def test_reopening_separates_old_lines_from_new_ones(tmp_path: Path) -> None:
    path, moved = tmp_path / "log", tmp_path / "log.1"
    writer = LineWriter(str(path), 100)
    writer.add(b"old\n")
    await until(path.exists)
    path.rename(moved)
    writer.reopen()
    writer.add(b"new\n")
    writer.close()
    assert lines_of(moved) == [b"old\n"]
    assert lines_of(path) == [b"new\n"]


async def test_lines_are_lost_while_the_file_cannot_be_had(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with caplog.at_level(logging.ERROR):
        writer = LineWriter(str(blocked / "log"), 0)
        writer.add(b"lost\n")
        await until(lambda: "cannot be opened: Not a directory" in caplog.text)
    blocked.unlink()

    def written() -> bool:
        writer.add(b"kept\n")
        return bool(lines_of(blocked / "log"))

    await until(written)
    writer.close()
    assert set(lines_of(blocked / "log")) == {b"kept\n"}


async def test_a_full_disk_is_told_now_and_then(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    link = tmp_path / "log"
    link.symlink_to("/dev/full")
    with caplog.at_level(logging.ERROR):
        writer = LineWriter(str(link), 0)
        for _ in range(20):
            writer.add(b"lost\n")
            await asyncio.sleep(0)
        await until(lambda: "No space left on device" in caplog.text)
        writer.close()
    assert caplog.text.count("No space left") <= 2


async def test_a_pipe_that_nobody_reads_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with caplog.at_level(logging.ERROR):
        writer = LineWriter(str(path), 0)
        await until(lambda: "cannot be opened: No such device or address" in caplog.text)
        writer.close()


async def test_what_waits_for_a_slow_reader_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop goes on, and whole lines come out; how many were lost is told."""
    reading, writing = os.pipe()
    line = b"x" * 99 + b"\n"
    with os.fdopen(writing, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        writer = LineWriter("", 0)
        for _ in range(3 * WAITING_LINES):
            writer.add(line)
        await asyncio.sleep(0)
        for _ in range(3 * WAITING_LINES):
            writer.add(line)
            if _ % 100 == 0:
                await asyncio.sleep(0)
        received = bytearray()
        reader = threading.Thread(target=read_all, args=(reading, received))
        reader.start()
        await until(lambda: len(received) > 0)
        with caplog.at_level(logging.ERROR):
            while "lines are lost" not in caplog.text:
                writer.add(line)
                await asyncio.sleep(0.005)
        writer.close()
    reader.join(SECONDS)
    assert set(bytes(received).splitlines(keepends=True)) == {line}
    assert len(received) < 3 * WAITING_LINES * len(line)


def read_all(descriptor: int, received: bytearray) -> None:
    with os.fdopen(descriptor, "rb") as stream:
        while data := stream.read(65536):
            received += data


SCRIPT = """
import asyncio, sys
from kvproxy.proxy.access_log.writer import LineWriter

async def main():
    writer = LineWriter(sys.argv[1], int(sys.argv[3]))
    for number in range(2000):
        writer.add(sys.argv[2].encode() * (number % 300) + b" %d\\n" % number)
        if number % 7 == 0:
            await asyncio.sleep(0)
    writer.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("hold", ["0", "50"])
def test_lines_of_several_processes_do_not_mix(tmp_path: Path, hold: str) -> None:
    path = tmp_path / "log"
    command = [sys.executable, "-c", SCRIPT, str(path)]
    processes = [subprocess.Popen([*command, letter, hold]) for letter in "abc"]
    for process in processes:
        assert process.wait(60) == 0
    found: dict[str, list[int]] = {letter: [] for letter in "abc"}
    for line in path.read_text().splitlines():
        letters, _, number = line.rpartition(" ")
        assert letters == letters[:1] * (int(number) % 300), line
        if letters:
            found[letters[0]].append(int(number))
    expected = [number for number in range(2000) if number % 300]
    assert found == dict.fromkeys("abc", expected)
