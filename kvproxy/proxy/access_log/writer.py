"""Lines on their way to a file: batches, written by a thread, so that no request ever waits.

Each batch is one write to a file that is open for appending, which the kernel does not mix with
those of other processes: the lines of all workers stay whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import stat
import sys
from enum import Enum
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from time import monotonic

logger = logging.getLogger("kvproxy.proxy")

WAITING_LINES = 10_000
"""Lines that may wait for a slow disk; further ones are lost, and counted."""

HOLD_SECONDS = 1.0
"""How long lines are held back at most, where they are held back at all."""

GATHER_SECONDS = 0.005
"""How long they are gathered otherwise: waking the thread costs about as much as a line."""

GATHERED_LINES = 1_000
"""So many are written at once however little time has passed."""

RETRY_SECONDS = 1.0
"""How long a file that cannot be opened is left alone."""

CLOSE_SECONDS = 2.0
"""How long a worker that ends waits for a slow disk."""

COMPLAINT_SECONDS = 10.0
"""How often the same trouble is told."""

FILE_MODE = 0o664
"""Before the mask of the process (specification section 8.5)."""


class _Order(Enum):
    REOPEN = "open the file by its name again"
    END = "write what there is, then end"


class LineWriter:
    """Takes lines in the loop of a worker, and writes them in a thread.

    ``hold``: so many lines are held back before they are written, but for no longer than a second;
    0: they are written with those of the next few milliseconds. ``path`` empty: standard output.
    """

    def __init__(self, path: str, hold: int) -> None:
        """Let the thread open the file, with its folders; what is wrong with it is told in the
        log."""
        self._most = hold or GATHERED_LINES
        self._pause = HOLD_SECONDS if hold else GATHER_SECONDS
        self._limit = max(WAITING_LINES, 2 * hold)
        self._loop = asyncio.get_running_loop()
        self._batch: list[bytes] = []
        self._timer: asyncio.Handle | None = None
        self._taken = 0
        self._lost = 0
        self._queue: SimpleQueue[list[bytes] | _Order] = SimpleQueue()
        self._file = _File(path)
        self._thread = Thread(target=self._run, name="access log", daemon=True)
        self._thread.start()

    def add(self, line: bytes) -> None:
        """Take one line, its end included."""
        batch = self._batch
        batch.append(line)
        if len(batch) == self._most:
            self._hand_over()
        elif self._timer is None:
            self._timer = self._loop.call_later(self._pause, self._hand_over)

    def _hand_over(self) -> None:
        """Give what there is to the thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._batch = self._batch, []
        if not batch:
            return
        if self._taken - self._file.done + len(batch) > self._limit:
            self._lost += len(batch)
            return
        if self._lost:
            logger.error("access log: lines are lost, the disk is too slow lines=%d", self._lost)
            self._lost = 0
        self._taken += len(batch)
        self._queue.put(batch)

    def reopen(self) -> None:
        """Open the file by its name again, after the lines so far: it may have been moved away."""
        self._hand_over()
        self._queue.put(_Order.REOPEN)

    def close(self) -> None:
        """Write what there is, as far as the disk takes it in time."""
        self._hand_over()
        self._queue.put(_Order.END)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        self._file.open()
        while True:
            item = self._queue.get()
            if item is _Order.END:
                self._file.close()
                return
            if isinstance(item, _Order):
                self._file.reopen()
                continue
            self._file.write(item)


class _File:
    """The file, as the thread sees it. ``done``: lines that need not be waited for any more."""

    def __init__(self, path: str) -> None:
        self.done = 0
        self._path = path
        self._descriptor = -1
        self._is_pipe = False
        self._torn = False
        self._opened_at = 0.0
        self._complained_at: dict[str, float] = {}

    def write(self, lines: list[bytes]) -> None:
        """Append whole lines; those that cannot be written are lost."""
        try:
            if self._descriptor < 0 and monotonic() - self._opened_at > RETRY_SECONDS:
                self.open()
            if self._descriptor < 0:
                return
            try:
                for piece in self._pieces(lines):
                    self._append(piece)
            except OSError as error:
                self._complain(f"cannot be written: {error.strerror}")
        finally:
            self.done += len(lines)

    def _pieces(self, lines: list[bytes]) -> list[bytes]:
        """Join lines as far as the kernel keeps them together."""
        if not self._is_pipe:
            return [b"".join(lines)]
        pieces = [b""]
        for line in lines:
            if len(pieces[-1]) + len(line) > select.PIPE_BUF:
                pieces.append(b"")
            pieces[-1] += line
        return pieces

    def _append(self, piece: bytes) -> None:
        if self._torn:
            # A full disk took a part of a line; the next one begins on its own.
            piece = b"\n" + piece
        written = os.write(self._descriptor, piece)
        self._torn = (self._torn and not written) or (
            0 < written < len(piece) and piece[written - 1 : written] != b"\n"
        )
        if written < len(piece):
            raise OSError(0, "no room for all of it")

    def reopen(self) -> None:
        """Open the file by its name."""
        if self._path:
            self.close()
            self.open()

    def close(self) -> None:
        """Let go of the file."""
        if self._path and self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def open(self) -> None:
        """Open the file, making it and its folders where they are missing."""
        self._opened_at = monotonic()
        self._torn = False
        if not self._path:
            self._descriptor = sys.stdout.fileno()
        else:
            try:
                self._descriptor = _open_for_appending(self._path)
            except OSError as error:
                self._complain(f"cannot be opened: {error.strerror}")
                return
        with contextlib.suppress(OSError):
            mode = os.fstat(self._descriptor).st_mode
            self._is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)

    def _complain(self, trouble: str) -> None:
        now = monotonic()
        if now - self._complained_at.get(trouble, -COMPLAINT_SECONDS) >= COMPLAINT_SECONDS:
            self._complained_at[trouble] = now
            logger.error("access log: %s %s, requests are served on", self._path or "-", trouble)


def _open_for_appending(path: str) -> int:
    """Return a descriptor of the file, made with its folders if there is none; raises OSError.

    A named pipe that nobody reads is an error: nobody waits for a reader.
    """
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags, FILE_MODE)
    except FileNotFoundError:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, flags, FILE_MODE)
