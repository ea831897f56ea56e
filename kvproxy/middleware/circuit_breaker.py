"""Refuses requests while a backend fails (specification section 7.5)."""

from __future__ import annotations

import logging
from time import monotonic_ns
from typing import TYPE_CHECKING

from kvproxy.http.answer import text_answer
from kvproxy.middleware.contract import Middleware

if TYPE_CHECKING:
    from kvproxy.balance.circuit_breaker import CircuitBreaker
    from kvproxy.http.answer import Answer
    from kvproxy.middleware.contract import Request


logger = logging.getLogger("kvproxy.proxy")


class CircuitBreakerStage(Middleware):
    """One breaker; it sees the status after retries and buffering."""

    __slots__ = ("_backend", "breaker")

    def __init__(self, breaker: CircuitBreaker, backend: str) -> None:
        """``breaker``: of this chain; its state is shared with the other workers. ``backend``: its
        name, for the log."""
        self.breaker = breaker
        self._backend = backend

    def request(self, request: Request) -> Answer | None:
        """Answer 503 while it is tripped, and to a part of the requests while it recovers."""
        return None if self.breaker.allows(monotonic_ns()) else text_answer(503)

    def finished(self, request: Request, status: int, seconds: float) -> None:
        """Count the outcome."""
        if self.breaker.record(status, seconds, monotonic_ns()):
            logger.warning("circuit breaker tripped backend=%s", self._backend)
