"""Notices when files may be read again: not in the middle of a write, and at once at its end.

The end of a write is told by inotify: the writer closed the file, or something was renamed into
place. A change whose end is not told (the writer keeps the file open, or the change happened where
inotify does not see it) counts as finished when it has been quiet for `QUIET_SECONDS`.
"""

# There may be thousands of paths; they stay plain strings.
# ruff: noqa: PTH112, PTH115, PTH118, PTH120

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from typing import TYPE_CHECKING

from msgspec import Struct, field

from providers import inotify

if TYPE_CHECKING:
    from collections.abc import Iterable

QUIET_SECONDS = 0.5
"""A file that changed without a sign of the end is left alone for so long."""

SUFFIX = ".toml"

_POLL_SECONDS = 0.1
"""How often to look where there is no inotify."""

_MOST_LINKS = 40
_MASK = (
    inotify.IN_MODIFY
    | inotify.IN_ATTRIB
    | inotify.IN_CLOSE_WRITE
    | inotify.IN_MOVED_FROM
    | inotify.IN_MOVED_TO
    | inotify.IN_CREATE
    | inotify.IN_DELETE
    | inotify.IN_DELETE_SELF
    | inotify.IN_MOVE_SELF
    | inotify.IN_ONLYDIR
)
_DIRECTORY_GONE = (
    inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF | inotify.IN_UNMOUNT | inotify.IN_Q_OVERFLOW
)
_FINISHED = inotify.IN_CLOSE_WRITE | inotify.IN_MOVED_TO

_logger = logging.getLogger(__name__)

Point = tuple[str, str]
"""A directory and the name in it at which a path can change."""


class News(Struct, frozen=True):
    """What is known about changes: paths that were ``finished``, and paths still being ``written``.

    ``told``: the kernel told; otherwise it is only time to look. ``only``: nothing has changed but
    the content of what was finished.
    """

    finished: frozenset[str] = frozenset()
    written: frozenset[str] = frozenset()
    told: bool = False
    only: bool = False


class Places(Struct):
    """What to watch: points with the paths that depend on them, and directories of files."""

    points: dict[Point, set[str]] = field(default_factory=dict)
    directories: set[str] = field(default_factory=set)

    def add(self, path: str) -> None:
        """Add all points of a path, through all its symbolic links."""
        for point in path_points(path):
            self.points.setdefault(point, set()).add(path)

    def watched(self) -> set[str]:
        """Return the directories of all points."""
        return self.directories | {directory for directory, _ in self.points}


def path_points(path: str) -> list[Point]:
    """Return where an absolute path can change: its links, and its end or first missing part."""
    parts = path.split("/")[::-1]
    current = "/"
    found: list[Point] = []
    links = 0
    while parts:
        part = parts.pop()
        if part in ("", "."):
            continue
        if part == "..":
            current = os.path.dirname(current)
            continue
        whole = os.path.join(current, part)
        try:
            target = os.readlink(whole)
        except OSError:
            if not parts or not os.path.isdir(whole):
                found.append((current, part))
                break
            current = whole
            continue
        found.append((current, part))
        links += 1
        if links > _MOST_LINKS:
            break
        if target.startswith("/"):
            current = "/"
        parts.extend(target.split("/")[::-1])
    return found


class FileWatch:
    """Waits for changes at `Places`; without inotify it only says when to look."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._places = Places()
        self._watches: dict[int, set[str]] = {}
        self._writing: dict[str, float] = {}
        self._finished: set[str] = set()
        self._told = False
        self._only = True
        self._woken = False
        self._inotify: inotify.Inotify | None = None
        try:
            self._inotify = inotify.Inotify()
        except OSError as error:
            _logger.warning(
                "no inotify (%s); looking for changed files every %g s", error, _POLL_SECONDS
            )

    def arm(self, places: Places) -> bool:
        """Watch ``places`` from now on; True when that covers anything that was not watched."""
        self._places = places
        if self._inotify is None:
            return False
        watches: dict[int, set[str]] = {}
        for directory in sorted(places.watched()):
            try:
                watch = self._inotify.add(directory, _MASK)
            except OSError as error:
                # Gone again, or no more watches to be had: looking at intervals finds changes.
                _logger.debug("%s cannot be watched: %s", directory, error)
                continue
            watches.setdefault(watch, set()).add(directory)
        for watch in self._watches.keys() - watches.keys():
            self._inotify.remove(watch)
        grown = any(names - self._watches.get(watch, set()) for watch, names in watches.items())
        self._watches = watches
        return grown

    async def wait(self, seconds: float) -> News:
        """Wait for something worth a look, at most ``seconds``."""
        if self._inotify is None:
            seconds = min(seconds, _POLL_SECONDS)
        deadline = time.monotonic() + seconds
        while not self._told and not self._woken:
            now = time.monotonic()
            quiet_at = min(self._writing.values(), default=deadline) + QUIET_SECONDS
            pause = min(deadline, quiet_at) - now
            if pause <= 0:
                break
            if self._inotify is None:
                await asyncio.sleep(pause)
                break
            self._note(await self._inotify.wait(pause))
        now = time.monotonic()
        quiet = {path for path, at in self._writing.items() if now - at >= QUIET_SECONDS}
        for path in quiet:
            del self._writing[path]
        finished = frozenset(self._finished | quiet)
        self._finished.clear()
        told, self._told = self._told or bool(quiet), False
        only, self._only = self._only and told, True
        return News(finished, frozenset(self._writing), told, only)

    def touched(self) -> set[str]:
        """Return the paths of which something was told since it was last asked for or waited.

        What was read of them a moment ago may be from the middle of a write.
        """
        return set() if self._inotify is None else self._note(self._inotify.read())

    def wake(self) -> None:
        """End a `wait` now, and every later one at once."""
        self._woken = True
        if self._inotify is not None:
            self._inotify.wake()

    def close(self) -> None:
        """Release the descriptor."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    def _note(self, events: Iterable[inotify.Event]) -> set[str]:
        """Sort events into finished and unfinished changes; return the paths that they touch."""
        touched: set[str] = set()
        for event in events:
            if event.mask & _DIRECTORY_GONE:
                self._told, self._only = True, False
                continue
            for directory in self._watches.get(event.watch, ()):
                for path in self._affected(directory, event):
                    touched.add(path)
                    self._note_path(path, directory, event)
                if event.mask & inotify.IN_ISDIR and directory in self._places.directories:
                    self._told, self._only = True, False
        return touched

    def _affected(self, directory: str, event: inotify.Event) -> Iterable[str]:
        known = self._places.points.get((directory, event.name))
        if known is not None:
            return known
        if (
            directory in self._places.directories
            and event.name.endswith(SUFFIX)
            and not event.name.startswith(".")
        ):
            return (os.path.join(directory, event.name),)
        return ()

    def _note_path(self, path: str, directory: str, event: inotify.Event) -> None:
        if event.mask & inotify.IN_MODIFY or (
            event.mask & inotify.IN_CREATE and _is_being_made(os.path.join(directory, event.name))
        ):
            self._writing[path] = time.monotonic()
            self._finished.discard(path)
            return
        if event.mask & (_FINISHED | inotify.IN_CREATE):
            self._writing.pop(path, None)
            self._finished.add(path)
        if not event.mask & _FINISHED or os.path.join(directory, event.name) != path:
            self._only = False
        self._told = True


def _is_being_made(path: str) -> bool:
    """Whether a name that has just appeared is a file that its maker will still write and close."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1
