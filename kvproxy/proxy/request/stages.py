"""Middlewares in a row, compiled: what a middleware does not do is never called."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kvproxy.middleware.contract import Middleware

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvproxy.middleware.contract import Outcome, Request

    Ask: TypeAlias = Callable[[Request], Outcome]
    Change: TypeAlias = Callable[[Request, bytes, int], bytes]
    Finish: TypeAlias = Callable[[Request, int, float], None]


class Stages:
    """``steps``: on the way in, each with what is called when a request it let pass has ended;
    ``changes``: on the way out, the innermost first; ``names``: of the headers that they set, in
    lower case, with hyphens for underscores. ``checks``: what the steps ask, where that is all
    there is to do, else None. False when there is nothing to do."""

    __slots__ = ("changes", "checks", "names", "steps")

    def __init__(self, middlewares: Sequence[Middleware] = ()) -> None:
        """``middlewares``: in the order in which a request meets them."""
        self.steps: tuple[tuple[Ask | None, Finish | None], ...] = tuple(
            (
                each.request if _overrides(each, "request") else None,
                each.finished if _overrides(each, "finished") else None,
            )
            for each in middlewares
            if _overrides(each, "request") or _overrides(each, "finished")
        )
        self.changes: tuple[Change, ...] = tuple(
            each.response for each in reversed(middlewares) if _overrides(each, "response")
        )
        asks = [ask for ask, finish in self.steps if finish is None and ask is not None]
        alone = len(asks) == len(self.steps) and not self.changes
        self.checks: tuple[Ask, ...] | None = tuple(asks) if alone else None
        self.names = frozenset(
            name.replace(b"_", b"-") for each in middlewares for name in each.sets()
        )

    def __bool__(self) -> bool:
        """Say whether there is anything to do."""
        return bool(self.steps or self.changes)


def _overrides(middleware: Middleware, method: str) -> bool:
    return getattr(type(middleware), method) is not getattr(Middleware, method)


NO_STAGES = Stages()
