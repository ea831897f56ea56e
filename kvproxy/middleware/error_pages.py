"""Which answers are replaced by a page of another backend (specification section 9.8)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kvproxy.http.answer import BODILESS
from kvproxy.http.head import without_any
from kvproxy.model.statuses import STATUS_RANGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.middleware.contract import Request
    from kvproxy.model.dynamic import ErrorPage

_NOT_IN_A_PATH = re.compile(rb"[^\x21-\x7e]")

_NOT_SENT = (
    *(b"authorization", b"cookie", b"proxy-authorization"),
    *(b"connection", b"content-length", b"expect", b"te", b"transfer-encoding", b"upgrade"),
    *(b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"if-range"),
    *(b"range", b"content-type", b"content-encoding"),
)
"""What a page must not be told: whom the request came from (CVE-2026-41181), and what belongs to
the body or the condition of another request."""


class StatusRanges:
    """Statuses, each alone (``404``) or as an inclusive range (``500-599``)."""

    __slots__ = ("_ranges",)

    def __init__(self, texts: Iterable[str]) -> None:
        """Read them; raises ValueError."""
        self._ranges: list[tuple[int, int]] = []
        for text in texts:
            found = STATUS_RANGE.fullmatch(text.strip())
            if found is None:
                raise ValueError(f"`{text}` is no status, and no range of them")
            low = int(found[1])
            self._ranges.append((low, int(found[2]) if found[2] else low))

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self._ranges)

    def __contains__(self, status: int) -> bool:
        """Whether ``status`` is among them."""
        return any(low <= status <= high for low, high in self._ranges)


class Page(NamedTuple):
    """One entry: for which statuses, what is asked of which backend."""

    statuses: StatusRanges
    backend: str
    query: str

    def takes(self, status: int) -> bool:
        """Tell whether an answer of this status is replaced; one that has no body cannot be."""
        return status in self.statuses and status not in BODILESS

    def head(self, request: Request, status: int) -> bytes:
        """Return what is asked: request line and headers, without those that the proxy adds.

        The method is GET, or HEAD where the client wants no body either.
        """
        method = b"HEAD" if request.method == b"HEAD" else b"GET"
        query = self.query.replace("{status}", str(status)).removeprefix("/")
        path = _NOT_IN_A_PATH.sub(lambda byte: b"%%%02X" % byte[0][0], b"/" + query.encode())
        head = without_any(request.head, _NOT_SENT)
        return b"%b %b HTTP/1.1%b" % (method, path, head[head.index(b"\r\n") :])


def pages_of(errors: dict[str, ErrorPage], own_backend: str) -> list[Page]:
    """Return the entries in the order of their names; raises ValueError.

    Entries that name the frontend's own backend are left out, as in Traefik 1.7.
    """
    return [
        Page(StatusRanges(page.status), page.backend, page.query)
        for _, page in sorted(errors.items())
        if page.backend != own_backend
    ]
