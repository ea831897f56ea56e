"""The two plugin contracts, and the snapshot: all that the author of a plugin needs.

A **store** keeps keys (Consul, etcd, ZooKeeper, BoltDB, the embedded store): six methods about
keys, nothing about frontends. A **source** yields decoded snapshots (files, REST, Docker). Plugins
are found through the entry-point group ``kvproxy.providers``; each entry point names a `Plugin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field

from kvproxy.model.dynamic import Configuration
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from kvproxy.model.static import StaticConfiguration


ANNOUNCEMENT_SECONDS = 22.0
"""How long an announcement outlives the client that made it, at most: Consul takes 20 s."""


class StoreError(Exception):
    """The store did not answer, or answered that it cannot; the message says what and where."""


class Conflict(StoreError):  # noqa: N818 - an outcome, not a fault
    """A comparison of a transaction did not hold; nothing was written."""


class Compacted(StoreError):  # noqa: N818 - an outcome, not a fault
    """A watch cannot start at the version asked for; read the tree again."""


class TooLarge(StoreError):  # noqa: N818 - an outcome, not a fault
    """More than the store takes at once: a value, or a transaction; nothing was written."""


class ReadOnly(StoreError):  # noqa: N818 - a property, not a fault
    """The store can be read but never written; not to be tried again."""


class Tree(Struct, frozen=True):
    """Every key under a prefix at one version of the store: one consistent read.

    Keys are whole keys (prefix included, no leading slash); ``version`` grows with each write.
    ``changed``, where the store can tell: none of these keys was written after this version
    (deletions may have been made later).
    """

    version: int
    values: Mapping[str, bytes]
    changed: int | None = None


class Changes(Struct, frozen=True):
    """What changed after the version that was asked for, up to and including ``version``.

    A value of None is a deletion. Keys written together are never split over two `Changes`. Without
    values: nothing has happened under the prefix up to ``version``.
    """

    version: int
    values: Mapping[str, bytes | None]


class Transaction(Struct, frozen=True):
    """Writes that happen together or not at all.

    ``put`` key to value; ``delete`` keys; ``delete_prefixes`` whole sub-trees (deleted before
    ``put`` is written); ``expect`` key to the value it must have now (None: must not exist).
    """

    put: Mapping[str, bytes] = field(default_factory=dict)
    delete: tuple[str, ...] = ()
    delete_prefixes: tuple[str, ...] = ()
    expect: Mapping[str, bytes | None] = field(default_factory=dict)


class Store(Protocol):
    """A key-value store. Every method may raise `StoreError`; none blocks the event loop.

    Keys are case-sensitive. A prefix covers the key that equals it and all keys that start with
    ``prefix + "/"``; the empty prefix covers every key.
    """

    @property
    def name(self) -> str:
        """The provider's name, such as ``etcd``."""
        ...

    async def read(self, prefix: str) -> Tree:
        """Return all keys under ``prefix`` as they were at one version."""
        ...

    def watch(self, prefix: str, version: int) -> AsyncIterator[Changes | Tree]:
        """Yield what happened after ``version``, in order, nothing lost or doubled.

        Writes that follow each other fast may come as one `Changes` with the last value of each
        key. A store that cannot tell single changes yields whole trees. Raises `Compacted` when
        ``version`` is no longer known (or is ahead of the store, which was wiped or restored).
        """
        ...

    async def write(self, transaction: Transaction) -> int:
        """Write all or nothing and return the version; raises `Conflict` and `TooLarge`."""
        ...

    async def probe(self) -> int:
        """Return the store's version by asking it now: the proof of freshness."""
        ...

    async def announce(self, key: str, value: bytes) -> None:
        """Keep ``key`` at ``value`` for as long as this client lives; called again, change it.

        The key belongs to the client (a lease, a session, an ephemeral node): it goes when the
        client is closed, and within `ANNOUNCEMENT_SECONDS` after its process has died or lost the
        store. A client whose lease or session was lost makes the key again by itself. For readers
        and watchers it is a key like any other; keeping it alive changes no version. Raises
        `ReadOnly` when the store can never be written, `StoreError` when it cannot now.
        """
        ...

    async def close(self) -> None:
        """Release everything; a running watch ends and what was announced goes."""
        ...


class Snapshot(Struct, frozen=True, kw_only=True):
    """One provider's whole configuration from one consistent read.

    ``revision`` is the store's own word for it (etcd revision, transaction id, content hash).
    ``problems`` name the entries that could not be decoded (``Problem.entry``) and warnings.
    Entries that did not change since the snapshot before are the very same objects: consumers may
    compare by identity. ``read_at``: ``time.time()``; ``keys``: how many keys of a store it is made
    of.
    """

    provider: str
    revision: str
    configuration: Configuration
    problems: tuple[Problem, ...] = ()
    read_at: float
    keys: int = 0


class Unchanged(Struct, frozen=True, kw_only=True):
    """What the provider's last snapshot said still holds at ``revision``."""

    provider: str
    revision: str
    read_at: float
    keys: int = 0


class Failure(Struct, frozen=True, kw_only=True):
    """A provider could not produce a snapshot; what it said last goes on being served."""

    provider: str
    problems: tuple[Problem, ...]
    failed_at: float


class Source(Protocol):
    """Anything that yields snapshots."""

    @property
    def name(self) -> str:
        """The provider's name, such as ``file``."""
        ...

    def snapshots(self) -> AsyncIterator[Snapshot | Unchanged | Failure]:
        """Yield the configuration now and after each change, until cancelled.

        Does not raise for bad content or an unreachable origin: yields `Failure` and goes on by
        itself.
        """
        ...

    async def close(self) -> None:
        """Release everything."""
        ...


class Plugin(Struct, frozen=True, kw_only=True):
    """What an entry point of the group ``kvproxy.providers`` names.

    Exactly one of ``open_store`` and ``open_source`` is given. Both take the plugin's own settings
    (a section of the static configuration, such as ``StaticConfiguration.embedded``) and the whole.
    """

    name: str
    open_store: Callable[[Any, StaticConfiguration], Store] | None = None
    open_source: Callable[[Any, StaticConfiguration], Source] | None = None
