"""Transactions in Consul's terms, and the sizes that it takes."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from kvproxy.provider import TooLarge
from providers.consul_tree import Entry

if TYPE_CHECKING:
    from kvproxy.provider import Transaction

MAXIMUM_KEY_BYTES = 4096
MAXIMUM_VALUE_BYTES = 512 * 1024
"""Consul's limit; it closes the connection on more without a word."""
MAXIMUM_OPERATIONS = 64
MAXIMUM_REQUEST_BYTES = 512 * 1024
"""What a whole transaction may have, its values in base64."""


class Operation(Struct, rename={"entry": "KV"}):
    """What one operation of a transaction wrote or read."""

    entry: Entry


class OperationFailure(Struct, rename="pascal"):
    """Why one operation of a transaction failed."""

    op_index: int = 0
    what: str = ""


class TransactionAnswer(Struct, rename="pascal"):
    """All results, or all failures."""

    results: list[Operation] | None = None
    errors: list[OperationFailure] | None = None


TRANSACTION = msgspec.json.Decoder(TransactionAnswer)


def set_operation(key: str, value: bytes, **more: str) -> dict[str, Any]:
    """Return the operation that writes ``key``; ``more`` may hold another ``Verb``."""
    return {"Verb": "set", "Key": key, "Value": base64.b64encode(value).decode(), **more}


def write_operations(transaction: Transaction) -> list[dict[str, Any]]:
    """Return the writes of a transaction: first what is deleted."""
    operations: list[dict[str, Any]] = []
    for prefix in transaction.delete_prefixes:
        stripped = prefix.strip("/")
        if stripped:
            operations.append({"Verb": "delete", "Key": stripped})
        operations.append({"Verb": "delete-tree", "Key": f"{stripped}/" if stripped else ""})
    operations += [{"Verb": "delete", "Key": key} for key in transaction.delete]
    operations += [set_operation(key, value) for key, value in transaction.put.items()]
    return operations


def deleted_below(transaction: Transaction) -> str:
    """Return the longest prefix that all deletions of a transaction are below."""
    parts = [key.split("/") for key in (*transaction.delete, *transaction.delete_prefixes)]
    common: list[str] = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        common.append(names[0])
    return "/".join(common)


def must_go_alone(transaction: Transaction, size: int) -> bool:
    """Whether a transaction, encoded in ``size`` bytes, fits only as the bare value that it is."""
    return (
        size > MAXIMUM_REQUEST_BYTES
        and len(transaction.put) == 1
        and not transaction.delete
        and not transaction.delete_prefixes
        and transaction.expect.keys() <= transaction.put.keys()
    )


def check_size(transaction: Transaction, operations: int, size: int) -> None:
    """Raise `TooLarge` for a transaction of ``operations`` in ``size`` bytes that is refused."""
    if operations > MAXIMUM_OPERATIONS:
        raise TooLarge(
            f"consul: the transaction takes {operations:,} operations; Consul takes "
            f"{MAXIMUM_OPERATIONS} at once"
        )
    if size > MAXIMUM_REQUEST_BYTES and not must_go_alone(transaction, size):
        largest = max(transaction.put, key=lambda key: len(transaction.put[key]))
        raise TooLarge(
            f"consul: the transaction has {size:,} bytes (values in base64), most of them in key "
            f"`{largest}`; Consul takes {MAXIMUM_REQUEST_BYTES:,} at once"
        )
