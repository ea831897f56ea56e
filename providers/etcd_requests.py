"""Keys, ranges and transactions in etcd's terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvproxy.provider import TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.provider import Transaction

DEFAULT_MAXIMUM_OPERATIONS = 128
"""So many operations etcd takes in one transaction unless ``--max-txn-ops`` says otherwise."""


class KeySpace:
    """Maps keys (no leading slash) to etcd's bytes: below ``root``, which is ``/`` or empty."""

    def __init__(self, root: str) -> None:
        """``root`` stands before every key in etcd and is not part of ours."""
        self._root = root.encode()

    def encode(self, key: str) -> bytes:
        """Return etcd's key."""
        return self._root + key.encode()

    def decode(self, key: bytes) -> str:
        """Return our key; bytes that are not UTF-8 are shown as ``\\\\xff``."""
        return key[len(self._root) :].decode("utf-8", "backslashreplace")

    def interval(self, prefix: str) -> tuple[bytes, bytes]:
        """Return the smallest interval that holds ``prefix`` and all keys below it.

        It also holds keys such as ``prefix-2``; `covers` tells them apart. For the empty prefix it
        is everything below the root; b"\\\\0" as the end means "without an end".
        """
        if prefix:
            key = self.encode(prefix)
            return key, key + b"0"
        if self._root:
            return self._root, self._root[:-1] + bytes([self._root[-1] + 1])
        return b"\0", b"\0"

    def below(self, prefix: str) -> tuple[bytes, bytes]:
        """Return the interval of the keys that start with ``prefix`` and a slash."""
        if prefix:
            return self.encode(prefix) + b"/", self.encode(prefix) + b"0"
        return self.interval("")


def covers(prefix: str, key: str) -> bool:
    """Whether ``key`` equals ``prefix`` or is below it."""
    return not prefix or key.startswith(prefix + "/") or key == prefix


def transaction_request(transaction: Transaction, keys: KeySpace) -> dict[str, Any]:
    """Return the body of a transaction; what fails answers with the compared keys.

    etcd refuses a transaction that deletes and puts the same key, even by a range: the deleted
    intervals leave out the keys that are put.
    """
    put = {keys.encode(key): value for key, value in transaction.put.items()}
    deletions: list[dict[str, bytes]] = []
    for key in transaction.delete:
        encoded = keys.encode(key)
        if encoded not in put:
            deletions.append({"key": encoded})
    for prefix in transaction.delete_prefixes:
        stripped = prefix.strip("/")
        if stripped and keys.encode(stripped) not in put:
            deletions.append({"key": keys.encode(stripped)})
        for start, end in intervals_without(keys.below(stripped), put):
            deletions.append({"key": start, "range_end": end})
    operations = [
        *({"request_delete_range": deletion} for deletion in deletions),
        *({"request_put": {"key": key, "value": value}} for key, value in put.items()),
    ]
    return {
        "compare": [
            _comparison(keys.encode(key), value) for key, value in transaction.expect.items()
        ],
        "success": operations,
        "failure": [{"request_range": {"key": keys.encode(key)}} for key in transaction.expect],
    }


def intervals_without(
    interval: tuple[bytes, bytes], keys: Iterable[bytes]
) -> list[tuple[bytes, bytes]]:
    """Return the parts of the half-open ``interval`` between ``keys``; b"\\\\0" ends nowhere."""
    start, end = interval
    parts = []
    for key in sorted(keys):
        if key < start or (end != b"\0" and key >= end):
            continue
        if start < key:
            parts.append((start, key))
        start = key + b"\0"
    if end == b"\0" or start < end:
        parts.append((start, end))
    return parts


def too_large(transaction: Transaction, request: dict[str, Any], reason: str) -> TooLarge:
    """Return the error for a transaction that etcd refused for its size: ``reason`` is its word."""
    operations = max(len(request["success"]), len(request["compare"]))
    if "too many operations" in reason:
        return TooLarge(
            f"etcd: the transaction takes {operations:,} operations, and etcd refuses that many: "
            f"{DEFAULT_MAXIMUM_OPERATIONS} unless its --max-txn-ops says otherwise"
        )
    largest = max(transaction.put, key=lambda key: len(transaction.put[key]))
    total = sum(len(key) + len(value) for key, value in transaction.put.items())
    return TooLarge(
        f"etcd: the transaction has {total:,} bytes, most of them in key `{largest}` "
        f"({len(transaction.put[largest]):,}); etcd takes 1.5 MiB unless its --max-request-bytes "
        "says otherwise"
    )


def _comparison(key: bytes, expected: bytes | None) -> dict[str, Any]:
    if expected is None:
        return {"key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
    return {"key": key, "target": "VALUE", "result": "EQUAL", "value": expected}
