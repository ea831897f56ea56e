"""Locks between worker processes that the kernel takes back when their holder dies.

A lock is one byte of a file, locked as in fcntl(2) (POSIX record locks): nothing has to be repaired
after ``kill -9``. Locking and unlocking cost about 1.2 us. POSIX locks belong to a process, so they
do nothing between threads.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType

PATIENCE_SECONDS = 0.05
"""A lock that is not free for so long is not waited for: its holder does not run."""

DISTRUST_SECONDS = 1.0
"""For so long after that, no lock is waited for."""

YIELDS = 20
PAUSE_SECONDS = 0.0002

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

    Whoever holds one does so for microseconds. When it is not given back in time, because its
    holder was stopped in the middle, requests go on without: a limit that is not exact for a moment
    is better than workers that stand still.
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
        now = time.monotonic()
        if now < self._distrusted_until:
            return
        deadline = now + PATIENCE_SECONDS
        tries = 0
        while time.monotonic() < deadline:
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
        self._distrusted_until = time.monotonic() + DISTRUST_SECONDS
        _logger.error("another worker does not give a lock back; limits are not exact for now")


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
