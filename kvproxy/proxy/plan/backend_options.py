"""What the options of a backend, and the rate limit of a frontend, add to a chain."""

from __future__ import annotations

import logging
import weakref
from array import array
from contextlib import nullcontext
from typing import TYPE_CHECKING

from kvproxy.balance.circuit_breaker import CircuitBreaker, block_cells, parse_condition
from kvproxy.balance.source import parse_source
from kvproxy.balance.token_bucket import rate_of
from kvproxy.middleware.circuit_breaker import CircuitBreakerStage
from kvproxy.middleware.connection_limit import ConnectionLimit
from kvproxy.middleware.rate_limit import RateLimitStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvproxy.balance.chain_identity import ChainIdentity
    from kvproxy.balance.shared_memory import SharedMemory
    from kvproxy.middleware.contract import Middleware
    from kvproxy.model.dynamic import Backend, Frontend

logger = logging.getLogger("kvproxy.proxy")

_UNLIMITED = 1 << 31


def breaker_stages(
    name: str, backend: Backend, identity: ChainIdentity, memory: SharedMemory
) -> list[Middleware]:
    """Return the circuit breaker of a chain, if it has one; raises `ExpressionError`."""
    if backend.circuit_breaker is None:
        return []
    text = backend.circuit_breaker.expression
    condition = parse_condition(text)
    owner = identity.breaker(text)
    claims = [
        memory.claims.hold(
            memory.tag(owner, b"%d" % number),
            _UNLIMITED,
            memory.clear_block,
        )
        for number in range(len(condition.measures))
    ]
    held = [claim for claim in claims if claim >= 0]
    if len(held) == len(claims):
        breaker = CircuitBreaker(
            condition,
            [memory.block(claim) for claim in claims],
            memory.block_lock(claims[0]),
            slot=memory.slot,
            slots=memory.slots,
        )
    else:
        logger.warning("too many circuit breakers: each worker counts for itself from now on")
        blocks = [array("q", bytes(8 * block_cells(1))) for _ in claims]
        breaker = CircuitBreaker(condition, blocks, nullcontext())
    for claim in held:
        weakref.finalize(breaker, memory.claims.release, claim)
    return [CircuitBreakerStage(breaker, name)]


def limits(
    frontend: Frontend, backend: Backend, identity: ChainIdentity, memory: SharedMemory
) -> Sequence[Middleware]:
    """Return what a request meets in each attempt; raises `SourceError`."""
    found: list[Middleware] = []
    maximum = backend.max_conn
    if maximum is not None and maximum.amount:
        source = parse_source(maximum.extractor_func)
        owner = identity.of("maxConn", maximum.extractor_func)
        found.append(ConnectionLimit(maximum.amount, source, memory, owner))
    limit = frontend.rate_limit
    if limit is not None and limit.rate_set:
        rates = sorted(limit.rate_set.items())
        found.append(
            RateLimitStage(
                [rate_of(rate.period, rate.average, rate.burst) for _, rate in rates],
                max(rate.period for _, rate in rates),
                parse_source(limit.extractor_func),
                memory,
                identity.of("rateLimit"),
            )
        )
    return found
