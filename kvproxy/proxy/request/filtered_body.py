"""A body that passes through a filter: unframed before, framed again behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.http.chunked import ChunkedReader
from kvproxy.http.head import with_lines, without
from kvproxy.http.scan import CHUNKED_BODY, LENGTH

if TYPE_CHECKING:
    from kvproxy.middleware.contract import BodyFilter

CHUNKED_LINE = b"Transfer-Encoding: chunked\r\n"


class FilteredBody:
    """One body on its way to the client; what comes out is in the chunked coding, or bare.

    ``received``: bytes of the body so far, without framing.
    """

    __slots__ = ("_filter", "_frames", "_reader", "received")

    def __init__(self, body_filter: BodyFilter, *, chunked: bool, frames: bool) -> None:
        """``chunked``: the pieces come in that coding; ``frames``: they leave in it."""
        self._filter = body_filter
        self._reader = ChunkedReader(decode=True) if chunked else None
        self._frames = frames
        self.received = 0

    def feed(self, data: bytes) -> bytes:
        """Return what can be passed on after ``data``."""
        if self._reader is not None:
            data, _ = self._reader.feed(data)
        self.received += len(data)
        return self._framed(self._filter.feed(data)) if data else b""

    def finish(self) -> bytes:
        """Return the rest and the end."""
        rest = self._framed(self._filter.finish())
        if not self._frames:
            return rest
        trailers = b"" if self._reader is None else self._reader.trailers
        return b"%b0\r\n%b\r\n" % (rest, trailers)

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._frames and data else data


def content_length(
    kind: int, length: int, piece: bytes, *, framed: bool, ended: bool
) -> int | None:
    """Return the length of a body as far as it is known with its head.

    ``framed``: ``piece`` is in the chunked coding.
    """
    if kind == LENGTH:
        return length
    if not ended:
        return None
    if kind == CHUNKED_BODY and framed:
        return len(ChunkedReader(decode=True).feed(piece)[0])
    return len(piece)


def chunked_head(head: bytes) -> bytes:
    """Return the head with the framing of a body in the chunked coding."""
    head = without(without(head, b"content-length"), b"transfer-encoding")
    return with_lines(head, CHUNKED_LINE)
