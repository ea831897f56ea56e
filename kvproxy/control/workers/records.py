"""Who our workers are, written down, so that a later supervisor finds those of one that was killed.

A process is named by its id, its start time and the boot it belongs to: ids are used again.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import msgspec
from msgspec import Struct


class ProcessName(Struct, frozen=True):
    """A process, for ever: ``start_time`` in clock ticks since the boot ``boot``."""

    pid: int
    start_time: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        found = _stat(self.pid)
        return found is not None and found == (self.start_time, True) and self.boot == _boot()


class WorkerRecord(Struct, frozen=True):
    """One worker process and the supervisor that started it."""

    worker: ProcessName
    supervisor: ProcessName
    slot: int


def process_name(pid: int) -> ProcessName:
    """Name a running process; raises ProcessLookupError."""
    found = _stat(pid)
    if found is None:
        raise ProcessLookupError(f"no process {pid}")
    return ProcessName(pid, found[0], _boot())


class WorkerRecords:
    """The records in the directory ``directory``, one file per worker process."""

    def __init__(self, directory: Path) -> None:
        """Use an existing directory."""
        self._directory = directory
        self._own = process_name(os.getpid())

    def add(self, pid: int, slot: int) -> None:
        """Record a worker of this supervisor; a worker that is already gone needs none."""
        try:
            record = WorkerRecord(process_name(pid), self._own, slot)
        except ProcessLookupError:
            return
        path = self._directory / str(pid)
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(record))
        temporary.replace(path)

    def remove(self, pid: int) -> None:
        """Forget a worker that has ended."""
        (self._directory / str(pid)).unlink(missing_ok=True)

    def others(self) -> list[WorkerRecord]:
        """Return the living workers that another supervisor started; records of dead ones go."""
        found = []
        for path in self._directory.iterdir():
            if not path.name.isdigit():
                continue
            try:
                record = msgspec.json.decode(path.read_bytes(), type=WorkerRecord)
            except FileNotFoundError:
                continue
            except msgspec.DecodeError:
                path.unlink(missing_ok=True)
                continue
            if not record.worker.alive:
                path.unlink(missing_ok=True)
            elif record.supervisor != self._own:
                found.append(record)
        return found

    def orphans(self) -> list[WorkerRecord]:
        """Return the living workers whose supervisor is dead."""
        return [record for record in self.others() if not record.supervisor.alive]


def send_signal(process: ProcessName, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; False when it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        # The descriptor holds whoever has the id now; only then is it safe to compare.
        if not process.alive:
            return False
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
            return True
        return False
    finally:
        os.close(descriptor)


def _stat(pid: int) -> tuple[int, bool] | None:
    """Return (start time in ticks, whether it runs) of a process, None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses and may hold anything.
    fields = text.rpartition(")")[2].split()
    return int(fields[19]), fields[0] not in ("Z", "X")


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
