"""The fork server of workers as the supervisor sees it (`kvproxy.proxy.fork_server`).

It imports the worker while the supervisor reads its settings; from then on a worker starts within
milliseconds. When it is gone another one is started as soon as a worker is wanted.
"""

from __future__ import annotations

import asyncio
import ctypes
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

COMMAND = (sys.executable, "-m", "kvproxy.proxy")

FORK_SECONDS = 30.0
"""A fork server that has not answered after so long, its own start included, is replaced."""

_ANSWER_BYTES = 4
_SET_CHILD_SUBREAPER = 36


class ForkServer:
    """Starts worker processes. To be closed by whoever made it; workers outlive it."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        """``command --control FD`` runs the program; nothing is started yet."""
        self._command = command
        self._lock = asyncio.Lock()
        self._running: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def __enter__(self) -> Self:
        """Start the process, so that it is ready when the first worker is wanted."""
        # What fails now is tried again, and told, when a worker is wanted.
        with suppress(OSError):
            self._control()
        return self

    def __exit__(self, *error: object) -> None:
        """End the process."""
        self.close()

    async def fork(self) -> tuple[int, socket.socket]:
        """Return the id of a new process, a child of this one, and our side of its channel.

        Raises OSError.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                return await self._fork(theirs), ours
        except BaseException:
            ours.close()
            raise

    async def _fork(self, channel: socket.socket) -> int:
        async with self._lock:
            try:
                async with asyncio.timeout(FORK_SECONDS):
                    return await self._ask(channel)
            except BaseException as error:
                # An answer that is still to come must not be taken for another one.
                self.close()
                if isinstance(error, TimeoutError):
                    raise OSError(f"no process within {FORK_SECONDS:g} s") from None
                raise

    def close(self) -> int | None:
        """End the process if it runs; returns its exit code."""
        if self._running is None:
            return None
        process, control = self._running
        self._running = None
        control.close()
        process.kill()
        return process.wait()

    def _control(self) -> socket.socket:
        """Return the socket of the running process, which is started if there is none."""
        if self._running is not None and self._running[0].poll() is not None:
            self.close()
        if self._running is None:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    process = subprocess.Popen(
                        [*self._command, "--control", str(theirs.fileno())],
                        pass_fds=[theirs.fileno()],
                        stdin=subprocess.DEVNULL,
                    )
                except OSError:
                    ours.close()
                    raise
            ours.setblocking(False)
            self._running = (process, ours)
        return self._running[1]

    async def _ask(self, channel: socket.socket) -> int:
        control = self._control()
        with _adopting(), suppress(ConnectionError):
            socket.send_fds(control, [b"\0"], [channel.fileno()])
            answer = await asyncio.get_running_loop().sock_recv(control, _ANSWER_BYTES)
            if answer:
                return int.from_bytes(answer, sys.byteorder)
        raise OSError(f"the fork server ended, exit code {self.close()}")


@contextmanager
def _adopting() -> Iterator[None]:
    """For the time of the block, descendants whose parent ends become children of this process.

    Not for ever: what a hand-over that failed leaves behind is left to the system. Where it is
    forbidden the system adopts the workers, and how they end is not known. See prctl(2).
    """
    library = ctypes.CDLL(None)
    library.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        library.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
