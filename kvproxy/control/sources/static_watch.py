"""Static settings that change in the store while the proxy runs: put into use, or said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kvproxy.log import pairs
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvproxy.config.startup import Start

CHANGEABLE = frozenset({"entryPoints", "defaultEntryPoints"})
"""Options that can change while the proxy runs (`kvproxy.control.reload`)."""

_CHANGEABLE = frozenset(option.lower() for option in CHANGEABLE)
_SHOWN_KEYS = 10
_logger = logging.getLogger("kvproxy.control")


class StaticWatch:
    """Compares the static keys of the deciding store with those that this process started with.

    ``problems`` says why it started with something else, then what differs now. ``missed`` is
    called once when the process had to start without an answer of the store, and the store turns
    out to say something else; ``changed`` when it says something else of `CHANGEABLE` options
    later.
    """

    def __init__(
        self,
        start: Start,
        missed: Callable[[], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """``start``: what the process started with."""
        self.problems: tuple[Problem, ...] = start.complaints
        self._place = start.place
        self._used: Mapping[str, bytes] = {} if start.keys is None else start.keys.values
        self._unanswered = start.unanswered
        self._missed = missed
        self._changed = changed
        self._seen: object = None
        self._found: Mapping[str, bytes] = self._used

    @property
    def store(self) -> str | None:
        """The name of the deciding store; None when there is none."""
        return None if self._place is None else self._place.store

    def use(self, values: Mapping[str, bytes]) -> None:
        """Note that what can be changed is in use now as ``values`` has it."""
        used = {key: value for key, value in self._used.items() if not _changeable(key)}
        used.update((key, value) for key, value in values.items() if _changeable(key))
        self._used = used
        self._compare()

    def look(self, seen: object, values: Callable[[], Mapping[str, bytes]]) -> None:
        """Compare with what the store says now; ``seen`` changes whenever ``values`` may have."""
        if self._place is None or seen == self._seen:
            return
        self._seen = seen
        self._found = values()
        keys = self._compare()
        unanswered, self._unanswered = self._unanswered, False
        if keys and unanswered:
            self._missed()
        elif any(map(_changeable, keys)):
            self._changed()

    def _compare(self) -> list[str]:
        """Say what differs and cannot be changed; returns all keys that differ."""
        found, used = self._found, self._used
        keys = sorted(key for key in found.keys() | used.keys() if found.get(key) != used.get(key))
        fixed = [key for key in keys if not _changeable(key)]
        if not fixed:
            if self.problems:
                self.problems = ()
                _logger.info("static settings of the store are those in use")
            return keys
        assert self._place is not None
        shown = ", ".join(fixed[:_SHOWN_KEYS]) + (", ..." if len(fixed) > _SHOWN_KEYS else "")
        problem = Problem(
            message=f"static settings differ from those in use: {shown}",
            where=self._place.prefix,
            expected="a restart or SIGUSR2 to use them",
            fatal=False,
        )
        if self.problems != (problem,):
            self.problems = (problem,)
            _logger.warning("settings %s", pairs(store=self._place.store, problem=problem))
        return keys


def _changeable(key: str) -> bool:
    """Tell whether a static key belongs to an option that can change while the proxy runs."""
    return key.strip("/").partition("/")[0].lower() in _CHANGEABLE
