"""etcd through its JSON gateway: reads at one revision, watches that resume, real transactions."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from kvproxy.provider import Changes, Compacted, Conflict, Plugin, Store, StoreError, Tree
from providers.announcements import Announcements
from providers.checks import check_transaction, conflict
from providers.client_tls import client_context
from providers.etcd_gateway import (
    EtcdGateway,
    EtcdRefused,
    Header,
    HeaderResponse,
    KeyValue,
    LeaseMessage,
    LeaseResponse,
    RangeResponse,
    TransactionResponse,
    WatchResponse,
)
from providers.etcd_requests import KeySpace, covers, too_large, transaction_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from ssl import SSLContext

    from kvproxy.model.static import StaticConfiguration
    from kvproxy.model.static_providers import EtcdProvider
    from kvproxy.provider import Transaction

PAGE_KEYS = 5000
"""So many keys are read in one request; more are read page by page at the same revision."""
MAXIMUM_KEY_BYTES = 4096
MAXIMUM_VALUE_BYTES = 256 * 1024 * 1024
"""No limit of ours: etcd's own is below, and its administrator may change it."""
LEASE_SECONDS = 9

_RESUMED = "the store was wiped or restored"
_logger = logging.getLogger(__name__)


class _Anchor(Struct, frozen=True):
    """A key that proves a past: what it was at ``version`` (None: absent)."""

    version: int
    key: bytes
    found: KeyValue | None


class EtcdStore:
    """A `Store` in etcd (3.4 and newer).

    ``endpoints``: ``host:port``, several separated by commas. ``root``: what stands before each key
    in etcd and is not part of ours, ``/`` or nothing. ``probe_key`` is asked for as the proof of
    freshness: with authentication on, the user must be allowed to read it.
    """

    name: ClassVar[str] = "etcd"

    def __init__(
        self,
        endpoints: str,
        *,
        context: SSLContext | None = None,
        username: str = "",
        password: str = "",
        root: str = "",
        probe_key: str = "kvproxy",
        page_keys: int = PAGE_KEYS,
    ) -> None:
        """Ask nothing yet; raises `StoreError` for endpoints that are no addresses."""
        self._gateway = EtcdGateway(endpoints, context, username, password)
        self._keys = KeySpace(root)
        self._probe_key = self._keys.encode(probe_key)
        self._page_keys = page_keys
        self._newest = Header()
        self._anchors: dict[str, _Anchor] = {}
        self._announcements = Announcements(_Leases(self._gateway, self._keys), LEASE_SECONDS / 3)

    async def read(self, prefix: str) -> Tree:
        """Return all keys under ``prefix`` at one revision: later pages ask for that of the first.

        Starts again when etcd has compacted that revision meanwhile.
        """
        prefix = prefix.strip("/")
        while True:
            try:
                return await self._read(prefix)
            except EtcdRefused as error:
                if "has been compacted" not in error.reason:
                    raise
                _logger.info("etcd: compacted while it was read, reading again")

    async def watch(self, prefix: str, version: int) -> AsyncIterator[Changes]:
        """Yield what happened after ``version``: one `Changes` for each message of etcd.

        Ends with `StoreError` when the connection or the server is lost; called again with the last
        version it goes on from there.
        """
        prefix = prefix.strip("/")
        await self._check_history(prefix, version)
        start, end = self._keys.interval(prefix)
        # Not the revision behind it: etcd (seen on 3.4.23) lets a watch start at the very revision
        # that was compacted, and a deletion made at just that revision is then never told.
        first = str(max(version, 1))
        body = {"create_request": {"key": start, "range_end": end, "start_revision": first}}
        async with self._gateway.watch(body) as messages:
            while True:
                for message in await messages.arrived():
                    self._check_watch(message, version, messages.endpoint)
                    found = self._changes(message, prefix, version)
                    if found.values:
                        yield found
                    version = found.version

    async def write(self, transaction: Transaction) -> int:
        """Write all or nothing and return the revision; raises `Conflict` and `TooLarge`."""
        check_transaction(transaction, MAXIMUM_KEY_BYTES, MAXIMUM_VALUE_BYTES)
        request = transaction_request(transaction, self._keys)
        try:
            answer = await self._gateway.call(
                "kv/txn", request, TransactionResponse, repeatable=False
            )
        except EtcdRefused as error:
            if _is_about_size(error.reason):
                raise too_large(transaction, request, error.reason) from None
            raise
        self._remember(answer.header)
        if not answer.succeeded:
            raise Conflict(f"etcd: {_difference(transaction, answer)}")
        return answer.header.revision

    async def probe(self) -> int:
        """Return the revision by a read that a majority of the cluster has confirmed."""
        body = {"key": self._probe_key, "keys_only": True}
        answer = await self._gateway.call(
            "kv/range", body, HeaderResponse, seconds=self._gateway.probe_seconds
        )
        newest = self._newest
        if self._is_another_store(answer.header):
            self._newest = answer.header
            raise Compacted(f"etcd: {_RESUMED} (it went from {newest} to {answer.header})")
        self._remember(answer.header)
        return answer.header.revision

    async def announce(self, key: str, value: bytes) -> None:
        """Keep ``key`` at ``value`` under a lease that this client renews."""
        await self._announcements.announce(key, value)

    async def close(self) -> None:
        """Revoke the lease and close every connection; running watches end."""
        await self._announcements.close()
        await self._gateway.close()

    async def _read(self, prefix: str) -> Tree:
        start, end = self._keys.interval(prefix)
        values: dict[str, bytes] = {}
        newest = KeyValue()
        body: dict[str, Any] = {"key": start, "range_end": end, "limit": str(self._page_keys)}
        while True:
            page = await self._gateway.call("kv/range", body, RangeResponse)
            for each in page.kvs:
                key = self._keys.decode(each.key)
                if covers(prefix, key):
                    values[key] = each.value
                    if each.mod_revision > newest.mod_revision:
                        newest = each
            # etcd tells its newest revision with each page: that of the first one is the tree's.
            revision = int(body.setdefault("revision", str(page.header.revision)))
            if not page.more:
                break
            body["key"] = page.kvs[-1].key + b"\0"
        self._newest = page.header
        found = newest if newest.key else None
        self._anchors[prefix] = _Anchor(revision, newest.key or start, found)
        return Tree(revision, values, changed=newest.mod_revision)

    def _changes(self, message: WatchResponse, prefix: str, version: int) -> Changes:
        """Return what a message tells of the keys under ``prefix`` behind ``version``."""
        values: dict[str, bytes | None] = {}
        newest = version
        for event in message.events:
            if event.kv.mod_revision <= version:
                continue
            newest = event.kv.mod_revision
            deleted = event.type == "DELETE"
            key = self._keys.decode(event.kv.key)
            if covers(prefix, key):
                values[key] = None if deleted else event.kv.value
        if values:
            found = None if deleted else event.kv
            self._anchors[prefix] = _Anchor(newest, event.kv.key, found)
        return Changes(newest, values)

    async def _check_history(self, prefix: str, version: int) -> None:
        """Raise `Compacted` unless the store's past is still the one that was seen at ``version``.

        A store that was wiped and has been written to since may be beyond that revision again, and
        a watch from there would go on as if nothing had happened.
        """
        anchor = self._anchors.get(prefix)
        if anchor is None or anchor.version != version:
            return
        body = {"key": anchor.key, "revision": str(version)}
        try:
            answer = await self._gateway.call("kv/range", body, RangeResponse)
        except EtcdRefused as error:
            if "compacted" in error.reason or "future revision" in error.reason:
                raise Compacted(f"etcd: revision {version} is not known ({error.reason})") from None
            raise
        found = answer.kvs[0] if answer.kvs else None
        if found != anchor.found:
            raise Compacted(f"etcd: {_RESUMED}: at revision {version} it holds other keys")

    def _check_watch(self, message: WatchResponse, version: int, endpoint: str) -> None:
        """Raise what a message of a watch says besides changes."""
        if message.compact_revision:
            raise Compacted(
                f"etcd: changes after revision {version} are not known; "
                f"everything before {message.compact_revision} is compacted"
            )
        if message.canceled:
            if "auth" in message.cancel_reason or "permission" in message.cancel_reason:
                self._gateway.forget_token()
            raise EtcdRefused(endpoint, message.cancel_reason or "the watch was cancelled")
        if message.created:
            behind = message.header.revision < version
            if behind or self._is_another_store(message.header):
                self._newest = message.header
                raise Compacted(
                    f"etcd: {_RESUMED}: it is at revision {message.header.revision}, "
                    f"{version} was asked for"
                )
            self._remember(message.header)

    def _is_another_store(self, header: Header) -> bool:
        """Whether the store is not the one that answered before: a term never goes back."""
        newest = self._newest
        return (
            newest.cluster_id not in (0, header.cluster_id) or header.raft_term < newest.raft_term
        )

    def _remember(self, header: Header) -> None:
        if header.raft_term >= self._newest.raft_term:
            self._newest = header


class _Leases:
    """Keys under a lease, for `Announcements`."""

    def __init__(self, gateway: EtcdGateway, keys: KeySpace) -> None:
        self._gateway = gateway
        self._keys = keys

    async def open(self) -> int:
        body = {"TTL": str(LEASE_SECONDS)}
        answer = await self._gateway.call("lease/grant", body, LeaseResponse)
        return answer.ID

    async def renew(self, lease: int) -> bool:
        body = {"ID": str(lease)}
        answer = await self._gateway.call("lease/keepalive", body, LeaseMessage)
        return answer.result.TTL > 0

    async def put(self, lease: int, key: str, value: bytes) -> None:
        body = {"key": self._keys.encode(key), "value": value, "lease": str(lease)}
        await self._gateway.call("kv/put", body, HeaderResponse)

    async def end(self, lease: int) -> None:
        body = {"ID": str(lease)}
        await self._gateway.call("lease/revoke", body, HeaderResponse)


def _difference(transaction: Transaction, answer: TransactionResponse) -> str:
    """Name the first key that is not as expected."""
    for (key, expected), response in zip(
        transaction.expect.items(), answer.responses, strict=False
    ):
        kvs = response.response_range.kvs
        found = kvs[0].value if kvs else None
        if found != expected:
            return conflict(key, expected, found)
    return "a comparison did not hold; nothing was written"


def _is_about_size(reason: str) -> bool:
    return any(
        each in reason
        for each in ("too many operations", "request is too large", "larger than max")
    )


def _open_store(settings: EtcdProvider, static: StaticConfiguration) -> Store:
    """Open the store that ``settings`` name; ``static`` is not used."""
    del static
    if not settings.use_api_v3:
        raise StoreError(
            "etcd: version 2 of its interface (`etcd.useAPIV3 = false`) is not spoken; "
            "set `etcd.useAPIV3 = true` and move the keys with etcd's own migration"
        )
    if bool(settings.password) and not settings.username:
        raise StoreError("`etcd.password` is of no use without `etcd.username`")
    context = None if settings.tls is None else client_context(settings.tls, "etcd.tls")
    return EtcdStore(
        settings.endpoint,
        context=context,
        username=settings.username,
        password=settings.password,
        root="/" if settings.prefix.startswith("/") else "",
        probe_key=settings.prefix.strip("/") or "kvproxy",
    )


plugin = Plugin(name="etcd", open_store=_open_store)
