"""The worker process: serves requests by the plan that the supervisor sends, and goes on if the
supervisor dies."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import resource
import signal
import socket
import ssl
from collections import Counter
from importlib import import_module
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from msgspec.structs import replace
from setproctitle import setproctitle

from kvproxy import log, turns
from kvproxy.balance.shared_memory import SharedMemory
from kvproxy.channel import Channel, ChannelClosed, decoder
from kvproxy.http.scan import forget_heads
from kvproxy.http.trust import system_context
from kvproxy.model.listening import split_addresses
from kvproxy.model.messages import (
    Applied,
    Apply,
    BackendCounters,
    EntryPointCounters,
    EntryPoints,
    EntryPointsServed,
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
    ToWorker,
)
from kvproxy.proxy.clock import Clock
from kvproxy.proxy.counters import STATUSES, add_cells, counted, new_cells
from kvproxy.proxy.downstream.listener import Listener
from kvproxy.proxy.downstream.serving import PLAIN
from kvproxy.proxy.plan.internal import internal_paths, supervisor_server
from kvproxy.proxy.plan.plan import Plan, UnknownBaseError
from kvproxy.proxy.upstream.transport import TransportSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Coroutine, Iterable

    from kvproxy.model.static import EntryPoint, StaticConfiguration
    from kvproxy.model.tls import ServedTLS
    from kvproxy.proxy.access_log.log import AccessLog
    from kvproxy.proxy.downstream.serving import Serving

Item = TypeVar("Item")

logger = logging.getLogger("kvproxy.proxy")

STATISTICS_SECONDS = 1.0
DRAIN_SECONDS = 0.05
"""How often a stopping worker looks for connections that it may close."""

UPSTREAM_IDLE_SECONDS = 90.0
"""How long an unused connection to a server is kept (specification section 8.10)."""

LONGEST_SWEEP_SECONDS = 1.0
SHORTEST_SWEEP_SECONDS = 0.05

REST_FACTOR = 50
"""Looking at all servers or backends may take one part in so many of the time."""

LONGEST_REST_SECONDS = 5.0
"""A heart-beat must come in time whatever it costs."""

PORTION = 1_000
"""So many servers or backends are looked at in one turn of the loop."""

NO_STATUSES = [0] * STATUSES

FREEZE_ENTRIES = 1_000
"""After a change of so many entries the garbage collector is told to leave the plan alone."""


class Worker:
    """One process of the data plane."""

    def __init__(self, start: Start, channel: Channel[ToWorker], memory: SharedMemory) -> None:
        """``start``: the first message of the supervisor; ``memory``: shared by all workers."""
        settings = start.settings
        self._slot = start.slot
        self._channel = channel
        self._settings = settings
        self._clock = Clock()
        self._server_name = start.host_name.encode()
        self._ticket_secret = start.ticket_secret
        transport = TransportSettings(settings)
        self._supervisor = supervisor_server(settings, transport)
        self._access_log, self._serving = access_log(start)
        self._listeners = {
            name: self._listener(name, entry_point, start.tls.get(name))
            for name, entry_point in settings.entry_points.items()
        }
        self._retired: set[Listener] = set()
        self._past_statuses: dict[str, list[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._plan = Plan(settings, transport, self._listeners, memory, self._clock)
        self._ready = False
        self._stopping = False
        self._parts: list[Apply] = []
        self._stopped = asyncio.Event()
        self._failure: BaseException | None = None
        self._sweep_seconds = sweep_seconds(settings)

    def _listener(self, name: str, entry_point: EntryPoint, tls: ServedTLS | None) -> Listener:
        listener = Listener(
            name,
            entry_point,
            self._settings,
            clock=self._clock,
            server_name=self._server_name,
            tls=tls,
            ticket_secret=self._ticket_secret,
            serving=self._serving,
        )
        listener.internal = internal_paths(self._settings, name, self._ping, self._supervisor)
        return listener

    async def run(self) -> None:
        """Serve until told to stop.

        Raises what ended one of the tasks: a worker that is deaf, or keeps no deadlines, must be
        replaced.
        """
        loop = asyncio.get_running_loop()
        # Terminals and service managers signal the whole group; stopping is the supervisor's
        # decision, unless there is none any more.
        loop.add_signal_handler(signal.SIGTERM, self._on_terminate)
        loop.add_signal_handler(signal.SIGUSR1, self._reopen_files)
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
            loop.add_signal_handler(ignored, lambda: None)
        self._name_process()
        tasks = [
            loop.create_task(self._obey()),
            loop.create_task(self._sweep()),
            loop.create_task(self._report()),
        ]
        for task in tasks:
            task.add_done_callback(self._watch)
        await self._stopped.wait()
        for task in tasks:
            task.cancel()
        if self._access_log is not None:
            self._access_log.close()
        if self._failure is not None:
            raise self._failure

    def _watch(self, task: asyncio.Task[None]) -> None:
        """Stop when a task failed."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._stopped.set()

    async def _obey(self) -> None:
        """Do what the supervisor says; without it, go on serving."""
        try:
            while True:
                message, descriptors = await self._channel.receive()
                if isinstance(message, Apply):
                    await self._apply(message)
                elif isinstance(message, Listen):
                    await self._listen(message, descriptors)
                elif isinstance(message, EntryPoints):
                    await self._change_entry_points(message)
                elif isinstance(message, HealthChange):
                    self._plan.health.update(message)
                elif isinstance(message, Release):
                    for listener in self._listeners.values():
                        listener.release(message.slot)
                elif isinstance(message, TicketSecret):
                    self._use_tickets(message.secret)
                elif isinstance(message, ReopenFiles):
                    self._reopen_files()
                elif isinstance(message, Stop):
                    self._stop(message)
        except ChannelClosed as error:
            if not self._stopping:
                logger.error(
                    "the supervisor is gone, serving on slot=%d reason=%s", self._slot, error
                )

    def _reopen_files(self) -> None:
        if self._access_log is not None:
            self._access_log.reopen()

    def _use_tickets(self, secret: bytes) -> None:
        self._ticket_secret = secret
        for listener in self._listeners.values():
            if listener.tls is not None:
                listener.tls.set_ticket_secret(secret)

    async def _listen(self, message: Listen, descriptors: list[int]) -> None:
        listener = self._listeners[message.entry_point]
        for descriptor in descriptors:
            bound = socket.socket(fileno=descriptor)
            await listener.serve(bound, message.slot, message.address)

    async def _change_entry_points(self, message: EntryPoints) -> None:
        """Bring the listeners up to date, then the routes; whatever fails, the others go on."""
        self._settings = replace(
            self._settings,
            entry_points=message.entry_points,
            default_entry_points=message.default_entry_points,
        )
        problems: list[str] = []
        replaced: dict[str, Listener] = {}
        for name in message.changed:
            entry_point = message.entry_points.get(name)
            try:
                if entry_point is None:
                    await self._end_listener(self._listeners.pop(name))
                elif old := await self._change_listener(name, entry_point, message.tls.get(name)):
                    replaced[name] = old
            except (ssl.SSLError, ValueError) as error:
                problems.append(f"entry point {name}: {error}")
        try:
            problems += await self._plan.change_entry_points(self._settings, message.changed)
        except Exception as error:
            logger.exception("entry points could not be changed slot=%d", self._slot)
            problems.append(f"{type(error).__name__}: {error}")
            self._listeners.update(replaced)
        else:
            # Not before: their successors had no routes.
            for name, old in replaced.items():
                old.leave_to(self._listeners[name])
                self._in_background(self._drain_retired(old, math.inf))
        self._channel.send(EntryPointsServed(message.number, problems))

    async def _change_listener(
        self, name: str, entry_point: EntryPoint, tls: ServedTLS | None
    ) -> Listener | None:
        """Make or change a listener; returns the one that the new one is to follow, if any."""
        listener = self._listeners.get(name)
        if listener is None:
            self._listeners[name] = self._listener(name, entry_point, tls)
            return None
        if not listener.differs(entry_point):
            await listener.leave(split_addresses(entry_point.address))
            listener.configure(entry_point, tls)
            return None
        self._listeners[name] = self._listener(name, entry_point, tls)
        await listener.leave(split_addresses(entry_point.address))
        return listener

    async def _end_listener(self, listener: Listener) -> None:
        """Accept nothing more on an entry point that is gone, and finish its requests."""
        await listener.stop_accepting()
        grace = self._settings.life_cycle.grace_time_out
        self._in_background(self._drain_retired(listener, grace))

    async def _drain_retired(self, listener: Listener, grace_seconds: float) -> None:
        self._retired.add(listener)
        await self._drain([listener], grace_seconds)
        self._retired.discard(listener)
        past = self._past_statuses
        past[listener.name] = _added(past.get(listener.name), listener.statuses)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _apply(self, part: Apply) -> None:
        self._parts.append(part)
        if not part.last:
            return
        parts, self._parts = self._parts, []
        began = perf_counter()
        try:
            problems = await self._plan.apply(parts)
        except UnknownBaseError as error:
            self._channel.send(Refused(part.generation, str(error)))
            return
        except Exception as error:
            # Whatever it was, the running plan goes on, and the supervisor is told.
            logger.exception("a generation could not be applied slot=%d", self._slot)
            self._channel.send(Refused(part.generation, f"{type(error).__name__}: {error}"))
            return
        if self._plan.digest != part.digest:
            self._channel.send(
                Refused(part.generation, f"the digest is {self._plan.digest}, not {part.digest}")
            )
            return
        seconds = perf_counter() - began
        if self._access_log is not None:
            self._access_log.generation = self._plan.generation
        self._channel.send(Applied(part.generation, self._plan.digest, seconds, problems))
        if not self._ready:
            self._ready = True
            self._channel.send(Ready(self._slot, os.getpid()))
        self._name_process()
        if sum(map(_entries, parts)) >= FREEZE_ENTRIES:
            gc.freeze()

    async def _sweep(self) -> None:
        """Keep the date, the deadlines and the pools."""
        pools_at = 0.0
        while True:
            self._clock.refresh()
            forget_heads()
            now = self._clock.now
            for listener in self._all_listeners():
                listener.sweep(now)
            if now > pools_at:
                async for servers in in_portions(self._plan.servers):
                    for server in servers:
                        if server.idle or server.multiplexed:
                            server.close_idle(now - UPSTREAM_IDLE_SECONDS)
                pools_at = now + rest_after(monotonic() - now, LONGEST_SWEEP_SECONDS)
            await asyncio.sleep(self._sweep_seconds)

    async def _report(self) -> None:
        """Send the heart-beat."""
        pause = STATISTICS_SECONDS
        while True:
            await asyncio.sleep(pause)
            began = monotonic()
            self._channel.send(await self._statistics())
            pause = rest_after(monotonic() - began, STATISTICS_SECONDS)

    async def _statistics(self) -> Statistics:
        points = {name: list(cells) for name, cells in self._plan.past.items()}
        backends = []
        async for portion in in_portions(self._plan.backends.values()):
            for backend in portion:
                total = new_cells()
                for name, cells in backend.counters.items():
                    if any(cells):
                        add_cells(total, cells)
                        add_cells(points.setdefault(name, new_cells()), cells)
                if any(total):
                    entry = backend.entry
                    backends.append(
                        BackendCounters(provider=entry.provider, name=entry.name, **counted(total))
                    )
        entry_points = self._entry_points(points)
        statuses = NO_STATUSES
        for each in entry_points:
            statuses = _added(statuses, each.statuses)
        connections = sum(each.connections for each in entry_points)
        return Statistics(connections, sum(statuses), statuses, entry_points, backends)

    def _entry_points(self, points: dict[str, list[float]]) -> list[EntryPointCounters]:
        """Return what is counted for each entry point, ``points`` by requests of backends."""
        own = {name: list(statuses) for name, statuses in self._past_statuses.items()}
        connections = Counter[str]()
        for listener in self._all_listeners():
            own[listener.name] = _added(own.get(listener.name), listener.statuses)
            connections[listener.name] += len(listener.connections)
        return [
            EntryPointCounters(
                name=name,
                connections=connections[name],
                **counted(points.get(name) or new_cells(), own.get(name) or NO_STATUSES),
            )
            for name in own.keys() | points.keys()
        ]

    def _ping(self) -> tuple[int, bytes]:
        return (503, b"Service Unavailable") if self._stopping else (200, b"OK")

    def _on_terminate(self) -> None:
        if self._channel.closed:
            self._stop(Stop(0.0, self._settings.life_cycle.grace_time_out))

    def _stop(self, message: Stop) -> None:
        if not self._stopping:
            self._stopping = True
            self._finishing = asyncio.get_running_loop().create_task(self._finish(message))
            self._finishing.add_done_callback(self._watch)

    async def _finish(self, message: Stop) -> None:
        """Stop accepting, let requests end, cut what is left when the grace is over."""
        await asyncio.sleep(message.accept_seconds)
        for listener in self._listeners.values():
            await listener.stop_accepting()
        await self._drain(self._all_listeners(), message.grace_seconds)
        self._channel.send(await self._statistics())
        self._stopped.set()

    async def _drain(self, listeners: Collection[Listener], seconds: float) -> None:
        """Let requests end, and cut what is left after ``seconds``."""
        until = monotonic() + seconds
        while monotonic() < until:
            for listener in listeners:
                listener.drain()
            if not any(listener.connections for listener in listeners):
                return
            await asyncio.sleep(DRAIN_SECONDS)
        for listener in listeners:
            for connection in list(listener.connections):
                connection.transport.abort()

    def _all_listeners(self) -> list[Listener]:
        """Return the listeners, and those of entry points that are gone and still being drained."""
        return [*self._listeners.values(), *self._retired]

    def _name_process(self) -> None:
        setproctitle(f"kvproxy: worker {self._slot} (generation {self._plan.generation})")


def rest_after(took: float, usual: float) -> float:
    """Return how long to do nothing after work that took so many seconds: longer than ``usual``
    where there is so much to look at that it would cost too much."""
    return min(max(usual, took * REST_FACTOR), LONGEST_REST_SECONDS)


async def in_portions(items: Iterable[Item]) -> AsyncIterator[list[Item]]:
    """Yield all items, so many at a time that requests in between wait for a moment only."""
    held = list(items)
    for start in range(0, len(held), PORTION):
        if start:
            await asyncio.sleep(0)
        yield held[start : start + PORTION]


def _added(one: list[int] | None, other: list[int]) -> list[int]:
    return [held + more for held, more in zip(one or NO_STATUSES, other, strict=True)]


def _entries(part: Apply) -> int:
    return len(part.frontends) + len(part.backends) + len(part.certificates)


def sweep_seconds(settings: StaticConfiguration) -> float:
    """Return how often deadlines are looked at: a tenth of the shortest configured one."""
    configured = [
        settings.responding_timeouts.read_timeout,
        settings.responding_timeouts.write_timeout,
        settings.responding_timeouts.idle_timeout,
        settings.forwarding_timeouts.response_header_timeout,
    ]
    shortest = min((seconds for seconds in configured if seconds > 0), default=60.0)
    return min(LONGEST_SWEEP_SECONDS, max(SHORTEST_SWEEP_SECONDS, shortest / 10))


def prepare() -> None:
    """Make what is the same in every worker and takes time: processes forked later have it."""
    # A worker that meets its first frontend with this option must not stop to import.
    import_module("kvproxy.middleware.client_certificate")
    decoder(ToWorker)
    system_context()


def access_log(start: Start) -> tuple[AccessLog | None, Serving]:
    """Return the log of requests, if there is to be one, and what serves them."""
    options = start.settings.access_log
    if options is None:
        return None, PLAIN
    # Imported when used: it costs a start some milliseconds.
    from kvproxy.proxy.access_log.log import AccessLog  # noqa: PLC0415
    from kvproxy.proxy.access_log.serving import serving  # noqa: PLC0415

    log = AccessLog(options, start.slot, start.slots)
    return log, serving(log)


async def serve(channel_descriptor: int) -> None:
    """Run a worker on the supervisor's channel (a unix stream socket)."""
    channel: Channel[ToWorker] = Channel(socket.socket(fileno=channel_descriptor), ToWorker)
    try:
        message, descriptors = await channel.receive()
    except ChannelClosed:
        # The supervisor changed its mind, or ended, while this process began.
        return
    if not isinstance(message, Start):
        raise SystemExit(f"the first message must be Start, not {type(message).__name__}")
    log.configure(message.settings.log_level)
    turns.ask_for_usual_turns()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    gc.collect()
    gc.freeze()
    memory = (
        SharedMemory(descriptors[0], message.slot, message.slots)
        if descriptors
        else SharedMemory.alone()
    )
    await Worker(message, channel, memory).run()
    channel.close()
