"""Keys that live as long as their client, on stores with leases or sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

from kvproxy.provider import StoreError

if TYPE_CHECKING:
    from typing import TypeVar

    _Lease = TypeVar("_Lease")

_logger = logging.getLogger(__name__)


class Leases(Protocol):
    """What a store has to give: something that ends by itself unless it is renewed."""

    async def open(self) -> Any:
        """Make a lease."""
        ...

    async def renew(self, lease: Any) -> bool:
        """Keep a lease; False when the store does not know it any more."""
        ...

    async def put(self, lease: Any, key: str, value: bytes) -> None:
        """Write a key that goes when the lease ends."""
        ...

    async def end(self, lease: Any) -> None:
        """End a lease now, and with it its keys."""
        ...


class Announcements:
    """Keeps keys under one lease, and makes lease and keys again when the store lost them."""

    def __init__(self, leases: Leases, renew_seconds: float) -> None:
        """Do nothing until the first key is announced; then renew each ``renew_seconds``."""
        self._leases = leases
        self._renew_seconds = renew_seconds
        self._lease: Any = None
        self._keys: dict[str, bytes] = {}
        self._turn = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None

    async def announce(self, key: str, value: bytes) -> None:
        """Write ``key`` under the lease; raises `StoreError`, and then keeps what was before."""
        async with self._turn:
            if self._lease is None:
                await self._renew_all()
            try:
                await self._leases.put(self._lease, key, value)
            except StoreError:
                # The lease may be what is missing.
                if await self._leases.renew(self._lease):
                    raise
                await self._renew_all()
                await self._leases.put(self._lease, key, value)
            self._keys[key] = value
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep())

    async def close(self) -> None:
        """End the lease; when the store cannot be asked, it ends by itself."""
        if self._keeping is not None:
            self._keeping.cancel()
            self._keeping = None
        if self._lease is not None:
            lease, self._lease = self._lease, None
            with contextlib.suppress(StoreError):
                await self._leases.end(lease)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._renew_seconds)
            try:
                async with self._turn:
                    if self._lease is None or not await self._leases.renew(self._lease):
                        await self._renew_all()
            except StoreError as error:
                _logger.debug("announced keys cannot be kept for now: %s", error)

    async def _renew_all(self) -> None:
        """Make a new lease and write every announced key under it."""
        self._lease = None
        lease = await self._leases.open()
        for key, value in self._keys.items():
            await self._leases.put(lease, key, value)
        self._lease = lease
