"""ZooKeeper as a store.

A read costs one request for each 250 nodes, all sent at once; a change costs one request for the
nodes that were touched. `providers.zookeeper_mirror` says why what is read is never torn,
`providers.zookeeper_nodes` which nodes are keys.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kazoo.protocol.serialization import Sync

from kvproxy.provider import Changes, Compacted, Plugin, Store, StoreError, Tree
from providers.client_tls import client_context
from providers.zookeeper_announcer import Announcer
from providers.zookeeper_mirror import Mirror
from providers.zookeeper_nodes import ancestors_of, check_path, path_of
from providers.zookeeper_requests import NO_AUTH, MultiRead
from providers.zookeeper_session import Session
from providers.zookeeper_writer import Writer

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from kvproxy.model.static import StaticConfiguration
    from kvproxy.model.static_providers import ZookeeperProvider
    from kvproxy.provider import Transaction

_GATHER_SECONDS = 0.001
"""How long after the first sign of a change a watch begins to read."""
_KEPT_MIRRORS = 4
"""So many prefixes that were read or watched are kept up to date for the next watch."""


class ZookeeperStore:
    """A `Store` in ZooKeeper 3.6 or newer; versions are transaction numbers (zxid).

    What was read is kept, so that a watch which starts where a read or another watch ended reads
    only what changed since.
    """

    name: ClassVar[str] = "zookeeper"

    def __init__(
        self,
        endpoint: str,
        credentials: tuple[str, str] | None = None,
        context: ssl.SSLContext | None = None,
        prefix: str = "",
    ) -> None:
        """``endpoint``: ``host:port``, several separated by commas; asked by the first call.

        ``credentials``: user and password (digest). ``context``: TLS. ``prefix``: what this store
        is for; directories above and at this key are left when their last key is deleted. Raises
        `StoreError` for an endpoint that is none.
        """
        self._session = Session(endpoint, credentials, context)
        self._writer = Writer(self._session, prefix)
        self._announcer = Announcer(self._session, self._writer)
        self._root_path = path_of(prefix)
        self._idle: OrderedDict[str, Mirror] = OrderedDict()
        self._watched: set[Mirror] = set()
        self._closed = False

    async def read(self, prefix: str) -> Tree:
        """Return all keys under ``prefix`` at one version."""
        prefix = _checked(prefix)
        mirror = self._idle.pop(prefix, None) or Mirror(self._session, prefix)
        try:
            await mirror.settle(everything=True)
            return mirror.tree()
        finally:
            self._rest(prefix, mirror)

    async def watch(self, prefix: str, version: int) -> AsyncIterator[Changes | Tree]:
        """Yield what happened after ``version``; writes that follow each other fast come as one.

        A version that this client has not read itself gives a whole tree first, if anything
        changed after it. Ends with `StoreError` when the connection is lost.
        """
        prefix = _checked(prefix)
        mirror = self._idle.pop(prefix, None)
        if mirror is not None and not mirror.given <= version <= mirror.version:
            self._rest(prefix, mirror)
            mirror = None
        before: _Root | None = None
        if mirror is None:
            mirror = Mirror(self._session, prefix)
            before = await self._root(mirror.root)
        self._watched.add(mirror)
        try:
            await mirror.settle()
            if mirror.version < version:
                raise Compacted(
                    f"zookeeper `{self._session.endpoint}`: version {version} is ahead of the "
                    f"store, which is at {mirror.version}"
                )
            if before is not None:
                if before.changed(mirror, version):
                    yield mirror.tree()
                else:
                    mirror.assume_given(version)
            while not self._closed:
                changes = mirror.changes()
                if changes:
                    yield Changes(mirror.version, changes)
                await mirror.wait()
                # The nodes of one transaction are named one by one, within a moment.
                await asyncio.sleep(_GATHER_SECONDS)
                if not self._closed:
                    await mirror.settle()
        finally:
            self._watched.discard(mirror)
            self._rest(prefix, mirror)

    async def write(self, transaction: Transaction) -> int:
        """Write all or nothing and return the version; raises `Conflict` and `TooLarge`.

        A transaction that only deletes sub-trees and is too large for one request is written in
        several, the deepest nodes first.
        """
        return await self._writer.write(transaction)

    async def probe(self) -> int:
        """Return the version by asking the server, which asks its leader first.

        Raises `StoreError` when what is watched, or else the prefix of this store, may not be read:
        ZooKeeper tells nobody that a permission was withdrawn.
        """
        await self._session.ready()
        roots = sorted({mirror.root for mirror in self._watched} or {self._root_path})
        self._session.submit(Sync("/"))
        reads = self._session.submit(MultiRead((root, False) for root in roots))
        reply = await self._session.answer(reads)
        for read in reply.value:
            if read.error == NO_AUTH and read.path != "/":
                reason = f"no permission to read the node `{read.path}`"
                for mirror in self._watched:
                    if mirror.root == read.path:
                        # Changes that happen meanwhile are told to nobody who may not read.
                        mirror.lost(reason)
                raise self._session.error(reason)
        return reply.zxid

    async def announce(self, key: str, value: bytes) -> None:
        """Keep ``key`` at ``value`` in an ephemeral node for as long as this client lives."""
        await self._announcer.announce(key, value)

    async def close(self) -> None:
        """End the session; running watches end and announced keys go."""
        self._closed = True
        for mirror in self._watched:
            mirror.wake()
        self._idle.clear()
        await self._announcer.close()
        await self._session.close()

    def _rest(self, prefix: str, mirror: Mirror) -> None:
        """Keep a mirror that nobody uses now; the oldest of many is given up."""
        if self._closed or prefix in self._idle:
            mirror.release()
            return
        self._idle[prefix] = mirror
        while len(self._idle) > _KEPT_MIRRORS:
            self._idle.popitem(last=False)[1].release()

    async def _root(self, path: str) -> _Root:
        """Look at the root of a tree that is to be watched."""
        above = ["/", *ancestors_of(path)]
        reply = await self._session.call(MultiRead((each, False) for each in (*above, path)))
        stats = {read.path: read.stat for read in reply.value if read.stat is not None}
        nearest = max((each for each in above if each in stats), key=len, default="")
        # Where not even the topmost node may be read, nothing is known.
        newest = stats[nearest].pzxid if nearest else reply.zxid
        return _Root(path in stats, newest)


class _Root(NamedTuple):
    """Whether a node was there, and the last transaction that made or deleted a child above it."""

    exists: bool
    newest_above: int

    def changed(self, mirror: Mirror, version: int) -> bool:
        """Tell whether anything that a mirror holds now may have changed after ``version``.

        A deletion shows in the parent, and that of the whole tree only above it.
        """
        if mirror.newest or self.exists:
            return mirror.newest > version or not mirror.newest
        return self.newest_above > version


def _checked(prefix: str) -> str:
    prefix = prefix.strip("/")
    if prefix:
        check_path(prefix)
    return prefix


def _open_store(settings: ZookeeperProvider, static: StaticConfiguration) -> Store:
    if bool(settings.username) != bool(settings.password):
        raise StoreError("`zookeeper.username` and `zookeeper.password` are of no use alone")
    if ":" in settings.username:
        raise StoreError("`zookeeper.username` must not hold a colon")
    credentials = (settings.username, settings.password) if settings.username else None
    context = None
    if settings.tls is not None:
        context = client_context(settings.tls, "zookeeper.tls")
    return ZookeeperStore(settings.endpoint, credentials, context, settings.prefix)


plugin = Plugin(name="zookeeper", open_store=_open_store)
