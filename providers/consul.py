"""Consul: consistent reads of a whole prefix, blocking queries, transactions, sessions."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec
from msgspec import Struct

from kvproxy.provider import Changes, Compacted, Conflict, Plugin, Store, StoreError, Tree
from providers.announcements import Announcements
from providers.checks import check_transaction, conflict
from providers.client_tls import client_context
from providers.consul_client import ConsulClient
from providers.consul_requests import (
    MAXIMUM_KEY_BYTES,
    MAXIMUM_VALUE_BYTES,
    TRANSACTION,
    OperationFailure,
    TransactionAnswer,
    check_size,
    deleted_below,
    must_go_alone,
    set_operation,
    write_operations,
)
from providers.consul_tree import (
    NOTHING,
    Entry,
    Seen,
    belongs,
    difference,
    entries_of,
    is_directory,
    tree_of,
    values_of,
)
from providers.json_place import entry_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from ssl import SSLContext

    from kvproxy.model.static import StaticConfiguration
    from kvproxy.model.static_providers import ConsulProvider
    from kvproxy.provider import Transaction
    from providers.store_http import Answer

_WAIT_SECONDS = 60
"""How long Consul keeps a blocking query when nothing changes."""
_CHECKED_KEYS = 16
"""So many of the keys that vanished are asked for, to tell a lost permission from a deletion."""
_COMPARISON_ATTEMPTS = 10
_SESSION_SECONDS = 10
"""The least that Consul takes; it ends a session after twice that."""
_RENEW_SECONDS = 4.0

_TOKEN_VARIABLE = "CONSUL_HTTP_TOKEN"


class _Session(Struct, rename={"id": "ID"}):
    id: str


_Result = TypeVar("_Result")
_SESSION = msgspec.json.Decoder(_Session)


class ConsulStore:
    """A `Store` in Consul (1.8 and newer).

    ``endpoints``: ``host:port``, several separated by commas. ``probe_prefix`` is asked for as the
    proof of freshness: with ACLs on, the token must be allowed to read below it.

    Consul answers a blocking query with the whole prefix; what changed is found by comparing it
    with the answer before. Only a watch that starts at a version which this client has not read
    itself begins with a whole `Tree`. While there are keys below a prefix and none that equals it,
    only those below are watched: Consul knows no directories, and would answer for every key that
    begins alike.
    """

    name: ClassVar[str] = "consul"

    def __init__(
        self,
        endpoints: str,
        *,
        context: SSLContext | None = None,
        token: str = "",
        probe_prefix: str = "kvproxy",
    ) -> None:
        """Ask nothing yet; raises `StoreError` for endpoints that are no addresses."""
        self._client = ConsulClient(endpoints, context, token)
        self._probe_key = _probe_key(probe_prefix)
        self._seen: dict[str, Seen] = {}
        self._announcements = Announcements(_Sessions(self._client), _RENEW_SECONDS)

    async def read(self, prefix: str) -> Tree:
        """Return all keys under ``prefix`` from one consistent read.

        A read that shows less than the one before is believed only after a look at what vanished.
        """
        prefix = prefix.strip("/")
        index, answer, endpoint = await self._ask(prefix)
        entries = _decoded(endpoint, entries_of, answer)
        before = self._seen.get(prefix)
        vanished: list[str] = []
        if before is not None:
            _, vanished = _decoded(endpoint, difference, before.answer, answer)
        await self._check_vanished(prefix, answer, vanished)
        self._seen[prefix] = Seen(index, answer)
        return tree_of(index, prefix, entries)

    async def watch(self, prefix: str, version: int) -> AsyncIterator[Changes | Tree]:
        """Yield what happened after ``version``; writes that follow each other fast come as one."""
        prefix = prefix.strip("/")
        await self._check_not_ahead(version)
        seen = self._seen.get(prefix)
        if seen is None or seen.index != version:
            tree = await self.read(prefix)
            seen = self._seen[prefix] = Seen(max(tree.version, version), self._seen[prefix].answer)
            if tree.version > version:
                version = tree.version
                yield tree
        known_index, asked = 0, prefix
        while True:
            # The first question does not wait: what was seen may be from before a restore.
            index, answer, endpoint = await self._ask(asked, known_index)
            if index < version:
                # Consul forgets deletions, and then shows an older index: only the store's own
                # index tells whether it was restored.
                await self._check_not_ahead(version)
            changed, vanished = _decoded(endpoint, difference, seen.answer, answer)
            if vanished:
                await self._check_vanished(prefix, answer, vanished)
            values: dict[str, bytes | None] = {**values_of(prefix, changed)}
            values.update((key, None) for key in vanished if belongs(prefix, key))
            known_index = version = max(index, version)
            seen = self._seen[prefix] = Seen(version, answer)
            if asked == prefix != "" and is_directory(
                prefix, _decoded(endpoint, entries_of, answer)
            ):
                # From now on what is only named alike (`prefix-2`) wakes nobody.
                asked = f"{prefix}/"
            if values:
                yield Changes(version, values)

    async def write(self, transaction: Transaction) -> int:
        """Write all or nothing and return the index; raises `Conflict` and `TooLarge`."""
        check_transaction(transaction, MAXIMUM_KEY_BYTES, MAXIMUM_VALUE_BYTES)
        for _ in range(_COMPARISON_ATTEMPTS):
            checks, known = await self._checks(transaction)
            operations = [*checks, *write_operations(transaction)]
            payload = [{"KV": operation} for operation in operations]
            size = len(msgspec.json.encode(payload))
            check_size(transaction, len(payload), size)
            if must_go_alone(transaction, size):
                index = await self._put_alone(transaction, known)
            else:
                index = await self._commit(transaction, payload, len(checks))
            if index is not None:
                return index
        raise StoreError("consul: the keys that were compared change too fast; nothing was written")

    async def probe(self) -> int:
        """Return the index of all keys by a read that a majority of the servers has confirmed."""
        answer = await self._client.kv.get(
            self._probe_key, connections_timeout=self._client.probe_seconds
        )
        return _index(answer)

    async def announce(self, key: str, value: bytes) -> None:
        """Keep ``key`` at ``value``, locked by a session that this client renews."""
        await self._announcements.announce(key, value)

    async def close(self) -> None:
        """End the session and close every connection; running watches end."""
        await self._announcements.close()
        await self._client.close()

    async def _ask(self, start: str, index: int = 0) -> tuple[int, bytes, str]:
        """Return the index, the keys that begin with ``start``, and which server says so.

        It may wait while the index is ``index``.
        """
        answer = await self._client.kv.get(
            start, recurse=True, index=index, wait=f"{_WAIT_SECONDS}s" if index else None
        )
        keys = NOTHING if answer.status == 404 else answer.body.rstrip()
        return _index(answer), keys, answer.endpoint

    async def _check_not_ahead(self, version: int) -> None:
        newest = await self.probe()
        if newest < version:
            raise Compacted(
                f"consul: it was wiped or restored: it is at index {newest}, "
                f"{version} was seen before"
            )

    async def _check_vanished(self, prefix: str, answer: bytes, vanished: Iterable[str]) -> None:
        """Raise `StoreError` when keys are not shown because the token may not read them.

        Consul hides such keys as if they did not exist; only a question for one key tells. Of many
        some are asked for, spread evenly. An empty answer is doubted in any case.
        """
        names = sorted(key for key in vanished if belongs(prefix, key))
        if answer == NOTHING:
            names.append(_probe_key(prefix))
        step = max(1, -(-len(names) // _CHECKED_KEYS))
        await asyncio.gather(*(self._read_alone(key) for key in names[::step]))

    async def _read_alone(self, key: str) -> None:
        answer: Answer = await self._client.kv.get(key)
        if answer.status == 403:
            raise StoreError(
                f"consul at {answer.endpoint}: no permission to read `{key}` "
                f"({_reason(answer)}); what cannot be read is not taken for deleted"
            )
        _index(answer)

    async def _checks(
        self, transaction: Transaction
    ) -> tuple[list[dict[str, Any]], dict[str, int]]:
        """Return the operations that compare, and the index of each compared key."""
        operations: list[dict[str, Any]] = []
        known: dict[str, int] = {}
        for key, expected in transaction.expect.items():
            entry = await self._entry(key)
            found = None if entry is None else entry.value or b""
            if found != expected:
                raise Conflict(f"consul: {conflict(key, expected, found)}")
            if entry is None:
                operations.append({"Verb": "check-not-exists", "Key": key})
                known[key] = 0
            else:
                operations.append({"Verb": "check-index", "Key": key, "Index": entry.modify_index})
                known[key] = entry.modify_index
        return operations, known

    async def _entry(self, key: str) -> Entry | None:
        """Return one key; asked for in a body, where every character is allowed."""
        answer = await self._client.txn.put([{"KV": {"Verb": "get", "Key": key}}])
        if answer.status == 409:
            _failures(answer)
            return None
        _raise_refusal(answer)
        found: TransactionAnswer = _decoded(answer.endpoint, TRANSACTION.decode, answer.body)
        if not found.results:
            # A key that is missing is a failure; one that may not be read is left out.
            raise _no_permission(answer, f"key `{key}` cannot be read")
        return found.results[0].entry

    async def _commit(
        self,
        transaction: Transaction,
        payload: list[dict[str, Any]],
        checks: int,
    ) -> int | None:
        """Write; None when a compared key has changed since it was read."""
        if not payload:
            return await self.probe()
        answer = await self._client.txn.put(payload)
        if answer.status == 409:
            failures = _failures(answer)
            if failures and all(failure.op_index < checks for failure in failures):
                return None
            reasons = "; ".join(failure.what for failure in failures)
            raise StoreError(f"consul at {answer.endpoint}: {reasons}; nothing was written")
        _raise_refusal(answer)
        results = _decoded(answer.endpoint, TRANSACTION.decode, answer.body).results or []
        if transaction.put and results:
            indexes: list[int] = [result.entry.modify_index for result in results]
            return max(indexes)
        return await self._deleted_at(transaction)

    async def _deleted_at(self, transaction: Transaction) -> int:
        """Return the index of a deletion: the newest index of what held the deleted keys."""
        prefix = deleted_below(transaction)
        answer = await self._client.kv.get(prefix, keys=True, separator="/")
        return _index(answer)

    async def _put_alone(self, transaction: Transaction, known: dict[str, int]) -> int | None:
        """Write one value as it is: in a transaction it would be a third larger, and refused."""
        ((key, value),) = transaction.put.items()
        answer = await self._client.kv.put(key, value, cas=known.get(key))
        _raise_refusal(answer)
        if answer.body.strip() != b"true":
            return None
        entry = await self._entry(key)
        return await self.probe() if entry is None else entry.modify_index


class _Sessions:
    """Keys locked by a session, for `Announcements`."""

    def __init__(self, client: ConsulClient) -> None:
        self._client = client

    async def open(self) -> str:
        # Without the check of the agent's node: a session may be made while an agent starts.
        answer = await self._client.session.create(
            name="kvproxy", checks=[], lock_delay=0, behavior="delete", ttl=_SESSION_SECONDS
        )
        _raise_refusal(answer)
        session: _Session = _decoded(answer.endpoint, _SESSION.decode, answer.body)
        return session.id

    async def renew(self, lease: str) -> bool:
        answer = await self._client.session.renew(lease)
        if answer.status == 404:
            return False
        _raise_refusal(answer)
        return True

    async def put(self, lease: str, key: str, value: bytes) -> None:
        lock = {"KV": set_operation(key, value, Verb="lock", Session=lease)}
        answer = await self._client.txn.put([lock])
        if answer.status == 409:
            # Held by a session whose client died a moment ago, or that we lost.
            delete = {"KV": {"Verb": "delete", "Key": key}}
            answer = await self._client.txn.put([delete, lock])
        if answer.status == 409:
            reasons = "; ".join(failure.what for failure in _failures(answer))
            raise StoreError(f"consul at {answer.endpoint}: {reasons}")
        _raise_refusal(answer)

    async def end(self, lease: str) -> None:
        _raise_refusal(await self._client.session.destroy(lease))


def _probe_key(prefix: str) -> str:
    """Return a key below ``prefix`` that nobody writes."""
    return f"{prefix}/.probe" if prefix else ".probe"


def _index(answer: Answer) -> int:
    """Return the index that an answer of a read carries; raises `StoreError` for a refusal."""
    if answer.status not in (200, 404):
        _raise_refusal(answer)
    try:
        return int(answer.headers["X-Consul-Index"])
    except (KeyError, ValueError):
        raise StoreError(
            f"consul at {answer.endpoint}: an answer without an index: not Consul?"
        ) from None


def _failures(answer: Answer) -> list[OperationFailure]:
    """Return why a transaction failed; raises `StoreError` when it was for want of permission."""
    failures = _decoded(answer.endpoint, TRANSACTION.decode, answer.body).errors or []
    for failure in failures:
        if "ermission denied" in failure.what:
            raise _no_permission(answer, failure.what)
    return list(failures)


def _no_permission(answer: Answer, reason: str) -> StoreError:
    return StoreError(
        f"consul at {answer.endpoint}: no permission: {reason}; the token is `consul.token` or "
        f"the environment's {_TOKEN_VARIABLE}"
    )


def _raise_refusal(answer: Answer) -> None:
    if answer.status == 200:
        return
    if answer.status == 403:
        raise _no_permission(answer, _reason(answer))
    raise StoreError(f"consul at {answer.endpoint}: status {answer.status}: {_reason(answer)}")


def _reason(answer: Answer) -> str:
    return answer.body[:200].decode(errors="replace").strip() or "no reason given"


def _decoded(endpoint: str, decode: Callable[..., _Result], *answers: bytes) -> _Result:
    """Decode the last of ``answers``, which came from ``endpoint``; raises `StoreError`."""
    try:
        return decode(*answers)
    except msgspec.DecodeError as error:
        key = entry_at(error, answers[-1]).get("Key")
        what = f"key `{key}`" if key else "not an answer of Consul"
        raise StoreError(f"consul at {endpoint}: {what}: {error}") from None


def _open_store(settings: ConsulProvider, static: StaticConfiguration) -> Store:
    del static
    context = None if settings.tls is None else client_context(settings.tls, "consul.tls")
    return ConsulStore(
        settings.endpoint,
        context=context,
        token=settings.token or os.environ.get(_TOKEN_VARIABLE, ""),
        probe_prefix=settings.prefix.strip("/") or "kvproxy",
    )


plugin = Plugin(name="consul", open_store=_open_store)
