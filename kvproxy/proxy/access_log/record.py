"""What is known of one request that is going to be logged."""

from __future__ import annotations

import logging
from time import monotonic, time
from typing import TYPE_CHECKING

from kvproxy.http.chunked import ChunkedReader

if TYPE_CHECKING:
    from kvproxy.http.answer import Answer
    from kvproxy.middleware.contract import AskedServer, Request
    from kvproxy.proxy.access_log.log import AccessLog
    from kvproxy.proxy.downstream.peer import Peer
    from kvproxy.proxy.exchange import Upstream
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.request.decision import Asked

logger = logging.getLogger("kvproxy.proxy")

CLIENT_LEFT = 499
"""Status of a request whose client left before its answer began."""

OWN_BACKEND = "Traefik"
"""Name of the backend of answers that the proxy makes itself (specification section 8.2)."""


class Record:
    """One request. `end` is called once, whatever ended it.

    ``generation``: the number of the one that it is served by. ``protocol``: as a client says it.
    ``began_at``: time of day, seconds. ``head``: of the answer, where headers are logged. ``size``:
    of the answer's body as the client got it, without framing.
    ``own``: the proxy made the answer itself. ``retries``: servers that were asked after the first.
    ``origin_seconds``: since a server was asked, -1 when none was. ``server``: whose answer it is,
    or that could not be asked, None where there is none. ``title``: of the middleware that
    answered, empty where none did; both are known at the end.
    """

    __slots__ = (
        "_asked_at",
        "_chunks",
        "_log",
        "_started",
        "asked",
        "began_at",
        "chain",
        "generation",
        "head",
        "number",
        "origin_seconds",
        "own",
        "peer",
        "protocol",
        "retries",
        "seconds",
        "server",
        "size",
        "status",
        "title",
    )

    def __init__(
        self, log: AccessLog, peer: Peer, asked: Asked, protocol: bytes, number: int
    ) -> None:
        """``number``: which request of this worker it is."""
        self._log = log
        self.peer = peer
        self.asked = asked
        self.protocol = protocol
        self.number = number
        self.generation = log.generation
        self.began_at = time()
        self._started = monotonic()
        self._asked_at = 0.0
        self._chunks: ChunkedReader | None = None
        self.server: AskedServer | None = None
        self.title = ""
        self.chain: Chain | None = None
        self.head = b""
        self.own = False
        self.retries = 0
        self.size = 0
        self.status = 0
        self.seconds = 0.0
        self.origin_seconds = -1.0

    def forwarded(self, chain: Chain | None) -> None:
        """Note that the request has been decided on; ``chain``: where it is known."""
        if chain is not None:
            self.chain = chain
        self._asked_at = monotonic()

    def note_server(self, upstream: Upstream | None) -> None:
        """Note the server that is being asked, before nobody knows it any more."""
        if upstream is not None and upstream.server is not None:
            self.server = upstream.server

    def answer_begins(
        self, upstream: Upstream | None, data: bytes, status: int, *, framed: bool
    ) -> None:
        """Note the head of an answer, what came of its body, and whom it came from; ``framed``: as
        in HTTP/1.1."""
        self.note_server(upstream)
        self.status = status
        end = data.index(b"\r\n\r\n") + 4
        head = data[:end]
        if self._log.wants_heads:
            self.head = head
        if framed and b"\r\ntransfer-encoding: chunked" in head.lower():
            self._chunks = ChunkedReader(decode=True)
        self.count(data[end:])

    def count(self, data: bytes) -> None:
        """Note more of the answer's body."""
        if self._chunks is not None:
            data, _ = self._chunks.feed(data)
        self.size += len(data)

    def answered(self, answer: Answer, *, head_only: bool) -> None:
        """Note an answer of the proxy's own."""
        self.own = True
        self.status = answer.status
        self.size = 0 if head_only else len(answer.body)
        if self._log.wants_heads:
            self.head = answer.encode(close=False, head_only=True, date=b"")

    def end(self) -> None:
        """Have the request logged."""
        now = monotonic()
        self.seconds = now - self._started
        self.status = self.status or CLIENT_LEFT
        request = self.asked.request
        if request is not None:
            self._look_back(request)
        if self.server is not None:
            self.origin_seconds = now - self._asked_at
        try:
            self._log.write(self)
        except Exception:
            # Whatever a client has sent that no line can be made of: it has its answer.
            logger.exception("a request could not be logged")

    def _look_back(self, request: Request) -> None:
        """Take from a request what middlewares and attempts have noted on it."""
        if request.attempts > 1:
            self.retries = request.attempts - 1
        if self.own:
            stage = getattr(request.answered_by, "__self__", None)
            self.title = getattr(stage, "title", "")
        if self.title:
            self.server = None
        elif self.server is None:
            self.server = request.server

    # What a line says of it.

    @property
    def user(self) -> str:
        """Whose password was right, empty: nobody's."""
        return "" if self.asked.request is None else self.asked.request.user

    @property
    def origin_size(self) -> int:
        """Bytes of the body as the server sent it."""
        request = self.asked.request
        if request is None or request.unfiltered_bytes < 0:
            return self.size
        return request.unfiltered_bytes

    @property
    def frontend(self) -> str:
        """The name of the frontend, or of what answered (specification section 8.2)."""
        chain = self.chain
        title = self.title
        if title == "redirect":
            return (
                f"entrypoint redirect for {self.peer.entry_point}"
                if chain is None
                else f"frontend redirect for {chain.name}"
            )
        if title:
            name = f"entrypoint {self.peer.entry_point}" if chain is None else chain.name
            return f"{title} for {name}"
        if chain is not None:
            return chain.name.removeprefix("frontend-")
        return "backend not found" if self.status == 404 else ""

    @property
    def backend(self) -> str:
        """The name of the backend, or the one that stands for the proxy itself."""
        return OWN_BACKEND if self.server is None or self.chain is None else self.chain.backend
