"""The two ends of a request in progress, whatever protocols are spoken at either.

An *exchange* is the end towards the client, an *upstream* the end towards the server. In the
simplest case they are an HTTP/1.1 client connection and an HTTP/1.1 server connection that know
each other and nothing else. What stands between them (a dial, a passage through middlewares) is an
upstream to the one and an exchange to the other.

Heads are HTTP/1.1 bytes on both sides, as `kvproxy.http.scan` makes them. An exchange takes answers
in one of two forms. Joined (the default): bytes that are ready to be sent, framing and all. Split
(SPLIT in its ``flags``): the open head, what is known of the body, and the body by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from kvproxy.http.answer import Answer
    from kvproxy.proxy.clock import Clock
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.upstream.server import DialError, Server


ADDING: Final = 1 << 17
"""In the flags of an exchange, above those of the head scan: it adds the lines of its chain to the
answer, because no middleware stands between it and the server."""


class Upstream(Protocol):
    """Where a request goes to, as its exchange sees it."""

    @property
    def server(self) -> Server | None:
        """The server that is asked, None while there is none."""
        ...

    @property
    def writable(self) -> bool:
        """Whether nothing waits to be taken by the server."""
        ...

    def send_request(self, data: bytes) -> None:
        """Send bytes of the request, keeping those that cannot be sent yet."""

    def pause_reading(self) -> None:
        """Bring no more of the answer for now."""

    def resume_reading(self) -> None:
        """Bring more of the answer."""

    def time_out(self) -> None:
        """Give up: there was no answer in time. The exchange is told that it failed."""

    def close(self) -> None:
        """End after everything sent has been taken; the exchange hears nothing more."""

    def abort(self) -> None:
        """End at once; the exchange hears nothing more."""


class Exchange(Protocol):
    """A request in progress, as its upstream sees it.

    ``flags`` are those of the head scan; KEEP_ALIVE is not set while the request is still being
    sent. ``sending``: more of the request is to come. ``decodes``: chunked bodies are wanted
    without their framing.
    """

    @property
    def decodes(self) -> bool:
        """See the class."""
        ...

    @property
    def flags(self) -> int:
        """See the class."""
        ...

    @flags.setter
    def flags(self, value: int) -> None: ...

    @property
    def sending(self) -> bool:
        """See the class."""
        ...

    @property
    def clock(self) -> Clock:
        """The worker's clock."""
        ...

    def routed(self, chain: Chain) -> None:
        """Take note of the chain that was found: it counts the answer."""

    def host_line(self, server: Server) -> bytes:
        """Return the ``Host`` line that this server is sent, and the end of the head."""
        ...

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """Return the server to be tried after ``tries`` of them could not be reached."""
        ...

    def connected(self, upstream: Upstream) -> None:
        """Take the connection that was dialled in place of the dial."""

    def answer(self, answer: Answer) -> None:
        """Take an answer of the proxy's own."""

    def response_whole(self, data: bytes) -> None:
        """Take a complete answer; the server's connection is free again. Joined form."""

    def response_informational(self, data: bytes, status: int) -> None:
        """Take a 1xx answer that precedes the final one (in the split form its open head)."""

    def response_started(self, data: bytes, status: int) -> None:
        """Take the head of an answer and the body bytes that came with it. Joined form."""

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Take an answer or its beginning. Split form.

        ``head``: without its empty last line. ``kind``: how the body ends (`kvproxy.http.flags`);
        ``length``: of a LENGTH body. ``piece``: what came of the body. ``ended``: that was all.
        """

    def response_data(self, data: bytes) -> None:
        """Take more of the body."""

    def response_trailers(self, lines: bytes) -> None:
        """Take the trailers of a body that came without its framing; `response_ended` follows."""

    def response_ended(self) -> None:
        """Take note that the answer is complete."""

    def response_failed(self, status: int, reason: str) -> None:
        """Take note that no (further) answer will come; ``status`` tells the client if it can
        still be told."""

    def response_stale(self) -> bool:
        """Tell whether the request, which was never answered, is tried again by the exchange."""
        ...

    def switched(self, data: bytes) -> None:
        """Take the head of a 101 (open in the split form); from now on bytes flow both ways."""

    def server_writable(self, writable: bool) -> None:
        """Take note that the upstream can or cannot take more of the request."""
