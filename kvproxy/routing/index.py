"""The route index: by host, then by path; the same answers as the plain scan, only faster.

An index is never changed: `RouteIndex.update` returns a new one that shares every part that stays
the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kvproxy.routing import tree
from kvproxy.routing.linear import Found, IndexedRoute, RouteKey
from kvproxy.routing.sharded import ShardedMap
from kvproxy.routing.tree import EMPTY, Entries, Entry, Node
from kvproxy.rules.matchers import (
    HostMatcher,
    HostRegexpMatcher,
    Matcher,
    PathMatcher,
    canonical_host,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kvproxy.routing.request import RequestView
    from kvproxy.rules.parser import FrontendRule

T = TypeVar("T")

MAX_CACHED_HOSTS = 16384
"""Spellings of hosts that an index remembers; an entry takes about 200 bytes."""

MAX_CACHED_LENGTH = 255
"""Longest Host value, in bytes, that is remembered."""

__all__ = ["Found", "HostBucket", "IndexedRoute", "RouteIndex", "RouteKey"]


class HostBucket(Generic[T]):
    """The frontends of one literal host.

    ``only`` is the payload of the best of them when it takes every request of the host, and
    ``only_priority`` its priority; else None and -1. A caller that sees ``only_priority`` above
    `RouteIndex.floating_priority` may use ``only`` without asking the index.
    """

    __slots__ = ("only", "only_priority", "root")

    def __init__(self, root: Node[T]) -> None:
        """Wrap a tree."""
        self.root = root
        self.only: T | None = None
        self.only_priority = -1
        if root.passing:
            first = root.passing[0]
            if first is root.best and first.pattern is None and not first.conditions:
                self.only = first.payload
                self.only_priority = -first.order[0]


class HostCache(dict[bytes, HostBucket[T] | None]):
    """Buckets by Host value as sent: one look-up on the hot path, whatever case and port it has.

    ``cache[host]`` never raises: None stands for a host that no frontend names, and is not kept.
    The cache is emptied when it holds `MAX_CACHED_HOSTS` spellings, so that clients cannot make it
    grow.
    """

    __slots__ = ("_hosts",)

    def __init__(self, hosts: ShardedMap[bytes, HostBucket[T]]) -> None:
        """Start empty in front of ``hosts``."""
        super().__init__()
        self._hosts = hosts

    def __missing__(self, host: bytes) -> HostBucket[T] | None:
        """Look a spelling up and keep what it leads to."""
        bucket = self._hosts.get(canonical_host(host))
        if bucket is not None and len(host) <= MAX_CACHED_LENGTH:
            if len(self) >= MAX_CACHED_HOSTS:
                self.clear()
            self[host] = bucket
        return bucket


class RouteIndex(Generic[T]):
    """Finds the frontend of a request.

    ``hosts``: by canonical host (`kvproxy.rules.matchers.canonical_host`); ``routes``: all by key;
    ``floating_priority``: highest priority of any frontend that is not bound to literal hosts, -1
    if none. Make one with `empty` and `update`.
    """

    __slots__ = (
        "buckets",
        "floating",
        "floating_priority",
        "hosts",
        "keep_trailing_slash",
        "routes",
    )

    def __init__(
        self,
        keep_trailing_slash: bool,
        routes: ShardedMap[RouteKey, IndexedRoute[T]],
        hosts: ShardedMap[bytes, HostBucket[T]],
        floating: Node[T],
    ) -> None:
        """Take the parts as they are; use `empty` and `update`."""
        self.keep_trailing_slash = keep_trailing_slash
        self.routes = routes
        self.hosts = hosts
        self.buckets = HostCache(hosts)
        self.floating = floating
        self.floating_priority = -1 if floating.best is None else -floating.best.order[0]

    @staticmethod
    def empty(keep_trailing_slash: bool) -> RouteIndex[Any]:
        """Return an index that finds nothing."""
        return RouteIndex(keep_trailing_slash, ShardedMap(), ShardedMap(), EMPTY)

    def find(self, request: RequestView) -> Found[T] | None:
        """Return the frontend that takes ``request``, or None (default 404)."""
        bucket = self.buckets[request.host]
        if bucket is None:
            hit = tree.find(self.floating, request, self.keep_trailing_slash, None)
            return None if hit is None else hit[1]
        hit = tree.find(bucket.root, request, self.keep_trailing_slash, None)
        floating = self.floating.best
        if floating is None:
            return None if hit is None else hit[1]
        if hit is None:
            hit = tree.find(self.floating, request, self.keep_trailing_slash, None)
        elif floating.order < hit[0]:
            hit = tree.find(self.floating, request, self.keep_trailing_slash, hit[0]) or hit
        return None if hit is None else hit[1]

    def update(
        self, removed: Iterable[RouteKey], added: Iterable[IndexedRoute[T]]
    ) -> RouteIndex[T]:
        """Return the index without ``removed`` and with ``added``.

        A frontend in ``added`` replaces the one with its key; a key in ``removed`` that is not
        there is ignored. Takes time for what changes and its neighbours, not for what is there.
        """
        changed: dict[RouteKey, IndexedRoute[T] | None] = dict.fromkeys(removed)
        changed.update((route.key, route) for route in added)
        changes = _Changes[T](self.keep_trailing_slash)
        for key, route in changed.items():
            old = self.routes.get(key)
            if old is not None:
                changes.remove(old)
            if route is not None:
                changes.add(route)
        floating = self.floating
        buckets: dict[bytes, HostBucket[T] | None] = {}
        for host, places in changes.by_host.items():
            if host is None:
                floating = _apply(floating, places)
                continue
            bucket = self.hosts.get(host)
            root = _apply(EMPTY if bucket is None else bucket.root, places)
            buckets[host] = None if root.best is None else HostBucket(root)
        return RouteIndex(
            self.keep_trailing_slash,
            self.routes.changed(changed),
            self.hosts.changed(buckets),
            floating,
        )


class _PlaceChange(Generic[T]):
    """What changes at one key of one tree."""

    __slots__ = ("ending", "passing", "removed")

    def __init__(self) -> None:
        self.removed: set[RouteKey] = set()
        self.passing: list[Entry[T]] = []
        self.ending: list[Entry[T]] = []


class _Changes(Generic[T]):
    """Changes by host (None: not bound to a host) and by key in the host's tree."""

    __slots__ = ("_keep_trailing_slash", "by_host")

    def __init__(self, keep_trailing_slash: bool) -> None:
        self._keep_trailing_slash = keep_trailing_slash
        self.by_host: dict[bytes | None, dict[bytes, _PlaceChange[T]]] = {}

    def remove(self, route: IndexedRoute[T]) -> None:
        """Take ``route`` out of its places."""
        for host, place, _, _ in self._places(route):
            self._change(host, place).removed.add(route.key)

    def add(self, route: IndexedRoute[T]) -> None:
        """Put ``route`` at its places."""
        for host, place, ending, entry in self._places(route):
            change = self._change(host, place)
            (change.ending if ending else change.passing).append(entry)

    def _change(self, host: bytes | None, place: bytes) -> _PlaceChange[T]:
        places = self.by_host.get(host)
        if places is None:
            places = self.by_host[host] = {}
        change = places.get(place)
        if change is None:
            change = places[place] = _PlaceChange()
        return change

    def _places(
        self, route: IndexedRoute[T]
    ) -> Iterator[tuple[bytes | None, bytes, bool, Entry[T]]]:
        """Yield (host, key in the tree, only for paths that end there, entry) for each place."""
        hosts, conditions, path = split_rule(route.rule)
        if hosts is not None and not hosts:
            return
        entries = list(_entries(route, conditions, path, self._keep_trailing_slash))
        for host in (None,) if hosts is None else hosts:
            for place, ending, entry in entries:
                yield host, place, ending, entry


def split_rule(
    rule: FrontendRule,
) -> tuple[list[bytes] | None, tuple[Matcher, ...], PathMatcher | None]:
    """Return (literal hosts, other conditions, the path matcher to index by) of a rule.

    Hosts None: not bound to hosts; empty: can never match.
    """
    hosts: list[bytes] | None = None
    conditions: list[Matcher] = []
    path: PathMatcher | None = None
    for matcher in rule.matchers:
        if isinstance(matcher, HostMatcher) or (
            isinstance(matcher, HostRegexpMatcher) and not matcher.expressions
        ):
            names = list(dict.fromkeys(matcher.hosts))
            hosts = names if hosts is None else [host for host in hosts if host in names]
        elif isinstance(matcher, PathMatcher):
            if not matcher.patterns:
                return [], (), None
            if path is None:
                path = matcher
            elif matcher.shortest_prefix > path.shortest_prefix:
                conditions.append(path)
                path = matcher
            else:
                conditions.append(matcher)
        else:
            conditions.append(matcher)
    return hosts, tuple(conditions), path


def _entries(
    route: IndexedRoute[T],
    conditions: tuple[Matcher, ...],
    path: PathMatcher | None,
    keep_trailing_slash: bool,
) -> Iterator[tuple[bytes, bool, Entry[T]]]:
    priority, name, provider = route.order
    payload = route.payload
    key = route.key
    if path is None:
        yield (
            b"",
            False,
            Entry(payload, key, False, (priority, name, provider, 0), None, conditions),
        )
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


def _apply(root: Node[T], changes: dict[bytes, _PlaceChange[T]]) -> Node[T]:
    for place, change in changes.items():
        passing, ending = tree.entries_at(root, place)
        root = tree.put(
            root,
            place,
            _merge(passing, change.removed, change.passing),
            _merge(ending, change.removed, change.ending),
        )
    return root


def _merge(entries: Entries[T], removed: set[RouteKey], added: list[Entry[T]]) -> Entries[T]:
    if removed:
        entries = tuple([entry for entry in entries if entry.key not in removed])
    if not added:
        return entries
    if not entries and len(added) == 1:
        return (added[0],)
    return tuple(sorted([*entries, *added], key=lambda entry: entry.order))
