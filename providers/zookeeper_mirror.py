"""A copy of one part of ZooKeeper's tree that is exactly as the tree was at one transaction.

ZooKeeper has no read of many nodes at one version and no history. The copy is made in two steps:

1. A recursive watch is set, then every node is read.
2. The nodes that the watch has named meanwhile are read again, until an answer comes and nothing
   has been named.

ZooKeeper tells a client of a change before it gives it any answer that knows of the change. So when
step 2 ends no node has changed between its last read and the last answer: the copy is the tree at
the transaction that came with that answer, all nodes of a multi transaction included. This is
reading twice until both agree, without reading twice what did not change. Later changes take step 2
alone: one request for the nodes that were touched.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from kazoo.protocol.serialization import Sync

from kvproxy.provider import Tree
from providers.zookeeper_nodes import child_of, covers, key_of, parent_of, path_of, value_of
from providers.zookeeper_requests import NO_AUTH, NO_NODE, MultiRead, NodeRead, batches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from providers.zookeeper_session import Reply, Session

_MAXIMUM_TOUCHED = 100_000
"""With more nodes touched and nobody asking, the watch is given up: all is read again then."""


class _Node(NamedTuple):
    """What is kept of a node: ``ambiguous`` when its children decide whether it is a key."""

    mzxid: int
    ambiguous: bool


class Mirror:
    """The keys under one prefix; `settle` brings them up to date.

    ``values`` are the keys at transaction ``version``. ``given`` is the version at which somebody
    was last told all of it, and ``newest`` the last transaction that any node shows.
    """

    def __init__(self, session: Session, prefix: str) -> None:
        """Know nothing yet."""
        self.root = path_of(prefix)
        self.values: dict[str, bytes] = {}
        self.version = 0
        self.given = 0
        self.newest = 0
        self._session = session
        self._armed = False
        self._reason = ""
        self._nodes: dict[str, _Node] = {}
        self._existed: dict[str, bool] = {}
        """Keys that changed since something was given, and whether they were there before."""
        self._dirty: dict[str, bool] = {}
        """Nodes to be read, and whether with their children."""
        self._reading: dict[str, bool] = {}
        """Nodes that have been asked for, likewise."""
        self._woken = asyncio.Event()

    def touched(self, path: str) -> None:
        """Take note of a change; called by the session."""
        if not covers(self.root, path):
            return
        self._dirty.setdefault(path, False)
        if len(self._dirty) > _MAXIMUM_TOUCHED:
            self.release()
            self._reason = "too many changes to keep up with"
            self._dirty.clear()
        if path != self.root and self._depends_on_children(parent_of(path)):
            self._dirty.setdefault(parent_of(path), False)
        self._woken.set()

    def _depends_on_children(self, path: str) -> bool:
        """Whether a node may be a key or not because of a child that was made just now.

        The answer to a request that is under way may be from before.
        """
        node = self._nodes.get(path)
        return path in self._reading or (node is not None and node.ambiguous)

    def lost(self, reason: str) -> None:
        """Take note that no more changes will be told; called by the session."""
        self._armed = False
        self._reason = reason
        self._woken.set()

    def wake(self) -> None:
        """End a `wait`."""
        self._woken.set()

    async def wait(self) -> None:
        """Wait until there is something to settle; raises `StoreError` when nothing more comes."""
        await self._woken.wait()
        self._woken.clear()
        self._check_armed()

    async def settle(self, *, everything: bool = False) -> None:
        """Make ``values`` what the store holds; raises `StoreError`.

        ``everything``: read all nodes again, as after a lost connection, instead of those that were
        touched.
        """
        if everything or not self._armed:
            await self._session.ready()
            self._dirty = dict.fromkeys((self.root, *self._nodes), True)
            self._armed = True
            self._session.watch(self.root, self)
            # Whatever was acknowledged to anybody before this call is in what it reads.
            self._session.submit(Sync("/"))
        while self._dirty and self._armed:
            await self._read()
        self._check_armed()

    def tree(self) -> Tree:
        """Return all keys; what changed up to now has been given."""
        self._existed.clear()
        self.given = self.version
        changed = max((self._nodes[path_of(key)].mzxid for key in self.values), default=0)
        return Tree(self.version, dict(self.values), changed)

    def assume_given(self, version: int) -> None:
        """Take it that what there is now was given at ``version``, after which nothing changed."""
        self._existed.clear()
        self.given = version

    def changes(self) -> Mapping[str, bytes | None]:
        """Return the keys written since something was last given; that gives them."""
        changes = {
            key: self.values.get(key)
            for key, existed in self._existed.items()
            if existed or key in self.values
        }
        self._existed.clear()
        if changes:
            self.given = self.version
        return changes

    def release(self) -> None:
        """Watch no longer."""
        self._armed = False
        self._reason = "closed"
        self._session.unwatch(self.root, self)

    def _check_armed(self) -> None:
        if not self._armed:
            raise self._session.error(self._reason)

    async def _read(self) -> None:
        """Read the nodes that are to be read now."""
        self._reading, self._dirty = self._dirty, {}
        try:
            requests = [MultiRead(batch) for batch in batches(self._reading)]
            futures = [self._session.submit(request) for request in requests]
            for future in futures:
                reply = await self._session.answer(future)
                self._take(reply)
        except BaseException:
            for path, with_children in self._reading.items():
                self._dirty[path] = with_children or self._dirty.get(path, False)
            raise
        finally:
            self._reading = {}

    def _take(self, reply: Reply) -> None:
        for read in reply.value:
            self._take_node(read)
        self.version = reply.zxid

    def _take_node(self, read: NodeRead) -> None:
        path, stat = read.path, read.stat
        known = self._nodes.get(path)
        if read.error == NO_NODE:
            if known is not None:
                del self._nodes[path]
            self._put(path, None)
            return
        if stat is None:
            raise self._session.error(
                f"no permission to read the node `{path}`"
                if read.error == NO_AUTH
                else f"the node `{path}` cannot be read: error {read.error}"
            )
        self.newest = max(self.newest, stat.mzxid, stat.pzxid)
        self._nodes[path] = _Node(stat.mzxid, read.data == b"" and stat.version == 0)
        value = None if path == "/" else value_of(read.data, stat)
        if known is None or known.mzxid != stat.mzxid or self.values.get(key_of(path)) != value:
            self._put(path, value)
        for child in read.children or ():
            child_path = child_of(path, child)
            if child_path not in self._nodes and covers(self.root, child_path):
                self._dirty[child_path] = True

    def _put(self, path: str, value: bytes | None) -> None:
        key = key_of(path)
        if value is not None or key in self.values:
            self._existed.setdefault(key, key in self.values)
        if value is not None:
            self.values[key] = value
        else:
            self.values.pop(key, None)
