"""A client's TLS connection: below it the transport of the socket, above it the protocol of the
requests, for which it is the transport.

The TLS layer of uvloop costs about twice as much a request (docs/decisions/tls-layer.md), and this
one sees the first bytes of a client and has the deadlines of every other connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any, cast

from kvproxy.http.scan import send

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.proxy.downstream.listener import Listener, RequestProtocol
    from kvproxy.proxy.tls.entry_point import EntryPointTLS

RECORD_BYTES = 16_384
"""The most that one TLS record holds (RFC 8446 section 5.1).

Also how much goes through a `MemoryBIO` at a time: it keeps the memory for the most that it ever
held for as long as the connection lives.
"""

HANDSHAKE, OPEN, LINGERING, CLOSING = range(4)
"""Phases of a connection; LINGERING: our goodbye is said, the client may still be sending."""

HALF_CLOSING = "TLSv1.3"
"""The version in which a client may end its own direction alone (RFC 8446 section 6.1); before, its
goodbye ends both (RFC 5246 section 7.2.1)."""

PLAIN_REQUESTS = (b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO")
"""How a client begins that takes the port for one of plain HTTP, as in Go."""

REASONS = {"CALLBACK_FAILED": "no certificate for the server name"}
"""What OpenSSL calls an error to what it means here."""

PLAIN_ANSWER = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class TLSConnection(asyncio.Protocol, asyncio.Transport):
    """One client; hands over to the protocol of the requests when the handshake is done."""

    __slots__ = (
        "_cut",
        "_descriptor",
        "_first",
        "_half_closed",
        "_incoming",
        "_listener",
        "_outgoing",
        "_phase",
        "_protocol",
        "_read",
        "_socket_descriptor",
        "_ssl",
        "_tls",
        "_write_record",
        "deadline",
        "transport",
    )

    def __init__(self, listener: Listener, tls: EntryPointTLS) -> None:
        """``tls``: the certificates of the entry point."""
        self._listener = listener
        self._tls = tls
        self._phase = HANDSHAKE
        self._first = b""
        # Whether the rest of a record is to come.
        self._cut = False
        self._half_closed = False
        self._read: Callable[[int], bytes] = self._discard
        self._ssl: ssl.SSLObject | None = None
        self._protocol: RequestProtocol | None = None
        self.deadline = 0.0

    # What the socket's transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the handshake, for so long."""
        listener = self._listener
        self.transport = cast("asyncio.Transport", transport)
        # With a limit of 0, pause_writing and resume_writing tell exactly when nothing is queued,
        # so that the descriptor may be used past the transport.
        self.transport.set_write_buffer_limits(0)
        self._socket_descriptor: int = transport.get_extra_info("socket").fileno()
        self._descriptor = self._socket_descriptor
        self.deadline = listener.clock.now + listener.handshake_seconds
        listener.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Decrypt and pass on. The common case is one record, a whole request."""
        protocol = self._protocol
        if protocol is None:
            self._receive_handshake(data)
            return
        if len(data) > RECORD_BYTES:
            self._receive_more(b"", memoryview(data))
            return
        incoming = self._incoming
        incoming.write(data)
        if self._cut:
            self._receive_more(b"")
            return
        try:
            # What is encrypted is never shorter than what it hides.
            plain = self._read(len(data))
        except ssl.SSLError as error:
            self._read_failed(error)
            return
        if plain and not incoming.pending:
            protocol.data_received(plain)
        else:
            self._receive_more(plain)

    def eof_received(self) -> bool:
        """End with the client, unless it said goodbye in TLS and waits for its answer.

        One that did not say so may have been cut off: what it asked for is given up.
        """
        if self._phase != OPEN:
            return False
        if not self._half_closed and self._protocol is not None and not self._protocol.idle:
            self.abort()
        return self._half_closed

    def connection_lost(self, error: Exception | None) -> None:
        """Tell the protocol."""
        self._phase = CLOSING
        # The number of the descriptor may soon be that of another connection.
        self._descriptor = self._socket_descriptor = -1
        self._listener.connections.discard(self)
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(error)

    def pause_writing(self) -> None:
        """Let the protocol write no more: the client does not take it."""
        self._descriptor = -1
        if self._protocol is not None:
            self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Let the protocol go on."""
        self._descriptor = self._socket_descriptor
        if self._protocol is not None:
            self._protocol.resume_writing()

    # What the listener calls while the handshake lasts.

    def expire(self, now: float) -> None:
        """Give up a handshake that takes too long."""
        self._listener.handshake_failed("not done in time")
        self.transport.abort()

    def drain(self, now: float) -> None:
        """Nobody waits for an answer yet, but a request may follow at once: let it come."""

    @property
    def idle(self) -> bool:
        """No request is in progress."""
        return True

    # What the protocol calls: its transport.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection; ``ssl_object`` is the TLS of it."""
        if name == "ssl_object":
            return self._ssl
        return self.transport.get_extra_info(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered without the protocol being paused."""

    def get_write_buffer_size(self) -> int:
        """Return how many encrypted bytes wait for the client."""
        return self.transport.get_write_buffer_size()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if self._phase != OPEN:
            return
        try:
            if len(data) <= RECORD_BYTES:
                self._write_record(data)
                encrypted = self._outgoing.read()
            else:
                encrypted = self._encrypt_much(memoryview(data))
        except ssl.SSLError:
            self.transport.abort()
            return
        sent = send(self._descriptor, encrypted) if self._descriptor >= 0 else 0
        if sent is not None:
            self._queue(encrypted, sent)

    def is_closing(self) -> bool:
        """Tell whether the end has been decided."""
        return self._phase == CLOSING or self.transport.is_closing()

    def close(self) -> None:
        """Say in TLS that nothing follows, then close."""
        if self._phase == OPEN:
            self._say_goodbye()
        self._phase = CLOSING
        self.transport.close()

    def can_write_eof(self) -> bool:
        """TLS can end one direction alone (RFC 8446 section 6.1)."""
        return True

    def write_eof(self) -> None:
        """Say that nothing follows, and take what the client still sends: nobody reads it."""
        if self._phase != OPEN:
            return
        self._phase = LINGERING
        self._say_goodbye()
        self._read = self._discard
        self.transport.write_eof()

    def abort(self) -> None:
        """Close at once."""
        self._phase = CLOSING
        self.transport.abort()

    def pause_reading(self) -> None:
        """Deliver nothing until `resume_reading`; what was read before is delivered already."""
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Deliver again."""
        self.transport.resume_reading()

    def is_reading(self) -> bool:
        """Tell whether bytes are delivered."""
        return self.transport.is_reading()

    # The handshake.

    def _receive_handshake(self, data: bytes) -> None:
        if self._phase != HANDSHAKE:
            return
        if self._ssl is None:
            data = self._first + data
            if len(data) < len(PLAIN_REQUESTS[0]):
                self._first = data
                return
            if data.startswith(PLAIN_REQUESTS):
                self._refuse_plain()
                return
            self._first = b""
            self._incoming = ssl.MemoryBIO()
            self._outgoing = ssl.MemoryBIO()
            self._ssl = self._tls.begin(self._incoming, self._outgoing)
        rest = memoryview(data)
        while rest and self._phase == HANDSHAKE:
            self._incoming.write(rest[:RECORD_BYTES])
            rest = rest[RECORD_BYTES:]
            if self._shake_hands(self._ssl):
                self._open(self._ssl, rest)

    def _shake_hands(self, connection: ssl.SSLObject) -> bool:
        """Go on with the handshake; tells whether it is complete."""
        try:
            self._tls.handshake(connection, self._local_address)
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except (ssl.SSLError, OSError) as error:
            self._flush()
            self._handshake_failed(error)
            return False
        if connection.version() != "TLSv1.3":
            # What is left to send in TLS 1.3 is a ticket, which can go with the first answer.
            self._flush()
        return True

    def _open(self, connection: ssl.SSLObject, rest: memoryview) -> None:
        """Hand over to the protocol of the requests, with what has come behind the handshake."""
        self._phase = OPEN
        # What the methods of the same names call, and nothing else: two calls less a request.
        self._read = connection._sslobj.read  # type: ignore[attr-defined]
        self._write_record = connection._sslobj.write  # type: ignore[attr-defined]
        listener = self._listener
        listener.connections.discard(self)
        protocol = listener.protocol_for(connection.selected_alpn_protocol())
        self._protocol = protocol
        protocol.connection_made(self)
        if self._incoming.pending or rest:
            self._receive_more(b"", rest)

    def _refuse_plain(self) -> None:
        self._listener.handshake_failed("an HTTP request without TLS")
        self._phase = CLOSING
        self.transport.write(PLAIN_ANSWER)
        self.transport.close()

    def _handshake_failed(self, error: Exception) -> None:
        reason = str(getattr(error, "reason", None) or type(error).__name__)
        words = REASONS.get(reason) or reason.replace("_", " ").lower()
        self._listener.handshake_failed(words)
        self._phase = CLOSING
        self.transport.close()

    def _local_address(self) -> str:
        address: str = self.transport.get_extra_info("sockname")[0].partition("%")[0]
        return address.removeprefix("::ffff:") if "." in address else address

    # Reading and writing.

    def _encrypt_much(self, data: memoryview) -> bytes:
        """Return what takes more than one record, encrypted."""
        records = []
        for start in range(0, len(data), RECORD_BYTES):
            self._write_record(data[start : start + RECORD_BYTES])
            records.append(self._outgoing.read())
        return b"".join(records)

    def _receive_more(self, plain: bytes, rest: memoryview | bytes = b"") -> None:
        """Pass on everything that has come, in one piece; ``plain`` is the first of it, ``rest`` is
        yet to be decrypted."""
        self._cut = False
        incoming = self._incoming
        parts = [plain] if plain else []
        failure: ssl.SSLError | None = None
        ended = not (plain or rest or incoming.pending)
        while (rest or incoming.pending) and not ended:
            if not incoming.pending:
                incoming.write(rest[:RECORD_BYTES])
                rest = rest[RECORD_BYTES:]
            failure = None
            try:
                plain = self._read(RECORD_BYTES)
            except ssl.SSLWantReadError as error:
                failure = _without_traceback(error)
                continue
            except ssl.SSLError as error:
                failure = _without_traceback(error)
                break
            if plain:
                parts.append(plain)
            else:
                ended = True
        if parts and self._protocol is not None:
            self._protocol.data_received(b"".join(parts))
        if failure is not None:
            self._read_failed(failure)
        elif ended:
            self._end()

    def _read_failed(self, error: ssl.SSLError) -> None:
        """Wait for the rest of a record, or give up a connection that is broken."""
        if isinstance(error, ssl.SSLWantReadError):
            self._cut = True
            # The client may have asked for something that TLS answers by itself.
            self._flush()
        elif isinstance(error, ssl.SSLZeroReturnError):
            self._end()
        elif self._phase == OPEN:
            self._flush()
            self._phase = CLOSING
            self.transport.close()

    def _discard(self, _count: int) -> bytes:
        """Stand in the place of decrypting when nothing is wanted any more."""
        self._incoming.read()
        return b""

    def _end(self) -> None:
        """The client said that it sends no more."""
        if self._phase != OPEN or self._half_closed:
            return
        tls, protocol = self._ssl, self._protocol
        assert tls is not None and protocol is not None
        if tls.version() == HALF_CLOSING and protocol.eof_received():
            self._half_closed = True
            # OpenSSL would read no more of what may still come, and all of it would be kept.
            self._read = self._discard
        else:
            self.close()

    def _flush(self) -> None:
        """Send what TLS itself has to say."""
        encrypted = self._outgoing.read()
        if not encrypted:
            return
        sent = send(self._descriptor, encrypted) if self._descriptor >= 0 else 0
        if sent is not None:
            self._queue(encrypted, sent)

    def _queue(self, encrypted: bytes, sent: int) -> None:
        """Let the transport send what the socket did not take."""
        if sent == len(encrypted):
            # The socket is dead, and sending has consumed its error.
            self.transport.abort()
        else:
            self.transport.write(encrypted[sent:])

    def _say_goodbye(self) -> None:
        # What it waits for then, the goodbye of the other side, need not come.
        with contextlib.suppress(ssl.SSLError):
            cast("ssl.SSLObject", self._ssl).unwrap()
        self._flush()


def _without_traceback(error: ssl.SSLError) -> ssl.SSLError:
    """Return an error that may be kept in a variable: with its traceback it would be a cycle, and
    everything that the method holds would wait for the garbage collector."""
    return error.with_traceback(None)
