"""Static settings that change in the store while the proxy runs: noticed, said, not yet in use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from kvproxy.log import pairs
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kvproxy.config.startup import Start

_SHOWN_KEYS = 10
_logger = logging.getLogger("kvproxy.control")


class StaticWatch:
    """Compares the static keys of the deciding store with those that this process started with.

    ``problems`` says why it started with something else, then what differs now. ``missed`` is
    called once when the process had to start without an answer of the store, and the store turns
    out to say something else.
    """

    def __init__(self, start: Start, missed: Callable[[], None]) -> None:
        """``start``: what the process started with."""
        self.problems: tuple[Problem, ...] = start.complaints
        self._place = start.place
        self._used: Mapping[str, bytes] = {} if start.keys is None else start.keys.values
        self._unanswered = start.unanswered
        self._missed = missed
        self._seen: object = None

    @property
    def store(self) -> str | None:
        """The name of the deciding store; None when there is none."""
        return None if self._place is None else self._place.store

    def look(self, seen: object, values: Callable[[], Mapping[str, bytes]]) -> None:
        """Compare with what the store says now; ``seen`` changes whenever ``values`` may have."""
        if self._place is None or seen == self._seen:
            return
        self._seen = seen
        found = values()
        keys = sorted(
            key for key in found.keys() | self._used.keys() if found.get(key) != self._used.get(key)
        )
        unanswered, self._unanswered = self._unanswered, False
        if not keys:
            if self.problems:
                self.problems = ()
                _logger.info("static settings of the store are those in use")
            return
        shown = ", ".join(keys[:_SHOWN_KEYS]) + (", ..." if len(keys) > _SHOWN_KEYS else "")
        problem = Problem(
            message=f"static settings differ from those in use: {shown}",
            where=self._place.prefix,
            expected="a restart or SIGUSR2 to use them",
            fatal=False,
        )
        if self.problems != (problem,):
            self.problems = (problem,)
            _logger.warning("settings %s", pairs(store=self._place.store, problem=problem))
        if unanswered:
            self._missed()
