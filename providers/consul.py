"""Consul: consistent reads of a whole prefix, blocking queries, transactions, sessions."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec import Struct

from kvproxy.provider import (
    Changes,
    Compacted,
    Conflict,
    Plugin,
    Store,
    StoreError,
    TooLarge,
    Tree,
)
from providers.announcements import Announcements
from providers.checks import check_transaction, conflict
from providers.client_tls import client_context
from providers.consul_client import ConsulClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from ssl import SSLContext

    from kvproxy.model.static import StaticConfiguration
    from kvproxy.model.static_providers import ConsulProvider
    from kvproxy.provider import Transaction
    from providers.store_http import Answer

MAXIMUM_KEY_BYTES = 4096
MAXIMUM_VALUE_BYTES = 512 * 1024
"""Consul's limit; it closes the connection on more without a word."""
MAXIMUM_OPERATIONS = 64
MAXIMUM_REQUEST_BYTES = 512 * 1024
"""What a whole transaction may have, its values in base64."""

_WAIT_SECONDS = 60
"""How long Consul keeps a blocking query when nothing changes."""
_CHECKED_KEYS = 16
"""So many of the keys that vanished are asked for, to tell a lost permission from a deletion."""
_COMPARISON_ATTEMPTS = 10
_SESSION_SECONDS = 10
"""The least that Consul takes; it ends a session after twice that."""
_RENEW_SECONDS = 4.0

_TOKEN_VARIABLE = "CONSUL_HTTP_TOKEN"


class _Entry(Struct, rename="pascal"):
    """One key of an answer."""

    key: str
    modify_index: int
    value: bytes | None = None


class _Operation(Struct, rename={"entry": "KV"}):
    """What one operation of a transaction wrote or read."""

    entry: _Entry


class _Failure(Struct, rename="pascal"):
    """Why one operation of a transaction failed."""

    op_index: int = 0
    what: str = ""


class _TransactionAnswer(Struct, rename="pascal"):
    """All results, or all failures."""

    results: list[_Operation] | None = None
    errors: list[_Failure] | None = None


class _Session(Struct, rename={"id": "ID"}):
    id: str


class _Held(Struct, frozen=True):
    """What a reader of a prefix has seen: at which index, and each key's own index."""

    index: int
    keys: dict[str, int]


_ENTRIES = msgspec.json.Decoder(list[_Entry])
_TRANSACTION = msgspec.json.Decoder(_TransactionAnswer)


class ConsulStore:
    """A `Store` in Consul (1.8 and newer).

    ``endpoints``: ``host:port``, several separated by commas. ``probe_prefix`` is asked for as the
    proof of freshness: with ACLs on, the token must be allowed to read below it.

    Consul answers a blocking query with the whole prefix. Each key in it has an index of its own,
    so what changed is found without looking at values; only a watch that starts at a version which
    this client has not read itself begins with a whole `Tree`.
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
        self._held: dict[str, _Held] = {}
        self._announcements = Announcements(_Sessions(self._client), _RENEW_SECONDS)

    async def read(self, prefix: str) -> Tree:
        """Return all keys under ``prefix`` from one consistent read.

        A read that shows less than the one before is believed only after a look at what vanished.
        """
        prefix = prefix.strip("/")
        index, entries = await self._entries(prefix)
        before = self._held.get(prefix)
        held = _Held(index, {entry.key: entry.modify_index for entry in entries})
        if before is not None:
            await self._check_readable(before.keys.keys() - held.keys.keys())
        if not entries:
            await self._check_readable([_probe_key(prefix)])
        self._held[prefix] = held
        return _tree(index, prefix, entries)

    async def watch(self, prefix: str, version: int) -> AsyncIterator[Changes | Tree]:
        """Yield what happened after ``version``; writes that follow each other fast come as one."""
        prefix = prefix.strip("/")
        held = self._held.get(prefix)
        if held is not None and held.index != version:
            held = None
        await self._check_not_ahead(version)
        known_index = 0
        while True:
            # The first question does not wait: what is held may be from before a restore.
            index, entries = await self._entries(prefix, known_index)
            if index < version:
                # Consul forgets deletions, and then shows an older index: only the store's own
                # index tells whether it was restored.
                await self._check_not_ahead(version)
            keys = {entry.key: entry.modify_index for entry in entries}
            found: Changes | Tree
            if held is None:
                if not entries:
                    await self._check_readable([_probe_key(prefix)])
                found = _tree(index, prefix, entries)
                news = index > version
            else:
                vanished = held.keys.keys() - keys.keys() if _shrunk(held.keys, keys) else set()
                if vanished:
                    await self._check_readable(vanished)
                known = held.keys
                changed = [e for e in entries if known.get(e.key) != e.modify_index]
                values: dict[str, bytes | None] = dict(_values(prefix, changed))
                values.update((key, None) for key in vanished if _belongs(prefix, key))
                found = Changes(max(index, version), values)
                news = bool(values)
            known_index = version = max(index, version)
            held = _Held(version, keys)
            self._held[prefix] = held
            if news:
                yield found

    async def write(self, transaction: Transaction) -> int:
        """Write all or nothing and return the index; raises `Conflict` and `TooLarge`."""
        check_transaction(transaction, MAXIMUM_KEY_BYTES, MAXIMUM_VALUE_BYTES)
        for _ in range(_COMPARISON_ATTEMPTS):
            checks, known = await self._checks(transaction)
            operations = [*checks, *_operations(transaction)]
            payload = [{"KV": operation} for operation in operations]
            _check_size(transaction, payload)
            if _is_one_large_value(transaction, payload):
                index = await self._put_alone(transaction, known)
            else:
                index = await self._commit(transaction, payload, checks)
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

    async def _entries(self, prefix: str, index: int = 0) -> tuple[int, list[_Entry]]:
        """Return the index and the keys that start with ``prefix``; wait while it is ``index``."""
        answer = await self._client.kv.get(
            prefix, recurse=True, index=index, wait=f"{_WAIT_SECONDS}s" if index else None
        )
        found = _index(answer)
        return found, [] if answer.status == 404 else _decoded(_ENTRIES, answer)

    async def _check_not_ahead(self, version: int) -> None:
        newest = await self.probe()
        if newest < version:
            raise Compacted(
                f"consul: it was wiped or restored: it is at index {newest}, "
                f"{version} was seen before"
            )

    async def _check_readable(self, keys: Iterable[str]) -> None:
        """Raise `StoreError` unless the token may read ``keys``.

        Consul hides keys that a token may not read, as if they did not exist; only a question for
        one key tells. Of many keys some are asked for, spread evenly.
        """
        names = sorted(keys)
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
            if entry is None or found != expected:
                if found != expected:
                    raise Conflict(f"consul: {conflict(key, expected, found)}")
                operations.append({"Verb": "check-not-exists", "Key": key})
                known[key] = 0
            else:
                known[key] = entry.modify_index
                operations.append({"Verb": "check-index", "Key": key, "Index": entry.modify_index})
        return operations, known

    async def _entry(self, key: str) -> _Entry | None:
        """Return one key; asked for in a body, where every character is allowed."""
        answer = await self._client.txn.put([{"KV": {"Verb": "get", "Key": key}}])
        if answer.status == 409:
            return None
        _raise_refusal(answer)
        found = _decoded(_TRANSACTION, answer)
        return found.results[0].entry if found.results else None

    async def _commit(
        self,
        transaction: Transaction,
        payload: list[dict[str, Any]],
        checks: list[dict[str, Any]],
    ) -> int | None:
        """Write; None when a compared key has changed since it was read."""
        if not payload:
            return await self.probe()
        answer = await self._client.txn.put(payload)
        if answer.status == 409:
            failures = _decoded(_TRANSACTION, answer).errors or []
            if failures and all(failure.op_index < len(checks) for failure in failures):
                return None
            reasons = "; ".join(failure.what for failure in failures)
            raise StoreError(f"consul at {answer.endpoint}: {reasons}; nothing was written")
        _raise_refusal(answer)
        results = _decoded(_TRANSACTION, answer).results or []
        if transaction.put and results:
            indexes: list[int] = [result.entry.modify_index for result in results]
            return max(indexes)
        return await self._deleted_at(transaction)

    async def _deleted_at(self, transaction: Transaction) -> int:
        """Return the index of a deletion: the newest index of what held the deleted keys."""
        parts = [key.split("/") for key in (*transaction.delete, *transaction.delete_prefixes)]
        common = [each[0] for each in zip(*parts, strict=False) if len(set(each)) == 1]
        answer = await self._client.kv.get("/".join(common), keys=True, separator="/")
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
        session: _Session = _decoded(msgspec.json.Decoder(_Session), answer)
        return session.id

    async def renew(self, lease: str) -> bool:
        answer = await self._client.session.renew(lease)
        if answer.status == 404:
            return False
        _raise_refusal(answer)
        return True

    async def put(self, lease: str, key: str, value: bytes) -> None:
        encoded = base64.b64encode(value).decode()
        lock = {"KV": {"Verb": "lock", "Key": key, "Value": encoded, "Session": lease}}
        answer = await self._client.txn.put([lock])
        if answer.status == 409:
            # Held by a session whose client died a moment ago, or that we lost.
            delete = {"KV": {"Verb": "delete", "Key": key}}
            answer = await self._client.txn.put([delete, lock])
        if answer.status == 409:
            failures = _decoded(_TRANSACTION, answer).errors or []
            reasons = "; ".join(failure.what for failure in failures)
            raise StoreError(f"consul at {answer.endpoint}: {reasons}")
        _raise_refusal(answer)

    async def end(self, lease: str) -> None:
        _raise_refusal(await self._client.session.destroy(lease))


def _probe_key(prefix: str) -> str:
    """Return a key below ``prefix`` that nobody writes."""
    return f"{prefix}/.probe" if prefix else ".probe"


def _belongs(prefix: str, key: str) -> bool:
    """Whether ``key`` equals ``prefix`` or is below it; Consul compares only the characters."""
    return not prefix or key == prefix or key.startswith(prefix + "/")


def _values(prefix: str, entries: list[_Entry]) -> dict[str, bytes]:
    """Return the keys under ``prefix``; folders (as the web interface makes them) are none."""
    below = prefix + "/" if prefix else ""
    return {
        entry.key: entry.value or b""
        for entry in entries
        if (entry.key.startswith(below) or entry.key == prefix)
        and (entry.value or not entry.key.endswith("/"))
    }


def _tree(index: int, prefix: str, entries: list[_Entry]) -> Tree:
    changed = [entry.modify_index for entry in entries if _belongs(prefix, entry.key)]
    return Tree(index, _values(prefix, entries), changed=max(changed, default=0))


def _shrunk(before: dict[str, int], now: dict[str, int]) -> bool:
    """Whether a key is missing that was there: cheap when none is."""
    return len(before.keys() & now.keys()) < len(before)


def _operations(transaction: Transaction) -> list[dict[str, Any]]:
    """Return the writes of a transaction in Consul's terms: first what is deleted."""
    operations: list[dict[str, Any]] = []
    for prefix in transaction.delete_prefixes:
        stripped = prefix.strip("/")
        if stripped:
            operations.append({"Verb": "delete", "Key": stripped})
        operations.append({"Verb": "delete-tree", "Key": f"{stripped}/" if stripped else ""})
    operations += [{"Verb": "delete", "Key": key} for key in transaction.delete]
    operations += [
        {"Verb": "set", "Key": key, "Value": base64.b64encode(value).decode()}
        for key, value in transaction.put.items()
    ]
    return operations


def _is_one_large_value(transaction: Transaction, payload: list[dict[str, Any]]) -> bool:
    """Whether there is nothing but one value that only fits as it is."""
    if len(transaction.put) != 1 or transaction.delete or transaction.delete_prefixes:
        return False
    return transaction.expect.keys() <= transaction.put.keys() and (
        len(json.dumps(payload)) > MAXIMUM_REQUEST_BYTES
    )


def _check_size(transaction: Transaction, payload: list[dict[str, Any]]) -> None:
    if len(payload) > MAXIMUM_OPERATIONS:
        raise TooLarge(
            f"consul: the transaction takes {len(payload):,} operations; Consul takes "
            f"{MAXIMUM_OPERATIONS} at once"
        )
    size = len(json.dumps(payload))
    if size > MAXIMUM_REQUEST_BYTES and not _is_one_large_value(transaction, payload):
        largest = max(transaction.put, key=lambda key: len(transaction.put[key]))
        raise TooLarge(
            f"consul: the transaction has {size:,} bytes (values in base64), most of them in key "
            f"`{largest}`; Consul takes {MAXIMUM_REQUEST_BYTES:,} at once"
        )


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


def _raise_refusal(answer: Answer) -> None:
    if answer.status == 200:
        return
    if answer.status == 403:
        raise StoreError(
            f"consul at {answer.endpoint}: no permission: {_reason(answer)}; the token is "
            f"`consul.token` or the environment's {_TOKEN_VARIABLE}"
        )
    raise StoreError(f"consul at {answer.endpoint}: status {answer.status}: {_reason(answer)}")


def _reason(answer: Answer) -> str:
    return answer.body[:200].decode(errors="replace").strip() or "no reason given"


def _decoded(decoder: msgspec.json.Decoder[Any], answer: Answer) -> Any:
    try:
        return decoder.decode(answer.body)
    except msgspec.DecodeError as error:
        raise StoreError(f"consul at {answer.endpoint}: not an answer of Consul: {error}") from None


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
