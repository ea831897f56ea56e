"""When a buffered request is sent once more (specification section 7.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kvproxy.balance.circuit_breaker import NETWORK_ERRORS
from kvproxy.balance.expression import (
    OPERATORS,
    Function,
    Term,
    compile_expression,
    parse_expression,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAXIMUM_RETRIES = 10
"""A request is sent again so often at most, whatever the expression says."""

FUNCTIONS = {
    "Attempts": Function((), int),
    "ResponseCode": Function((), int),
    "RequestMethod": Function((), str),
    "IsNetworkError": Function((), bool),
}


class Attempt(NamedTuple):
    """What came of a request: ``attempts`` is 1 after the first."""

    attempts: int
    status: int
    method: str


def parse_retry(text: str) -> Callable[[Attempt], bool]:
    """Return what tells whether to send a request again; raises `ExpressionError`."""
    holds = compile_expression(parse_expression(text, FUNCTIONS), _compile_term)
    return lambda attempt: attempt.attempts <= MAXIMUM_RETRIES and holds(attempt)


def _compile_term(term: Term) -> Callable[[Attempt], bool]:
    if term.function == "IsNetworkError":
        return lambda attempt: attempt.status in NETWORK_ERRORS
    compare, literal = OPERATORS[term.operator], term.literal
    if term.function == "RequestMethod":
        return lambda attempt: compare(attempt.method, literal)
    if term.function == "ResponseCode":
        return lambda attempt: compare(attempt.status, literal)
    return lambda attempt: compare(attempt.attempts, literal)
