"""Keys that live as long as their client, on stores with leases or sessions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from kvproxy.provider import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable

_Result = TypeVar("_Result")
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
        """Do nothing until the first key is announced; then renew each ``renew_seconds``.

        That is also how long the store may take for each answer.
        """
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
                await self._make_again()
            try:
                await self._in_time(self._leases.put(self._lease, key, value))
            except StoreError:
                # The lease may be what is missing.
                if await self._renewed():
                    raise
                await self._make_again()
                await self._in_time(self._leases.put(self._lease, key, value))
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
                await self._in_time(self._leases.end(lease))

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(self._renew_seconds)
            try:
                async with self._turn:
                    if self._lease is None or not await self._renewed():
                        await self._make_again()
            except StoreError as error:
                _logger.debug("announced keys cannot be kept for now: %s", error)

    async def _renewed(self) -> bool:
        return await self._in_time(self._leases.renew(self._lease))

    async def _make_again(self) -> None:
        """Make a new lease and write every announced key under it."""
        self._lease = None
        lease = await self._in_time(self._leases.open())
        for key, value in self._keys.items():
            await self._in_time(self._leases.put(lease, key, value))
        self._lease = lease

    async def _in_time(self, answer: Awaitable[_Result]) -> _Result:
        try:
            async with asyncio.timeout(self._renew_seconds):
                return await answer
        except TimeoutError:
            raise StoreError(f"no answer within {self._renew_seconds:g} s") from None
