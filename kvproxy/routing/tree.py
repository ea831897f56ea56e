"""A persistent radix tree: paths to the frontends that may take them.

Nodes are never changed; setting a key makes new nodes from it up to the root and shares all others,
so an old tree goes on giving old answers. No recursion: a configuration may nest prefixes as deep
as it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from kvproxy.routing.linear import Found
from kvproxy.rules.matchers import NO, REDIRECT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvproxy.rules.matchers import Matcher, PathPattern, RequestFacts

T = TypeVar("T")

EntryOrder = tuple[int, str, str, int]
"""The frontend's order, then the number of the path value."""


class Entry(Found[T], frozen=True):
    """One path value of one frontend, at its place in the tree.

    ``pattern``: a template that is still to be matched, None when the place says it all.
    ``conditions``: the frontend's other matchers, neither hosts nor this path. It is itself the
    answer when all hold.
    """

    order: EntryOrder
    pattern: PathPattern | None
    conditions: tuple[Matcher, ...]

    def answer(self, request: RequestFacts, keep_trailing_slash: bool) -> Found[T] | None:
        """Return the answer to a request that has come to this place, or None."""
        redirect = self.redirect
        if self.pattern is not None:
            outcome = self.pattern.test(request.path, keep_trailing_slash)
            if outcome == NO:
                return None
            if outcome == REDIRECT:
                redirect = True
        for matcher in self.conditions:
            outcome = matcher.test(request, keep_trailing_slash)
            if outcome == NO:
                return None
            if outcome == REDIRECT:
                redirect = True
        if redirect == self.redirect:
            return self
        return Found(self.payload, self.key, redirect)


Entries = tuple[Entry[T], ...]
"""Entries in order."""


class Node(Generic[T]):
    """A place in the tree.

    ``label``: bytes between the parent and this node; ``children`` by first byte of their label;
    ``passing``: entries for every path that comes through here; ``ending``: entries for the path
    that ends here; ``best``: the first of all entries in this part of the tree.
    """

    __slots__ = ("best", "children", "ending", "label", "passing")

    def __init__(
        self,
        label: bytes,
        children: Mapping[int, Node[T]],
        passing: Entries[T],
        ending: Entries[T],
    ) -> None:
        """Find ``best``; keep the rest."""
        self.label = label
        self.children = children
        self.passing = passing
        self.ending = ending
        best: Entry[T] | None = passing[0] if passing else None
        if ending and (best is None or ending[0].order < best.order):
            best = ending[0]
        for child in children.values():
            if child.best is not None and (best is None or child.best.order < best.order):
                best = child.best
        self.best: Entry[T] | None = best


_NO_CHILDREN: Final[Mapping[int, Any]] = {}

EMPTY: Final[Node[Any]] = Node(b"", _NO_CHILDREN, (), ())


def leaf(label: bytes, passing: Entries[T], ending: Entries[T]) -> Node[T]:
    """Return a node without children."""
    return Node(label, _NO_CHILDREN, passing, ending)


def entries_at(root: Node[T], key: bytes) -> tuple[Entries[T], Entries[T]]:
    """Return what `put` stored at ``key``: (passing, ending)."""
    node = root
    position = 0
    while position < len(key):
        child = node.children.get(key[position])
        if child is None or not key.startswith(child.label, position):
            return (), ()
        position += len(child.label)
        node = child
    return node.passing, node.ending


def put(root: Node[T], key: bytes, passing: Entries[T], ending: Entries[T]) -> Node[T]:
    """Return the tree with exactly these entries at ``key``; none: without ``key``."""
    above: list[Node[T]] = []
    node = root
    position = 0
    while position < len(key):
        child = node.children.get(key[position])
        if child is None:
            above.append(node)
            return _rebuild(above, key[position], _compact(leaf(key[position:], passing, ending)))
        common = _common_length(child.label, key, position)
        if common < len(child.label):
            above.append(node)
            return _rebuild(
                above,
                key[position],
                _split(child, common, key[position + common :], passing, ending),
            )
        above.append(node)
        position += common
        node = child
    replaced = Node(node.label, node.children, passing, ending)
    if not above:
        return replaced
    return _rebuild(above, node.label[0], _compact(replaced))


def places(root: Node[T], path: bytes) -> list[Entries[T]]:
    """Return the entries at every place that ``path`` passes, from the root down."""
    end = len(path)
    node = root
    position = 0
    passed: list[Entries[T]] = []
    while True:
        if node.passing:
            passed.append(node.passing)
        if position == end:
            if node.ending:
                passed.append(node.ending)
            return passed
        child = node.children.get(path[position])
        if child is None or not path.startswith(child.label, position):
            return passed
        position += len(child.label)
        node = child


def find(
    root: Node[T], request: RequestFacts, keep_trailing_slash: bool, limit: EntryOrder | None
) -> tuple[EntryOrder, Found[T]] | None:
    """Return the first answer in order, with its order, if it comes before ``limit``."""
    found: Found[T] | None = None
    # Longer paths mostly have the higher priority, so the deepest place usually decides at once.
    for entries in reversed(places(root, request.path)):
        for entry in entries:
            if limit is not None and entry.order >= limit:
                break
            answer = entry.answer(request, keep_trailing_slash)
            if answer is not None:
                found = answer
                limit = entry.order
                break
    return None if found is None or limit is None else (limit, found)


def _common_length(label: bytes, key: bytes, position: int) -> int:
    if key.startswith(label, position):
        return len(label)
    length = 0
    for left, right in zip(label, key[position : position + len(label)], strict=False):
        if left != right:
            break
        length += 1
    return length


def _split(
    child: Node[T], common: int, rest: bytes, passing: Entries[T], ending: Entries[T]
) -> Node[T]:
    """Return ``child``, cut ``common`` bytes down its label, with the entries at ``rest``."""
    if not passing and not ending:
        return child
    lower: Node[T] = Node(child.label[common:], child.children, child.passing, child.ending)
    label = child.label[:common]
    if not rest:
        return Node(label, {lower.label[0]: lower}, passing, ending)
    return Node(label, {lower.label[0]: lower, rest[0]: leaf(rest, passing, ending)}, (), ())


def _compact(node: Node[T]) -> Node[T] | None:
    """Return the node, its only child when it holds nothing itself, or None when it is empty."""
    if node.passing or node.ending or len(node.children) > 1:
        return node
    for child in node.children.values():
        return Node(node.label + child.label, child.children, child.passing, child.ending)
    return None


def _rebuild(above: list[Node[T]], first: int, changed: Node[T] | None) -> Node[T]:
    """Return a new root after child ``first`` of the last of ``above`` became ``changed``."""
    for depth in range(len(above) - 1, -1, -1):
        node = above[depth]
        children = dict(node.children)
        if changed is None:
            children.pop(first, None)
        else:
            children[first] = changed
        node = Node(node.label, children, node.passing, node.ending)
        if depth == 0:
            return node
        first = node.label[0]
        changed = _compact(node)
    raise AssertionError("a path up the tree starts at its root")
