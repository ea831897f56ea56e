"""What the acceptance suite has to know about a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from kvproxy.provider import Store
    from tests.support.store_server import StoreServer


class SecuredStore(Protocol):
    """A server of a test's own that lets nobody in without TLS and without credentials.

    Who has the credentials may read and write the keys that begin with ``t``.
    """

    kind: str
    open_store: str
    """``module:function``; the function gets an address and opens the plugin with real options."""

    address: str
    """With everything that is needed."""

    refused: Mapping[str, tuple[str, str]]
    """What is missing or wrong, by its name: an address, and a pattern of the error."""

    secrets: tuple[str, ...]
    """What no error may show."""

    def __init__(self, directory: Path) -> None:
        """Start the server; ``directory`` is empty and belongs to it."""

    async def revoke(self) -> None:
        """Take the right to read away from the user of ``address``."""
        ...

    async def grant(self) -> None:
        """Give it back."""
        ...

    async def restart(self) -> None:
        """Kill the server and start it again."""
        ...

    async def close(self) -> None:
        """Stop the server."""
        ...


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

    server: StoreServer | None
    """The server, which may be killed, frozen and wiped; None for a store in a file."""

    secured: type[SecuredStore] | None
    """Makes a server that asks for credentials; None for a store that knows none."""

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

    async def reads(self) -> int | None:
        """Return how many reads of keys the server has answered; None when it does not count."""
        ...

    async def close(self) -> None:
        """Stop what was started."""
        ...
