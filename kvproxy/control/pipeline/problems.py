"""Which problems a provider has now, since when, and what came and went."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.control.pipeline.outcome import Notice

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from kvproxy.model.problem import Problem


class ProblemBook:
    """The problems of one provider, by what they belong to."""

    def __init__(self, provider: str) -> None:
        """Start without problems."""
        self._provider = provider
        self._by_owner: dict[Hashable, dict[Problem, float]] = {}
        self._found: dict[Notice, None] = {}
        self._resolved: dict[Notice, None] = {}

    def replace(self, owner: Hashable, problems: tuple[Problem, ...], now: float) -> None:
        """Say what is wrong now with ``owner``; what it had before and has no more is resolved."""
        before = self._by_owner.get(owner)
        if not before and not problems:
            return
        before = before or {}
        after = {problem: before.get(problem, now) for problem in problems}
        for problem, since in after.items():
            if problem not in before:
                self._found[Notice(self._provider, problem, since)] = None
        for problem, since in before.items():
            if problem not in after:
                notice = Notice(self._provider, problem, since)
                if notice in self._found:
                    del self._found[notice]
                else:
                    self._resolved[notice] = None
        if after:
            self._by_owner[owner] = after
        else:
            self._by_owner.pop(owner, None)

    def of(self, owner: Hashable) -> tuple[Problem, ...]:
        """Return what is wrong now with ``owner``."""
        return tuple(self._by_owner.get(owner, ()))

    def drain(self) -> tuple[tuple[Notice, ...], tuple[Notice, ...]]:
        """Return what was found and what was resolved since the last call."""
        found, resolved = tuple(self._found), tuple(self._resolved)
        self._found, self._resolved = {}, {}
        return found, resolved

    def __iter__(self) -> Iterator[Notice]:
        """Iterate over all problems of now."""
        for problems in self._by_owner.values():
            for problem, since in problems.items():
                yield Notice(self._provider, problem, since)
