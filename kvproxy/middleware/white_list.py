"""The IP white list: lets some addresses pass and answers 403 to all others (specification section
9.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.answer import text_answer
from kvproxy.middleware.contract import Middleware
from kvproxy.model.addresses import AddressRanges, parse_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvproxy.middleware.contract import Outcome, Request

REMEMBERED = 4096
"""Addresses whose verdict is remembered."""

MAX_LISTED = 128
"""Addresses of a request that are looked at; a longer list is taken for one that cannot be read."""


class IpWhiteList(Middleware):
    """``useXForwardedFor``: the addresses that the header lists, in order, before the peer's.

    The header is that of the request: what an untrusted client says of itself has been taken away
    before (docs/compatibility.md).
    """

    __slots__ = ("_ranges", "_use_forwarded", "_verdicts")

    title = "ipwhitelister"

    def __init__(self, source_range: Sequence[str], *, use_x_forwarded_for: bool) -> None:
        """``source_range``: addresses and networks, at least one. Raises ValueError."""
        if not source_range:
            raise ValueError("a white list needs at least one address or network")
        self._ranges = AddressRanges(source_range)
        self._use_forwarded = use_x_forwarded_for
        self._verdicts: dict[str, bool] = {}

    def request(self, request: Request) -> Outcome:
        """Answer 403 unless an address of the request is in the list."""
        forwarded = request.headers.get(b"x-forwarded-for") if self._use_forwarded else None
        if forwarded is not None:
            verdict = self._judge_forwarded(forwarded)
            if verdict is not None:
                return None if verdict else text_answer(403)
        return None if self._includes(request.client.address) else text_answer(403)

    def _judge_forwarded(self, lines: list[bytes]) -> bool | None:
        """Return True for an address in the list, False for one that cannot be read before."""
        pieces = b",".join(lines).split(b",", MAX_LISTED)
        for piece in pieces[:MAX_LISTED]:
            try:
                if parse_address(_without_port(piece.decode("ascii").strip())) in self._ranges:
                    return True
            except ValueError:
                return False
        return None if len(pieces) <= MAX_LISTED else False

    def _includes(self, text: str) -> bool:
        """Tell whether the peer is in the list; an address that cannot be read is not."""
        known = self._verdicts.get(text)
        if known is not None:
            return known
        try:
            verdict = parse_address(text) in self._ranges
        except ValueError:
            verdict = False
        if len(self._verdicts) >= REMEMBERED:
            self._verdicts.clear()
        self._verdicts[text] = verdict
        return verdict


def _without_port(text: str) -> str:
    """Return an address without its port: ``1.2.3.4:5``, ``[::1]:5`` and ``[::1]`` are known."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text
