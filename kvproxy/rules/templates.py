"""Templates: literal text with ``{name}`` or ``{name:pattern}``, used for hosts, paths and queries.

Syntax and anchoring are those of the router of Traefik 1.7; a name means nothing but must be there.
"""

from __future__ import annotations

import re

from kvproxy.rules.errors import shorten
from kvproxy.rules.expressions import (
    Expression,
    ExpressionError,
    TooLargeError,
    check_expression,
)

HOST_VARIABLE = "[^.]+"
PATH_VARIABLE = "[^/]+"
QUERY_VARIABLE = ".*"

# Brackets and escapes that end where they began: such a pattern cannot borrow a `)` or `]` from
# what stands around it.
_is_self_contained = re.compile(r"(?:[^()\[\]\\]|\[\^?[^\[\]\\]+\]|\\[^QE])*+", re.DOTALL).fullmatch
_SPECIAL = re.compile(r"[\\.+*?()|\[\]{}^$]")


class TemplateError(ValueError):
    """A template is not valid; the message says why."""


class TemplateTooLargeError(TemplateError):
    """A template's expression needs too much memory."""


def _template_error(text: str, error: ExpressionError) -> TemplateError:
    kind = TemplateTooLargeError if isinstance(error, TooLargeError) else TemplateError
    return kind(f"bad pattern in {shorten(text)!r}: {error}")


class Template:
    """A template that has been checked: its literal beginning and its expression.

    ``literal`` is the whole text when there is no variable, else None. ``prefix`` is the text
    before the first variable. ``pattern`` is the whole as RE2, without anchors; ``names`` are the
    variables' names.
    """

    __slots__ = ("literal", "names", "pattern", "prefix", "text")

    def __init__(self, text: str, variable: str) -> None:
        """Read ``text``; ``variable`` is the pattern of ``{name}``. Raises `TemplateError`."""
        self.text = text
        self.names: tuple[str, ...] = ()
        if "{" not in text and "}" not in text:
            self.literal: str | None = text
            self.prefix = text
            self.pattern = quote(text)
            return
        pattern: list[str] = []
        names: list[str] = []
        end = 0
        spans = _brace_spans(text)
        for start, stop in spans:
            name, colon, expression = text[start + 1 : stop - 1].partition(":")
            if not colon:
                expression = variable
            if not name or not expression:
                raise TemplateError(f"missing name or pattern in {shorten(text[start:stop])!r}")
            # Each pattern must be valid by itself: `a)(b` would be so only inside the whole.
            if not _is_self_contained(expression):
                try:
                    check_expression(f"^{expression}$")
                except ExpressionError as error:
                    raise _template_error(text[start:stop], error) from None
            names.append(name)
            pattern.append(f"{quote(text[end:start])}(?:{expression})")
            end = stop
        pattern.append(quote(text[end:]))
        self.literal = None
        self.prefix = text[: spans[0][0]]
        self.pattern = "".join(pattern)
        self.names = tuple(names)

    def compile(self, before: str = "", after: str = "") -> Expression:
        """Return the expression ``before`` + template + ``after``; raises `TemplateError`."""
        try:
            return Expression(before + self.pattern + after)
        except ExpressionError as error:
            raise _template_error(self.text, error) from None


def quote(text: str) -> str:
    """Return an RE2 pattern that matches exactly ``text``."""
    return _SPECIAL.sub(r"\\\g<0>", text)


def _brace_spans(text: str) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    level = start = 0
    for position, character in enumerate(text):
        if character == "{":
            level += 1
            if level == 1:
                start = position
        elif character == "}":
            level -= 1
            if level == 0:
                spans.append((start, position + 1))
            elif level < 0:
                break
    if level:
        raise TemplateError(f"unbalanced braces in {shorten(text)!r}")
    return spans
