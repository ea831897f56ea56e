"""What a frontend does with a request on one entry point, compiled before the request exists."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, TypeAlias

from kvproxy.balance.wrr import WeightedRoundRobin
from kvproxy.proxy.stages import NO_STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kvproxy.middleware.contract import Request
    from kvproxy.proxy.server import Server
    from kvproxy.proxy.stages import Stages
    from kvproxy.rules.modifiers import Modifiers

    Choose: TypeAlias = Callable[[Request], tuple[Server | None, bytes]]

LATENCY_BOUNDS = (0.1, 0.3, 1.2, 5.0)
"""Upper bounds of the latency histogram, seconds (the default buckets of Traefik 1.7)."""

SECONDS_CELL = 10
HISTOGRAM_CELL = 11
COUNTER_CELLS = HISTOGRAM_CELL + len(LATENCY_BOUNDS) + 1
"""Cells 1-9: answers by first digit of the status (servers do send 600 and more); 10: summed
seconds; from 11 on: histogram (first cell left implicit)."""


class Balancer:
    """Servers of a backend and the position in their rotation.

    Kept from generation to generation while the servers and weights of the chain stay the same.
    """

    __slots__ = ("__weakref__", "rotation", "servers", "signature")

    def __init__(self, servers: Sequence[Server], weights: Sequence[int]) -> None:
        """``servers`` and ``weights`` are parallel."""
        self.servers = tuple(servers)
        self.rotation = WeightedRoundRobin(weights)
        self.signature = balancer_signature(servers, weights)

    def next(self) -> Server | None:
        """Return the next server of the rotation, None when every weight is 0 or there is none."""
        position = self.rotation.next()
        return None if position < 0 else self.servers[position]


def balancer_signature(servers: Sequence[Server], weights: Sequence[int]) -> tuple[object, ...]:
    """Return what must stay equal for a rotation to go on."""
    return tuple((id(server), weight) for server, weight in zip(servers, weights, strict=True))


class Chain:
    """The compiled way of a request through one frontend on one entry point.

    ``direct``: nothing but forwarding is to be done. ``staged``: there are middlewares. ``single``:
    the only server, when there is no choice. ``choose``, where set, chooses the server by the
    request and returns it with the header lines that the answer gets.
    """

    __slots__ = (
        "attempts",
        "balancer",
        "choose",
        "counters",
        "direct",
        "limits",
        "modifiers",
        "name",
        "next_server",
        "no_server_status",
        "pass_host",
        "priority",
        "single",
        "staged",
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
        stages: Stages = NO_STAGES,
        limits: Stages = NO_STAGES,
        choose: Choose | None = None,
    ) -> None:
        """``priority``: of the frontend; ``attempts``: servers asked at most; ``counters``: the
        backend's cells of this worker; ``stages``: middlewares that a request meets once;
        ``limits``: those that it meets in each attempt."""
        self.name = name
        self.balancer = balancer
        self.modifiers = modifiers
        self.stages = stages
        self.limits = limits
        self.choose = choose
        self.staged = bool(stages or limits or choose)
        self.direct = not modifiers and not self.staged
        self.pass_host = pass_host
        self.priority = priority
        self.attempts = attempts
        self.counters = counters
        self.next_server = balancer.next
        servers = balancer.servers
        weights = balancer.rotation.weights
        only = len(servers) == 1 and weights[0] and choose is None
        self.single = servers[0] if only else None
        # Specification section 7.1: no server is 503, all weights 0 is 500.
        self.no_server_status = 500 if servers else 503

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
