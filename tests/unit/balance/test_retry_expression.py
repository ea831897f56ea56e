"""When a buffered request is sent again (specification section 7.8)."""

from __future__ import annotations

import pytest

from kvproxy.balance.expression import ExpressionError
from kvproxy.balance.retry_expression import Attempt, parse_retry

NETWORK = "IsNetworkError() && Attempts() <= 2"
GET = 'ResponseCode() == 503 && Attempts() < 3 && RequestMethod() == "GET"'

TABLE = [
    (NETWORK, Attempt(1, 502, "GET"), True),
    (NETWORK, Attempt(2, 504, "POST"), True),
    (NETWORK, Attempt(3, 502, "GET"), False),
    (NETWORK, Attempt(1, 500, "GET"), False),
    (GET, Attempt(2, 503, "GET"), True),
    (GET, Attempt(3, 503, "GET"), False),
    (GET, Attempt(1, 503, "POST"), False),
    (GET, Attempt(1, 200, "GET"), False),
    ("ResponseCode() >= 500", Attempt(10, 500, "GET"), True),
    ("ResponseCode() >= 500", Attempt(11, 500, "GET"), False),
    ('RequestMethod() != "GET" || ResponseCode() == 429', Attempt(1, 429, "GET"), True),
]


@pytest.mark.parametrize(("text", "attempt", "again"), TABLE)
def test_table(text: str, attempt: Attempt, again: bool) -> None:
    assert parse_retry(text)(attempt) is again


@pytest.mark.parametrize("text", ["Foo()", "NetworkErrorRatio() > 0.5", "Attempts()", ""])
def test_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_retry(text)
