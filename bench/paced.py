"""A load at a steady pace, below saturation: shows what a change costs everybody else."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple

from bench.peers import HOST

REQUEST = f"GET /hello HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


class Sample(NamedTuple):
    """A request: the monotonic time at which it was due, and how long it took, in seconds."""

    due: float
    latency: float


async def _client(port: int, first: float, end: float, gap: float, samples: list[Sample]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = first
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head[:60].decode("latin-1"))
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        samples.append(Sample(due, time.monotonic() - began))
        due += gap
    writer.close()


def paced(
    port: int, start: float, seconds: float, *, clients: int = 20, rate: float = 500.0
) -> list[Sample]:
    """Send ``rate`` requests a second for ``seconds`` from the monotonic time ``start`` on."""
    samples: list[Sample] = []

    async def run() -> None:
        gap = clients / rate
        await asyncio.gather(
            *(
                _client(port, start + gap * number / clients, start + seconds, gap, samples)
                for number in range(clients)
            )
        )

    asyncio.run(run())
    return samples
