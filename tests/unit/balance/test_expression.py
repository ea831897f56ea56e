"""The grammar of expressions (specification section 7.5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.balance.circuit_breaker import FUNCTIONS as BREAKER
from kvproxy.balance.expression import (
    OPERATORS,
    Both,
    Either,
    ExpressionError,
    Function,
    Term,
    compile_expression,
    parse_expression,
    terms_of,
)
from kvproxy.balance.retry_expression import FUNCTIONS as RETRY

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.balance.expression import Expression

NETWORK = Term("NetworkErrorRatio", (), ">", 0.5)
LATENCY = Term("LatencyAtQuantileMS", (50.0,), "<=", 50)
CODES = Term("ResponseCodeRatio", (500, 600, 0, 600), "==", 1.0)

ACCEPTED = {
    "ratio": ("NetworkErrorRatio() > 0.5", NETWORK),
    "latency": ("LatencyAtQuantileMS(50.0) <= 50", LATENCY),
    "codes": ("ResponseCodeRatio(500, 600, 0, 600) == 1.0", CODES),
    "no white space": ("ResponseCodeRatio(500,600,0,600)==1.0", CODES),
    "much white space": (" NetworkErrorRatio (\t)\n>\r\n0.5 ", NETWORK),
    "exponent": ("NetworkErrorRatio() > 5e-1", NETWORK),
    "point without digits": ("NetworkErrorRatio() > .5", NETWORK),
    "parentheses": ("((NetworkErrorRatio() > 0.5))", NETWORK),
    "or": (
        "NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(50.0) <= 50",
        Either(NETWORK, LATENCY),
    ),
    "and binds tighter": (
        "NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(50.0) <= 50 "
        "&& ResponseCodeRatio(500, 600, 0, 600) == 1.0",
        Either(NETWORK, Both(LATENCY, CODES)),
    ),
    "parentheses bind tightest": (
        "(NetworkErrorRatio() > 0.5 || LatencyAtQuantileMS(50.0) <= 50) "
        "&& ResponseCodeRatio(500, 600, 0, 600) == 1.0",
        Both(Either(NETWORK, LATENCY), CODES),
    ),
    "to the left": (
        "NetworkErrorRatio() > 0.5 && LatencyAtQuantileMS(50.0) <= 50 && NetworkErrorRatio() > 0.5",
        Both(Both(NETWORK, LATENCY), NETWORK),
    ),
}


@pytest.mark.parametrize(("text", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_accepted(text: str, expected: Expression) -> None:
    assert parse_expression(text, BREAKER) == expected


REFUSED = {
    "empty": ("", 0),
    "white space alone": ("  ", 2),
    "whole number as argument": ("LatencyAtQuantileMS(50) > 50", 20),
    "whole number as ratio": ("NetworkErrorRatio() > 1", 22),
    "number with a point as latency": ("LatencyAtQuantileMS(50.0) > 50.0", 28),
    "not": ("!(NetworkErrorRatio() > 0.5)", 0),
    "minus": ("NetworkErrorRatio() > -0.5", 22),
    "arithmetic": ("NetworkErrorRatio() > 0.5 + 0.1", 26),
    "true": ("true", 0),
    "AND": ("NetworkErrorRatio() > 0.5 AND NetworkErrorRatio() > 0.5", 26),
    "other case": ("networkErrorRatio() > 0.5", 0),
    "literal on the left": ("0.5 < NetworkErrorRatio()", 0),
    "function on the right": ("NetworkErrorRatio() > NetworkErrorRatio()", 22),
    "no comparison": ("NetworkErrorRatio()", 19),
    "no parentheses": ("NetworkErrorRatio > 0.5", 18),
    "too few arguments": ("ResponseCodeRatio(500, 600, 0) > 0.5", 29),
    "too many arguments": ("ResponseCodeRatio(500, 600, 0, 600, 1) > 0.5", 34),
    "open parenthesis": ("(NetworkErrorRatio() > 0.5", 26),
    "stray parenthesis": ("NetworkErrorRatio() > 0.5)", 25),
    "half an operator": ("NetworkErrorRatio() > 0.5 & NetworkErrorRatio() > 0.5", 26),
    "one equals": ("NetworkErrorRatio() = 0.5", 20),
    "operator at the end": ("NetworkErrorRatio() > 0.5 ||", 28),
    "unknown function": ("Foo() > 0.5", 0),
    "digits of another script": ("LatencyAtQuantileMS(\u0665\u0660.0) > 50", 20),
    "too long": ("NetworkErrorRatio() > 0." + "0" * 5000, 4096),
    "too many comparisons": (" || ".join(["NetworkErrorRatio() > 0.5"] * 33), 928),
    "too many parentheses": ("(" * 33 + "NetworkErrorRatio() > 0.5" + ")" * 33, 32),
}


@pytest.mark.parametrize(("text", "position"), REFUSED.values(), ids=REFUSED)
def test_refused_with_its_place(text: str, position: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text, BREAKER)
    assert caught.value.position == position


def test_the_error_marks_the_place_and_names_the_nearest_function() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression("NetworkErrorRatios() > 0.5", BREAKER)
    assert caught.value.nearest == "NetworkErrorRatio"
    assert "column 1 of `>>>NetworkErrorRatios() > 0.5`" in str(caught.value)


@pytest.mark.parametrize("text", ['RequestMethod() < "GET"', "IsNetworkError() == 1"])
def test_operators_that_a_type_does_not_have(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_expression(text, RETRY)


@given(st.text(alphabet="NetworkErrorRatio()0.5&|<>= \"'\\", max_size=60) | st.text(max_size=60))
def test_any_text_is_parsed_or_refused_within_its_length(text: str) -> None:
    try:
        parse_expression(text, BREAKER)
    except ExpressionError as error:
        assert 0 <= error.position <= len(text)
        assert error.message


NUMBER = {"A": Function((), int)}
TREES = st.recursive(
    st.builds(
        Term, st.just("A"), st.just(()), st.sampled_from(sorted(OPERATORS)), st.integers(0, 9)
    ),
    lambda inner: st.builds(Both, inner, inner) | st.builds(Either, inner, inner),
    max_leaves=12,
)


def spell(expression: Expression) -> str:
    """Write a tree with all its parentheses."""
    if isinstance(expression, Term):
        return f"{expression.function}() {expression.operator} {expression.literal}"
    sign = "&&" if isinstance(expression, Both) else "||"
    return f"({spell(expression.left)} {sign} {spell(expression.right)})"


def plain(expression: Expression, value: int) -> bool:
    """What an expression of the one function `A` is for its value."""
    if isinstance(expression, Term):
        return OPERATORS[expression.operator](value, expression.literal)
    sides = [plain(expression.left, value), plain(expression.right, value)]
    return all(sides) if isinstance(expression, Both) else any(sides)


@given(TREES, st.integers(0, 9))
def test_what_is_spelled_is_parsed_and_judged_alike(expression: Expression, value: int) -> None:
    parsed = parse_expression(spell(expression), NUMBER)
    assert parsed == expression

    def compile_term(term: Term) -> Callable[[int], bool]:
        return lambda facts: OPERATORS[term.operator](facts, term.literal)

    assert compile_expression(parsed, compile_term)(value) == plain(expression, value)
    assert all(term.function == "A" for term in terms_of(parsed))
