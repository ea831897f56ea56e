"""Compression of answers with gzip (specification section 6.1 of the static configuration).

The body is compressed piece by piece as it comes, and each piece is flushed: a stream of events
stays one. What the client sent is none of its business.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from kvproxy.http.answer import BODILESS, Answer
from kvproxy.http.head import replaced, values, with_lines, without
from kvproxy.middleware.contract import AnswerFilter, Middleware

if TYPE_CHECKING:
    from kvproxy.middleware.contract import BodyFilter, Outcome, Request

LEAST_BYTES = 512
"""Shorter bodies are not compressed. One whose length is not known before is."""

LEVEL = 3
"""Of zlib: each level above takes more time in the event loop for little less to send."""

_GZIP_WINDOW = 31
_VARY = (b"Vary", b"Accept-Encoding")
_ACCEPTED = re.compile(rb"[ \t]*(gzip|x-gzip|\*)[ \t]*(?:;[ \t]*q=([01](?:\.[0-9]{0,3})?)[ \t]*)?")


class Compress(Middleware, AnswerFilter):
    """Compresses answers of servers and of the proxy, where the client takes gzip."""

    def request(self, request: Request) -> Outcome:
        """See to the answer; gRPC has a coding of its own."""
        if not request.first(b"content-type").startswith(b"application/grpc"):
            request.filter = self
        return None

    def of_answer(self, request: Request, answer: Answer) -> Answer:
        """Return an answer of the proxy's own, compressed if it is long."""
        headers = (*answer.headers, _VARY)
        names = {name.lower() for name, _ in headers}
        if (
            len(answer.body) < LEAST_BYTES
            or answer.status in BODILESS
            or b"content-encoding" in names
            or not accepts_gzip(request)
        ):
            return Answer(answer.status, answer.body, headers)
        body = zlib.compress(answer.body, LEVEL, _GZIP_WINDOW)
        return Answer(answer.status, body, (*headers, (b"Content-Encoding", b"gzip")))

    def of_head(
        self, request: Request, head: bytes, status: int, length: int | None
    ) -> tuple[bytes, BodyFilter | None]:
        """Return the head of an answer, and what compresses its body if anything does."""
        head = with_lines(head, b"Vary: Accept-Encoding\r\n")
        if (length is not None and length < LEAST_BYTES) or not accepts_gzip(request):
            return head, None
        folded = head.lower()
        if b"\r\ncontent-encoding:" in folded or b"\r\ncontent-range:" in folded:
            return head, None
        if b"no-transform" in b",".join(values(head, b"cache-control")).lower():
            return head, None
        head = without(head, b"accept-ranges")
        for tag in values(head, b"etag"):
            if not tag.startswith(b"W/"):
                # Other bytes are another representation: only a weak tag stays true of it
                # (RFC 9110 section 8.8.3.3).
                head = replaced(head, b"etag", b"W/" + tag)
        return with_lines(head, b"Content-Encoding: gzip\r\n"), _Gzip()


class _Gzip:
    """Compresses one body (`kvproxy.middleware.contract.BodyFilter`)."""

    __slots__ = ("_compressor",)

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP_WINDOW)

    def feed(self, data: bytes) -> bytes:
        """Return everything that is known of the compressed body after ``data``."""
        return self._compressor.compress(data) + self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        """Return the rest."""
        return self._compressor.flush()


def accepts_gzip(request: Request) -> bool:
    """Tell whether the client takes gzip (RFC 9110 section 12.5.3)."""
    star = False
    for line in request.headers.get(b"accept-encoding", ()):
        for element in line.lower().split(b","):
            found = _ACCEPTED.fullmatch(element)
            if found is None:
                continue
            wanted = found[2] is None or float(found[2]) > 0
            if found[1] != b"*":
                return wanted
            star = wanted
    return star
