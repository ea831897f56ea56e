"""What stands between an exchange and its upstream, and passes everything on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kvproxy.http.answer import Answer
    from kvproxy.proxy.clock import Clock
    from kvproxy.proxy.exchange import Exchange, Upstream
    from kvproxy.proxy.request.chain import Chain
    from kvproxy.proxy.upstream.server import DialError, Server


class Link:
    """An upstream to its exchange, an exchange to its upstream (`kvproxy.proxy.exchange`).

    Takes answers in the split form. A subclass does otherwise what it has to do otherwise.
    """

    __slots__ = ("_reading_paused", "_upstream", "exchange")

    def __init__(self, exchange: Exchange) -> None:
        """There is no upstream yet."""
        self.exchange = exchange
        self._reading_paused = False
        self._upstream: Upstream | None = None

    # What the exchange asks of its upstream.

    @property
    def server(self) -> Server | None:
        """The server that is asked, None while there is none."""
        return None if self._upstream is None else self._upstream.server

    @property
    def writable(self) -> bool:
        """Whether more of the request may come."""
        return self._upstream is None or self._upstream.writable

    def send_request(self, data: bytes) -> None:
        """Pass body bytes on."""
        if self._upstream is not None:
            self._upstream.send_request(data)

    def pause_reading(self) -> None:
        """Bring no more of the answer for now, whatever will be the upstream."""
        self._reading_paused = True
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_reading(self) -> None:
        """Bring more of the answer."""
        self._reading_paused = False
        if self._upstream is not None:
            self._upstream.resume_reading()

    def time_out(self) -> None:
        """Give up what is waited for."""
        if self._upstream is not None:
            self._upstream.time_out()

    def close(self) -> None:
        """End after everything sent has been taken."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()

    def abort(self) -> None:
        """End at once."""
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.abort()

    # What the upstream tells its exchange.

    @property
    def decodes(self) -> bool:
        """Whether chunked bodies are wanted without their framing."""
        return self.exchange.decodes

    @property
    def flags(self) -> int:
        """The flags of the exchange."""
        return self.exchange.flags

    @flags.setter
    def flags(self, value: int) -> None:
        self.exchange.flags = value

    @property
    def sending(self) -> bool:
        """Whether more of the request is to come."""
        return self.exchange.sending

    @property
    def clock(self) -> Clock:
        """The worker's clock."""
        return self.exchange.clock

    def routed(self, chain: Chain) -> None:
        """Pass on which chain was found."""
        self.exchange.routed(chain)

    def host_line(self, server: Server) -> bytes:
        """Return the ``Host`` line that this server is sent, and the end of the head."""
        return self.exchange.host_line(server)

    def another_server(self, tries: int, error: DialError) -> Server | None:
        """Only asked of an exchange that dials."""
        raise NotImplementedError

    def connected(self, upstream: Upstream) -> None:
        """Take what stands in the place of the upstream."""
        self._upstream = upstream
        if self._reading_paused:
            upstream.pause_reading()

    def answer(self, answer: Answer) -> None:
        """Pass on an answer of the proxy's own."""
        self.exchange.answer(answer)

    def response_whole(self, data: bytes) -> None:
        """Never called: the flags ask for the split form."""
        raise NotImplementedError

    def response_started(self, data: bytes, status: int) -> None:
        """Never called: the flags ask for the split form."""
        raise NotImplementedError

    def response_informational(self, data: bytes, status: int) -> None:
        """Pass a 1xx answer on."""
        self.exchange.response_informational(data, status)

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Pass on an answer or its beginning."""
        self.exchange.response_head(head, status, kind, length, piece, ended)

    def response_data(self, data: bytes) -> None:
        """Pass more of the body on."""
        self.exchange.response_data(data)

    def response_trailers(self, lines: bytes) -> None:
        """Pass the trailers on."""
        self.exchange.response_trailers(lines)

    def response_ended(self) -> None:
        """Pass on that the answer is complete."""
        self._upstream = None
        self.exchange.response_ended()

    def response_failed(self, status: int, reason: str) -> None:
        """Pass on that no (further) answer will come."""
        self._upstream = None
        self.exchange.response_failed(status, reason)

    def response_stale(self) -> bool:
        """Only asked of an exchange that dials."""
        raise NotImplementedError

    def switched(self, data: bytes) -> None:
        """Pass on that bytes flow both ways from now on."""
        self.exchange.switched(data)

    def server_writable(self, writable: bool) -> None:
        """Pass on whether the server takes more of the request."""
        self.exchange.server_writable(writable)
