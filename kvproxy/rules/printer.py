"""Writes elements back as a rule that reads to the very same elements."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.rules.lexer import Element


def print_rule(elements: Iterable[Element]) -> str:
    """Return one rule that holds ``elements`` in order (of several routes too: all must match)."""
    return ";".join(print_element(element) for element in elements)


def print_element(element: Element) -> str:
    """Return the shortest text of one element: ``Name:value,value``."""
    return f"{element.name}:{','.join(_print_value(value) for value in element.values)}"


def _print_value(value: str) -> str:
    # White space is trimmed from values, so it can hold apart what would run together otherwise.
    before = " " if not value or value.startswith(":") else ""
    after = " " if value.endswith(":") else ""
    return before + value + after
