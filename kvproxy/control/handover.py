"""The hand-over to a new supervisor, which may be a new version of the program: nothing is lost.

The old supervisor starts its own command line again and gives it, over a unix socket named by the
environment variable `VARIABLE`: the lock of the state directory, every listening socket, and the
generation that is served. The new one starts workers on these very sockets and says `Serving` when
all of them are ready. Until then the old one could go on as if nothing had happened, and does so if
the new one fails. Then the old one gives up the journal, the providers and the control socket, says
`TakeOver`, lets its workers finish, and ends. So there is always one supervisor in charge.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from msgspec import Struct, field

from kvproxy.channel import Channel, ChannelClosed
from kvproxy.control.generations.delta import full
from kvproxy.control.generations.generation import Changes, Generation
from kvproxy.control.workers.records import ProcessName, WorkerRecords, process_name, send_signal
from kvproxy.model.messages import Apply

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from kvproxy.control.state_directory import StateDirectory
    from kvproxy.control.workers.sockets import Place, SlotSockets

VARIABLE = "KVPROXY_HANDOVER"
SERVING_SECONDS = 300.0
"""A new supervisor that does not serve after so long has failed."""

RECEIVE_SECONDS = 30.0
ENDING_SECONDS = 5.0


class HandOverError(Exception):
    """The hand-over failed; the message says why."""


class Predecessor(Struct, frozen=True, tag=True):
    """Who hands over, and the facts of the generation that follows.

    Comes with the lock of the state directory ``directory``. ``down``: the health checks that fail.
    """

    process: ProcessName
    directory: str
    generation: bool
    revisions: dict[str, str]
    created_at: float
    ticket_secret: bytes = b""
    down: list[bytes] = field(default_factory=list)


class Inherit(Struct, frozen=True, tag=True):
    """The sockets of an entry point that listens on ``address`` (as configured); come with it."""

    entry_point: str
    address: str


class Complete(Struct, frozen=True, tag=True):
    """Everything was sent."""


class Serving(Struct, frozen=True, tag=True):
    """The new supervisor's workers serve."""


class TakeOver(Struct, frozen=True, tag=True):
    """The old supervisor has let go of everything but its workers."""


ToSuccessor = Predecessor | Inherit | Apply | Complete | TakeOver
FromSuccessor = Serving


class Inheritance:
    """What a new supervisor got from the old one."""

    def __init__(
        self,
        channel: Channel[ToSuccessor],
        predecessor: Predecessor,
        lock: int,
        sockets: dict[Place, list[socket.socket]],
        generation: Generation | None,
    ) -> None:
        """Use `receive`."""
        self.predecessor = predecessor.process
        self.ticket_secret = predecessor.ticket_secret
        self.down = predecessor.down
        self._directory = predecessor.directory
        self._lock = lock
        self.sockets = sockets
        self.generation = generation
        self._channel = channel

    async def take_over(self) -> bool:
        """Say that this supervisor's workers serve, and wait until it is alone in charge.

        Returns False when the old supervisor died meanwhile, which also leaves this one in charge.
        Raises `HandOverError` when the old one goes on without this one.
        """
        self._channel.send(Serving())
        try:
            while not isinstance((await self._channel.receive())[0], TakeOver):
                pass
        except ChannelClosed:
            if await self._outlived():
                return False
            raise HandOverError("the old supervisor goes on by itself") from None
        finally:
            self._channel.close()
        return True

    async def _outlived(self) -> bool:
        """Tell a dead predecessor from one that gave this process up."""
        # The channel of a dying process closes a moment before the process is gone.
        for _ in range(50):
            if not self.predecessor.alive:
                return True
            await asyncio.sleep(0.02)
        return False

    def lock_of(self, directory: Path) -> int | None:
        """Return the lock if it is that of ``directory``; it is the caller's then."""
        if str(directory) != self._directory:
            return None
        lock, self._lock = self._lock, -1
        return lock

    def close_unused(self, used: Mapping[Place, SlotSockets]) -> None:
        """Close the inherited sockets that no entry point uses any more, and an unused lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
        kept = {id(each) for slots in used.values() for held in slots for each in held}
        for sockets in self.sockets.values():
            for each in sockets:
                if id(each) not in kept:
                    each.close()


def is_successor() -> bool:
    """Tell whether this process was started by a hand-over that it has not taken up yet."""
    return bool(os.environ.get(VARIABLE))


def inherited_descriptor() -> int | None:
    """Return the descriptor of the hand-over if this process was started by one, and forget it."""
    text = os.environ.pop(VARIABLE, "")
    return int(text) if text.isdigit() else None


async def receive(descriptor: int) -> Inheritance:
    """Receive what the old supervisor hands over; raises `HandOverError`."""
    os.set_inheritable(descriptor, False)
    channel: Channel[ToSuccessor] = Channel(socket.socket(fileno=descriptor), ToSuccessor)
    predecessor: Predecessor | None = None
    lock = -1
    sockets: dict[Place, list[socket.socket]] = {}
    parts: list[Apply] = []
    try:
        async with asyncio.timeout(RECEIVE_SECONDS):
            while True:
                message, descriptors = await channel.receive()
                if isinstance(message, Predecessor):
                    predecessor, (lock,) = message, descriptors
                elif isinstance(message, Inherit):
                    received = [socket.socket(fileno=each) for each in descriptors]
                    sockets.setdefault((message.entry_point, message.address), []).extend(received)
                elif isinstance(message, Apply):
                    parts.append(message)
                else:
                    break
    except (ChannelClosed, TimeoutError) as error:
        raise HandOverError(f"the old supervisor did not hand over: {error}") from error
    if predecessor is None:
        raise HandOverError("the old supervisor did not say who it is")
    generation = _generation(predecessor, parts) if predecessor.generation else None
    return Inheritance(channel, predecessor, lock, sockets, generation)


def _generation(predecessor: Predecessor, parts: Sequence[Apply]) -> Generation:
    frontends = {(each.provider, each.name): each for part in parts for each in part.frontends}
    backends = {(each.provider, each.name): each for part in parts for each in part.backends}
    certificates = {
        (each.provider, each.name): each for part in parts for each in part.certificates
    }
    return Generation(
        number=parts[-1].generation,
        digest=parts[-1].digest,
        revisions=predecessor.revisions,
        frontends=frontends,
        backends=backends,
        certificates=certificates,
        created_at=predecessor.created_at,
        base=-1,
        changes=Changes(),
    )


class Successor:
    """The new supervisor as the old one sees it."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel[FromSuccessor]) -> None:
        """Use `start`."""
        self.pid = process.pid
        self._process = process
        self._channel = channel

    @classmethod
    def start(
        cls,
        directory: StateDirectory,
        sockets: Mapping[Place, SlotSockets],
        generation: Generation | None,
        command: Sequence[str] | None = None,
        ticket_secret: bytes = b"",
        down: Iterable[bytes] = (),
    ) -> Successor:
        """Start the program again and hand everything to it.

        ``sockets``: of each address. ``ticket_secret``: that of the TLS session tickets. ``down``:
        the health checks that fail. Raises OSError.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = subprocess.Popen(
                    command or own_command(),
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, VARIABLE: str(theirs.fileno())},
                )
            except OSError:
                ours.close()
                raise
        channel: Channel[FromSuccessor] = Channel(ours, FromSuccessor)
        channel.send(
            Predecessor(
                process_name(os.getpid()),
                str(directory.path),
                generation is not None,
                generation.revisions if generation else {},
                generation.created_at if generation else 0.0,
                ticket_secret,
                list(down),
            ),
            [directory.lock],
        )
        for (name, address), slots in sockets.items():
            for held in slots:
                channel.send(Inherit(name, address), [each.fileno() for each in held])
        for part in full(generation) if generation else ():
            channel.send(part)
        channel.send(Complete())
        return cls(process, channel)

    async def serving(self) -> None:
        """Wait until it serves; raises `HandOverError` when it ends or takes too long."""
        try:
            async with asyncio.timeout(SERVING_SECONDS):
                await self._channel.receive()
        except TimeoutError:
            raise HandOverError(f"it does not serve after {SERVING_SECONDS:g} s") from None
        except ChannelClosed:
            raise HandOverError("it ended before it served") from None

    async def leave_to(self) -> None:
        """Tell it that it is in charge now."""
        self._channel.send(TakeOver())
        with contextlib.suppress(ChannelClosed):
            await self._channel.drain()
        self._channel.close()

    async def abandon(self, records: WorkerRecords) -> None:
        """End a new supervisor that failed, and the workers that it has started.

        Workers outlive their supervisor by design, and these would go on taking connections.
        """
        self._channel.close()
        if self._process.poll() is None:
            name = process_name(self.pid)
            send_signal(name, signal.SIGTERM)
            await self._ended(ENDING_SECONDS)
            send_signal(name, signal.SIGKILL)
            await self._ended(ENDING_SECONDS)
        for record in records.others():
            if record.supervisor.pid == self.pid:
                send_signal(record.worker, signal.SIGTERM)

    async def _ended(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._process.poll() is None:
                    await asyncio.sleep(0.02)


def own_command() -> list[str]:
    """Return the command line that this program was started with, for the same interpreter."""
    return [sys.executable, *sys.orig_argv[1:]]
