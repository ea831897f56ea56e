"""Waits for signs that a database file has been written or replaced, through inotify."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from providers import inotify

if TYPE_CHECKING:
    from pathlib import Path

_POLL_SECONDS = 0.02
"""How often to look where there is no inotify."""

_REARM_SECONDS = 0.1
"""Looking again sooner than this after a sign takes what is watched for granted."""

_DIRECTORY_EVENTS = (
    inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_MOVED_FROM | inotify.IN_DELETE
)

_logger = logging.getLogger(__name__)


class PathObserver:
    """Tells when it is worth looking at the file at ``path``.

    ``written`` is the file whose writing is the sign: the same, or a log beside it.
    """

    def __init__(self, path: Path, written: Path, store: str) -> None:
        """Begin to observe; ``store`` names the store in the log."""
        self._path = path
        self._written = written
        self._store = store
        self._names = {path.name, written.name}
        self._directory_watch = -1
        self._inotify: inotify.Inotify | None = None
        try:
            self._inotify = inotify.Inotify()
        except OSError as error:
            _logger.warning(
                "%s `%s`: no inotify (%s); looking every %g ms instead",
                store,
                path,
                error,
                _POLL_SECONDS * 1000,
            )
        self._arm()

    async def wait(self, seconds: float) -> bool:
        """Wait for a sign of a write, at most ``seconds``; False when there was none."""
        if self._inotify is None:
            await asyncio.sleep(_POLL_SECONDS)
            return False
        events = await self._inotify.wait(seconds)
        # Without signs for long, the directory itself may be another one.
        return self._heed(events, rearm=not events and seconds >= _REARM_SECONDS)

    def _heed(self, events: list[inotify.Event], *, rearm: bool) -> bool:
        """Return whether there is a sign of a write; watch what took the place of the files."""
        seen = False
        for event in events:
            if event.watch != self._directory_watch:
                seen = True
            elif event.name in self._names:
                seen = rearm = True
        if rearm:
            self._arm()
        return seen

    def ignore(self) -> None:
        """Let no sign count that has come already, except that another file took the place."""
        if self._inotify is not None:
            self._heed(self._inotify.read(), rearm=False)

    def wake(self) -> None:
        """End a `wait` now."""
        if self._inotify is not None:
            self._inotify.wake()

    def close(self) -> None:
        """Release the descriptor."""
        if self._inotify is not None:
            self._inotify.close()

    def _arm(self) -> None:
        """Watch the directory and the file that are there now; the same again is harmless."""
        if self._inotify is None:
            return
        try:
            directory = str(self._path.parent)
            self._directory_watch = self._inotify.add(directory, _DIRECTORY_EVENTS)
            self._inotify.add(str(self._written), inotify.IN_MODIFY)
        except OSError:
            # Not there yet, or no more watches to be had: looking at intervals finds what happens.
            _logger.debug("%s `%s`: cannot be observed yet", self._store, self._path)
