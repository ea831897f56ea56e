"""One worker process as the supervisor sees it: started, told, listened to, ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from kvproxy.channel import Channel, ChannelClosed
from kvproxy.model.messages import (
    Applied,
    EntryPointsServed,
    FromWorker,
    HealthChange,
    Listen,
    Ready,
    Refused,
    Release,
    ReopenFiles,
    Start,
    Statistics,
    Stop,
    TicketSecret,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from kvproxy.control.generations.generation import Generation
    from kvproxy.control.workers.sockets import Place
    from kvproxy.model.messages import EntryPoints

    Encode = Callable[[Generation | None, Generation], Sequence[bytes]]

FIRST_WORD_SECONDS = 30.0
"""A new process that has said nothing for so long is replaced."""

SILENCE_SECONDS = 10.0
"""A worker without heart-beat for so long is replaced."""

APPLY_SECONDS = 120.0
APPLY_ENTRY_SECONDS = 0.01
"""A worker that takes so long to apply a generation, and so long for each entry, is replaced."""

ENDING_SECONDS = 5.0
"""A process that closed its channel without being told to stop may take so long to end."""

WINDOW = 8
"""So many generations go out unacknowledged; after that the newest replaces those between."""

REFUSALS = 4
"""A worker that refuses so often in a row is replaced."""


class WorkerEvents(Protocol):
    """What the owner of a worker is told."""

    def ready(self, worker: WorkerProcess) -> None:
        """The worker serves."""
        ...

    def acknowledged(self, worker: WorkerProcess, message: Applied) -> None:
        """The worker serves a generation."""
        ...

    def changed_entry_points(self, worker: WorkerProcess, message: EntryPointsServed) -> None:
        """The worker has other entry points."""
        ...

    def refused(self, worker: WorkerProcess, reason: str) -> None:
        """The worker could not apply what it was sent; the whole generation follows."""
        ...


class WorkerProcess:
    """A running worker. Made by `start`; `finished` returns when it has ended.

    ``encode(base, target)`` returns the encoded messages that lead from one generation to another,
    from nothing when ``base`` is None.
    """

    def __init__(
        self,
        slot: int,
        pid: int,
        channel: Channel[FromWorker],
        encode: Encode,
        events: WorkerEvents,
        entry_points: int = 0,
    ) -> None:
        """Use `start`."""
        self.slot = slot
        self.pid = pid
        self.started_at = monotonic()
        self.ready = False
        self.stopping = False
        self.acknowledged: int = -1
        self.statistics = Statistics(0, 0, [0] * 6)
        self.lent: set[int] = set()
        self.entry_points = entry_points
        self._served: set[tuple[Place, int]] = set()
        self._channel = channel
        self._encode = encode
        self._events = events
        self._heard_at: float | None = None
        self._sent: Generation | None = None
        self._latest: Generation | None = None
        self._outstanding: deque[Generation] = deque()
        self._waiting_since = 0.0
        self._refusals = 0
        self._loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[None] = self._loop.create_future()
        self._pidfd = os.pidfd_open(pid)
        self._loop.add_reader(self._pidfd, self._on_exit)
        self._reader = self._loop.create_task(self._read())

    @classmethod
    def start(
        cls,
        process: tuple[int, socket.socket],
        start: Start,
        encode: Encode,
        events: WorkerEvents,
        descriptors: Sequence[int] = (),
        entry_points: int = 0,
    ) -> WorkerProcess:
        """Send ``start`` with ``descriptors`` to a new process, which outlives this one.

        ``process``: its id and our side of its channel. ``entry_points``: the number of the change
        that ``start`` holds.
        """
        pid, ours = process
        channel: Channel[FromWorker] = Channel(ours, FromWorker)
        channel.send(start, descriptors)
        return cls(start.slot, pid, channel, encode, events, entry_points)

    def listen(self, place: Place, sockets: Sequence[socket.socket], slot: int) -> None:
        """Let the worker serve these sockets of a slot, its own or another one, unless it does."""
        if sockets and (place, slot) not in self._served:
            self._served.add((place, slot))
            message = Listen(*place, len(sockets), slot)
            self._channel.send(message, [each.fileno() for each in sockets])
        if slot != self.slot:
            self.lent.add(slot)

    def change_entry_points(self, message: EntryPoints, closed: Collection[Place]) -> None:
        """Let the worker have other entry points; it leaves the ``closed`` addresses."""
        self._served = {each for each in self._served if each[0] not in closed}
        self._channel.send(message)

    def release(self, slot: int) -> None:
        """Let the worker leave the sockets of another slot to that slot's worker."""
        if slot in self.lent:
            self.lent.discard(slot)
            self._served = {each for each in self._served if each[1] != slot}
            self._channel.send(Release(slot))

    def tell_health(self, change: HealthChange) -> None:
        """Let the worker know which servers went down or came back."""
        self._channel.send(change)

    def use_tickets(self, secret: bytes) -> None:
        """Let the worker encrypt TLS session tickets with keys made from ``secret``."""
        self._channel.send(TicketSecret(secret))

    def reopen_files(self) -> None:
        """Let the worker open the files of its logs again."""
        self._channel.send(ReopenFiles())

    def serve(self, generation: Generation) -> None:
        """Let the worker serve this generation as soon as it can."""
        self._latest = generation
        self._send_latest()

    def stop(self, accept_seconds: float, grace_seconds: float) -> None:
        """Let the worker go on accepting for a time, then finish its requests and end.

        One that does not serve yet, and may be busy with a large generation, ends at once.
        """
        self.stopping = True
        if self.ready:
            self._channel.send(Stop(accept_seconds, grace_seconds))
        else:
            self.kill()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the process if it runs."""
        if not self._exited.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def overdue(self, now: float) -> str:
        """Return why the worker must be replaced at monotonic time ``now``; empty: it is well."""
        age = now - self.started_at
        if self._refusals >= REFUSALS:
            return "it refuses every generation"
        if self._heard_at is None:
            return "it does not start" if age > FIRST_WORD_SECONDS else ""
        if now - self._heard_at > SILENCE_SECONDS:
            return "no heart-beat"
        if self._outstanding:
            newest = self._outstanding[-1]
            entries = len(newest.frontends) + len(newest.backends) + len(newest.certificates)
            if now - self._waiting_since > APPLY_SECONDS + entries * APPLY_ENTRY_SECONDS:
                return "it does not apply what it was sent"
        return ""

    def forgive_silence(self) -> None:
        """Start measuring the silence anew: it was the supervisor that did not listen."""
        if self._heard_at is not None:
            self._heard_at = monotonic()

    async def finished(self) -> int | None:
        """Wait for the end of the process, read its last words, release everything.

        Returns the exit code, negative for a signal; None where the system adopted the process.
        """
        await asyncio.shield(self._exited)
        # The channel ends with the process, unless a child of it holds the other side.
        await asyncio.wait([self._reader], timeout=1.0)
        self._reader.cancel()
        self._channel.close()
        os.close(self._pidfd)
        try:
            _, status = os.waitpid(self.pid, 0)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status)

    def _on_exit(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._exited.set_result(None)

    def _send_latest(self) -> None:
        target = self._latest
        if target is None or target is self._sent or len(self._outstanding) >= WINDOW:
            return
        for body in self._encode(self._sent, target):
            self._channel.send_encoded(body)
        self._sent = target
        if not self._outstanding:
            self._waiting_since = monotonic()
        self._outstanding.append(target)

    def _send_whole(self) -> None:
        self._sent = None
        self._outstanding.clear()
        self._send_latest()

    async def _read(self) -> None:
        try:
            while True:
                message, descriptors = await self._channel.receive()
                for descriptor in descriptors:
                    os.close(descriptor)
                self._heard_at = monotonic()
                self._handle(message)
        except ChannelClosed:
            pass
        await asyncio.wait([self._exited], timeout=ENDING_SECONDS)
        if not self._exited.done() and not self.stopping:
            # Without its channel a worker cannot follow; a successor can.
            self.kill(signal.SIGTERM)

    def _handle(self, message: FromWorker) -> None:
        if isinstance(message, Statistics):
            self.statistics = message
        elif isinstance(message, Applied):
            self._on_applied(message)
        elif isinstance(message, EntryPointsServed):
            self.entry_points = message.number
            self._events.changed_entry_points(self, message)
        elif isinstance(message, Refused):
            if any(each.number == message.generation for each in self._outstanding):
                self._refusals += 1
                self._events.refused(self, message.reason)
                self._send_whole()
        elif isinstance(message, Ready):
            self.ready = True
            self._events.ready(self)

    def _on_applied(self, message: Applied) -> None:
        if all(each.number != message.generation for each in self._outstanding):
            return
        while (expected := self._outstanding.popleft()).number != message.generation:
            pass
        if expected.digest != message.digest:
            self._refusals += 1
            self._events.refused(self, f"its digest is {message.digest}, not {expected.digest}")
            self._send_whole()
            return
        self._refusals = 0
        self._waiting_since = monotonic()
        self.acknowledged = message.generation
        self._events.acknowledged(self, message)
        self._send_latest()
