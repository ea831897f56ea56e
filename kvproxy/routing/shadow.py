"""Finds frontends that no request can ever reach, because another one before them takes it all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from kvproxy.routing import tree
from kvproxy.routing.index import IndexedRoute, RouteIndex
from kvproxy.routing.places import scope_of
from kvproxy.rules.matchers import (
    HeadersMatcher,
    HeadersRegexpMatcher,
    HostMatcher,
    HostRegexpMatcher,
    Matcher,
    MethodMatcher,
    PathMatcher,
    QueryMatcher,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvproxy.routing.linear import RouteKey
    from kvproxy.rules.expressions import Expression
    from kvproxy.rules.matchers import PathPattern
    from kvproxy.rules.parser import FrontendRule

T = TypeVar("T")

_MINDS_CASE = re.compile(r"\(\?\w*-")

MAX_CANDIDATES = 200
"""How many frontends are compared with one: keeps the search linear where thousands meet."""


def shadowed(index: RouteIndex[T]) -> dict[RouteKey, RouteKey]:
    """Return each frontend that can never be reached, with one that takes all its requests.

    What is named is certain; that a frontend is not named proves nothing (expressions are compared
    as text, and one frontend at a time).
    """
    found: dict[RouteKey, RouteKey] = {}
    for route in index.routes.values():
        for candidate in _candidates(index, route):
            if covers(candidate.rule, route.rule):
                found[route.key] = candidate.key
                break
    return found


def covers(first: FrontendRule, second: FrontendRule) -> bool:
    """Say whether ``first`` certainly takes every request that ``second`` would take."""
    return all(
        any(_implies(given, wanted) for given in second.matchers) for wanted in first.matchers
    )


def _candidates(index: RouteIndex[T], route: IndexedRoute[T]) -> Iterator[IndexedRoute[T]]:
    """Yield frontends tried before ``route`` at places that its requests pass."""
    scope = scope_of(route.rule)
    if scope is None:
        return
    sample = scope.path.patterns[0].sample if scope.path is not None else b""
    roots = [index.anywhere]
    host = (*scope.hosts, *scope.suffixes, b"")[0]
    roots.extend(index.below(host))
    if scope.hosts:
        bucket = index.hosts.get(host)
        if bucket is not None:
            roots.append(bucket.root)
    order = (*route.order, 0)
    compared = 0
    for root in roots:
        for entries in tree.places(root, sample):
            for entry in entries:
                if entry.order >= order or compared >= MAX_CANDIDATES:
                    break
                compared += 1
                yield index.routes[entry.key]


def _implies(given: Matcher, wanted: Matcher) -> bool:
    """Say whether every request that ``given`` takes is certainly taken by ``wanted``."""
    if isinstance(wanted, PathMatcher):
        return isinstance(given, PathMatcher) and all(
            any(_path_implies(one, other) for other in wanted.patterns) for one in given.patterns
        )
    if isinstance(wanted, HostMatcher | HostRegexpMatcher):
        return _host_implies(given, wanted)
    if isinstance(wanted, MethodMatcher):
        return isinstance(given, MethodMatcher) and set(given.methods) <= set(wanted.methods)
    if isinstance(wanted, HeadersMatcher):
        return isinstance(given, HeadersMatcher) and all(
            pair in given.pairs or (not pair[1] and any(name == pair[0] for name, _ in given.pairs))
            for pair in wanted.pairs
        )
    if isinstance(wanted, HeadersRegexpMatcher):
        return isinstance(given, HeadersRegexpMatcher) and {
            (name, expression.pattern) for name, expression in wanted.pairs
        } <= {(name, expression.pattern) for name, expression in given.pairs}
    return (
        isinstance(wanted, QueryMatcher)
        and isinstance(given, QueryMatcher)
        and wanted.satisfiable
        and _query_pairs(wanted) <= _query_pairs(given)
    )


def _path_implies(given: PathPattern, wanted: PathPattern) -> bool:
    if given.exact == wanted.exact and given.text == wanted.text:
        return True
    return wanted.literal and not wanted.exact and given.prefix.startswith(wanted.prefix)


def _host_implies(given: Matcher, wanted: HostMatcher | HostRegexpMatcher) -> bool:
    if not isinstance(given, HostMatcher | HostRegexpMatcher):
        return False
    expressions = wanted.expressions if isinstance(wanted, HostRegexpMatcher) else ()
    for host in given.hosts:
        if host not in wanted.hosts and not any(_takes_host(each, host) for each in expressions):
            return False
    patterns = {expression.pattern for expression in expressions}
    return not isinstance(given, HostRegexpMatcher) or all(
        expression.pattern in patterns for expression in given.expressions
    )


def _takes_host(expression: Expression, host: bytes) -> bool:
    # A literal host stands for all its spellings; an expression that minds case, or an address, may
    # take one and not another.
    return (
        b":" not in host and not _MINDS_CASE.search(expression.pattern) and expression.matches(host)
    )


def _query_pairs(matcher: QueryMatcher) -> set[tuple[bytes, bytes | None, str]]:
    return {
        (name, wanted, "" if expression is None else expression.pattern)
        for name, wanted, expression in matcher.pairs
    }
