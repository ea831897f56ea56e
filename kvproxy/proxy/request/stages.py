"""Middlewares in a row, compiled: what a middleware does not do is never called."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from kvproxy.middleware.contract import Middleware
from kvproxy.middleware.response_lines import ResponseLines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvproxy.middleware.contract import Outcome, Request

    Ask: TypeAlias = Callable[[Request], Outcome]
    Change: TypeAlias = Callable[[Request, bytes, int], bytes]
    Finish: TypeAlias = Callable[[Request, int, float], None]


class Stages:
    """``steps``: on the way in, each with what is called when a request it let pass has ended;
    ``changes``: on the way out, the innermost first; ``names``: of the headers that they set, in
    lower case, with hyphens for underscores. ``asks``: what the steps ask, where they do nothing
    else, else None; ``checks``: the same where that is all there is to do.
    ``request_lines``: what stands for ``asks`` where that sets the same lines on every request,
    else None; ``response_lines``: what stands for ``changes``, on connections without and with TLS,
    where they are always the same lines, else None. False when there is nothing to do."""

    __slots__ = (
        "asks",
        "changes",
        "checks",
        "names",
        "request_lines",
        "response_lines",
        "steps",
    )

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
        changing = [each for each in reversed(middlewares) if _overrides(each, "response")]
        self.changes: tuple[Change, ...] = tuple(each.response for each in changing)
        self.response_lines = _lines_of(changing)
        asks = [ask for ask, finish in self.steps if finish is None and ask is not None]
        self.asks: tuple[Ask, ...] | None = tuple(asks) if len(asks) == len(self.steps) else None
        self.checks = None if self.changes else self.asks
        asking = [each for each in middlewares if _overrides(each, "request")]
        alone = self.asks is not None and len(asking) == 1
        self.request_lines = asking[0].request_lines() if alone else None
        self.names = frozenset(
            name.replace(b"_", b"-") for each in middlewares for name in each.sets()
        )

    def __bool__(self) -> bool:
        """Say whether there is anything to do."""
        return bool(self.steps or self.changes)


def _lines_of(changing: Sequence[Middleware]) -> tuple[ResponseLines, ResponseLines] | None:
    """Return the lines that these middlewares set, the innermost first; None: not only lines."""
    if not changing:
        return None
    plain, secure = (
        [lines for each in changing if (lines := each.response_lines(secure=tls)) is not None]
        for tls in (False, True)
    )
    if not len(plain) == len(secure) == len(changing):
        return None
    return ResponseLines.joined(plain), ResponseLines.joined(secure)


def _overrides(middleware: Middleware, method: str) -> bool:
    return getattr(type(middleware), method) is not getattr(Middleware, method)


NO_STAGES = Stages()
