"""The servers of a chain and how the next one is chosen: rotation, health, draining, affinity."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kvproxy.balance.drr import DynamicRoundRobin, Rating
from kvproxy.balance.wrr import WeightedRoundRobin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvproxy.balance.stickiness import Stickiness
    from kvproxy.middleware.contract import Request
    from kvproxy.proxy.upstream.health import Health
    from kvproxy.proxy.upstream.server import Server


class Member(NamedTuple):
    """A server as one backend names it.

    ``draining``: only requests that are tied to it may still come; ``check``: the key of its health
    check (`kvproxy.model.health`), empty when it is not checked.
    """

    server: Server
    url: str
    weight: int
    draining: bool = False
    check: bytes = b""


class Rotation(Protocol):
    """The order of servers, as positions."""

    def next(self) -> int:
        """Return the next position, -1 when there is none."""
        ...


class Balancer:
    """The members of a backend and the position in their rotation.

    Kept from generation to generation while the members stay the same; what is not in the rotation
    now (down, draining, of weight 0) does not move it.
    """

    __slots__ = (
        "__weakref__",
        "_dynamic",
        "_health",
        "_health_version",
        "_positions",
        "_servers",
        "_up",
        "members",
        "ratings",
        "rotation",
        "signature",
    )

    def __init__(
        self,
        members: Sequence[Member],
        health: Health,
        *,
        dynamic: bool = False,
        previous: Balancer | None = None,
    ) -> None:
        """``dynamic``: weights follow failures (drr); ``previous``: the balancer of the same chain
        before its members changed, whose ratings go on."""
        self.members = tuple(members)
        self.signature = (self.members, dynamic)
        self._dynamic = dynamic
        self._health = health
        known = {} if previous is None else previous.ratings
        self.ratings: dict[Server, Rating] = (
            {each.server: known.get(each.server) or Rating() for each in members} if dynamic else {}
        )
        self._positions = {each.server: number for number, each in enumerate(members)}
        self._up = [not health.is_down(each.check) for each in members]
        self._health_version = health.version
        self._rebuild()

    def _rebuild(self) -> None:
        chosen = [
            each
            for each, up in zip(self.members, self._up, strict=True)
            if up and each.weight and not each.draining
        ]
        self._servers = [each.server for each in chosen]
        weights = [each.weight for each in chosen]
        self.rotation: Rotation
        if self._dynamic:
            ratings = [self.ratings[each] for each in self._servers]
            self.rotation = DynamicRoundRobin(weights, ratings)
        else:
            self.rotation = WeightedRoundRobin(weights)

    def _look_at_health(self) -> None:
        """Start the rotation anew when a server went down or came back."""
        self._health_version = self._health.version
        up = [not self._health.is_down(each.check) for each in self.members]
        if up != self._up:
            self._up = up
            self._rebuild()

    @property
    def single(self) -> Server | None:
        """The only server, when nothing can ever keep it from being chosen."""
        if len(self.members) != 1 or self._dynamic:
            return None
        only = self.members[0]
        return only.server if only.weight and not only.draining and not only.check else None

    @property
    def no_server_status(self) -> int:
        """What a request is answered when `next` finds no server (specification section 7.1)."""
        usable = any(
            up and not each.draining for each, up in zip(self.members, self._up, strict=True)
        )
        return 500 if usable else 503

    def next(self) -> Server | None:
        """Return the next server of the rotation, None when there is none."""
        if self._health_version != self._health.version:
            self._look_at_health()
        position = self.rotation.next()
        return None if position < 0 else self._servers[position]

    def another(self, unreachable: Server | None) -> Server | None:
        """Return the next server of the rotation, but not ``unreachable`` when there are others."""
        server = self.next()
        if server is not None and server is unreachable and len(self._servers) > 1:
            return self._servers[(self._servers.index(server) + 1) % len(self._servers)]
        return server

    def is_up(self, server: Server) -> bool:
        """Tell whether the health check of a member, if it has one, finds it well."""
        if self._health_version != self._health.version:
            self._look_at_health()
        return self._up[self._positions[server]]

    def answered(self, server: Server, status: int) -> None:
        """Take note of what came of an attempt; ``status`` is the proxy's own when it failed."""
        rating = self.ratings.get(server)
        if rating is None:
            return
        now = monotonic_ns()
        rating.record(status, now)
        if isinstance(self.rotation, DynamicRoundRobin):
            self.rotation.adjust(now)


class Affinity:
    """Chooses by the client's cookie, else by the rotation (specification section 7.4)."""

    __slots__ = ("_balancer", "_lines", "_servers", "_stickiness")

    def __init__(self, balancer: Balancer, stickiness: Stickiness | None) -> None:
        """Without ``stickiness`` the rotation alone chooses."""
        self._balancer = balancer
        self._stickiness = stickiness
        self._lines = {
            each.server: b"" if stickiness is None else stickiness.line(each.url)
            for each in balancer.members
        }
        self._servers = {each.server.identity: each.server for each in balancer.members}

    def choose(self, request: Request, unreachable: Server | None) -> tuple[Server | None, bytes]:
        """Return the server for a request, and the header line that ties the client to it.

        ``unreachable``: the server of the attempt before; the cookie does not lead there again.
        """
        if self._stickiness is not None:
            cookies = request.headers.get(b"cookie")
            identity = None if cookies is None else self._stickiness.identity(cookies)
            tied = None if identity is None else self._servers.get(identity)
            if tied is not None and tied is not unreachable and self._balancer.is_up(tied):
                return tied, b""
        server = self._balancer.another(unreachable)
        return server, b"" if server is None else self._lines[server]
