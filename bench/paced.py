"""A load at a steady pace, below saturation: shows what a change costs everybody else."""

from __future__ import annotations

import asyncio
import time

from bench.peers import HOST

REQUEST = f"GET /hello HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


async def _client(port: int, start: float, end: float, gap: float, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = start
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        began = time.monotonic()
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(head[:60].decode("latin-1"))
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append(time.monotonic() - began)
        due += gap
    writer.close()


def paced(port: int, seconds: float, *, clients: int = 20, rate: float = 500.0) -> list[float]:
    """Return the sorted latencies, seconds, of ``rate`` requests a second for ``seconds``."""
    latencies: list[float] = []

    async def run() -> None:
        now = time.monotonic() + 0.2
        gap = clients / rate
        await asyncio.gather(
            *(
                _client(port, now + gap * number / clients, now + seconds, gap, latencies)
                for number in range(clients)
            )
        )

    asyncio.run(run())
    return sorted(latencies)
