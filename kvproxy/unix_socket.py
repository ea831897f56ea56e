"""Unix sockets that have a file: made for their owner alone, found by paths of any length."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST_NAME = 100
"""A socket address holds names of up to 107 bytes."""


class SocketFile:
    """A listening socket and its file, mode 0600, in place of one that was there."""

    def __init__(self, path: Path, backlog: int) -> None:
        """Listen; raises OSError."""
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        temporary = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        # Made under another name and renamed, so that there is no moment without a socket while a
        # new supervisor takes over, and none in which others may open it.
        try:
            with short_name(temporary) as name:
                mask = os.umask(0o177)
                try:
                    self.socket.bind(name)
                finally:
                    os.umask(mask)
            self.socket.listen(backlog)
            temporary.rename(path)
            self._inode = path.stat().st_ino
        except OSError:
            self.socket.close()
            raise

    def remove(self) -> None:
        """Remove the file unless it is another supervisor's by now."""
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()


@contextlib.contextmanager
def short_name(path: Path) -> Iterator[str]:
    """Yield a name for the socket ``path`` that fits into a socket address."""
    if len(os.fsencode(path)) < LONGEST_NAME:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
