"""What names the state of a chain in the shared memory, in every worker and in the supervisor."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kvproxy.model.dynamic import Frontend

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def shared_settings(frontend: Frontend) -> bytes:
    """Return what must be equal for two frontends to share one rotation: all but name, routes,
    entry points."""
    return _encode(msgspec.structs.replace(frontend, routes={}, entry_points=()))


class ChainIdentity:
    """Equal for chains that share their state (specification section 1.6), and for the same chain
    in the next generation."""

    __slots__ = ("key",)

    def __init__(self, entry_point: str, provider: str, frontend: Frontend) -> None:
        """``key``: the parts of the identity."""
        self.key = (entry_point, provider, shared_settings(frontend))

    def of(self, *what: object) -> bytes:
        """Return the digest that stands for one piece of state of the chain."""
        return blake2b(_encode((*self.key, *what)), digest_size=32).digest()

    def breaker(self, expression: str) -> bytes:
        """Return the digest of its circuit breaker."""
        return self.of("circuitBreaker", expression)
