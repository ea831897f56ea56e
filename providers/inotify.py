"""Linux inotify for asyncio, over ctypes.

Written by hand because the well-kept libraries either collect events for tens of milliseconds
before they tell (`watchfiles`) or hide which kind of event came, and both matter here: the end of a
write (``IN_CLOSE_WRITE``) is worth waiting for and must then be told at once.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from typing import NamedTuple

IN_MODIFY = 0x2
IN_ATTRIB = 0x4
IN_CLOSE_WRITE = 0x8
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_UNMOUNT = 0x2000
IN_Q_OVERFLOW = 0x4000
IN_ONLYDIR = 0x1000000
IN_ISDIR = 0x40000000

_HEADER = struct.Struct("iIII")
_BUFFER_BYTES = 64 * 1024


class Event(NamedTuple):
    """One event: the ``watch`` that `Inotify.add` returned, ``mask`` bits, ``name`` in a directory.

    The watch -1 with ``IN_Q_OVERFLOW`` says that events were lost.
    """

    watch: int
    mask: int
    name: str


class Inotify:
    """One inotify instance. Raises OSError where the kernel has none or allows no more of them."""

    def __init__(self) -> None:
        """Open the instance."""
        library = ctypes.CDLL(None, use_errno=True)
        try:
            self._add_watch = library.inotify_add_watch
            self._remove_watch = library.inotify_rm_watch
            self._descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            raise OSError("this system has no inotify") from None
        if self._descriptor < 0:
            raise _last_error("inotify")
        self._woken = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, path: str, mask: int) -> int:
        """Watch ``path`` for the events of ``mask`` and return the watch; raises OSError."""
        watch: int = self._add_watch(self._descriptor, os.fsencode(path), mask)
        if watch < 0:
            raise _last_error(path)
        return watch

    def remove(self, watch: int) -> None:
        """Stop a watch; one that is already gone is no error."""
        self._remove_watch(self._descriptor, watch)

    def read(self) -> list[Event]:
        """Return the events that wait, without waiting for any."""
        found: list[Event] = []
        while self._descriptor >= 0:
            try:
                data = os.read(self._descriptor, _BUFFER_BYTES)
            except BlockingIOError:
                break
            position = 0
            while position < len(data):
                watch, mask, _, length = _HEADER.unpack_from(data, position)
                position += _HEADER.size
                name = os.fsdecode(data[position : position + length].rstrip(b"\0"))
                position += length
                found.append(Event(watch, mask, name))
        return found

    async def wait(self, seconds: float) -> list[Event]:
        """Wait until there are events, at most ``seconds`` or until `wake`, and return them."""
        if self._descriptor < 0:
            return []
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._woken.set)
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            pass
        finally:
            self._woken.clear()
            self._stop_listening()
        return self.read()

    def wake(self) -> None:
        """End a `wait` now."""
        self._woken.set()

    def close(self) -> None:
        """Release the descriptor; a running `wait` ends with nothing."""
        self._stop_listening()
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
        self._woken.set()

    def _stop_listening(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._descriptor)
            self._loop = None


def _last_error(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
