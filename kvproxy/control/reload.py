"""Static settings that change while the proxy runs: entry points, without a restart.

The settings are read again when a user asks (SIGHUP, ``kvproxy reload``), when the static keys of
the deciding store change, and when the configuration file or a file of a certificate does.
Everything else than entry points needs a restart or SIGUSR2, and is named.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from kvproxy.config.settings import SettingsError
from kvproxy.control.sources.static_watch import CHANGEABLE
from kvproxy.log import pairs
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from kvproxy.config.startup import Start
    from kvproxy.config.static_keys import StaticKeys
    from kvproxy.control.control_plane import ControlPlane
    from kvproxy.control.entry_points import EntryPoints
    from kvproxy.control.sources.static_watch import StaticWatch
    from kvproxy.control.workers.fleet import Fleet
    from kvproxy.model.static import EntryPoint, StaticConfiguration

    ReadAgain = Callable[[StaticKeys | None], Awaitable[Start]]

LIVE_SECONDS = 10.0
"""How long new addresses wait for the routes of every worker before they are listened on."""

FILE_SECONDS = 1.0
"""How often the configuration file and the files of certificates are looked at."""

_OF_THE_START = frozenset({"stateDir", "configFile"})

_logger = logging.getLogger("kvproxy.control")

_Mark = tuple[int, int, int] | None


class Reload:
    """Brings the entry points of a running supervisor up to date. Changes come one at a time."""

    def __init__(
        self,
        start: Start,
        settings: StaticConfiguration,
        read_again: ReadAgain,
        points: EntryPoints,
        fleet: Fleet,
        plane: ControlPlane,
        static: StaticWatch,
    ) -> None:
        """``start`` and ``settings``: what runs now; ``read_again`` gets the static keys that are
        in use, and raises `SettingsError`."""
        self._keys = start.keys
        self._file = start.settings.configuration_file
        self._settings = settings
        self._read_again = read_again
        self._points = points
        self._fleet = fleet
        self._plane = plane
        self._static = static
        self._one_at_a_time = asyncio.Lock()
        self._marks: dict[str, _Mark] = {}
        self.problems: tuple[Problem, ...] = ()

    async def reload(self) -> tuple[Problem, ...]:
        """Read the static settings again and put what can change into effect.

        Returns everything that is wrong, also kept in ``problems``; settings that cannot be used
        change nothing.
        """
        _logger.info("the settings are read again")
        try:
            start = await self._read_again(self._keys)
        except SettingsError as error:
            return self._say(error.problems)
        wanted = start.settings.static
        changed = await self.change_entry_points(wanted.entry_points, wanted.default_entry_points)
        self._keys = start.keys
        if start.keys is not None:
            self._static.use(start.keys.values)
        return self._say((*changed, *self._others(wanted)))

    async def change_entry_points(
        self, entry_points: Mapping[str, EntryPoint], default_entry_points: tuple[str, ...]
    ) -> tuple[Problem, ...]:
        """Make these the entry points of every worker.

        Returns when they are, with what could not be had: each entry point is changed by itself and
        stays as it was when it cannot be.
        """
        async with self._one_at_a_time:
            if self._plane.frozen:
                return (Problem(message="another supervisor takes over", path="entryPoints"),)
            change = self._points.change(entry_points)
            settings = replace(
                self._settings,
                entry_points=self._points.settings,
                default_entry_points=default_entry_points,
            )
            if not change.changed and settings == self._settings:
                return change.problems
            self._settings = settings
            _logger.info(
                "entry points change %s",
                pairs(
                    changed=",".join(sorted(change.changed)),
                    opened=",".join(address for _, address in change.opened),
                    closed=",".join(address for _, address in change.closed),
                ),
            )
            self._fleet.change_entry_points(
                settings, self._points.tls, self._points.sockets, change
            )
            self._plane.use_settings(settings)
            try:
                async with asyncio.timeout(LIVE_SECONDS):
                    await self._fleet.wait_live()
            except TimeoutError:
                _logger.warning("not every worker has the entry points yet")
            self._fleet.listen()
            return change.problems

    async def watch_files(self) -> None:
        """Look at the files now and then; returns when cancelled."""
        self._marks = _marks(self._watched())
        while True:
            await asyncio.sleep(FILE_SECONDS)
            try:
                await self._look()
            except OSError as error:
                _logger.error("files cannot be watched %s", pairs(reason=error))

    async def _look(self) -> None:
        marks = _marks(self._watched())
        before, self._marks = self._marks, marks
        changed = {name for name, mark in marks.items() if name in before and mark != before[name]}
        if not changed:
            return
        _logger.info("files changed %s", pairs(files=",".join(sorted(changed))))
        if self._file in changed or changed & self._points.files:
            await self.reload()
        self._plane.files_changed(changed)

    def _watched(self) -> set[str]:
        files = self._points.files | self._plane.files
        return files if self._file is None else files | {self._file}

    def _others(self, wanted: StaticConfiguration) -> Iterable[Problem]:
        """Name the other options that differ from those in use."""
        ours, theirs = (msgspec.to_builtins(each) for each in (self._settings, wanted))
        passed_over = CHANGEABLE | _OF_THE_START
        differing = sorted(
            name
            for name in ours.keys() | theirs.keys()
            if name not in passed_over and ours.get(name) != theirs.get(name)
        )
        if differing:
            yield Problem(
                message=f"settings differ from those in use: {', '.join(differing)}",
                expected="a restart or SIGUSR2 to use them",
                fatal=False,
            )

    def _say(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        before, self.problems = self.problems, tuple(problems)
        for problem in self.problems:
            if problem not in before:
                level = logging.ERROR if problem.fatal else logging.WARNING
                _logger.log(level, "settings %s", pairs(problem=problem))
        return self.problems


def _marks(files: Iterable[str]) -> dict[str, _Mark]:
    """Return what tells whether a file was written, by name; None when it is not there."""
    return {name: _mark(name) for name in files}


def _mark(name: str) -> _Mark:
    try:
        status = Path(name).stat()
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
