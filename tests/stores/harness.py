"""What the acceptance suite has to know about a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from kvproxy.provider import Store


class StoreHarness(Protocol):
    """One fresh, empty store of some kind."""

    kind: str
    """Name in the test ids."""

    open_store: str
    """``module:function``; the function gets `address` and returns a new client, in any process."""

    address: str
    """How `open_store` finds this store."""

    maximum_value_bytes: int
    """The largest value that the store takes."""

    transaction_keys: int
    """How many keys one transaction may write."""

    torn_read_tries: int
    """How many reads the test of consistent reads makes against a concurrent writer."""

    odd_keys: tuple[str, ...]
    """Unusual keys that the store takes (the suite adds those that every store must take)."""

    refused_keys: tuple[str, ...]
    """Keys that the store refuses with `StoreError`."""

    def __init__(self, directory: Path) -> None:
        """Make an empty store; ``directory`` is empty and belongs to it."""

    async def compact(self, store: Store, prefix: str) -> bool:
        """Make the store forget what happened up to now; it may write below ``prefix``."""
        ...

    async def remember(self) -> bool:
        """Keep a copy of the store as it is now for `restore_older`."""
        ...

    async def restore_older(self) -> bool:
        """Put the kept copy in place while clients are connected: the version goes backwards."""
        ...

    async def close(self) -> None:
        """Stop what was started."""
        ...
