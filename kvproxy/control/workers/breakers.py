"""The circuit breakers of a generation, as the supervisor sees them in the shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from kvproxy.balance.chain_identity import ChainIdentity
from kvproxy.balance.circuit_breaker import RECOVERING, STANDBY, TRIPPED, state_of, trips_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvproxy.balance.shared_memory import SharedMemory
    from kvproxy.control.generations.generation import Generation

STATES = {STANDBY: "standby", TRIPPED: "tripped", RECOVERING: "recovering"}


class BreakerStatus(Struct, frozen=True, rename="camel"):
    """One breaker. ``state``: standby, tripped or recovering; ``trips``: how often it tripped."""

    entry_point: str
    provider: str
    frontend: str
    backend: str
    state: str
    trips: int


def breakers(generation: Generation, memory: SharedMemory) -> Iterator[BreakerStatus]:
    """Yield the breakers that workers have; frontends that share one are each named."""
    for (provider, name), entry in generation.frontends.items():
        frontend = entry.frontend
        backend = generation.backends.get((provider, frontend.backend))
        if backend is None or backend.backend.circuit_breaker is None:
            continue
        expression = backend.backend.circuit_breaker.expression
        for entry_point in frontend.entry_points:
            owner = ChainIdentity(entry_point, provider, frontend).breaker(expression)
            block = memory.claimed_block(memory.tag(owner, b"0"))
            if block is not None:
                yield BreakerStatus(
                    entry_point,
                    provider,
                    name,
                    frontend.backend,
                    STATES[state_of(block)],
                    trips_of(block),
                )
