"""Where a frontend stands in the route index, and what is left to ask there."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from kvproxy.routing.tree import Entry
from kvproxy.rules.matchers import HostMatcher, HostRegexpMatcher, Matcher, PathMatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvproxy.routing.linear import IndexedRoute
    from kvproxy.rules.parser import FrontendRule

T = TypeVar("T")

MAX_PLACES = 4096
"""Most places that one frontend takes; above, its paths are asked like any other condition."""


class Scope(Struct, frozen=True, gc=False):
    """A rule, cut for the index.

    ``hosts``: literal hosts at which ``conditions`` are left to ask; ``suffixes``: domains
    (``.a.test``) below which a host may be, where ``wider_conditions`` are left; ``anywhere``: so
    they are for any host. ``path``: the path matcher that is not among the conditions, because the
    tree of paths answers it.
    """

    hosts: tuple[bytes, ...]
    suffixes: tuple[bytes, ...]
    anywhere: bool
    conditions: tuple[Matcher, ...]
    wider_conditions: tuple[Matcher, ...]
    path: PathMatcher | None

    @property
    def floating(self) -> bool:
        """Say whether the rule may take hosts that it does not name in full."""
        return self.anywhere or bool(self.suffixes)


def scope_of(rule: FrontendRule) -> Scope | None:
    """Return how ``rule`` is indexed, None when it can never match."""
    hosts: tuple[bytes, ...] | None = None
    templates: list[HostRegexpMatcher] = []
    conditions: list[Matcher] = []
    path: PathMatcher | None = None
    for matcher in rule.matchers:
        if isinstance(matcher, HostMatcher) or (
            isinstance(matcher, HostRegexpMatcher) and not matcher.expressions
        ):
            hosts = _both(hosts, matcher.hosts)
            if not hosts:
                return None
        elif isinstance(matcher, HostRegexpMatcher):
            templates.append(matcher)
        elif isinstance(matcher, PathMatcher):
            if not matcher.patterns:
                return None
            if path is None:
                path = matcher
            elif matcher.shortest_prefix > path.shortest_prefix:
                conditions.append(path)
                path = matcher
            else:
                conditions.append(matcher)
        else:
            conditions.append(matcher)
    return _scope(hosts, templates, conditions, path)


def _scope(
    hosts: tuple[bytes, ...] | None,
    templates: list[HostRegexpMatcher],
    conditions: list[Matcher],
    path: PathMatcher | None,
) -> Scope:
    if hosts is None and templates:
        suffixes = templates[0].suffixes
        if suffixes is not None:
            narrow = (*templates[1:], *conditions)
            wide = (*templates, *conditions)
            return _bounded(templates[0].hosts, suffixes, False, narrow, wide, path)
    every = (*templates, *conditions)
    return _bounded(hosts or (), (), hosts is None, every, every, path)


def _bounded(
    hosts: tuple[bytes, ...],
    suffixes: tuple[bytes, ...],
    anywhere: bool,
    conditions: tuple[Matcher, ...],
    wider_conditions: tuple[Matcher, ...],
    path: PathMatcher | None,
) -> Scope:
    trees = len(hosts) + len(suffixes) + anywhere
    if path is not None and 2 * trees * len(path.patterns) > MAX_PLACES:
        conditions = (*conditions, path)
        wider_conditions = (*wider_conditions, path)
        path = None
    return Scope(hosts, suffixes, anywhere, conditions, wider_conditions, path)


def _both(some: tuple[bytes, ...] | None, others: tuple[bytes, ...]) -> tuple[bytes, ...]:
    if some is None:
        return tuple(dict.fromkeys(others)) if len(others) > 1 else others
    known = set(others)
    return tuple([host for host in some if host in known])


def entries_of(
    route: IndexedRoute[T],
    conditions: tuple[Matcher, ...],
    path: PathMatcher | None,
    keep_trailing_slash: bool,
) -> Iterator[tuple[bytes, bool, Entry[T]]]:
    """Yield (key in the tree of paths, only for paths that end there, entry) for each place."""
    priority, name, provider = route.order
    payload = route.payload
    key = route.key
    if path is None:
        order = (priority, name, provider, 0)
        yield b"", False, Entry(payload, key, False, order, None, conditions)
        return
    for number, pattern in enumerate(path.patterns):
        order = (priority, name, provider, number)
        if not pattern.literal:
            yield pattern.prefix, False, Entry(payload, key, False, order, pattern, conditions)
        elif not pattern.exact:
            yield pattern.prefix, False, Entry(payload, key, False, order, None, conditions)
        else:
            for place in (pattern.prefix, pattern.prefix + b"/"):
                redirect = place.endswith(b"/") != pattern.slash
                if keep_trailing_slash and place != pattern.whole:
                    continue
                yield place, True, Entry(payload, key, redirect, order, None, conditions)
