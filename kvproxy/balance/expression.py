"""Expressions of circuit breakers and of buffering: parsed into a tree, compiled into closures.

Grammar (specification section 7.5): comparisons of a function with a literal, joined by ``&&`` and
``||`` (``&&`` binds tighter, both to the left) and grouped by parentheses. Which functions there
are is the caller's business. Nothing is ever evaluated by the interpreter of Python.
"""

from __future__ import annotations

import operator
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

from kvproxy.model.problem import nearest_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Facts = TypeVar("Facts")

MAXIMUM_LENGTH = 4096
"""Characters of an expression."""

MAXIMUM_TERMS = 32
"""Comparisons in an expression."""

MAXIMUM_DEPTH = 32
"""Parentheses inside one another."""

OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
EQUALITY = ("==", "!=")
"""The operators of texts."""

_KIND_NAMES = {
    int: "a whole number such as 50",
    float: "a number with a point or an exponent such as 50.0",
    str: 'a text such as "GET"',
}
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
      | (?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
      | (?P<int>\d+)
      | (?P<text>"[^"\\\n]*")
      | (?P<name>[A-Za-z_]\w*)
      | (?P<sign>&&|\|\||==|!=|<=|>=|[<>(),])""",
    re.VERBOSE | re.ASCII,
)


class ExpressionError(ValueError):
    """Something that is no expression; ``position`` counts characters from 0."""

    def __init__(
        self, message: str, text: str, position: int, expected: str = "", nearest: str = ""
    ) -> None:
        """``text``: the whole expression."""
        super().__init__(message)
        self.message = message
        self.text = text
        self.position = position
        self.expected = expected
        self.nearest = nearest

    @property
    def marked(self) -> str:
        """The expression with ``>>>`` before the place of the error, shortened around it."""
        start, end = max(0, self.position - 60), self.position + 60
        before = ("..." if start else "") + self.text[start : self.position]
        after = self.text[self.position : end] + ("..." if end < len(self.text) else "")
        return f"{before}>>>{after}"

    def __str__(self) -> str:
        """One line: message, column, marked expression."""
        return f"{self.message} (column {self.position + 1} of `{self.marked}`)"


class Function(NamedTuple):
    """A function of the language: the types of its arguments and of its result.

    Arguments are int or float; a result of bool is used bare, all others are compared.
    """

    parameters: tuple[type, ...]
    result: type


class Term(NamedTuple):
    """``function(arguments) operator literal``; without operator the function stands bare."""

    function: str
    arguments: tuple[float, ...]
    operator: str = ""
    literal: float | str = 0


class Both(NamedTuple):
    """``left && right``."""

    left: Expression
    right: Expression


class Either(NamedTuple):
    """``left || right``."""

    left: Expression
    right: Expression


Expression: TypeAlias = Term | Both | Either


def parse_expression(text: str, functions: Mapping[str, Function]) -> Expression:
    """Return the tree of ``text``; raises `ExpressionError`."""
    return _Parser(text, functions).parse()


def terms_of(expression: Expression) -> list[Term]:
    """Return the terms from left to right."""
    if isinstance(expression, Term):
        return [expression]
    return terms_of(expression.left) + terms_of(expression.right)


def compile_expression(
    expression: Expression, compile_term: Callable[[Term], Callable[[Facts], bool]]
) -> Callable[[Facts], bool]:
    """Return a function of the facts that ``compile_term``'s functions judge."""
    if isinstance(expression, Term):
        return compile_term(expression)
    left = compile_expression(expression.left, compile_term)
    right = compile_expression(expression.right, compile_term)
    if isinstance(expression, Both):
        return lambda facts: left(facts) and right(facts)
    return lambda facts: left(facts) or right(facts)


class _Token(NamedTuple):
    kind: str
    text: str
    position: int


class _Parser:
    """Recursive descent over the tokens of one expression."""

    def __init__(self, text: str, functions: Mapping[str, Function]) -> None:
        self._text = text
        self._functions = functions
        self._terms = 0
        self._depth = 0
        if len(text) > MAXIMUM_LENGTH:
            raise ExpressionError(
                f"the expression is longer than {MAXIMUM_LENGTH} characters", text, MAXIMUM_LENGTH
            )
        self._tokens = list(self._tokenize())
        self._next = 0

    def parse(self) -> Expression:
        """Parse the whole text."""
        if self._token.kind == "end":
            raise self._error("the expression is empty", self._names())
        expression = self._either()
        if self._token.kind != "end":
            raise self._error(f"`{self._token.text}` is not expected here", "`&&`, `||` or the end")
        return expression

    def _tokenize(self) -> Iterator[_Token]:
        position = 0
        while position < len(self._text):
            found = _TOKEN.match(self._text, position)
            if found is None or found.lastgroup is None:
                raise ExpressionError(
                    f"`{self._text[position]}` has no meaning", self._text, position
                )
            if found.lastgroup != "space":
                yield _Token(found.lastgroup, found[0], position)
            position = found.end()
        yield _Token("end", "the end", position)

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _expect(self, sign: str) -> None:
        if self._token.text != sign or self._token.kind != "sign":
            raise self._error(f"`{self._token.text}` is not expected here", f"`{sign}`")
        self._next += 1

    def _error(self, message: str, expected: str = "", nearest: str = "") -> ExpressionError:
        return ExpressionError(message, self._text, self._token.position, expected, nearest)

    def _names(self) -> str:
        return "one of " + ", ".join(f"{name}()" for name in self._functions)

    def _either(self) -> Expression:
        left = self._both()
        while self._token.text == "||":
            self._next += 1
            left = Either(left, self._both())
        return left

    def _both(self) -> Expression:
        left = self._operand()
        while self._token.text == "&&":
            self._next += 1
            left = Both(left, self._operand())
        return left

    def _operand(self) -> Expression:
        if self._token.text != "(":
            return self._term()
        if self._depth == MAXIMUM_DEPTH:
            raise self._error(f"more than {MAXIMUM_DEPTH} parentheses inside one another")
        self._depth += 1
        self._next += 1
        inner = self._either()
        self._expect(")")
        self._depth -= 1
        return inner

    def _term(self) -> Term:
        if self._token.kind != "name":
            raise self._error(f"`{self._token.text}` is not expected here", self._names())
        if self._terms == MAXIMUM_TERMS:
            raise self._error(f"more than {MAXIMUM_TERMS} comparisons")
        self._terms += 1
        name = self._token.text
        function = self._functions.get(name)
        if function is None:
            raise self._error(
                f"no function is named `{name}`",
                self._names(),
                nearest_name(name, self._functions),
            )
        self._next += 1
        arguments = self._arguments(function)
        if function.result is bool:
            return Term(name, arguments)
        known = EQUALITY if function.result is str else tuple(OPERATORS)
        if self._token.kind != "sign" or self._token.text not in known:
            raise self._error(
                f"`{self._token.text}` is not expected here", f"one of {' '.join(known)}"
            )
        sign = self._take().text
        return Term(name, arguments, sign, self._literal(function.result))

    def _arguments(self, function: Function) -> tuple[float, ...]:
        self._expect("(")
        found: list[float] = []
        for number, kind in enumerate(function.parameters):
            if number:
                self._expect(",")
            argument = self._literal(kind)
            assert not isinstance(argument, str)
            found.append(argument)
        self._expect(")")
        return tuple(found)

    def _literal(self, kind: type) -> float | str:
        token = self._token
        if token.kind != {int: "int", float: "float", str: "text"}[kind]:
            raise self._error(f"`{token.text}` is not expected here", _KIND_NAMES[kind])
        self._next += 1
        if kind is str:
            return token.text[1:-1]
        return int(token.text) if kind is int else float(token.text)
