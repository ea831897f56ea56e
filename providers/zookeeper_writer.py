"""Writing into ZooKeeper: all or nothing, with comparison by value.

ZooKeeper's multi compares only versions of nodes. So the nodes that a transaction is about are read
first and compared here; the multi then checks that they have not changed since, and is made anew
from another read when they have.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from kazoo import exceptions
from kazoo.protocol.serialization import (
    CheckVersion,
    Create,
    Delete,
    GetACL,
    SetData,
    Sync,
)
from kazoo.protocol.serialization import (
    Transaction as Multi,
)
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from kvproxy.provider import Conflict, StoreError, TooLarge
from providers.checks import check_value, conflict
from providers.zookeeper_nodes import (
    MAXIMUM_REQUEST_BYTES,
    MAXIMUM_VALUE_BYTES,
    SYSTEM,
    ancestors_of,
    check_path,
    child_of,
    parent_of,
    path_of,
    value_of,
)
from providers.zookeeper_requests import NO_NODE, MultiRead, NodeRead, Stat, batches
from providers.zookeeper_session import reason_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kvproxy.provider import Transaction
    from providers.zookeeper_session import Session

_WRITE_SECONDS = 15.0
"""How long a write waits for its answer, and tries again that others get in the way of."""
_HEADER_BYTES = 64
"""What a request has beside its body, generously."""

_RACES = (
    exceptions.BadVersionError,
    exceptions.NoNodeError,
    exceptions.NodeExistsError,
    exceptions.NotEmptyError,
)
"""What a multi fails with when a node is no longer as it was read."""
_CONSEQUENCES = (exceptions.RolledBackError, exceptions.RuntimeInconsistency)
"""What the other operations of a multi that failed fail with."""


class Node(NamedTuple):
    """A node as it was read; ``children`` only of nodes in sub-trees that are deleted."""

    data: bytes | None
    stat: Stat
    children: list[str] | None

    @property
    def value(self) -> bytes | None:
        """The value of the key that the node is, or None."""
        return value_of(self.data, self.stat)


class Writer:
    """Writes transactions in one session."""

    def __init__(self, session: Session, prefix: str) -> None:
        """Leave the directories above and at the key ``prefix`` when they become empty."""
        self._session = session
        self._kept = {"/", path_of(prefix), *ancestors_of(path_of(prefix))}

    async def write(self, transaction: Transaction) -> int:
        """Write all or nothing and return the version; raises `StoreError`."""
        check(transaction)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _WRITE_SECONDS
        while True:
            version = await self._attempt(transaction)
            if version is not None:
                return version
            if loop.time() > deadline:
                raise self._session.error(
                    f"others wrote the same nodes all the time for {_WRITE_SECONDS:g} s"
                )
            await asyncio.sleep(random.uniform(0.0, 0.005))

    async def _attempt(self, transaction: Transaction) -> int | None:
        """Read and write once; None when a node has changed in between."""
        nodes, version = await self._look(transaction)
        plan = Plan(transaction, nodes, self._kept)
        plan.permissions = await self.permissions(plan.created, nodes)
        operations = plan.operations()
        if not operations:
            return version
        for part in self._parts(operations, transaction):
            written = await self.carry_out(part)
            if written is None:
                return None
            version = written
        return version

    async def carry_out(self, operations: list[Any]) -> int | None:
        """Do all or nothing; returns the version, or None when another write was faster."""
        await self._session.ready()
        try:
            future = self._session.submit(Multi(operations))
            reply = await self._session.answer(future, _WRITE_SECONDS)
        except StoreError as error:
            raise StoreError(f"{error}; it is not known whether it was written") from error
        return reply.zxid if self._succeeded(operations, reply.value) else None

    async def _look(self, transaction: Transaction) -> tuple[dict[str, Node], int]:
        """Return the nodes that a transaction is about, and the version they were read at."""
        wanted: dict[str, bool] = {}
        keys = (*transaction.put, *transaction.delete, *transaction.expect)
        for path in map(path_of, (*keys, *transaction.delete_prefixes)):
            wanted.update(dict.fromkeys((*ancestors_of(path), path), False))
        wanted.update({path_of(prefix): True for prefix in transaction.delete_prefixes})
        return await self.look(wanted)

    async def look(self, wanted: dict[str, bool]) -> tuple[dict[str, Node], int]:
        """Read nodes, and where it says True all that is below them; returns the version too."""
        await self._session.ready()
        # A server may be behind its leader; a comparison with an old value would be wrong.
        self._session.submit(Sync("/"))
        nodes: dict[str, Node] = {}
        version = 0
        while wanted:
            futures = [self._session.submit(MultiRead(batch)) for batch in batches(wanted)]
            wanted = {}
            for future in futures:
                reply = await self._session.answer(future)
                version = reply.zxid
                for read in reply.value:
                    wanted.update(self._take(read, nodes))
        return nodes, version

    def _take(self, read: NodeRead, nodes: dict[str, Node]) -> dict[str, bool]:
        """Keep a node; returns the nodes below it that have to be read too."""
        if read.error == NO_NODE:
            return {}
        if read.stat is None:
            raise self._session.error(f"no permission to read the node `{read.path}`")
        nodes[read.path] = Node(read.data, read.stat, read.children)
        below = (child_of(read.path, child) for child in read.children or ())
        return {path: True for path in below if path != SYSTEM}

    async def permissions(
        self, created: Iterable[str], nodes: Mapping[str, Node]
    ) -> dict[str, Any]:
        """Return for each new node the permissions of the nearest node above it that exists.

        Below the root, which everybody may write, they are those of the user, or everybody's when
        there is none.
        """
        sources = {path: _nearest(path, nodes) for path in created}
        found: dict[str, Any] = {
            "/": CREATOR_ALL_ACL if self._session.has_credentials else OPEN_ACL_UNSAFE
        }
        for source in sorted(set(sources.values()) - {"/"}):
            reply = await self._session.call(GetACL(source))
            entries, _ = reply.value
            for entry in entries:
                if entry.id.scheme == "digest" and entry.id.id.endswith(":x"):
                    raise self._session.error(
                        f"the permissions of the node `{source}` cannot be handed down to new "
                        "nodes: the user needs the permission `admin` there"
                    )
            found[source] = entries
        return {path: found[source] for path, source in sources.items()}

    def _parts(self, operations: list[Any], transaction: Transaction) -> list[list[Any]]:
        """Return the operations of each request: one, unless it is a mere deletion of sub-trees."""
        room = MAXIMUM_REQUEST_BYTES - _HEADER_BYTES
        size = len(Multi(operations).serialize())
        if size <= room:
            return [operations]
        if transaction.put or transaction.delete or transaction.expect:
            largest = max(transaction.put, key=lambda key: len(transaction.put[key]), default="")
            raise TooLarge(
                f"the transaction needs a request of {size:,} bytes for {len(operations):,} "
                f"operations, and ZooKeeper takes at most {room:,}"
                + (f"; its largest value is that of key `{largest}`" if largest else "")
            )
        parts: list[list[Any]] = [[]]
        filled = 0
        for operation in operations:
            length = len(operation.serialize()) + 9
            if filled + length > room:
                parts.append([])
                filled = 0
            parts[-1].append(operation)
            filled += length
        return parts

    def _succeeded(self, operations: list[Any], results: list[Any]) -> bool:
        """Tell whether a multi was carried out, False when another write was faster."""
        for operation, result in zip(operations, results, strict=True):
            if not isinstance(result, Exception) or isinstance(result, _CONSEQUENCES):
                continue
            if isinstance(result, _RACES):
                return False
            if isinstance(result, exceptions.NoAuthError):
                raise self._session.error(f"no permission to write the node `{operation.path}`")
            if isinstance(result, exceptions.NoChildrenForEphemeralsError):
                raise self._session.error(
                    f"the node `{parent_of(operation.path)}` is ephemeral: it can have no nodes "
                    "below it"
                )
            raise self._session.error(f"the node `{operation.path}`: {reason_of(result)}")
        return True


class Plan:
    """The operations that turn the nodes as they were read into what a transaction wants."""

    def __init__(self, transaction: Transaction, nodes: Mapping[str, Node], kept: set[str]) -> None:
        """Compare and plan; raises `Conflict`. ``kept`` directories are not deleted when empty."""
        self.permissions: dict[str, Any] = {}
        """Those of each of ``created``; to be set before `operations`."""
        self._nodes = nodes
        self._put = {path_of(key): value for key, value in transaction.put.items()}
        self._expected = {path_of(key): value for key, value in transaction.expect.items()}
        for key, expected in transaction.expect.items():
            node = nodes.get(path_of(key))
            found = None if node is None else node.value
            if found != expected:
                raise Conflict(conflict(key, expected, found))
        needed = {path for put in self._put for path in (*ancestors_of(put), put)}
        self._orphaned: set[str] = set()
        """Directories that go because nothing is left in them."""
        self._emptied, self._deleted = self._plan_deletions(transaction, needed, kept)
        self._absent = self._plan_absences(needed)
        self._made = sorted(path for path in needed if path not in nodes)
        self.created = [*self._absent, *self._made]
        """Nodes to be made, parents first."""

    def operations(self) -> list[Any]:
        """Return the operations in the order in which they are possible."""
        checked: list[Any] = []
        checked_by_write = {*self._put, *self._emptied, *self._deleted}
        for path in self._expected:
            if path in self._nodes and path not in checked_by_write:
                checked.append(CheckVersion(path, self._version(path)))
        deepest_first = sorted(self._deleted, key=lambda path: -path.count("/"))
        removed = [SetData(path, None, self._version(path)) for path in sorted(self._emptied)]
        removed += [Delete(path, self._version(path)) for path in deepest_first]
        return [*checked, *self._absences(), *removed, *self._creations(), *self._changes()]

    def _absences(self) -> list[Any]:
        proofs: list[Any] = []
        for path in self._absent:
            proofs.append(Create(path, None, self.permissions[path], 0))
            proofs.append(Delete(path, -1))
        return proofs

    def _creations(self) -> list[Any]:
        made: list[Any] = []
        for path in self._made:
            value = self._put.get(path)
            made.append(Create(path, value, self.permissions[path], 0))
            if value == b"":
                # Raises the version of the data: an empty value, not a directory.
                made.append(SetData(path, value, -1))
        return made

    def _changes(self) -> list[Any]:
        return [
            SetData(path, value, self._version(path))
            for path, value in self._put.items()
            if path in self._nodes
        ]

    def _plan_deletions(
        self, transaction: Transaction, needed: set[str], kept: set[str]
    ) -> tuple[set[str], set[str]]:
        """Return the nodes that lose their value, and those that go."""
        nodes = self._nodes
        named = {path_of(key) for key in transaction.delete}
        prefixes = {path_of(prefix) for prefix in transaction.delete_prefixes}
        doomed = {path for path in named if path in nodes}
        for prefix in prefixes:
            doomed |= {path for path in nodes if path == prefix or path.startswith(_below(prefix))}
        deleted: set[str] = set()
        emptied: set[str] = set()
        remaining = {path: node.stat.num_children for path, node in nodes.items()}
        # The deepest first: the fate of a directory depends on that of its children.
        for path in sorted(nodes, key=lambda path: -path.count("/")):
            node = nodes[path]
            if path in needed:
                if path in doomed and path not in self._put and node.value is not None:
                    emptied.add(path)
                continue
            if path not in doomed:
                orphaned = remaining[path] < node.stat.num_children and path.count("/") > 1
                if node.value is not None or not orphaned:
                    continue
            if remaining[path] or path in kept:
                if node.value is not None:
                    emptied.add(path)
                continue
            deleted.add(path)
            parent = parent_of(path)
            if parent in remaining:
                remaining[parent] -= 1
        self._orphaned = deleted - doomed
        return emptied, deleted

    def _plan_absences(self, needed: set[str]) -> list[str]:
        """Return nodes to be made and deleted at once, which shows that they are not there.

        There is no other check of absence in a multi. It takes the topmost node that is missing.
        """
        found: set[str] = set()
        for path, value in self._expected.items():
            if value is not None:
                continue
            missing = [each for each in (*ancestors_of(path), path) if each not in self._nodes]
            above = self._nodes.get(parent_of(missing[0])) if missing else None
            if above is not None and above.stat.ephemeral_owner:
                # Nothing can ever be there.
                continue
            if missing and not needed.intersection(missing):
                found.add(missing[0])
        return sorted(found)

    def _version(self, path: str) -> int:
        """Return the version that a node must still have, or -1 where any will do.

        A directory that goes because it is empty must not have become a key meanwhile.
        """
        compared = path in self._expected or path in self._orphaned
        return self._nodes[path].stat.version if compared else -1


def check(transaction: Transaction) -> None:
    """Raise `StoreError` for a key or value that ZooKeeper cannot hold."""
    for key in (*transaction.put, *transaction.delete, *transaction.expect):
        check_path(key)
    for prefix in transaction.delete_prefixes:
        if prefix.strip("/"):
            check_path(prefix.strip("/"))
    for key, value in transaction.put.items():
        check_value(key, value, MAXIMUM_VALUE_BYTES)


def _nearest(path: str, nodes: Iterable[str]) -> str:
    """Return the nearest node above ``path`` that exists."""
    path = parent_of(path)
    while path != "/" and path not in nodes:
        path = parent_of(path)
    return path


def _below(path: str) -> str:
    return path if path == "/" else path + "/"
