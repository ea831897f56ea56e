"""Cuts a rule into elements: ``Host: a.example, b.example; PathPrefix:/x``.

The steps and their oddities are those of Traefik 1.7: nothing can be quoted, empty pieces vanish,
runs of ``:`` collapse. So a value never holds ``,``, ``;`` or ``::``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from kvproxy.rules.errors import RuleError, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""What Go's ``strings.TrimSpace`` trims; ``str.strip()`` would also take U+001C to U+001F."""

MAX_RULE_BYTES = 1 << 20
"""Longest rule that is read: far above anything real, it bounds what a hostile store can cost."""


class Element(Struct, frozen=True, gc=False):
    """One element of a rule: its name, its trimmed values, and where it starts in the rule."""

    name: str
    values: tuple[str, ...]
    position: int


def elements(rule: str) -> Iterator[Element]:
    """Yield the elements of ``rule`` in order; raises `RuleError`. Names are not looked up here."""
    if not rule:
        raise RuleError("the rule is empty", rule=rule, expected="such as `Host:example.com`")
    position = 0
    found = False
    for piece in rule.split(";"):
        if piece:
            found = True
            yield _element(rule, piece, position)
        position += len(piece) + 1
    if not found:
        raise RuleError(
            "the rule holds nothing but `;`", rule=rule, expected="such as `Host:example.com`"
        )


def _element(rule: str, piece: str, position: int) -> Element:
    parts = [part for part in piece.split(":") if part]
    if not parts:
        raise RuleError(
            f"no matcher name in {shorten(piece)!r}",
            rule=rule,
            position=position,
            expected="`Name:value`",
        )
    name = parts[0].strip(WHITE_SPACE)
    text = ":".join(parts[1:])
    values = tuple([value.strip(WHITE_SPACE) for value in text.split(",") if value])
    start = position + len(piece) - len(piece.lstrip(WHITE_SPACE + ":"))
    return Element(name, values, start)
