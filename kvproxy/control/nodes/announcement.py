"""What nodes say about themselves in their store, and what can be concluded from it.

A node is one running kvproxy. As long as it runs, ``<prefix>-nodes/<node>`` holds an `Announcement`
as JSON (`kvproxy.control.nodes.announcer` keeps it). The place is beside the prefix that nodes
watch, not below it: what one node says must not wake the others.

**When does a node serve revision R?** When it announces R or a later revision. But it announces the
last revision that it was told of, and of a write that changed nothing below the prefix it is told
nothing. So it also serves R when what it serves is what the store held at some moment after R. It
is, when no key that is there now was written after the announced revision (none was added or
changed), and there are as many keys as it serves (none was deleted). `Expected` compares this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from kvproxy.control.sources.entry_tree import EntryTree
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvproxy.provider import Store, Tree


class Announcement(Struct, frozen=True, rename="camel", kw_only=True):
    """What a node serves on every worker.

    ``revision``: the store's, up to which this is known to be what the store holds; ``keys``: of
    how many keys it is made; ``generation`` and ``digest`` name the whole of all providers;
    ``problems``: how many things are wrong with it (`kvproxy status` on the node tells which);
    ``since``: when it was announced first, ``time.time()`` of the node.
    """

    node: str
    pid: int
    version: str
    revision: int
    keys: int
    generation: int
    digest: str
    problems: int
    since: float


class Expected(Struct, frozen=True, kw_only=True):
    """What a node must announce to serve ``revision``.

    ``changed`` and ``keys`` describe what the store held at some moment not before ``revision``;
    ``changed`` is None when nothing can be concluded from it.
    """

    revision: int
    changed: int | None = None
    keys: int = 0

    def served_by(self, node: Announcement) -> bool:
        """Tell whether a node serves the revision."""
        if node.revision >= self.revision:
            return True
        same = self.changed is not None and node.revision >= self.changed
        return same and node.keys == self.keys


def nodes_prefix(prefix: str) -> str:
    """Return the prefix of announcements beside the configuration's; empty: there is no place.

    Beside the whole store there is no place.
    """
    stem = prefix.strip("/")
    return f"{stem}-nodes" if stem else ""


def node_key(prefix: str, node: str) -> str:
    """Return the key of a node's announcement."""
    return f"{nodes_prefix(prefix)}/{node}"


def encode(announcement: Announcement) -> bytes:
    """Return the value of a node's key."""
    return msgspec.json.encode(announcement)


def decode_all(values: Mapping[str, bytes]) -> tuple[dict[str, Announcement], list[Problem]]:
    """Return the announcements by key, sorted, and what is wrong with others."""
    found: dict[str, Announcement] = {}
    problems = []
    for key, value in sorted(values.items()):
        try:
            found[key] = msgspec.json.decode(value, type=Announcement)
        except msgspec.DecodeError as error:
            reason = f"is no announcement of a node: {error}"
            problems.append(Problem(message=reason, where=key, fatal=False))
    return found, problems


async def expect(store: Store, prefix: str, revision: int | None) -> Expected:
    """Return what a node must announce to serve ``revision``; None: all that the store holds now.

    Costs a read of the configuration's keys. Raises `StoreError`.
    """
    # The version first: a read that comes after it holds everything up to it.
    version = await store.probe()
    wanted = version if revision is None else revision
    if version < wanted:
        return Expected(revision=wanted)
    tree = await _served_tree(store, prefix.strip("/"))
    changed = tree.version if tree.changed is None else tree.changed
    return Expected(revision=wanted, changed=changed, keys=len(tree.values))


async def _served_tree(store: Store, prefix: str) -> Tree:
    """Return the keys that the configuration is made of: those that the alias names, if any."""
    tree = await store.read(prefix)
    base = EntryTree(prefix)
    base.apply(tree.values)
    alias = base.alias()
    target = "" if alias is None else alias[1].decode("utf-8", "replace").strip().strip("/")
    return tree if target in ("", prefix) else await store.read(target)
