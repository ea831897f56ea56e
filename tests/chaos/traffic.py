"""Clients that ask at a steady rate, and a record of what they were answered."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

CONNECTIONS = 8
REQUEST_SECONDS = 5.0

Answer = tuple[int, str]
"""Status, and the name of the server that answered (empty when the proxy did)."""


async def ask(port: int, host: str) -> Answer:
    """Send one request on a connection of its own."""
    async with asyncio.timeout(REQUEST_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return await _exchange(reader, writer, host)
        finally:
            writer.close()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str
) -> Answer:
    writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length:")[2].partition("\r\n")[0])
    await reader.readexactly(length)
    return int(head[9:12]), head.partition("x-server: ")[2].partition("\r\n")[0]


class Traffic:
    """``rate`` requests a second to hosts chosen at random.

    ``allowed``: for each host the answers that are right at any time. ``wrong`` counts the others,
    and requests that were not answered.
    """

    def __init__(self, port: int, allowed: dict[str, Collection[Answer]], rate: float) -> None:
        """Nothing is asked before `run`."""
        self.answered = 0
        self.wrong: Counter[str] = Counter()
        self._port = port
        self._allowed = allowed
        self._hosts: Sequence[str] = list(allowed)
        self._pause = CONNECTIONS / rate

    async def run(self) -> None:
        """Ask until cancelled."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(CONNECTIONS):
                clients.create_task(self._client())

    async def _client(self) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        loop = asyncio.get_running_loop()
        due = loop.time() + random.uniform(0, self._pause)
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += self._pause
            host = random.choice(self._hosts)
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    if connection is None:
                        connection = await asyncio.open_connection("127.0.0.1", self._port)
                    answer = await _exchange(*connection, host)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.wrong[f"{host}: {type(error).__name__}"] += 1
                connection = None
                continue
            self.answered += 1
            if answer not in self._allowed[host]:
                self.wrong[f"{host}: {answer}"] += 1
