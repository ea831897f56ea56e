"""Writing to a store whatever fits into its transactions, so that no reader sees half of it.

What fits into one transaction is one. Of more than that,

- **dynamic** keys are written as a whole new tree beside the old one, ``<prefix>_configurations/``
  and a name; then ``<prefix>/alias`` is switched to it, with which Traefik 1.7 switches too;
- **static** keys, which are read only at a start, are written in parts while `MARK` stands below
  the prefix: who starts meanwhile waits, or takes the settings of its last start.

Every write compares: another writer is noticed and nothing of it is lost. When parts cannot be
finished, those that were written are taken back.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from kvproxy.config.static_keys import MARK, static_values
from kvproxy.config.store_plan import Edit, is_dynamic
from kvproxy.provider import Conflict, StoreError, TooLarge, Transaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kvproxy.provider import Store, Tree

_TREE_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}")
_FIRST_PART = 1024
"""Keys of a first attempt; halved until the store takes them."""

NOTHING = Edit({}, (), {})
"""No change."""

_logger = logging.getLogger(__name__)


class Held(Struct, frozen=True):
    """What a store holds below ``prefix`` at one version.

    ``static`` and ``dynamic``: by key below the prefix, of the dynamic ones those that readers use.
    ``alias``: value of the key that names another place for them, None without one; ``active``:
    that place, or the prefix. ``unused``: whole dynamic keys below the prefix that no reader uses.
    ``mark``: who is writing the static keys now, None if nobody.
    """

    prefix: str
    version: int
    static: Mapping[str, bytes]
    dynamic: Mapping[str, bytes]
    alias: tuple[str, bytes] | None
    active: str
    unused: tuple[str, ...]
    mark: bytes | None


class Written(Struct, frozen=True):
    """The outcome: the store's version, and the tree that the alias was switched to, if it was."""

    version: int
    switched_to: str = ""


def empty(prefix: str) -> Held:
    """Return what a store holds that does not exist yet."""
    return Held(prefix, 0, {}, {}, None, prefix, (), None)


async def read(store: Store, prefix: str) -> Held:
    """Read what the store holds; one read, and a second one where an alias leads elsewhere."""
    tree = await store.read(prefix)
    below = dict(_below(tree.values, prefix))
    alias = next(
        ((key, value) for key, value in sorted(below.items()) if key.strip("/").lower() == "alias"),
        None,
    )
    target = "" if alias is None else alias[1].decode("utf-8", "replace").strip().strip("/")
    active = prefix
    if target not in ("", prefix):
        active = target
    values = below
    if active != prefix:
        inside = not prefix or active.startswith(f"{prefix}/")
        other: Tree = tree if inside else await store.read(active)
        values = dict(_below(other.values, active))
    own = [_whole(prefix, key) for key in below if is_dynamic(key)]
    return Held(
        prefix=prefix,
        version=tree.version,
        static=static_values(tree.values, prefix),
        dynamic={key: value for key, value in values.items() if is_dynamic(key)},
        alias=alias,
        active=active,
        unused=tuple(sorted(own)) if active != prefix else (),
        mark=below.get(MARK),
    )


async def write(
    store: Store,
    held: Held,
    *,
    static: Edit | None = None,
    dynamic: Edit = NOTHING,
    take_over: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write both edits, which were planned on ``held``, so that readers see all or nothing.

    ``static`` None: static keys are no concern, nor is it that somebody writes them in parts.
    ``take_over``: go on in the place of a writer of these that was interrupted. ``progress`` is
    told how many keys of how many are done. Raises `Conflict` when another writer came between,
    `TooLarge` when a single value is too large for the store.
    """
    if static is None:
        held, static = replace(held, mark=None), NOTHING
    if held.mark is not None and not take_over:
        who = held.mark.decode("utf-8", "replace")
        raise Conflict(
            f"static keys are being written, or were left half written, by {who}; "
            "--take-over goes on in its place"
        )
    if held.mark is None:
        if not static and not dynamic:
            return Written(held.version)
        whole = _transaction((held.prefix, static), (held.active, dynamic))
        try:
            return Written(await store.write(whole))
        except TooLarge:
            if len(whole.put) + len(whole.delete) == 1:
                raise
    writing = _InParts(store, held, progress)
    if static or held.mark is not None:
        return await writing.marked(static, dynamic)
    return await writing.switch(dynamic)


async def clean_up(store: Store, held: Held, *, unused: bool) -> int:
    """Delete the trees of earlier switches, but for the newest; returns how many keys that were.

    ``held``: what the store holds now. ``unused``: delete also the dynamic keys below the prefix
    that no reader uses while there is an alias.
    """
    family = _family(held.prefix)
    trees: dict[str, list[str]] = {}
    for key, _ in _below((await store.read(family)).values, family):
        name = key.partition("/")[0]
        if _TREE_NAME.fullmatch(name) and f"{family}/{name}" != held.active:
            trees.setdefault(name, []).append(f"{family}/{key}")
    old = [key for name in sorted(trees)[:-1] for key in trees[name]]
    keys = [*old, *(held.unused if unused else ())]
    await _InParts(store, held, None).write(keys, lambda some: Transaction(delete=tuple(some)))
    return len(keys)


class _InParts:
    """Writing more than fits into one transaction."""

    def __init__(
        self, store: Store, held: Held, progress: Callable[[int, int], None] | None
    ) -> None:
        self._store = store
        self._held = held
        self._progress = progress
        self._done = self._total = 0
        self._size = _FIRST_PART
        self._marked = False
        self._mark_key = _whole(held.prefix, MARK)
        self._mark = f"{socket.gethostname()}, process {os.getpid()}, since {_now()}".encode()

    async def write(
        self, keys: Sequence[str], transaction: Callable[[Sequence[str]], Transaction]
    ) -> None:
        """Write the transactions of as many keys at a time as the store takes."""
        position = 0
        while position < len(keys):
            some = keys[position : position + self._size]
            try:
                await self._store.write(transaction(some))
            except TooLarge:
                if len(some) == 1:
                    raise
                self._size = (len(some) + 1) // 2
                continue
            position += len(some)
            self._count(len(some))

    async def marked(self, static: Edit, dynamic: Edit) -> Written:
        """Write the static keys while the mark stands; the last transaction does the rest."""
        held = self._held
        keys = list(static.before)
        self._total = len(keys) + len(dynamic.before)
        taken = Transaction(put={self._mark_key: self._mark}, expect={self._mark_key: held.mark})
        await self._store.write(taken)
        self._marked = True
        try:
            await self.write(keys, lambda some: self._guarded(_part(static, some)))
            try:
                final = self._guarded(dynamic, at=held.active, last=True)
                written = Written(await self._store.write(final))
            except TooLarge:
                written = await self.switch(dynamic)
        except StoreError:
            await self._take_back(static)
            raise
        self._count(len(dynamic.before))
        return written

    async def switch(self, dynamic: Edit) -> Written:
        """Write a new tree and let the alias name it; ends the mark, if it stands."""
        held = self._held
        tree = {key: value for key, value in held.dynamic.items() if key not in dynamic.delete}
        tree.update(dynamic.put)
        place = f"{_family(held.prefix)}/{_now()}-{secrets.token_hex(4)}"
        self._total = self._done + len(tree)
        try:
            await self.write(
                list(tree),
                lambda some: Transaction(put={f"{place}/{key}": tree[key] for key in some}),
            )
            found = dict(_below((await self._store.read(place)).values, place))
            if found != tree:
                raise StoreError(f"what was written to `{place}` is not what is there")
            now = await read(self._store, held.prefix)
            if (now.active, now.dynamic) != (held.active, held.dynamic):
                raise Conflict("another writer changed frontends or backends meanwhile")
            key, value = held.alias or ("alias", None)
            alias = Edit({key: place.encode()}, (), {key: value})
            final = self._guarded(alias, last=True)
            return Written(await self._store.write(final), place)
        except StoreError:
            with suppress(StoreError):
                await self._store.write(Transaction(delete_prefixes=(place,)))
            raise

    async def _take_back(self, static: Edit) -> None:
        """Put back what the static keys were; the mark stays when that fails."""
        held = self._held
        try:
            now = await read(self._store, held.prefix)
            if now.mark != self._mark:
                return
            # Only what is ours: what another writer put there meanwhile stays.
            keys = [
                key
                for key, before in static.before.items()
                if now.static.get(key) == static.put.get(key) != before
            ]
            back = Edit(
                {key: value for key in keys if (value := static.before[key]) is not None},
                tuple(key for key in keys if static.before[key] is None),
                {key: now.static.get(key) for key in keys},
            )
            await self.write(keys, lambda some: self._guarded(_part(back, some)))
            if held.mark is None:
                await self._store.write(self._guarded(NOTHING, last=True))
        except StoreError as error:
            _logger.error("static keys are left half written: %s", error)

    def _guarded(self, edit: Edit, *, at: str | None = None, last: bool = False) -> Transaction:
        """Return a transaction that holds only while our mark stands; the ``last`` removes it."""
        held = self._held
        transaction = _transaction((held.prefix if at is None else at, edit))
        if not self._marked:
            return transaction
        return Transaction(
            put=transaction.put,
            delete=(*transaction.delete, *((self._mark_key,) if last else ())),
            expect={**transaction.expect, self._mark_key: self._mark},
        )

    def _count(self, keys: int) -> None:
        self._done += keys
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))


def _part(edit: Edit, keys: Sequence[str]) -> Edit:
    return Edit(
        {key: edit.put[key] for key in keys if key in edit.put},
        tuple(key for key in keys if key not in edit.put),
        {key: edit.before[key] for key in keys},
    )


def _family(prefix: str) -> str:
    return f"{prefix}_configurations" if prefix else "configurations"


def _below(values: Mapping[str, bytes], prefix: str) -> Iterator[tuple[str, bytes]]:
    stem = f"{prefix}/" if prefix else ""
    for key, value in values.items():
        if key.startswith(stem):
            yield key[len(stem) :], value


def _whole(prefix: str, key: str) -> str:
    return f"{prefix}/{key}" if prefix else key


def _transaction(*edits: tuple[str, Edit]) -> Transaction:
    """Return edits below their prefixes as one transaction."""
    put: dict[str, bytes] = {}
    delete: list[str] = []
    expect: dict[str, bytes | None] = {}
    for prefix, edit in edits:
        put.update({_whole(prefix, key): value for key, value in edit.put.items()})
        delete += [_whole(prefix, key) for key in edit.delete]
        expect.update({_whole(prefix, key): value for key, value in edit.before.items()})
    return Transaction(put=put, delete=tuple(delete), expect=expect)


def _now() -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
