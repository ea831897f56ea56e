"""What the elements of one frontend share while they are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.rules.expressions import Expression, Replacement, TooLargeError
from kvproxy.rules.templates import Template, TemplateError, TemplateTooLargeError

if TYPE_CHECKING:
    from typing import TypeVar

    Compiled = TypeVar("Compiled", Expression, Replacement)

MAX_INSTRUCTIONS = 1 << 16
"""Instructions that all expressions of a frontend may have together (`[a-z]+` has about five).

Bounds to well below 0.1 s how long a worker can be held up by compiling one frontend.
"""

TOO_LARGE_COST = MAX_INSTRUCTIONS // 4
"""What an expression counts that was given up because it needs too much memory."""


class BudgetError(Exception):
    """The expressions of a frontend have more than `MAX_INSTRUCTIONS` together."""


class ParseContext:
    """Collects ``warnings``, remembers the variables of queries, and bounds the expressions."""

    __slots__ = ("_instructions", "_query_names", "warnings")

    def __init__(self) -> None:
        """Start with nothing read."""
        self.warnings: list[str] = []
        self._query_names: set[str] = set()
        self._instructions = 0

    def template(self, text: str, variable: str, *, query: bool = False) -> Template:
        """Read a template; raises `TemplateError`.

        The variables of a query must not be used by a path or host behind it, as in Traefik 1.7.
        """
        try:
            template = Template(text, variable)
        except TemplateTooLargeError:
            self._spend(TOO_LARGE_COST)
            raise
        if query:
            self._query_names.update(template.names)
        else:
            for name in template.names:
                if name in self._query_names:
                    raise TemplateError(
                        f"variable `{name}` of {text!r} is used by a `Query` before it"
                    )
        return template

    def compile(self, template: Template, before: str, after: str = "") -> Expression:
        """Compile a template with its anchors; raises `TemplateError` and `BudgetError`."""
        try:
            expression = template.compile(before, after)
        except TemplateTooLargeError:
            self._spend(TOO_LARGE_COST)
            raise
        return self.count(expression)

    def expression(self, pattern: str) -> Expression:
        """Compile an expression; raises `ExpressionError` and `BudgetError`."""
        try:
            return self.count(Expression(pattern))
        except TooLargeError:
            self._spend(TOO_LARGE_COST)
            raise

    def count(self, compiled: Compiled) -> Compiled:
        """Return what was given, counted; raises `BudgetError`."""
        self._spend(compiled.size)
        return compiled

    def _spend(self, instructions: int) -> None:
        self._instructions += instructions
        if self._instructions > MAX_INSTRUCTIONS:
            raise BudgetError("the expressions of the frontend are too large together")
