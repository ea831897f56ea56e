"""A worker that speaks the supervisor's language and does what a test says; it serves nothing.

Run as ``stand_in_worker.py DIRECTORY --channel FD --slot N``. Each process appends what it is told
to ``DIRECTORY/SLOT`` and looks there for its behaviour, a file named ``behaviour-SLOT``.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from pathlib import Path

from kvproxy.channel import Channel, ChannelClosed
from kvproxy.model.messages import (
    Applied,
    Apply,
    Listen,
    Ready,
    Refused,
    Release,
    Start,
    Statistics,
    Stop,
    ToWorker,
)


class StandIn:
    """One process of the stand-in worker."""

    def __init__(self, directory: Path, descriptor: int, slot: int) -> None:
        """Read the behaviour."""
        self.slot = slot
        self.log = directory / str(slot)
        path = directory / f"behaviour-{slot}"
        self.behaviour = path.read_text() if path.exists() else ""
        self.channel: Channel[ToWorker] = Channel(socket.socket(fileno=descriptor), ToWorker)
        self.held = 0
        self.applied = 0

    def note(self, text: str) -> None:
        """Append a line to the log of the slot."""
        with self.log.open("a") as log:
            log.write(f"{os.getpid()} {text}\n")

    async def run(self) -> None:
        """Obey until told to stop."""
        if self.behaviour == "die":
            return
        if self.behaviour == "mute":
            await asyncio.Event().wait()
        beating = asyncio.get_running_loop().create_task(self.beat())
        try:
            while True:
                message, descriptors = await self.channel.receive()
                if isinstance(message, Start):
                    self.note(f"start {message.slot} {message.host_name}")
                elif isinstance(message, Listen):
                    self.note(f"listen {message.entry_point} {len(descriptors)} of {message.slot}")
                elif isinstance(message, Release):
                    self.note(f"release {message.slot}")
                elif isinstance(message, Stop):
                    self.note(f"stop {message.accept_seconds:g} {message.grace_seconds:g}")
                    if self.behaviour != "linger":
                        break
                elif message.last:
                    self.apply(message)
        except ChannelClosed:
            self.note("closed")
        beating.cancel()

    def apply(self, message: Apply) -> None:
        """Acknowledge or refuse a generation."""
        names = ",".join(sorted(entry.name for entry in message.frontends))
        self.note(f"apply {message.base}->{message.generation} {names}")
        if self.behaviour == "deaf":
            return
        if message.base not in (-1, self.held) or self.behaviour == "refuse":
            self.channel.send(Refused(message.generation, "a reason"))
            return
        self.held = message.generation
        wrong_once = self.behaviour == "wrong-digest" and message.base != -1
        digest = "wrong" if wrong_once else message.digest
        self.channel.send(Applied(message.generation, digest, 0.001))
        self.applied += 1
        if self.applied == 1:
            self.channel.send(Ready(self.slot, os.getpid()))

    async def beat(self) -> None:
        """Send the heart-beat."""
        while True:
            self.channel.send(Statistics(1, 10, [0, 0, 10, 0, 0, 0]))
            await asyncio.sleep(0.05)


async def main() -> None:
    directory, _, descriptor, _, slot = sys.argv[1:]
    await StandIn(Path(directory), int(descriptor), int(slot)).run()


if __name__ == "__main__":
    asyncio.run(main())
