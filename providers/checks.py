"""What every store refuses before it asks its server: impossible keys and too large values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.provider import StoreError, TooLarge

if TYPE_CHECKING:
    from kvproxy.provider import Transaction


def check_transaction(
    transaction: Transaction, maximum_key_bytes: int, maximum_value_bytes: int
) -> None:
    """Raise `StoreError` for a key that no store could hold, `TooLarge` for a large value."""
    for key in (*transaction.put, *transaction.delete, *transaction.expect):
        check_key(key, maximum_key_bytes)
    for key, value in transaction.put.items():
        check_value(key, value, maximum_value_bytes)


def check_key(key: str, maximum_bytes: int) -> None:
    """Raise `StoreError` unless ``key`` is text of non-empty parts between single slashes."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise StoreError(f"key {key!r} is not valid Unicode text") from None
    if not key or key.startswith("/") or key.endswith("/") or "//" in key:
        raise StoreError(f"key `{key}` has an empty part: no slash at the ends, no two in a row")
    if "\0" in key:
        raise StoreError(f"key {key!r} holds a NUL character")
    if size > maximum_bytes:
        raise StoreError(
            f"key `{key[:80]}...` has {size:,} bytes; at most {maximum_bytes:,} are allowed"
        )


def check_value(key: str, value: bytes, maximum_bytes: int) -> None:
    """Raise `TooLarge` for a value above ``maximum_bytes``."""
    if len(value) > maximum_bytes:
        raise TooLarge(
            f"the value of key `{key}` has {len(value):,} bytes; "
            f"at most {maximum_bytes:,} are allowed"
        )


def conflict(key: str, expected: bytes | None, found: bytes | None) -> str:
    """Return what to say of a key whose value is not the expected one."""
    if expected is None:
        return f"key `{key}` exists already; nothing was written"
    state = "does not exist" if found is None else "has another value"
    return f"key `{key}` {state}; nothing was written"
