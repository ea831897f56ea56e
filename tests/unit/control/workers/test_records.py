from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from kvproxy.control.workers import records as worker_records
from kvproxy.control.workers.records import WorkerRecord, WorkerRecords, process_name, send_signal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def foreign(directory: Path, record: WorkerRecord) -> None:
    (directory / str(record.worker.pid)).write_bytes(msgspec.json.encode(record))


def test_own_workers_are_no_orphans(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    records = WorkerRecords(tmp_path)
    records.add(child.pid, 3)
    assert [each.name for each in tmp_path.iterdir()] == [str(child.pid)]
    assert records.others() == []
    records.remove(child.pid)
    records.remove(child.pid)
    assert list(tmp_path.iterdir()) == []


def test_a_living_worker_of_a_dead_supervisor_is_an_orphan(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    name = process_name(dead.pid)
    dead.wait()
    record = WorkerRecord(process_name(child.pid), name, 2)
    foreign(tmp_path, record)
    assert WorkerRecords(tmp_path).orphans() == [record]


def test_a_worker_of_a_living_supervisor_is_none(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    other = process_name(os.getppid())
    record = WorkerRecord(process_name(child.pid), other, 2)
    foreign(tmp_path, record)
    records = WorkerRecords(tmp_path)
    assert records.others() == [record]
    assert records.orphans() == []


def test_records_of_the_dead_and_of_others_with_the_same_id_are_dropped(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    name = process_name(child.pid)
    other_start = msgspec.structs.replace(name, start_time=name.start_time - 1)
    foreign(tmp_path, WorkerRecord(other_start, other_start, 0))
    (tmp_path / "1").write_bytes(b"{ half a reco")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    gone = process_name(dead.pid)
    dead.wait()
    foreign(tmp_path, WorkerRecord(gone, gone, 0))
    assert WorkerRecords(tmp_path).orphans() == []
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "1.new").write_bytes(b"{ half a reco")
    assert WorkerRecords(tmp_path).others() == []
    assert (tmp_path / "1.new").exists()


def test_a_reboot_ends_every_process(child: subprocess.Popen[bytes]) -> None:
    name = process_name(child.pid)
    assert name.alive
    assert not msgspec.structs.replace(name, boot="another").alive


def test_a_zombie_is_not_alive() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    name = process_name(process.pid)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not name.alive
    assert not send_signal(name, signal.SIGTERM)
    process.communicate()


def test_a_signal_reaches_only_the_named_process(child: subprocess.Popen[bytes]) -> None:
    name = process_name(child.pid)
    other = msgspec.structs.replace(name, start_time=name.start_time + 1)
    assert not send_signal(other, signal.SIGKILL)
    assert child.poll() is None
    assert send_signal(name, signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    assert not send_signal(name, signal.SIGTERM)


def test_a_process_that_ended_needs_no_record(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    WorkerRecords(tmp_path).add(process.pid, 0)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        worker_records.process_name(process.pid)
