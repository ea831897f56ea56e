"""All workers: one per slot, replaced when it dies, told every generation."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
from time import monotonic
from typing import TYPE_CHECKING

from msgspec import Struct

from kvproxy import channel
from kvproxy.balance.shared_memory import SharedMemory
from kvproxy.control.generations.delta import delta, full
from kvproxy.control.workers.breakers import BreakerStatus, breakers
from kvproxy.control.workers.crash_loop import CrashLoop
from kvproxy.control.workers.process import WorkerProcess
from kvproxy.control.workers.statistics import add, ended
from kvproxy.log import pairs
from kvproxy.model.messages import EntryPoints, HealthChange, Start, Statistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kvproxy.control.entry_points import Change
    from kvproxy.control.generations.generation import Generation
    from kvproxy.control.workers.fork_server import ForkServer
    from kvproxy.control.workers.records import WorkerRecords
    from kvproxy.control.workers.sockets import Place, SlotSockets
    from kvproxy.model.messages import Applied, EntryPointsServed
    from kvproxy.model.static import StaticConfiguration
    from kvproxy.model.tls import ServedTLS

CHECK_SECONDS = 0.5
LEND_SECONDS = 1.0
"""A slot without a ready worker for so long is served by another one."""

TICKET_SECRET_BYTES = 32
TICKET_SECONDS = 12 * 3600.0
"""How long the keys of TLS session tickets are used; a ticket lives for two hours at most."""

STOP_MARGIN_SECONDS = 5.0
"""What a worker may take longer than it was told before it is killed."""

_logger = logging.getLogger("kvproxy.control")


class WorkerStatus(Struct, frozen=True, rename="camel"):
    """One worker for the status: ``generation`` is what it has acknowledged, -1 nothing yet."""

    slot: int
    pid: int
    ready: bool
    generation: int
    seconds: float
    connections: int
    requests: int
    restarts: int


def slot_count(workers: int) -> int:
    """Return the number of slots for the setting ``workers``; 0 means one per usable core."""
    return workers if workers > 0 else len(os.sched_getaffinity(0))


class Fleet:
    """The workers of a supervisor. To be used inside its event loop.

    Workers are started by `start`, which also sends them the generation of the first `serve`; they
    listen from that moment on.
    """

    def __init__(
        self,
        settings: StaticConfiguration,
        sockets: Mapping[Place, SlotSockets],
        records: WorkerRecords,
        host_name: str,
        fork_server: ForkServer,
        tls: Mapping[str, ServedTLS] | None = None,
        ticket_secret: bytes = b"",
    ) -> None:
        """``sockets``: address to the sockets of each slot; ``host_name``: of this machine;
        ``fork_server``: starts the workers, the caller closes it; ``tls``: of the entry points that
        have it; ``ticket_secret``: of the supervisor that handed over, so that TLS sessions outlive
        it."""
        self.slots = slot_count(settings.workers)
        self.generation: Generation | None = None
        self._settings = settings
        self._sockets = sockets
        self._records = records
        self._host_name = host_name
        self._tls = dict(tls or {})
        self.ticket_secret = ticket_secret or secrets.token_bytes(TICKET_SECRET_BYTES)
        self._fork_server = fork_server
        self._memory = SharedMemory.create(self.slots)
        self._down: set[bytes] = set()
        self._workers: dict[int, WorkerProcess] = {}
        self._restarts = [0] * self.slots
        self._unserved_since: dict[int, float] = {}
        self._ended = Statistics(0, 0, [0] * 6)
        self._stopping: tuple[float, float] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._encoded: dict[int | None, list[bytes]] = {}
        self._served_at = 0.0
        self._announced = -1
        self._entry_points = 0

    def start(self) -> None:
        """Start a worker in every slot and keep them going."""
        loop = asyncio.get_running_loop()
        self._unserved_since = dict.fromkeys(range(self.slots), monotonic())
        self._tasks = [loop.create_task(self._keep(slot)) for slot in range(self.slots)]
        self._tasks.append(loop.create_task(self._watch()))
        self._tasks.append(loop.create_task(self._renew_tickets()))

    def serve(self, generation: Generation) -> None:
        """Send a generation to every worker."""
        first = self.generation is None
        self.generation = generation
        self._encoded.clear()
        self._served_at = monotonic()
        for worker in self._workers.values():
            worker.serve(generation)
            if first:
                self._listen(worker, worker.slot)
        self.notify()

    def tell_health(self, change: HealthChange) -> None:
        """Tell every worker, those started later too, which servers went down or came back."""
        self._down |= set(change.down)
        self._down -= set(change.up)
        for worker in self._workers.values():
            worker.tell_health(change)

    def reopen_files(self) -> None:
        """Let every worker open the files of its logs again."""
        for worker in self._workers.values():
            worker.reopen_files()

    def change_entry_points(
        self,
        settings: StaticConfiguration,
        tls: Mapping[str, ServedTLS],
        sockets: Mapping[Place, SlotSockets],
        change: Change,
    ) -> None:
        """Let every worker have the entry points of ``settings``.

        ``change``: what differs. They leave addresses at once, and listen on new ones when told by
        `listen`.
        """
        self._settings, self._tls, self._sockets = settings, dict(tls), dict(sockets)
        self._entry_points += 1
        message = EntryPoints(
            self._entry_points,
            settings.entry_points,
            settings.default_entry_points,
            sorted(change.changed),
            self._tls,
        )
        for worker in self._workers.values():
            worker.change_entry_points(message, change.closed)
        self.notify()

    def listen(self) -> None:
        """Let every worker listen on the addresses that it does not serve yet."""
        if self.generation is not None:
            for worker in self._workers.values():
                for slot in (worker.slot, *worker.lent):
                    self._listen(worker, slot)

    @property
    def live(self) -> bool:
        """Whether every slot's worker serves the newest generation and entry points."""
        number = -1 if self.generation is None else self.generation.number
        return len(self._workers) == self.slots and all(
            worker.ready
            and worker.acknowledged == number
            and worker.entry_points == self._entry_points
            for worker in self._workers.values()
        )

    @property
    def serving(self) -> bool:
        """Whether any worker serves requests."""
        return any(worker.ready for worker in self._workers.values())

    async def changed(self) -> None:
        """Wait until something happened that `live` or `status` may show, or for `notify`."""
        await self._changed.wait()

    def notify(self) -> None:
        """Wake everybody who waits in `changed`."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_live(self) -> None:
        """Wait until every worker serves the newest generation; set a deadline around it."""
        while not self.live:
            await self.changed()

    def status(self) -> list[WorkerStatus]:
        """Return what is known of each worker."""
        now = monotonic()
        return [
            WorkerStatus(
                slot,
                worker.pid,
                worker.ready,
                worker.acknowledged,
                round(now - worker.started_at, 3),
                worker.statistics.connections,
                worker.statistics.requests,
                self._restarts[slot],
            )
            for slot, worker in sorted(self._workers.items())
        ]

    def breakers(self) -> list[BreakerStatus]:
        """Return the circuit breakers of the newest generation, as far as workers have them."""
        if self.generation is None:
            return []
        return list(breakers(self.generation, self._memory))

    def statistics(self) -> Statistics:
        """Return the totals of all workers, those that have ended included."""
        total = self._ended
        for worker in self._workers.values():
            total = add(total, worker.statistics)
        return total

    async def stop(self, accept_seconds: float, grace_seconds: float) -> None:
        """Stop every worker: accept for a while, finish requests for a while, then be killed."""
        self._stopping = (accept_seconds, grace_seconds)
        for worker in self._workers.values():
            worker.stop(accept_seconds, grace_seconds)
        limit = accept_seconds + grace_seconds + STOP_MARGIN_SECONDS
        keeping = self._tasks[: self.slots]
        for task in self._tasks[self.slots :]:
            task.cancel()
        # A slot without a process only waits for its next start.
        for slot, task in enumerate(keeping):
            if slot not in self._workers:
                task.cancel()
        _, late = await asyncio.wait(keeping, timeout=limit) if keeping else (set(), set())
        if late:
            _logger.error("workers did not stop in time and are killed %s", pairs(count=len(late)))
            self.kill()
            await asyncio.wait(late, timeout=STOP_MARGIN_SECONDS)
        self._memory.close()

    def kill(self) -> None:
        """Kill every worker now."""
        for worker in self._workers.values():
            worker.kill()

    def ready(self, worker: WorkerProcess) -> None:
        """Note that a worker serves."""
        _logger.info(
            "worker ready %s",
            pairs(slot=worker.slot, pid=worker.pid, seconds=monotonic() - worker.started_at),
        )
        self._unserved_since.pop(worker.slot, None)
        for other in self._workers.values():
            other.release(worker.slot)
        self._note_progress()

    def acknowledged(self, worker: WorkerProcess, message: Applied) -> None:
        """Note that a worker serves a generation."""
        for problem in message.problems:
            _logger.error(
                "worker cannot serve an entry %s",
                pairs(slot=worker.slot, generation=message.generation, problem=problem),
            )
        self._note_progress()

    def changed_entry_points(self, worker: WorkerProcess, message: EntryPointsServed) -> None:
        """Note that a worker has other entry points."""
        for problem in message.problems:
            _logger.error(
                "worker cannot serve an entry %s", pairs(slot=worker.slot, problem=problem)
            )
        self._note_progress()

    def refused(self, worker: WorkerProcess, reason: str) -> None:
        """Note that a worker has to get the whole generation."""
        _logger.warning(
            "worker refused a generation, sending the whole %s",
            pairs(slot=worker.slot, pid=worker.pid, reason=reason),
        )

    def _note_progress(self) -> None:
        self.notify()
        if self.live and self.generation and self._announced != self.generation.number:
            self._announced = self.generation.number
            # A whole generation may be megabytes; a successor's is encoded when it is needed.
            self._encoded.clear()
            _logger.info(
                "generation is live %s",
                pairs(
                    number=self.generation.number,
                    digest=self.generation.digest[:12],
                    workers=self.slots,
                    seconds=monotonic() - self._served_at,
                ),
            )

    def _encode(self, base: Generation | None, target: Generation) -> Sequence[bytes]:
        """Encode the way from ``base`` to ``target``, once for all workers."""
        if target is not self.generation:
            return _encode_parts(base, target)
        key = None if base is None else base.number
        if key not in self._encoded:
            self._encoded[key] = _encode_parts(base, target)
        return self._encoded[key]

    def _listen(self, worker: WorkerProcess, slot: int) -> None:
        for place, slots in self._sockets.items():
            worker.listen(place, slots[slot], slot)

    async def _keep(self, slot: int) -> None:
        """Keep a worker running in a slot."""
        history = CrashLoop()
        while self._stopping is None:
            began = monotonic()
            ending = await self._run_worker(slot)
            if self._stopping is not None:
                return
            self._restarts[slot] += 1
            delay = history.died(monotonic() - began)
            _logger.error(
                "worker died, starting another %s",
                pairs(slot=slot, how=ending, afterSeconds=monotonic() - began, delaySeconds=delay),
            )
            await asyncio.sleep(delay)

    async def _run_worker(self, slot: int) -> str:
        """Run one worker process to its end and return how it ended."""
        try:
            process = await self._fork_server.fork()
        except OSError as error:
            return f"cannot start: {error}"
        # Only now: what was said to all workers meanwhile holds for this one, too.
        start = Start(
            slot, self._settings, self._host_name, self._tls, self.ticket_secret, self.slots
        )
        worker = WorkerProcess.start(
            process,
            start,
            self._encode,
            self,
            [self._memory.descriptor],
            self._entry_points,
        )
        self._workers[slot] = worker
        try:
            self._records.add(worker.pid, slot)
        except OSError as error:
            # Without a record a worker serves as well; only a later supervisor would not find it.
            _logger.error("worker is not recorded %s", pairs(pid=worker.pid, reason=error))
        if self._down:
            worker.tell_health(HealthChange(down=list(self._down), whole=True))
        if self.generation is not None:
            # The routes come before the listeners: no request must meet a worker without them.
            worker.serve(self.generation)
            self._listen(worker, slot)
        if self._stopping is not None:
            worker.stop(*self._stopping)
        try:
            code = await worker.finished()
        finally:
            self._memory.worker_died(slot)
            del self._workers[slot]
            self._unserved_since[slot] = monotonic()
        with contextlib.suppress(OSError):
            self._records.remove(worker.pid)
        self._ended = add(self._ended, ended(worker.statistics, self.generation))
        self.notify()
        return _ending(code)

    def _lend(self, slot: int) -> None:
        """Let another worker serve a slot's sockets: clients must not wait in a queue of nobody."""
        ready = [worker for worker in self._workers.values() if worker.ready]
        if ready and not any(slot in worker.lent for worker in ready):
            lender = min(ready, key=lambda worker: len(worker.lent))
            self._listen(lender, slot)
            _logger.info(
                "worker serves the sockets of another slot for now %s",
                pairs(slot=lender.slot, otherSlot=slot),
            )

    async def _renew_tickets(self) -> None:
        """Change the keys of session tickets now and then: who learns one learns little."""
        while True:
            await asyncio.sleep(TICKET_SECONDS)
            self.ticket_secret = secrets.token_bytes(TICKET_SECRET_BYTES)
            for worker in self._workers.values():
                worker.use_tickets(self.ticket_secret)

    async def _watch(self) -> None:
        """Replace workers that hang."""
        looked_at = monotonic()
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            now = monotonic()
            if now - looked_at > 2 * CHECK_SECONDS:
                for worker in self._workers.values():
                    worker.forgive_silence()
            looked_at = now
            for worker in self._workers.values():
                reason = worker.overdue(now)
                if reason:
                    _logger.error(
                        "worker is killed %s",
                        pairs(slot=worker.slot, pid=worker.pid, reason=reason),
                    )
                    worker.kill()
            for slot, since in self._unserved_since.items():
                if now - since > LEND_SECONDS:
                    self._lend(slot)


def _ending(code: int | None) -> str:
    if code is None:
        return "not known"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _encode_parts(base: Generation | None, target: Generation) -> list[bytes]:
    parts = full(target) if base is None else delta(base, target)
    return [channel.encode(part) for part in parts]
