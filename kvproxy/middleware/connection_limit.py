"""Limits the requests in progress by key (specification section 7.6)."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from kvproxy.balance.shared_counts import FULL, REFUSED
from kvproxy.http.answer import PLAIN_TEXT, Answer
from kvproxy.middleware.contract import Middleware

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.balance.shared_memory import SharedMemory
    from kvproxy.middleware.contract import Request

logger = logging.getLogger("kvproxy.proxy")


class ConnectionLimit(Middleware):
    """So many requests of one key at once, over all workers; an upgraded connection counts until it
    ends."""

    __slots__ = ("_alone", "_amount", "_held", "_memory", "_owner", "_refusal", "_source")

    title = "connection limit"

    def __init__(
        self,
        amount: int,
        source: Callable[[Request], bytes],
        memory: SharedMemory,
        owner: bytes,
    ) -> None:
        """``source`` takes the key; ``owner``: a digest that stands for this limit in ``memory``.

        A negative ``amount`` refuses every request (Traefik 1.7 behaviour).
        """
        self._amount = amount
        self._source = source
        self._memory = memory
        self._owner = owner
        self._refusal = Answer(429, b"max connections reached: %d" % amount, (PLAIN_TEXT,))
        self._held: dict[Request, int | bytes] = {}
        self._alone: Counter[bytes] = Counter()

    def request(self, request: Request) -> Answer | None:
        """Answer 429 when the key has as many in progress as it may."""
        tag = self._memory.tag(self._owner, self._source(request))
        entry = self._memory.in_progress.hold(tag, self._amount)
        if entry == REFUSED:
            return self._refusal
        if entry == FULL:
            return self._hold_alone(request, tag)
        self._held[request] = entry
        return None

    def _hold_alone(self, request: Request, tag: bytes) -> Answer | None:
        """Limit what this worker has in progress, for want of room in the shared table."""
        if not self._alone:
            logger.warning("too many keys in progress: each worker limits further ones by itself")
        if self._alone[tag] >= self._amount:
            return self._refusal
        self._alone[tag] += 1
        self._held[request] = tag
        return None

    def finished(self, request: Request, status: int, seconds: float) -> None:
        """Let the next one in."""
        held = self._held.pop(request)
        if isinstance(held, int):
            self._memory.in_progress.release(held)
            return
        self._alone[held] -= 1
        if not self._alone[held]:
            del self._alone[held]
