"""What a frontend does with a request on one entry point, compiled before the request exists."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, TypeAlias

from kvproxy.model.latency import LATENCY_BOUNDS
from kvproxy.proxy.counters import HISTOGRAM_CELL, RETRIES_CELL, SECONDS_CELL
from kvproxy.proxy.request.stages import NO_STAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.middleware.contract import Request
    from kvproxy.proxy.request.buffered import BufferSettings
    from kvproxy.proxy.request.error_page import PageWay
    from kvproxy.proxy.request.stages import Stages
    from kvproxy.proxy.upstream.balancer import Balancer
    from kvproxy.proxy.upstream.server import Server
    from kvproxy.rules.modifiers import Modifiers

    Choose: TypeAlias = Callable[[Request, Server | None], tuple[Server | None, bytes]]
    Answered: TypeAlias = Callable[[Server, int], None]


class Chain:
    """The compiled way of a request through one frontend on one entry point.

    ``direct``: nothing but forwarding is to be done. ``checks``: what is asked before a request is
    forwarded, where nothing else is to be done, else None; with ``response_lines`` (where
    not None) the exchange itself adds them to the answer, the first on a connection without TLS,
    else the second. ``request_lines``: where not None, adding them (to a request that is not
    chunked: trailers are not looked at then) is all that ``checks`` do.
    ``single``:
    the only server, when there is no choice. ``choose``, where set, chooses the server by the
    request (and by the server that the attempt before did not reach) and returns it with the header
    lines that the answer gets. ``answered``, where set, is told what came of each attempt.
    """

    __slots__ = (
        "answered",
        "attempts",
        "backend",
        "balancer",
        "buffering",
        "checks",
        "choose",
        "counters",
        "direct",
        "limits",
        "modifiers",
        "modifies",
        "name",
        "next_server",
        "pages",
        "pass_host",
        "priority",
        "request_lines",
        "response_lines",
        "single",
        "stages",
    )

    def __init__(
        self,
        name: str,
        balancer: Balancer,
        *,
        modifiers: Modifiers,
        pass_host: bool,
        priority: int,
        attempts: int,
        counters: list[float],
        backend: str = "",
        stages: Stages = NO_STAGES,
        limits: Stages = NO_STAGES,
        choose: Choose | None = None,
        answered: Answered | None = None,
        buffering: BufferSettings | None = None,
        pages: tuple[PageWay, ...] = (),
    ) -> None:
        """``name`` and ``backend``: names for people; ``priority``: of the frontend; ``attempts``:
        servers asked at most; ``counters``: the cells (`kvproxy.proxy.counters`) of the backend on
        the entry point; ``stages``: middlewares that a request meets once; ``limits``: those that
        it meets in each attempt; ``pages``: the first that fits is sent in the place of an answer;
        ``buffering``: bodies are read completely first."""
        self.name = name
        self.backend = backend
        self.balancer = balancer
        self.modifiers = modifiers
        self.modifies = bool(modifiers)
        self.stages = stages
        self.limits = limits
        self.choose = choose
        self.answered = answered
        self.buffering = buffering
        self.pages = pages
        more = limits or choose or answered or pages or buffering
        constant = not stages.changes or stages.response_lines is not None
        self.checks = stages.asks if constant and not more else None
        short = self.checks is not None
        self.request_lines = stages.request_lines if short else None
        self.response_lines = stages.response_lines if short else None
        nothing_asked = self.checks == () or self.request_lines is not None
        self.direct = not self.modifies and nothing_asked
        self.pass_host = pass_host
        self.priority = priority
        self.attempts = attempts
        self.counters = counters
        self.next_server = balancer.next
        self.single = balancer.single if choose is None else None

    @property
    def no_server_status(self) -> int:
        """What a request is answered that finds no server."""
        return self.balancer.no_server_status

    def count(self, status_class: int, seconds: float) -> None:
        """Count an answer."""
        counters = self.counters
        counters[status_class] += 1
        counters[SECONDS_CELL] += seconds
        if seconds > LATENCY_BOUNDS[0]:
            self.count_slow(seconds)

    def count_slow(self, seconds: float) -> None:
        """Count an answer that took longer than the first bound of the histogram."""
        self.counters[HISTOGRAM_CELL + bisect_left(LATENCY_BOUNDS, seconds)] += 1

    def another(self, unreachable: Server | None) -> Server | None:
        """Return the server for one more attempt, None when there is none; and count it."""
        server = self.balancer.another(unreachable)
        if server is not None:
            self.count_retry()
        return server

    def count_retry(self) -> None:
        """Count an attempt after the first."""
        self.counters[RETRIES_CELL] += 1
