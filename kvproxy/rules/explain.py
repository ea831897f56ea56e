"""Says, element by element, why a rule takes a request or does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from kvproxy.rules.matchers import NO, REDIRECT
from kvproxy.rules.printer import print_element

if TYPE_CHECKING:
    from kvproxy.rules.matchers import RequestFacts
    from kvproxy.rules.parser import FrontendRule


class ElementVerdict(Struct, frozen=True):
    """One matcher and one request.

    ``element``: its text; ``matches``; ``redirect``: only with the trailing slash added or taken
    away; ``observed``: what the request has where the matcher looks.
    """

    element: str
    matches: bool
    redirect: bool
    observed: str


def explain_rule(
    rule: FrontendRule, request: RequestFacts, keep_trailing_slash: bool
) -> tuple[ElementVerdict, ...]:
    """Return the verdict of every matcher of ``rule``, also of those behind one that fails."""
    verdicts = []
    for matcher in rule.matchers:
        outcome = matcher.test(request, keep_trailing_slash)
        verdicts.append(
            ElementVerdict(
                print_element(matcher.element),
                outcome != NO,
                outcome == REDIRECT,
                matcher.observed(request),
            )
        )
    return tuple(verdicts)
