"""The file provider: routes from one TOML file, a directory of them, or the main file."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, ClassVar

from kvproxy.provider import Failure, Plugin, Snapshot, Source
from providers.file_set import FileSet
from providers.file_watch import FileWatch, News

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kvproxy.model.static import FileProvider, StaticConfiguration

LOOK_SECONDS = 2.0
"""How often files are looked at although nothing was told: network file systems tell nothing."""

_LOOK_SHARE = 500
"""Looking takes at most this part of a core: large directories are looked at less often."""


class FileSource:
    """A `Source` above one file, or all ``*.toml`` files below a directory.

    Bad content never takes the place of good content. A single file that cannot be used yields
    `Failure`; in a directory its last good content goes on being used, with a problem. ``fresh_at``
    is the ``time.time()`` at which the files were last found to be as they are held.
    """

    name: ClassVar[str] = "file"

    def __init__(
        self, path: str, *, directory: bool = False, main: bool = False, watch: bool = True
    ) -> None:
        """``main``: the file is the main configuration file; ``watch`` False: read once."""
        self.fresh_at = 0.0
        self._watch = FileWatch()
        self._files = FileSet(path, self._watch.touched, directory=directory, main=main)
        self._watching = watch
        self._closing = asyncio.Event()

    async def snapshots(self) -> AsyncIterator[Snapshot | Failure]:
        """Yield what the files say now and after each change, and each new failure once."""
        files, watch = self._files, self._watch
        said: object = None
        news = News()
        try:
            while not self._closing.is_set():
                began = time.monotonic()
                await asyncio.to_thread(files.look, news)
                took = time.monotonic() - began
                if files.failure:
                    if said != files.failure:
                        said = files.failure
                        yield Failure(
                            provider=self.name, problems=files.failure, failed_at=time.time()
                        )
                else:
                    self.fresh_at = time.time()
                    saying = (files.revision, id(files.configuration), files.problems)
                    if said != saying:
                        said = saying
                        yield self._snapshot()
                if not self._watching:
                    await self._closing.wait()
                    return
                if watch.arm(files.places):
                    # Something may have happened before it was watched.
                    news = News(told=True)
                    continue
                news = await watch.wait(self._pause(took))
        finally:
            watch.close()

    async def close(self) -> None:
        """End the iterator and stop watching."""
        self._closing.set()
        self._watch.wake()

    def _pause(self, took: float) -> float:
        pause = max(LOOK_SECONDS, took * _LOOK_SHARE)
        if self._files.again_at is not None:
            pause = min(pause, max(0.0, self._files.again_at - time.monotonic()))
        return pause

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            provider=self.name,
            revision=self._files.revision,
            configuration=self._files.configuration,
            problems=self._files.problems,
            read_at=self.fresh_at,
        )


def _open_source(settings: FileProvider, static: StaticConfiguration) -> Source:
    # `directory` wins over `filename`, as in Traefik 1.7.
    if settings.directory:
        return FileSource(settings.directory, directory=True, watch=settings.watch)
    if settings.filename:
        return FileSource(settings.filename, watch=settings.watch)
    return FileSource(static.config_file, main=True, watch=settings.watch)


plugin = Plugin(name="file", open_source=_open_source)
