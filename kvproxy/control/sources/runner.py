"""Providers: found by entry point, opened by their section of the settings, kept running."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from kvproxy.config.plugins import PluginError, load_plugin, plugin_names
from kvproxy.control.sources.store_source import StoreSource, problem_of
from kvproxy.log import pairs
from kvproxy.model.problem import Problem
from kvproxy.provider import Failure, Snapshot, Source, Store, StoreError, Unchanged

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.control.sources.static_watch import StaticWatch
    from kvproxy.model.static import StaticConfiguration
    from kvproxy.provider import Plugin

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
LASTING_SECONDS = 60.0
"""A source that ran for so long is started again as after its first end."""

_logger = logging.getLogger("kvproxy.control")


class Opener(Struct, frozen=True):
    """A configured provider and how its source is opened (again).

    Of a store also how another client of it is opened, and the prefix of its keys.
    """

    name: str
    open: Callable[[], Source]
    open_store: Callable[[], Store] | None = None
    prefix: str = ""


def configured(settings: StaticConfiguration, later: str = "") -> list[Opener]:
    """Return the providers whose section is set, each with its plugin loaded.

    ``later``: a store whose plugin is loaded when it is opened. Raises `PluginError` when a plugin
    cannot be loaded.
    """
    openers = []
    for name in plugin_names():
        section = getattr(settings, name, None)
        if section is not None and name == later:
            openers.append(_later_opener(name, section, settings))
        elif section is not None:
            openers.append(_opener(load_plugin(name), section, settings))
    return openers


def _later_opener(name: str, section: Any, settings: StaticConfiguration) -> Opener:
    """Return the opener of a store whose plugin has not been loaded."""

    def open_store() -> Store:
        opened = _opener(load_plugin(name), section, settings).open_store
        if opened is None:
            raise PluginError(f"provider `{name}` is no key-value store")
        return opened()

    return _store_opener(name, open_store, section)


def _opener(plugin: Plugin, section: Any, settings: StaticConfiguration) -> Opener:
    open_source, open_store = plugin.open_source, plugin.open_store
    if open_source is not None:
        return Opener(plugin.name, lambda: open_source(section, settings))
    assert open_store is not None
    return _store_opener(plugin.name, lambda: open_store(section, settings), section)


def _store_opener(name: str, open_store: Callable[[], Store], section: Any) -> Opener:
    return Opener(
        name,
        lambda: StoreSource(open_store(), name, section.prefix, watch=section.watch),
        open_store,
        section.prefix,
    )


class SourceRunner:
    """Runs one source for ever: whatever ends it, it is opened again after a pause."""

    def __init__(
        self, opener: Opener, offer: Callable[[Snapshot | Unchanged | Failure], None]
    ) -> None:
        """``offer`` is called, inside the event loop, with everything that the source says."""
        self.name = opener.name
        self._opener = opener
        self._offer = offer
        self._task: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._source: Source | None = None

    @property
    def is_store(self) -> bool:
        """Whether the provider is a key-value store."""
        return self._opener.open_store is not None

    @property
    def fresh_at(self) -> float:
        """The ``time.time()`` at which the origin last proved what it said; 0.0: not known."""
        return float(getattr(self._source, "fresh_at", 0.0))

    def compare(self, static: StaticWatch) -> None:
        """Let ``static`` see the static keys of the store that is read."""
        source = self._source
        if isinstance(source, StoreSource) and source.fresh_at:
            static.look((id(source), source.static_changes), source.static_values)

    def prove(self) -> None:
        """Have a store prove soon that what it said last still holds."""
        if isinstance(self._source, StoreSource):
            self._source.prove()

    def start(self) -> None:
        """Start running; to be called once."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def read_again(self) -> None:
        """Read from the origin at once: the source is opened anew."""
        if self._reading is not None:
            self._reading.cancel()

    async def stop(self) -> None:
        """Stop the source and release what it holds."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=5.0)

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            self._reading = asyncio.get_running_loop().create_task(self._read())
            try:
                await asyncio.wait([self._reading])
            except asyncio.CancelledError:
                self._reading.cancel()
                await asyncio.wait([self._reading], timeout=5.0)
                raise
            if self._reading.cancelled():
                continue
            problem = self._why(self._reading.exception(), pause)
            self._say(Failure(provider=self.name, problems=(problem,), failed_at=time.time()))
            await asyncio.sleep(pause)
            lasted = time.monotonic() - began >= LASTING_SECONDS
            pause = FIRST_PAUSE_SECONDS if lasted else min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _why(self, error: BaseException | None, pause: float) -> Problem:
        """Return why the source ended; logs what only its author can mend."""
        if isinstance(error, StoreError):
            return problem_of(self.name, error)
        reason = f"{type(error).__name__}: {error}" if error else "it ended"
        _logger.error(
            "provider stopped, starting it again %s",
            pairs(provider=self.name, reason=reason, delaySeconds=pause),
            exc_info=error,
        )
        return Problem(message=f"the provider stopped: {reason}", where=self.name)

    async def _read(self) -> None:
        source = self._source = self._opener.open()
        try:
            async for event in source.snapshots():
                self._say(event)
        finally:
            await source.close()

    def _say(self, event: Snapshot | Unchanged | Failure) -> None:
        try:
            self._offer(event)
        except Exception:
            # What one snapshot does to us must not end the provider: the next one may be good.
            _logger.exception("a snapshot could not be used %s", pairs(provider=self.name))
