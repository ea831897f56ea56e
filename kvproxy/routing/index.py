"""The route index: by host, then by path; the same answers as the plain scan, only faster.

An index is never changed: `RouteIndex.update` returns a new one that shares every part that stays
the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kvproxy.model.sharded import ShardedMap
from kvproxy.routing import tree
from kvproxy.routing.linear import Found, IndexedRoute, RouteKey
from kvproxy.routing.places import entries_of, scope_of
from kvproxy.routing.request import RequestView
from kvproxy.routing.tree import EMPTY, Entries, Entry, Node
from kvproxy.rules.matchers import canonical_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kvproxy.routing.tree import EntryOrder

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

    ``hosts``: by canonical host (`kvproxy.rules.matchers.canonical_host`); ``buckets``: by Host
    value as sent, for the hot path; ``suffixes``: frontends with host templates, by the domain that
    these end with; ``anywhere``: frontends for any host; ``routes``: all by key;
    ``floating_priority``: highest priority of any frontend that takes hosts it does not name in
    full, -1 if none. Make one with `empty` and `update`.
    """

    __slots__ = (
        "_floating",
        "anywhere",
        "buckets",
        "floating_priority",
        "hosts",
        "keep_trailing_slash",
        "routes",
        "suffixes",
    )

    def __init__(
        self,
        keep_trailing_slash: bool,
        routes: ShardedMap[RouteKey, IndexedRoute[T]],
        hosts: ShardedMap[bytes, HostBucket[T]],
        suffixes: ShardedMap[bytes, Node[T]],
        anywhere: Node[T],
        floating: Mapping[int, int],
    ) -> None:
        """Take the parts as they are. ``floating``: priority to number of such frontends."""
        self.keep_trailing_slash = keep_trailing_slash
        self.routes = routes
        self.hosts = hosts
        self.buckets = HostCache(hosts)
        self.suffixes = suffixes
        self.anywhere = anywhere
        self._floating = floating
        self.floating_priority = max(floating, default=-1)

    @staticmethod
    def empty(keep_trailing_slash: bool) -> RouteIndex[Any]:
        """Return an index that finds nothing."""
        return RouteIndex(keep_trailing_slash, ShardedMap(), ShardedMap(), ShardedMap(), EMPTY, {})

    def find(self, request: RequestView) -> Found[T] | None:
        """Return the frontend that takes ``request``, or None (default 404)."""
        hit = self._hit(request)
        return None if hit is None else hit[1]

    def find_either(self, request: RequestView, name: bytes) -> Found[T] | None:
        """Return the frontend that takes ``request`` as it is, or with ``name`` as its host where a
        ``Host`` rule names that; the first in order."""
        hit = self._hit(request)
        bucket = self.buckets[name]
        if bucket is not None:
            renamed = RequestView(request.method, name, request.path, request.query, request.head)
            limit = None if hit is None else hit[0]
            hit = tree.find(bucket.root, renamed, self.keep_trailing_slash, limit) or hit
        return None if hit is None else hit[1]

    def _hit(self, request: RequestView) -> tuple[EntryOrder, Found[T]] | None:
        keep = self.keep_trailing_slash
        bucket = self.buckets[request.host]
        hit = None if bucket is None else tree.find(bucket.root, request, keep, None)
        if hit is not None and -hit[0][0] > self.floating_priority:
            return hit
        anywhere = self.anywhere.best
        if anywhere is not None:
            if hit is None:
                hit = tree.find(self.anywhere, request, keep, None)
            elif anywhere.order < hit[0]:
                hit = tree.find(self.anywhere, request, keep, hit[0]) or hit
        if self.suffixes:
            for root in self.below(request.host_name):
                hit = tree.find(root, request, keep, None if hit is None else hit[0]) or hit
        return hit

    def below(self, host_name: bytes) -> Iterator[Node[T]]:
        """Yield the trees of the domains that ``host_name`` is below."""
        if not host_name.isascii():
            # Case folding knows letters beyond ASCII that equal ASCII ones (the Kelvin sign).
            yield from self.suffixes.values()
            return
        name = host_name.lower()
        dot = name.find(b".")
        while dot >= 0:
            root = self.suffixes.get(name[dot:])
            if root is not None:
                yield root
            dot = name.find(b".", dot + 1)

    def update(
        self, removed: Iterable[RouteKey], added: Iterable[IndexedRoute[T]]
    ) -> RouteIndex[T]:
        """Return the index without ``removed`` and with ``added``.

        A frontend in ``added`` replaces the one with its key; a key in ``removed`` that is not
        there is ignored. Takes time for what changes and its neighbours, not for what is there.
        """
        changed: dict[RouteKey, IndexedRoute[T] | None] = dict.fromkeys(removed)
        changed.update((route.key, route) for route in added)
        changes = _Changes[T](self.keep_trailing_slash, self._floating)
        for key, route in changed.items():
            old = self.routes.get(key)
            if old is not None:
                changes.remove(old)
            if route is not None:
                changes.add(route)
        buckets: dict[bytes, HostBucket[T] | None] = {}
        for host, places in changes.hosts.items():
            bucket = self.hosts.get(host)
            root = _apply(EMPTY if bucket is None else bucket.root, places)
            buckets[host] = None if root.best is None else HostBucket(root)
        trees: dict[bytes, Node[T] | None] = {}
        for suffix, places in changes.suffixes.items():
            root = _apply(self.suffixes.get(suffix, EMPTY), places)
            trees[suffix] = None if root.best is None else root
        return RouteIndex(
            self.keep_trailing_slash,
            self.routes.changed(changed),
            self.hosts.changed(buckets),
            self.suffixes.changed(trees),
            _apply(self.anywhere, changes.anywhere),
            changes.floating,
        )


class _PlaceChange(Generic[T]):
    """What changes at one key of one tree; None is nothing.

    One is made for each of 100,000 hosts when an index is built: empty containers would cost more
    than all the rest.
    """

    __slots__ = ("ending", "passing", "removed")

    def __init__(self) -> None:
        self.removed: set[RouteKey] | None = None
        self.passing: list[Entry[T]] | None = None
        self.ending: list[Entry[T]] | None = None

    def remove(self, key: RouteKey) -> None:
        """Take the entries of a frontend away."""
        if self.removed is None:
            self.removed = {key}
        else:
            self.removed.add(key)

    def add(self, ending: bool, entry: Entry[T]) -> None:
        """Put an entry here."""
        if ending:
            if self.ending is None:
                self.ending = [entry]
            else:
                self.ending.append(entry)
        elif self.passing is None:
            self.passing = [entry]
        else:
            self.passing.append(entry)


class _Changes(Generic[T]):
    """Changes by tree and by key in the tree."""

    __slots__ = ("_keep_trailing_slash", "anywhere", "floating", "hosts", "suffixes")

    def __init__(self, keep_trailing_slash: bool, floating: Mapping[int, int]) -> None:
        self._keep_trailing_slash = keep_trailing_slash
        self.floating = dict(floating)
        self.hosts: dict[bytes, dict[bytes, _PlaceChange[T]]] = {}
        self.suffixes: dict[bytes, dict[bytes, _PlaceChange[T]]] = {}
        self.anywhere: dict[bytes, _PlaceChange[T]] = {}

    def remove(self, route: IndexedRoute[T]) -> None:
        """Take ``route`` out of its places."""
        for change, _, _ in self._places(route, -1):
            change.remove(route.key)

    def add(self, route: IndexedRoute[T]) -> None:
        """Put ``route`` at its places."""
        for change, ending, entry in self._places(route, 1):
            change.add(ending, entry)

    def _places(
        self, route: IndexedRoute[T], count: int
    ) -> Iterator[tuple[_PlaceChange[T], bool, Entry[T]]]:
        """Yield (change, only for paths that end there, entry) for each place of a frontend."""
        scope = scope_of(route.rule)
        if scope is None:
            return
        keep = self._keep_trailing_slash
        if scope.hosts:
            entries = list(entries_of(route, scope.conditions, scope.path, keep))
            for host in scope.hosts:
                places = _child(self.hosts, host)
                for place, ending, entry in entries:
                    yield _change(places, place), ending, entry
        if not scope.floating:
            return
        self._count(route.effective_priority, count)
        entries = list(entries_of(route, scope.wider_conditions, scope.path, keep))
        for suffix in scope.suffixes:
            places = _child(self.suffixes, suffix)
            for place, ending, entry in entries:
                yield _change(places, place), ending, entry
        if scope.anywhere:
            for place, ending, entry in entries:
                yield _change(self.anywhere, place), ending, entry

    def _count(self, priority: int, count: int) -> None:
        left = self.floating.get(priority, 0) + count
        if left:
            self.floating[priority] = left
        else:
            del self.floating[priority]


def _child(
    trees: dict[bytes, dict[bytes, _PlaceChange[T]]], name: bytes
) -> dict[bytes, _PlaceChange[T]]:
    places = trees.get(name)
    if places is None:
        places = trees[name] = {}
    return places


def _change(places: dict[bytes, _PlaceChange[T]], place: bytes) -> _PlaceChange[T]:
    change = places.get(place)
    if change is None:
        change = places[place] = _PlaceChange()
    return change


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


def _merge(
    entries: Entries[T], removed: set[RouteKey] | None, added: list[Entry[T]] | None
) -> Entries[T]:
    if removed and entries:
        entries = tuple([entry for entry in entries if entry.key not in removed])
    if added is None:
        return entries
    if not entries and len(added) == 1:
        return (added[0],)
    return tuple(sorted([*entries, *added], key=lambda entry: entry.order))
