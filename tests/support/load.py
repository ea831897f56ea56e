"""Clients that never stop asking, and a record of everything that went wrong for them."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Self

from tests.support.closing import Closing
from tests.support.deadline import wait_until

REQUEST_SECONDS = 20.0


class Load(Closing):
    """Clients on one port of this machine, each asking again as soon as it has its answer.

    ``keep_alive`` clients use their connection until the proxy announces its end; ``fresh`` ones
    make a connection for each request. Every answer must be a 200. ``failures`` counts what was
    not, by kind:

    - ``refused``: no connection;
    - ``reset``: the connection ended before the request was sent;
    - ``cut``: it ended after that, without a whole answer;
    - ``slow``: no answer within `REQUEST_SECONDS`;
    - ``status N``: another answer.
    """

    def __init__(
        self, port: int, host: str, *, target: str = "/", keep_alive: int = 8, fresh: int = 2
    ) -> None:
        """Prepare; nothing is asked before the context is entered."""
        self.answered = 0
        self.failures: Counter[str] = Counter()
        self._port = port
        head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\n"
        self._request = head.encode() + b"\r\n"
        self._request_close = head.encode() + b"Connection: close\r\n\r\n"
        self._clients = [True] * keep_alive + [False] * fresh
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def __enter__(self) -> Self:
        """Start asking; returns when every client has had answers."""
        self.start()
        self.wait_for_answers(4 * len(self._clients))
        return self

    def start(self) -> None:
        """Start asking, whether or not somebody answers."""
        self._thread.start()

    def close(self) -> None:
        """Let every client finish its request and end."""
        self._stopping = True
        self._thread.join(REQUEST_SECONDS + 5)
        assert not self._thread.is_alive(), "the load does not end"

    def wait_for_answers(self, count: int, seconds: float = 30.0) -> None:
        """Wait until so many more requests were answered."""
        wanted = self.answered + count
        wait_until(lambda: self.answered >= wanted, f"{count} more answers", seconds)

    def _run(self) -> None:
        asyncio.run(self._ask_all())

    async def _ask_all(self) -> None:
        await asyncio.gather(*(self._client(keep_alive) for keep_alive in self._clients))

    async def _client(self, keep_alive: bool) -> None:
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._stopping:
            failure = ""
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    if connection is None:
                        failure = "refused"
                        connection = await asyncio.open_connection("127.0.0.1", self._port)
                    reader, writer = connection
                    failure = "reset"
                    writer.write(self._request if keep_alive else self._request_close)
                    await writer.drain()
                    failure = "cut"
                    failure, reusable = await self._answer(reader)
            except TimeoutError:
                failure, reusable = "slow", False
            except (OSError, asyncio.IncompleteReadError):
                reusable = False
            if failure:
                self.failures[failure] += 1
                await asyncio.sleep(0.005)
            else:
                self.answered += 1
            if connection is not None and not (reusable and keep_alive):
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def _answer(self, reader: asyncio.StreamReader) -> tuple[str, bool]:
        """Read an answer; return what is wrong with it and whether the connection stays open."""
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        status = head[9:12].decode()
        return "" if status == "200" else f"status {status}", b"connection: close" not in head
