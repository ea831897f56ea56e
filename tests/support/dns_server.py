"""A DNS server that knows a few names."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import dns.message
import dns.rdataclass
import dns.rdatatype
import dns.rrset

if TYPE_CHECKING:
    from tests.support.backend import LoopThread

Records = dict[str, tuple[str, int]]


class DnsServer(asyncio.DatagramProtocol):
    """Answers questions for CNAME records over UDP.

    ``records``: name to (target, TTL in seconds). ``silent``: it says nothing. ``asked``: the
    names, in order.
    """

    def __init__(
        self,
        loop_thread: LoopThread,
        records: Records,
        *,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """Listen on ``port``, a free one unless given; OSError when it cannot be had."""
        self.records = records
        self.silent = False
        self.asked: list[str] = []
        self._loop_thread = loop_thread
        self._transport: asyncio.DatagramTransport = loop_thread.run(self._listen(address, port))
        self.port: int = self._transport.get_extra_info("sockname")[1]

    async def _listen(self, address: str, port: int) -> asyncio.DatagramTransport:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(address, port))
        return transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        self._replies = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Answer one question."""
        question = dns.message.from_wire(data)
        name = question.question[0].name
        self.asked.append(name.to_text(omit_final_dot=True))
        if self.silent:
            return
        answer = dns.message.make_response(question)
        found = self.records.get(self.asked[-1])
        if found is not None:
            target, lives = found
            answer.answer.append(
                dns.rrset.from_text(
                    name, lives, dns.rdataclass.IN, dns.rdatatype.CNAME, f"{target}."
                )
            )
        self._replies.sendto(answer.to_wire(), address)

    def stop(self) -> None:
        """Stop listening."""

        async def close() -> None:
            self._transport.close()

        self._loop_thread.run(close())
