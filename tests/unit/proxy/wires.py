"""Connections without sockets, which a test drives step by step in any order.

`FakeTransport` keeps the promises of uvloop's transports that the data plane relies on: with a
write limit of 0 the protocol is paused as long as anything is queued; closing flushes first;
``connection_lost`` comes in a later turn, once; nothing is delivered while reading is paused.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import count
from typing import Any

_descriptors = count(1000)


class Wires:
    """All transports of a test by descriptor: the kernel's table."""

    def __init__(self) -> None:
        self.open: dict[int, FakeTransport] = {}

    def send(self, descriptor: int, data: bytes) -> int | None:
        """Stand in for `kvproxy.http.scan.send`."""
        assert descriptor in self.open, "bytes were sent on a descriptor that is closed"
        transport = self.open[descriptor]
        assert not transport.queue, "bytes were sent past those that are queued"
        if transport.dead:
            return len(data)
        sent = min(len(data), transport.room)
        transport.taken += data[:sent]
        transport.room -= sent
        return None if sent == len(data) else sent


class FakeTransport:
    """One connection as its protocol sees it; the test is the peer.

    ``taken``: what the peer's kernel took and the peer has not read; ``room``: what it would still
    take; ``coming``: what the peer sent and the protocol has not seen.
    """

    def __init__(self, wires: Wires, protocol: Any, room: int, *, plain: bool = True) -> None:
        self.wires = wires
        self.protocol = protocol
        self.descriptor = next(_descriptors)
        self.plain = plain
        self.room = room
        self.taken = bytearray()
        self.queue = bytearray()
        self.coming: deque[bytes] = deque()
        self.eof_coming = False
        self.reading = True
        self.protocol_paused = False
        self.closing = False
        self.lost = False
        self.dead = False
        self.shut = False
        self.most_queued = 0
        wires.open[self.descriptor] = self
        protocol.connection_made(self)

    # What the protocol calls.

    def get_extra_info(self, name: str) -> Any:
        """Answer as an asyncio transport does."""
        if name == "ssl_object":
            return None if self.plain else object()
        return {"socket": self, "peername": ("192.0.2.9", 4711)}.get(name)

    def fileno(self) -> int:
        """Return the number that `Wires.send` knows."""
        return self.descriptor

    def set_write_buffer_limits(self, high: int) -> None:
        """Only 0 is ever asked for."""
        assert high == 0

    def get_write_buffer_size(self) -> int:
        """Return how much is queued."""
        return len(self.queue)

    def is_closing(self) -> bool:
        """Tell whether the end was decided."""
        return self.closing

    def write(self, data: bytes) -> None:
        """Queue; the peer's reading moves it on."""
        assert not self.lost, "bytes were written to a connection that is lost"
        if not data or self.closing:
            return
        self.queue += data
        self.most_queued = max(self.most_queued, len(self.queue))
        if not self.protocol_paused:
            self.protocol_paused = True
            self.protocol.pause_writing()
        asyncio.get_running_loop().call_soon(self._flush)

    def write_eof(self) -> None:
        """Shut the sending side after what is queued."""
        self.shut = True

    def pause_reading(self) -> None:
        """Deliver nothing more."""
        assert not self.lost
        self.reading = False

    def resume_reading(self) -> None:
        """Deliver again."""
        assert not self.lost
        self.reading = True

    def close(self) -> None:
        """Flush, then end."""
        if not self.closing:
            self.closing = True
            self._end_if_flushed()

    def abort(self) -> None:
        """End without flushing."""
        self.queue.clear()
        if not self.closing or not self.lost:
            self.closing = True
            asyncio.get_running_loop().call_soon(self._lose, None)

    # What the peer does.

    def deliver(self, size: int) -> bool:
        """Hand up to ``size`` bytes, or the end, to the protocol; False when there is nothing."""
        if not self.reading or self.closing:
            return False
        if self.coming:
            data = self.coming.popleft()
            if len(data) > size:
                self.coming.appendleft(data[size:])
                data = data[:size]
            self.protocol.data_received(data)
            return True
        if self.eof_coming:
            self.eof_coming = False
            if not self.protocol.eof_received():
                self.close()
            return True
        return False

    def read(self, size: int) -> bytes:
        """Read as the peer."""
        data = bytes(self.taken[:size])
        del self.taken[: len(data)]
        self.room += len(data)
        self._flush()
        return data

    def reset(self) -> None:
        """Reset the connection as the peer."""
        if self.closing:
            return
        self.dead = True
        self.queue.clear()
        self.closing = True
        asyncio.get_running_loop().call_soon(self._lose, ConnectionResetError("reset by peer"))

    def _flush(self) -> None:
        if self.lost or self.dead:
            return
        moved = min(self.room, len(self.queue))
        self.taken += self.queue[:moved]
        del self.queue[:moved]
        self.room -= moved
        if not self.queue and self.protocol_paused and not self.lost:
            self.protocol_paused = False
            self.protocol.resume_writing()
        if self.closing:
            self._end_if_flushed()

    def _end_if_flushed(self) -> None:
        if not self.queue:
            asyncio.get_running_loop().call_soon(self._lose, None)

    def _lose(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        self.protocol.connection_lost(error)
        del self.wires.open[self.descriptor]
