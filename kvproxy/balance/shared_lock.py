"""Locks between worker processes that the kernel takes back when their holder dies.

A lock is one byte of a file, locked as in fcntl(2) (POSIX record locks): nothing has to be repaired
after ``kill -9``. Locking and unlocking cost about 1.2 us. POSIX locks belong to a process, so they
do nothing between threads.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE_SECONDS = 0.05
"""A lock that is not free for so long is not waited for when its holder is stopped (SIGSTOP, a
debugger)."""

LONGEST_PATIENCE_SECONDS = 1.0
"""A holder that runs gives its lock back within microseconds of its own time; on a machine where it
has to wait for a processor that may take a while. Longer than this no lock is waited for."""

DISTRUST_FACTOR = 20
"""For so many times the time that was waited in vain, no lock is waited for."""

YIELDS = 20
PAUSE_SECONDS = 0.0002

_FLOCK = struct.Struct("hhqqi0q")
"""The struct flock of fcntl(2): type, whence, start, length, process."""

_logger = logging.getLogger("kvproxy.balance")


class Locks(Protocol):
    """A number of locks, each named by its position."""

    def take(self, position: int) -> None:
        """Take a lock, waiting for it if need be; it must not be held by this process."""
        ...

    def give(self, position: int) -> None:
        """Give it back."""
        ...


class NoLocks:
    """For a process that shares with nobody."""

    def take(self, position: int) -> None:
        """Do nothing."""

    def give(self, position: int) -> None:
        """Do nothing."""


class RecordLocks:
    """Locks on the bytes of a file.

    Whoever holds one does so for microseconds. When its holder was stopped in the middle, requests
    go on without it: a limit that is not exact for a moment is better than workers that stand
    still.
    """

    __slots__ = ("_descriptor", "_distrusted_until")

    def __init__(self, descriptor: int) -> None:
        """``descriptor``: of the file; never close another descriptor of it in this process, for
        that would give back all locks."""
        self._descriptor = descriptor
        self._distrusted_until = 0.0

    def take(self, position: int) -> None:
        """Take the lock of a byte."""
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
        except (BlockingIOError, PermissionError):
            self._wait(position)

    def give(self, position: int) -> None:
        """Give the lock of a byte back."""
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, position)

    def _wait(self, position: int) -> None:
        began = time.monotonic()
        if began < self._distrusted_until:
            return
        tries = 0
        while (waited := time.monotonic() - began) < LONGEST_PATIENCE_SECONDS:
            if waited >= PATIENCE_SECONDS and self._holder_is_stopped(position):
                break
            # The holder needs a few microseconds of a processor, perhaps of this one.
            if tries < YIELDS:
                os.sched_yield()
            else:
                time.sleep(PAUSE_SECONDS)
            tries += 1
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)
            except (BlockingIOError, PermissionError):
                continue
            return
        self._distrusted_until = time.monotonic() + DISTRUST_FACTOR * waited
        _logger.error("another worker does not give a lock back; limits are not exact for now")

    def _holder_is_stopped(self, position: int) -> bool:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
        kind, _, _, _, holder = _FLOCK.unpack(fcntl.fcntl(self._descriptor, fcntl.F_GETLK, asked))
        if kind == fcntl.F_UNLCK:
            return False
        try:
            stat = Path(f"/proc/{holder}/stat").read_bytes()
        except OSError:
            return False
        # proc(5): the state stands behind the name, which may hold anything but ends with ")".
        return stat[stat.rindex(b")") + 2 :][:1] in b"Tt"


class HeldLock:
    """One lock as a context manager."""

    __slots__ = ("_locks", "_position")

    def __init__(self, locks: Locks, position: int) -> None:
        """``position`` of the lock in ``locks``."""
        self._locks = locks
        self._position = position

    def __enter__(self) -> None:
        """Take it."""
        self._locks.take(self._position)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        self._locks.give(self._position)
