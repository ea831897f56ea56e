"""Refuses requests while a backend fails (specification section 7.5)."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

from kvproxy.http.answer import text_answer
from kvproxy.middleware.contract import Middleware

if TYPE_CHECKING:
    from kvproxy.balance.circuit_breaker import CircuitBreaker
    from kvproxy.http.answer import Answer
    from kvproxy.middleware.contract import Request


class CircuitBreakerStage(Middleware):
    """One breaker; it sees the status after retries and buffering."""

    __slots__ = ("breaker",)

    def __init__(self, breaker: CircuitBreaker) -> None:
        """``breaker``: of this chain; its state is shared with the other workers."""
        self.breaker = breaker

    def request(self, request: Request) -> Answer | None:
        """Answer 503 while it is tripped, and to a part of the requests while it recovers."""
        return None if self.breaker.allows(monotonic_ns()) else text_answer(503)

    def finished(self, request: Request, status: int, seconds: float) -> None:
        """Count the outcome."""
        self.breaker.record(status, seconds, monotonic_ns())
