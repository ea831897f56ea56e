"""The plain scan: every frontend in documented order. Slow, short and obviously right.

It is the oracle of the route index and the engine of ``kvproxy explain``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct

from kvproxy.rules.explain import ElementVerdict, explain_rule
from kvproxy.rules.matchers import NO, REDIRECT, YES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.rules.matchers import RequestFacts
    from kvproxy.rules.parser import FrontendRule

T = TypeVar("T")

RouteKey = tuple[str, str]
"""(provider, frontend name)."""

Order = tuple[int, str, str]
"""Sorts frontends as they are tried: highest priority first, then by name, then by provider."""


class IndexedRoute(Struct, Generic[T], frozen=True):
    """One frontend as the router knows it; ``priority`` as configured (0: by rule length)."""

    key: RouteKey
    priority: int
    rule: FrontendRule
    payload: T

    @property
    def effective_priority(self) -> int:
        """The configured priority when it is above 0, else the length of the rules in bytes."""
        return self.priority if self.priority > 0 else self.rule.length

    @property
    def order(self) -> Order:
        """The place among all frontends of an entry point."""
        provider, name = self.key
        return (-self.effective_priority, name, provider)


class Found(Struct, Generic[T], frozen=True):
    """The frontend that takes a request.

    ``redirect``: the client is to be sent to the same path with its trailing slash added or taken
    away, instead of being served (see `kvproxy.routing.redirect`).
    """

    payload: T
    key: RouteKey
    redirect: bool


def in_order(routes: Iterable[IndexedRoute[T]]) -> list[IndexedRoute[T]]:
    """Return ``routes`` in the order in which they are tried."""
    return sorted(routes, key=lambda route: route.order)


def outcome_of(rule: FrontendRule, request: RequestFacts, keep_trailing_slash: bool) -> int:
    """Return NO, YES or REDIRECT (`kvproxy.rules.matchers`) for one frontend by itself."""
    result = YES
    for matcher in rule.matchers:
        outcome = matcher.test(request, keep_trailing_slash)
        if outcome == NO:
            return NO
        if outcome == REDIRECT:
            result = REDIRECT
    return result


def scan(
    routes: Iterable[IndexedRoute[T]], request: RequestFacts, keep_trailing_slash: bool
) -> Found[T] | None:
    """Return the first of ``routes`` (see `in_order`) that takes ``request``, or None."""
    for route in routes:
        outcome = outcome_of(route.rule, request, keep_trailing_slash)
        if outcome != NO:
            return Found(route.payload, route.key, outcome == REDIRECT)
    return None


class FrontendVerdict(Struct, frozen=True):
    """One frontend and one request.

    ``matches``: it would take the request if nothing before it did; ``taken``: it does take it;
    ``redirect``: by sending the client to the path with or without its trailing slash;
    ``elements``: the verdict of each matcher.
    """

    key: RouteKey
    priority: int
    matches: bool
    taken: bool
    redirect: bool
    elements: tuple[ElementVerdict, ...]


def explain(
    routes: Iterable[IndexedRoute[T]], request: RequestFacts, keep_trailing_slash: bool
) -> list[FrontendVerdict]:
    """Return the verdict of every frontend, in the order in which they are tried."""
    verdicts: list[FrontendVerdict] = []
    open_for_all = True
    for route in in_order(routes):
        elements = explain_rule(route.rule, request, keep_trailing_slash)
        matches = all(element.matches for element in elements)
        redirect = matches and any(element.redirect for element in elements)
        verdicts.append(
            FrontendVerdict(
                route.key,
                route.effective_priority,
                matches,
                matches and open_for_all,
                redirect,
                elements,
            )
        )
        open_for_all = open_for_all and not matches
    return verdicts
