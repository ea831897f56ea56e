"""A TCP relay in front of a server: a network that can be cut."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.backend import LoopThread


class Relay:
    """Passes connections on to ``port`` of this machine until it is told otherwise.

    ``tap`` is called for each connection, and what it returns with everything that the client says.
    """

    def __init__(
        self,
        loop_thread: LoopThread,
        port: int,
        tap: Callable[[], Callable[[bytes], None]] | None = None,
    ) -> None:
        """Listen on a free port."""
        self._loop_thread = loop_thread
        self._tap = tap or (lambda: lambda part: None)
        self._target = port
        self._is_cut = False
        self._spoiling: tuple[bytes, bytes] | None = None
        self._flows = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server = loop_thread.run(self._listen())
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.endpoint = f"127.0.0.1:{self.port}"

    async def _listen(self) -> asyncio.Server:
        self._flows.set()
        return await asyncio.start_server(self._relay, "127.0.0.1", 0)

    def cut(self) -> None:
        """Reset all connections, and every new one until `mend`."""
        self._is_cut = True
        self._loop_thread.run(self._end_all())

    def stall(self) -> None:
        """Pass nothing on until `mend`; connections stay open, and new ones are taken."""
        self._loop_thread.loop.call_soon_threadsafe(self._flows.clear)

    def spoil(self, good: bytes, bad: bytes) -> None:
        """Put ``bad`` in the place of the next ``good`` that the server says; equally long."""
        assert len(good) == len(bad)
        self._spoiling = (good, bad)

    @property
    def spoilt(self) -> bool:
        """Whether that has happened."""
        return self._spoiling is None

    def mend(self) -> None:
        """Work again."""
        self._is_cut = False
        self._loop_thread.loop.call_soon_threadsafe(self._flows.set)

    def close(self) -> None:
        """End everything."""
        self._loop_thread.loop.call_soon_threadsafe(self._server.close)
        self._loop_thread.run(self._end_all())

    async def _end_all(self) -> None:
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        other: asyncio.StreamWriter | None = None
        try:
            if self._is_cut:
                return
            back, other = await asyncio.open_connection("127.0.0.1", self._target)
            ways = [
                self._pass_on(reader, other, self._tap()),
                self._pass_on(_Answers(self, back), writer, lambda part: None),
            ]
            async with asyncio.TaskGroup() as group:
                for way in ways:
                    group.create_task(way)
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            return
        finally:
            self._connections.discard(task)
            for each in (writer, other):
                if each is not None:
                    _reset(each)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader | _Answers,
        writer: asyncio.StreamWriter,
        tap: Callable[[bytes], None],
    ) -> None:
        while part := await reader.read(65536):
            await self._flows.wait()
            tap(part)
            writer.write(part)
            await writer.drain()
        # The other way ends too: nobody here half-closes a connection and goes on reading.
        raise ConnectionResetError


class _Answers:
    """What the server says, spoilt once if the relay is told to."""

    def __init__(self, relay: Relay, reader: asyncio.StreamReader) -> None:
        self._relay = relay
        self._reader = reader
        self._held = b""

    async def read(self, size: int) -> bytes:
        """Return some of it; what may be the beginning of a text to spoil waits for the rest."""
        while True:
            part = await self._reader.read(size)
            said, self._held = self._held + part, b""
            spoiling = self._relay._spoiling
            if spoiling is None or not part:
                return said
            good, bad = spoiling
            if good in said:
                self._relay._spoiling = None
                return said.replace(good, bad, 1)
            begun = next((n for n in range(len(good) - 1, 0, -1) if said.endswith(good[:n])), 0)
            if begun:
                said, self._held = said[:-begun], good[:begun]
            if said:
                return said


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        held = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
