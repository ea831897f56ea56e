"""The supervisor: binds, starts workers, runs providers, and never touches a request.

The order of a start: state directory, sockets, workers, then providers. Workers listen as soon as
it is known what to serve (`kvproxy.control.control_plane`); who connects before must wait.

Signals:

- SIGTERM, SIGINT: go on for ``requestAcceptGraceTimeout``, finish requests for ``graceTimeOut``
- SIGUSR2: hand over to a new process of the same command line (`kvproxy.control.handover`)
- SIGUSR1: let workers open the access log again, which was moved away
- SIGHUP: read the static settings again and change the entry points (`kvproxy.control.reload`)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import msgspec
import uvloop
from setproctitle import setproctitle

import kvproxy
from kvproxy import log, turns
from kvproxy.config import last_keys
from kvproxy.config.plugins import PluginError
from kvproxy.control import handover, service_manager, state_directory
from kvproxy.control.administration.commands import Commands
from kvproxy.control.administration.control_socket import ControlServer
from kvproxy.control.administration.overview import Overview
from kvproxy.control.control_plane import ControlPlane
from kvproxy.control.entry_points import EntryPoints
from kvproxy.control.health.asker import HealthAsker
from kvproxy.control.health.checks import HealthChecks
from kvproxy.control.nodes import announcer
from kvproxy.control.reload import Reload
from kvproxy.control.sources.runner import configured
from kvproxy.control.sources.static_watch import StaticWatch
from kvproxy.control.state_directory import StateDirectory, StateDirectoryError
from kvproxy.control.validation.certificate_error import CertificateError
from kvproxy.control.workers import sockets
from kvproxy.control.workers.fleet import Fleet, slot_count
from kvproxy.control.workers.records import WorkerRecords, send_signal
from kvproxy.log import pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from kvproxy.config.startup import Start
    from kvproxy.control.generations.generation import Generation
    from kvproxy.control.handover import Inheritance
    from kvproxy.control.nodes.announcer import Announcer
    from kvproxy.control.reload import ReadAgain
    from kvproxy.control.workers.fork_server import ForkServer
    from kvproxy.control.workers.records import ProcessName, WorkerRecord
    from kvproxy.model.static import StaticConfiguration

ORPHAN_MARGIN_SECONDS = 5.0
PREDECESSOR_CHECK_SECONDS = 0.2

REST_SECONDS = 10.0
"""How long everything else waits for the workers at start."""

_logger = logging.getLogger("kvproxy.control")


class Service(Protocol):
    """Something that tells others what the supervisor knows."""

    async def prepare(self) -> None:
        """Do what of `start` takes time."""
        ...

    def listen(self) -> None:
        """Let who asks wait for `start`, in place of a predecessor's; raises OSError."""

    async def start(self) -> None:
        """Begin. Nothing happens unless `listen` went well."""
        ...

    async def close(self) -> None:
        """End."""
        ...


MakeService: TypeAlias = "Callable[[StaticConfiguration, Overview], Service]"


def run(
    start: Start, read_again: ReadAgain, fork_server: ForkServer, make_service: MakeService
) -> int:
    """Run kvproxy until it is told to stop; returns the exit code.

    ``read_again`` reads the settings anew (`kvproxy.control.reload`); ``fork_server`` starts
    workers; ``make_service`` makes the API.
    """
    log.configure(start.settings.static.log_level)
    for problem in start.complaints:
        level = logging.ERROR if problem.fatal else logging.WARNING
        _logger.log(level, "settings %s", pairs(problem=problem))
    turns.ask_for_long_turns()
    return uvloop.run(Supervisor(start, read_again, fork_server, make_service).run())


class Supervisor:
    """One supervisor process. `run` is called once, inside the event loop."""

    def __init__(
        self,
        start: Start,
        read_again: ReadAgain,
        fork_server: ForkServer,
        make_service: MakeService,
    ) -> None:
        """Nothing is opened before `run`."""
        settings = start.settings.static
        self._start = start
        self._read_again = read_again
        self._fork_server = fork_server
        self._make_service = make_service
        self._directory_path = state_directory.resolve(settings.state_dir)
        # Plugins and workers get the directory as it was found, not as it was asked for.
        self._settings = msgspec.structs.replace(settings, state_dir=str(self._directory_path))
        self._state = "starting"
        self._started_at = time.time()
        self._stop_wanted = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self._handing_over: asyncio.Task[None] | None = None
        self._hand_over_wanted = False
        self._handed_over = False
        self._is_successor = False
        self._directory: StateDirectory
        self._records: WorkerRecords
        self._points: EntryPoints
        self._reload: Reload
        self._fleet: Fleet
        self._health: HealthChecks
        self._health_asker: HealthAsker
        self._plane: ControlPlane
        self._announcers: list[Announcer]
        self._control: ControlServer
        self._service: Service

    async def run(self) -> int:
        """Start, serve until told to stop, stop. Returns 0, or 1 when the start failed."""
        self._handle_signals()
        setproctitle("kvproxy: supervisor")
        _logger.info("kvproxy %s", pairs(version=kvproxy.__version__, pid=os.getpid()))
        try:
            inheritance = await self._inherit()
            orphans = self._open(inheritance)
            if inheritance is None:
                await self._control.start()
        except (
            CertificateError,
            handover.HandOverError,
            PluginError,
            StateDirectoryError,
            sockets.BindError,
            OSError,
        ) as error:
            _logger.critical("%s", error)
            return 1
        self._fleet.start()
        if inheritance is not None and not await self._take_over(inheritance):
            await self._fleet.stop(0.0, self._settings.life_cycle.grace_time_out)
            return 1
        await self._start_serving(inheritance, orphans)
        await self._stop_wanted.wait()
        await self._stop()
        return 0

    async def _inherit(self) -> Inheritance | None:
        descriptor = handover.inherited_descriptor()
        self._is_successor = descriptor is not None
        return None if descriptor is None else await handover.receive(descriptor)

    def _open(self, inheritance: Inheritance | None) -> list[WorkerRecord]:
        """Open what can fail; returns the workers that a killed supervisor left behind."""
        settings = self._settings
        path = self._directory_path
        openers = configured(settings, later=self._mute)
        self._directory = StateDirectory(
            path, None if inheritance is None else inheritance.lock_of(path)
        )
        self._records = WorkerRecords(self._directory.workers)
        orphans = self._records.orphans()
        self._points = EntryPoints(slot_count(settings.workers))
        self._points.open(
            settings.entry_points,
            None if inheritance is None else inheritance.sockets,
            [record.worker.pid for record in orphans],
        )
        for problem in self._points.problems:
            _logger.error("certificate is not used %s", pairs(problem=problem))
        for name, addresses in self._points.addresses.items():
            _logger.info("listening %s", pairs(entryPoint=name, address=",".join(addresses)))
        host_name = socket.gethostname()
        self._fleet = Fleet(
            settings,
            self._points.sockets,
            self._records,
            host_name,
            self._fork_server,
            tls=self._points.tls,
            ticket_secret=b"" if inheritance is None else inheritance.ticket_secret,
        )
        self._health_asker = HealthAsker(settings)
        self._health = HealthChecks(
            self._health_asker,
            settings.health_check.interval,
            self._fleet.tell_health,
            () if inheritance is None else inheritance.down,
        )
        static = StaticWatch(self._start, self._on_missed_settings, self._on_reload)
        self._plane = ControlPlane(settings, openers, path, self._serve, self._fleet.notify, static)
        self._reload = Reload(
            self._start,
            settings,
            self._read_again,
            self._points,
            self._fleet,
            self._plane,
            static,
        )
        node = settings.node_name or f"{host_name}-{self._directory.node_word()}"
        self._announcers = (
            announcer.announcers(openers, self._plane, self._fleet, node)
            if settings.announce
            else []
        )
        overview = Overview(
            self._fleet,
            self._plane,
            self._points,
            self._reload,
            self._started_at,
            lambda: self._state,
            self._health,
        )
        commands = Commands(self._fleet, self._plane, self._points, self._reload, overview)
        self._service = self._make_service(settings, overview)
        self._control = ControlServer(self._directory.control_socket, commands.table)
        return orphans

    async def _take_over(self, inheritance: Inheritance) -> bool:
        """Serve what was handed over; True when this supervisor is in charge."""
        loop = asyncio.get_running_loop()
        taking = loop.create_task(self._serve_inherited(inheritance))
        stopping = loop.create_task(self._stop_wanted.wait())
        await asyncio.wait([taking, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not taking.done():
            taking.cancel()
            return False
        try:
            alone = not taking.result()
        except handover.HandOverError as error:
            _logger.critical("the hand-over failed %s", pairs(reason=error))
            return False
        if alone:
            _logger.warning("the old supervisor died while it handed over")
        await self._control.start()
        return True

    async def _serve_inherited(self, inheritance: Inheritance) -> bool:
        if inheritance.generation is not None:
            self._serve(inheritance.generation)
            await self._fleet.wait_live()
        await self._service.prepare()
        inheritance.close_unused(self._points.sockets)
        return await inheritance.take_over()

    async def _start_serving(
        self, inheritance: Inheritance | None, orphans: list[WorkerRecord]
    ) -> None:
        self._directory.sign()
        self._write_pid_file()
        try:
            self._service.listen()
        except OSError as error:
            _logger.error("there is no API %s", pairs(reason=error))
        await self._plane.start(None if inheritance is None else inheritance.generation, self._mute)
        for each in self._announcers:
            each.start()
        self._state = "running"
        self._keep_keys()
        if self._hand_over_wanted:
            self._on_hand_over()
        self._in_background(self._start_the_rest())
        self._in_background(self._keep_manager_informed())
        self._in_background(self._reload.watch_files())
        if inheritance is not None:
            self._in_background(self._follow(inheritance.predecessor))
        elif orphans:
            self._in_background(self._replace_orphans(orphans))

    @property
    def _mute(self) -> str:
        """The store that was asked in vain just now, for its static keys."""
        place = self._start.place
        return place.store if place is not None and self._start.unanswered else ""

    async def _start_the_rest(self) -> None:
        """Start what takes nothing from the start of the workers any more.

        This is the API, without which requests are served, too, and a store that was asked in vain.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REST_SECONDS):
                await self._fleet.wait_live()
        self._plane.start_mute()
        await self._service.start()

    def _keep_keys(self) -> None:
        """Remember the static keys that a start went well with, for a start without the store."""
        if self._start.keys is None:
            return
        try:
            last_keys.keep(self._directory_path, self._start.keys)
        except OSError as error:
            _logger.error("static settings cannot be kept for bad days %s", pairs(reason=error))

    def _on_missed_settings(self) -> None:
        """Start again with what the store says, now that it answers.

        Once: the successor waits longer for the store, and never does this itself.
        """
        if not self._is_successor:
            self._on_hand_over()

    def _on_reopen(self) -> None:
        """Let workers open the files of their logs again; those that start now open them anyway."""
        _logger.info("the files of logs are opened again")
        if self._state != "starting":
            self._fleet.reopen_files()

    def _on_reload(self) -> None:
        """Read the settings again, unless this supervisor only begins or ends."""
        if self._state == "running":
            self._in_background(self._run_reload())

    async def _run_reload(self) -> None:
        await self._reload.reload()

    async def _keep_manager_informed(self) -> None:
        """Tell the service manager that requests are served, and go on telling its watchdog."""
        await self._fleet.wait_live()
        service_manager.ready()
        pause = service_manager.watchdog_seconds()
        while pause is not None:
            if self._fleet.serving:
                service_manager.tell("WATCHDOG=1")
            await asyncio.sleep(pause)

    async def _follow(self, predecessor: ProcessName) -> None:
        """When the old supervisor has ended, see to workers that it did not stop."""
        while predecessor.alive:
            await asyncio.sleep(PREDECESSOR_CHECK_SECONDS)
        _logger.info("the old supervisor has ended %s", pairs(pid=predecessor.pid))
        await self._replace_orphans(self._records.orphans())

    async def _replace_orphans(self, orphans: list[WorkerRecord]) -> None:
        """Stop the workers of a killed supervisor as soon as ours serve in their place."""
        if not orphans:
            return
        await self._fleet.wait_live()
        for record in orphans:
            _logger.warning(
                "stopping a worker that a supervisor left behind %s",
                pairs(pid=record.worker.pid, slot=record.slot),
            )
            send_signal(record.worker, signal.SIGTERM)
        limit = self._settings.life_cycle.grace_time_out + ORPHAN_MARGIN_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while any(record.worker.alive for record in orphans):
                    await asyncio.sleep(0.1)
        for record in orphans:
            if send_signal(record.worker, signal.SIGKILL):
                _logger.error("killed a worker left behind %s", pairs(pid=record.worker.pid))
            self._records.remove(record.worker.pid)

    def _write_pid_file(self) -> None:
        if not self._settings.pid_file:
            return
        path = Path(self._settings.pid_file)
        try:
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            temporary.write_text(f"{os.getpid()}\n")
            temporary.replace(path)
        except OSError as error:
            _logger.error("the pid file cannot be written %s", pairs(path=path, reason=error))

    def _remove_pid_file(self) -> None:
        """Remove the file unless a successor has written its own."""
        if self._settings.pid_file:
            path = Path(self._settings.pid_file)
            with contextlib.suppress(OSError):
                if path.read_text() == f"{os.getpid()}\n":
                    path.unlink()

    def _serve(self, generation: Generation) -> None:
        self._health.serve(generation)
        self._fleet.serve(generation)
        setproctitle(f"kvproxy: supervisor (generation {generation.number})")

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_stop, "SIGTERM")
        loop.add_signal_handler(signal.SIGINT, self._on_stop, "SIGINT")
        loop.add_signal_handler(signal.SIGUSR2, self._on_hand_over)
        loop.add_signal_handler(signal.SIGUSR1, self._on_reopen)
        loop.add_signal_handler(signal.SIGHUP, self._on_reload)

    def _on_stop(self, name: str) -> None:
        if self._stop_wanted.is_set():
            _logger.info("already stopping %s", pairs(signal=name))
            return
        _logger.info("stopping %s", pairs(signal=name))
        self._stop_wanted.set()

    async def _stop(self) -> None:
        """Let workers finish, release everything."""
        self._state = "stopping"
        if not self._handed_over:
            service_manager.stopping()
        if self._handing_over is not None:
            if not self._handed_over:
                self._handing_over.cancel()
            await asyncio.wait([self._handing_over])
        life_cycle = self._settings.life_cycle
        accept = 0.0 if self._handed_over else life_cycle.request_accept_grace_timeout
        if accept > 0:
            _logger.info("accepting requests for a while %s", pairs(seconds=accept))
        stopping = asyncio.get_running_loop().create_task(
            self._fleet.stop(accept, life_cycle.grace_time_out)
        )
        # After a turn of the loop the workers have been told. From now on only their own
        # descriptors keep the addresses open, so that these close when workers stop accepting.
        await asyncio.sleep(0)
        sockets.close_all(self._points.sockets)
        if not self._handed_over:
            await self._leave_stores()
        await stopping
        self._control.close()
        await self._service.close()
        await self._health.close()
        await self._health_asker.close()
        for task in self._background:
            task.cancel()
        self._remove_pid_file()
        self._directory.close()
        _logger.info("stopped")

    async def _leave_stores(self) -> None:
        """Take back what was announced, stop the providers, close the journal."""
        await asyncio.gather(*(each.close() for each in self._announcers))
        await self._plane.close()

    def _on_hand_over(self) -> None:
        if self._handing_over is not None or self._stop_wanted.is_set():
            _logger.warning("no hand-over: the supervisor is %s", self._state)
            return
        if os.getpid() == 1:
            _logger.error("no hand-over: the first process of a container cannot be replaced")
            return
        if self._state == "starting":
            self._hand_over_wanted = True
            return
        self._handing_over = asyncio.get_running_loop().create_task(self._hand_over())

    async def _hand_over(self) -> None:
        """Start a new supervisor and leave everything to it, or go on if it fails."""
        self._state = "handing over"
        # Generations stop here: the new workers must not start with older ones than ours serve.
        self._plane.freeze()
        successor: handover.Successor | None = None
        try:
            successor = handover.Successor.start(
                self._directory,
                self._points.sockets,
                self._fleet.generation,
                ticket_secret=self._fleet.ticket_secret,
                down=self._health.down(),
            )
            _logger.info("handing over to a new supervisor %s", pairs(pid=successor.pid))
            await successor.serving()
        except (handover.HandOverError, OSError, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task is not None:
                # In Python 3.11.2 no time-out works in a task that is still to be cancelled.
                task.uncancel()
            _logger.error("hand-over failed, going on %s", pairs(reason=str(error) or "stopping"))
            if successor is not None:
                await successor.abandon(self._records)
            self._state = "running"
            self._handing_over = None
            self._plane.thaw()
            return
        self._handed_over = True
        await self._leave_stores()
        self._control.close()
        await successor.leave_to()
        # Only the process that the service manager knows may name another one.
        service_manager.tell(f"MAINPID={successor.pid}")
        _logger.info("handed over, finishing %s", pairs(successor=successor.pid))
        self._state = "stopping"
        self._stop_wanted.set()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
