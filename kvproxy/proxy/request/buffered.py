"""A request that is read completely before a server is asked, and whose answer is read completely
before the client gets it (specification section 7.8).

Stands between a passage and the attempts to reach a server: an upstream to the one, an exchange to
the others. What does not fit into the memory that is allowed for it goes to a temporary file.
"""

from __future__ import annotations

import asyncio
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from kvproxy.balance.retry_expression import Attempt, parse_retry
from kvproxy.http.answer import Answer, text_answer
from kvproxy.http.chunked import ChunkedError, ChunkedReader
from kvproxy.http.head import values, with_lines, without
from kvproxy.http.scan import CHUNKED, CHUNKED_BODY, CLOSE, EXPECT, LENGTH
from kvproxy.proxy.request.attempts import Attempts
from kvproxy.proxy.request.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.middleware.contract import Request
    from kvproxy.model.dynamic import Buffering
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.exchange import Exchange
    from kvproxy.proxy.request.chain import Chain

DEFAULT_MEMORY_BYTES = 1 << 20
PIECE_BYTES = 65_536
CONTINUE_HEAD = b"HTTP/1.1 100 Continue\r\n"


class BufferSettings(NamedTuple):
    """The options of a backend; sizes in bytes, a largest size of 0 is no limit."""

    most_request: int
    memory_request: int
    most_response: int
    memory_response: int
    again: Callable[[Attempt], bool] | None


def buffer_settings(options: Buffering | None) -> BufferSettings | None:
    """Return the settings of a backend that buffers; raises `ExpressionError`."""
    if options is None:
        return None
    return BufferSettings(
        options.max_request_body_bytes,
        options.mem_request_body_bytes or DEFAULT_MEMORY_BYTES,
        options.max_response_body_bytes,
        options.mem_response_body_bytes or DEFAULT_MEMORY_BYTES,
        parse_retry(options.retry_expression) if options.retry_expression else None,
    )


class Buffered(Link):
    """One request. `start` is called once."""

    __slots__ = (
        "_body",
        "_chain",
        "_chunks",
        "_ended",
        "_expected",
        "_fed",
        "_flowing",
        "_head",
        "_listener",
        "_moved_at",
        "_received",
        "_request",
        "_response",
        "_response_head",
        "_sent",
        "_settings",
        "_stopped",
        "_trailers",
        "_tries",
    )

    def __init__(
        self,
        exchange: Exchange,
        listener: Listener,
        chain: Chain,
        request: Request,
        head: bytes,
        settings: BufferSettings,
    ) -> None:
        """``head``: the outgoing head without its ``Host`` line; ``exchange`` takes answers in the
        split form."""
        super().__init__(exchange)
        self._listener = listener
        self._chain = chain
        self._request = request
        self._head = without(head, b"expect")
        self._settings = settings
        self._body = SpooledTemporaryFile(settings.memory_request)  # noqa: SIM115 - closed in _end
        self._chunks = ChunkedReader(decode=True) if exchange.flags & CHUNKED else None
        lengths = values(head, b"content-length")
        self._expected = int(lengths[0]) if lengths else 0
        self._received = 0
        self._fed = 0
        self._tries = 0
        self._response: SpooledTemporaryFile[bytes] | None = None
        self._response_head: tuple[bytes, int, int, int] | None = None
        self._sent = 0
        self._trailers = b""
        self._moved_at = 0.0
        self._flowing = False
        self._stopped = False
        self._ended = False

    def start(self, held: list[bytes]) -> None:
        """Begin with what has come of the body. May end at once."""
        most = self._settings.most_request
        if most and self._expected > most:
            self._refuse(413)
        elif self._chunks is None and not self._expected:
            self._ask()
        else:
            if self.exchange.flags & EXPECT and self.exchange.sending:
                self.exchange.response_informational(CONTINUE_HEAD, 100)
            for data in held:
                if not self._ended:
                    self.send_request(data)

    # What the passage asks of its upstream.

    @property
    def writable(self) -> bool:
        """Always: the body is kept here."""
        return True

    def send_request(self, data: bytes) -> None:
        """Keep a piece of the body; the last one lets the attempts begin."""
        if self._chunks is not None:
            try:
                data, _ = self._chunks.feed(data)
            except ChunkedError as error:
                self.exchange.response_failed(400, f"request body: {error}")
                return
        self._received += len(data)
        most = self._settings.most_request
        if most and self._received > most:
            self._refuse(413)
            return
        if not self._keep(self._body, data):
            return
        if self._received == self._expected if self._chunks is None else self._chunks.finished:
            self._ask()

    def pause_reading(self) -> None:
        """Send no more of the answer for now."""
        self._stopped = True

    def resume_reading(self) -> None:
        """Send more of the answer."""
        self._stopped = False
        self._flow()

    def time_out(self) -> None:
        """Give up, unless the answer goes on coming: the client's exchange cannot know of it."""
        if self._moved_at and self.clock.now - self._moved_at < self._listener.write_seconds:
            return
        if self._upstream is not None:
            self._upstream.time_out()
        else:
            self.exchange.response_failed(504, "no answer in time")

    def close(self) -> None:
        """End."""
        self._end()

    abort = close

    # The attempts.

    def _ask(self) -> None:
        """Make an attempt with the whole body."""
        head = self._head
        if self._chunks is not None:
            head = without(without(head, b"transfer-encoding"), b"trailer")
            head = with_lines(head, b"Content-Length: %d\r\n" % self._received)
        self._tries += 1
        self._fed = 0
        self._moved_at = 0.0
        self._upstream = attempts = Attempts(self, self._listener, self._chain, self._request, head)
        first = []
        if self._received:
            self._body.seek(0)
            first = [self._body.read(PIECE_BYTES)]
            self._fed = len(first[0])
        attempts.start(first)

    def _feed(self) -> None:
        """Give the server as much of the body as it takes."""
        while self._fed < self._received:
            attempts = self._upstream
            if attempts is None or not attempts.writable:
                return
            self._body.seek(self._fed)
            piece = self._body.read(PIECE_BYTES)
            self._fed += len(piece)
            attempts.send_request(piece)

    def _again(self, status: int) -> bool:
        """Make another attempt if the expression asks for it."""
        again = self._settings.again
        attempt = Attempt(self._tries, status, self._request.method.decode("latin-1"))
        if again is None or not again(attempt):
            return False
        self._drop_attempt()
        # In a turn of its own: an attempt may fail at once, ten times.
        asyncio.get_running_loop().call_soon(self._ask_again)
        return True

    def _ask_again(self) -> None:
        if not self._ended:
            self._ask()

    def _drop_attempt(self) -> None:
        attempts, self._upstream = self._upstream, None
        if attempts is not None:
            attempts.abort()
        response, self._response = self._response, None
        if response is not None:
            response.close()
        self._response_head = None
        self._trailers = b""

    # What the attempts tell their exchange.

    decodes = True

    @property
    def sending(self) -> bool:
        """Whether the server has more of the body to come."""
        return self._fed < self._received

    def server_writable(self, writable: bool) -> None:
        """Give the server more of the body when it takes more."""
        if writable:
            self._feed()

    def answer(self, answer: Answer) -> None:
        """Take an answer of the proxy's own."""
        if not self._again(answer.status):
            self._upstream = None
            self._end()
            self.exchange.answer(answer)

    def response_informational(self, data: bytes, status: int) -> None:
        """Pass a 1xx answer on; 100 has been said."""
        if status != 100:
            self.exchange.response_informational(data, status)

    def response_head(
        self, head: bytes, status: int, kind: int, length: int, piece: bytes, ended: bool
    ) -> None:
        """Keep the head, and what came of the body."""
        self._response_head = (head, status, kind, length)
        self._response = SpooledTemporaryFile(self._settings.memory_response)  # noqa: SIM115
        most = self._settings.most_response
        if most and kind == LENGTH and length > most:
            self._too_large()
            return
        self.response_data(piece)
        if ended and self._response is not None:
            self.response_ended()

    def response_data(self, data: bytes) -> None:
        """Keep more of the body."""
        response, most = self._response, self._settings.most_response
        assert response is not None
        self._moved_at = self.clock.now
        if most and response.tell() + len(data) > most:
            self._too_large()
        else:
            self._keep(response, data)

    def response_trailers(self, lines: bytes) -> None:
        """Keep the trailers."""
        self._trailers = lines

    def response_ended(self) -> None:
        """Send the whole answer, or the request once more."""
        assert self._response_head is not None
        if not self._again(self._response_head[1]):
            self._upstream = None
            self._send_head()

    def response_failed(self, status: int, reason: str) -> None:
        """Send the request once more, or pass on that no answer will come."""
        if self._again(status):
            self._listener.failure("", status, reason)
            return
        self._upstream = None
        self._end()
        self.exchange.response_failed(status, reason)

    # The answer.

    def _send_head(self) -> None:
        assert self._response is not None and self._response_head is not None
        head, status, kind, length = self._response_head
        size = self._response.tell()
        self._response.seek(0)
        framed = bool(self._trailers) and not self.exchange.decodes
        if kind in (CHUNKED_BODY, CLOSE) and not framed:
            head = without(without(head, b"transfer-encoding"), b"content-length")
            head = with_lines(head, b"Content-Length: %d\r\n" % size)
            kind, length = LENGTH, size
        piece = self._response.read(PIECE_BYTES)
        self._sent = len(piece)
        whole = self._sent == size
        if framed:
            piece = self._framed(piece, whole)
        exchange = self.exchange
        if whole and (framed or not self._trailers):
            self._end()
            exchange.response_head(head, status, kind, length, piece, True)
            return
        self._flowing = True
        exchange.response_head(head, status, kind, length, piece, False)
        self._flow()

    def _framed(self, piece: bytes, last: bool) -> bytes:
        """Return a piece in the chunked coding, with the trailers behind the last one."""
        framed = b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        return b"%b0\r\n%b\r\n" % (framed, self._trailers) if last else framed

    def _flow(self) -> None:
        """Send as much of the answer as the client takes."""
        framed = bool(self._trailers) and not self.exchange.decodes
        while self._flowing and not self._stopped and self._response is not None:
            self._response.seek(self._sent)
            piece = self._response.read(PIECE_BYTES)
            self._sent += len(piece)
            last = len(piece) < PIECE_BYTES
            if framed:
                piece = self._framed(piece, last)
            if piece:
                self.exchange.response_data(piece)
            if last and self._flowing:
                trailers, exchange = self._trailers, self.exchange
                self._end()
                if trailers and not framed:
                    exchange.response_trailers(trailers)
                exchange.response_ended()

    # The end.

    def _too_large(self) -> None:
        server = self.server
        name = "" if server is None else f"{server.name}: "
        most = self._settings.most_response
        self._end()
        self.exchange.response_failed(500, f"{name}an answer larger than {most} bytes")

    def _keep(self, spool: SpooledTemporaryFile[bytes], data: bytes) -> bool:
        """Add to a body; False: there is no room on the disk, and the request has ended."""
        try:
            spool.write(data)
        except OSError as error:
            self._end()
            self.exchange.response_failed(500, f"a body cannot be kept: {error}")
            return False
        return True

    def _refuse(self, status: int) -> None:
        self._end()
        self.exchange.answer(text_answer(status))

    def _end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._flowing = False
        self._drop_attempt()
        self._body.close()
