"""Workers that speak the supervisor's language and do what a test says; they serve nothing.

Run as ``stand_in_worker.py DIRECTORY --control FD``, a fork server. Each worker appends what it is
told to ``DIRECTORY/SLOT`` and looks there for its behaviour, a file named ``behaviour-SLOT``.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from kvproxy.proxy import fork_server


class StandIn:
    """One process of the stand-in worker."""

    def __init__(self, directory: Path, start: Start, channel: Channel[ToWorker]) -> None:
        """Read the behaviour."""
        self.slot = start.slot
        self.host_name = start.host_name
        self.log = directory / str(self.slot)
        path = directory / f"behaviour-{self.slot}"
        self.behaviour = path.read_text() if path.exists() else ""
        self.channel = channel
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
        self.note(f"start {self.slot} {self.host_name}")
        beating = asyncio.get_running_loop().create_task(self.beat())
        try:
            while True:
                message, descriptors = await self.channel.receive()
                if isinstance(message, Listen):
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


async def work(directory: Path, descriptor: int) -> None:
    """Be one worker."""
    channel: Channel[ToWorker] = Channel(socket.socket(fileno=descriptor), ToWorker)
    with contextlib.suppress(ChannelClosed):
        start, _ = await channel.receive()
        assert isinstance(start, Start)
        await StandIn(directory, start, channel).run()


def main() -> None:
    """Be the fork server, and then, in each process that it makes, a worker."""
    directory, _, descriptor = sys.argv[1:]
    with socket.socket(fileno=int(descriptor)) as control:
        channel = fork_server.run(control)
    if channel is not None:
        asyncio.run(work(Path(directory), channel))


if __name__ == "__main__":
    main()
