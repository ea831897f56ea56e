"""Servers behind the proxy that do exactly what a test says, and remember every byte they got."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.support.closing import Closing
from tests.support.deadline import wait_until
from tests.support.http_client import RawConnection, Response, parse_fields

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine
    from typing import Any

MAX_HEAD_BYTES = 1 << 22


class LoopThread:
    """An event loop in a thread of its own, for servers that live beside a test."""

    def __init__(self) -> None:
        """Start the thread."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="test servers", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def run(self, work: Coroutine[Any, Any, Any], seconds: float = 10.0) -> Any:
        """Run ``work`` on the loop and return its result; TimeoutError after ``seconds``."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def stop(self) -> None:
        """Cancel what still runs and end the thread."""

        async def cancel_all() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self.run(cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Gate:
    """A place in an answer where the server waits until the test opens it."""

    def __init__(self) -> None:
        """Make a closed gate."""
        self.reached = threading.Event()
        self._opened = threading.Event()

    def open(self) -> None:
        """Let the server go on."""
        self._opened.set()

    async def _pass(self) -> None:
        self.reached.set()
        while not self._opened.is_set():
            await asyncio.sleep(0.002)


@dataclass(frozen=True)
class Answer:
    """What a server does with a request.

    ``parts``: bytes are written and flushed, a number is a pause in seconds, a `Gate` is waited at.
    ``after``: what follows them: wait for the next request, close, reset, or hang with the
    connection open. ``read``: how much of the request is read before: all, or its head alone (the
    body then stays unread for ever). ``says_continue``: whether 100 is sent to a client that waits
    for it.
    """

    parts: tuple[bytes | float | Gate, ...] = ()
    after: Literal["keep", "close", "reset", "hang"] = "keep"
    read: Literal["all", "head"] = "all"
    says_continue: bool = True


@dataclass(frozen=True)
class Endless:
    """Sends ``head``, then ``piece`` over and over until the connection ends."""

    head: bytes
    piece: bytes


@dataclass(frozen=True)
class InTurn:
    """The first request of a connection gets the first behaviour, and so on; the last goes on."""

    behaviours: tuple[Answer, ...]


Behaviour = Answer | Endless | InTurn


@dataclass(frozen=True)
class ServerRequest:
    """A request as a server got it."""

    connection: int
    method: bytes
    target: bytes
    version: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    head: bytes
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    framing: str = "none"

    def values(self, name: str) -> list[bytes]:
        """Return all values of header ``name``, in order, whatever its case."""
        wanted = name.lower().encode()
        return [value for key, value in self.headers if key.lower() == wanted]

    def value(self, name: str) -> bytes | None:
        """Return the first value of header ``name``, or None."""
        return next(iter(self.values(name)), None)


@dataclass
class ServerConnection:
    """One connection a server accepted: all it received, and how it ended."""

    number: int
    received: bytearray = field(default_factory=bytearray)
    sent: int = 0
    ended: Literal["", "closed", "reset"] = ""


def parse_request_head(head: bytes, connection: int = 0) -> ServerRequest:
    """Parse a request head that ends with its empty line."""
    request_line, _, block = head.removesuffix(b"\r\n\r\n").partition(b"\r\n")
    method, target, version = request_line.split(b" ", 2)
    return ServerRequest(connection, method, target, version, parse_fields(block), head)


def plain_answer(body: bytes = b"ok", *headers: str, status: str = "200 OK") -> bytes:
    """Return the bytes of an answer with ``body`` and Content-Length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


class Backend:
    """A scripted HTTP/1.1 server.

    A request whose path (without query) is a key of ``script`` gets that behaviour; every other is
    answered 200 with ``X-Server: NAME`` and its own head as the body (see `echoed`).
    """

    def __init__(
        self,
        loop_thread: LoopThread,
        name: str = "echo",
        *,
        script: dict[str, Behaviour] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen on a free port of 127.0.0.1."""
        self.name = name
        self.script: dict[bytes, Behaviour] = {}
        for path, behaviour in (script or {}).items():
            self.on(path, behaviour)
        self.requests: list[ServerRequest] = []
        self.connections: list[ServerConnection] = []
        self._loop_thread = loop_thread
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server = loop_thread.run(self._listen())

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(
            self._serve, sock=self._listener, ssl=self._tls, limit=MAX_HEAD_BYTES
        )

    @property
    def authority(self) -> str:
        """The host:port of this server."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL that goes into a configuration."""
        return f"{'https' if self._tls else 'http'}://{self.authority}"

    def on(self, path: str, behaviour: Behaviour) -> None:
        """Answer requests for ``path`` by ``behaviour`` from now on."""
        self.script[path.encode()] = behaviour

    def stop(self) -> None:
        """Close the listener and every connection."""

        async def close() -> None:
            self._server.close()
            for writer in self._writers:
                writer.transport.abort()

        self._loop_thread.run(close())

    def close_connections(self) -> None:
        """Close every connection, as a server does that tires of idle ones."""

        async def close() -> None:
            for writer in self._writers:
                writer.close()

        self._loop_thread.run(close())

    def requests_for(self, path: str) -> list[ServerRequest]:
        """Return the requests seen so far for ``path``, whatever their query."""
        wanted = path.encode()
        return [each for each in self.requests if each.target.partition(b"?")[0] == wanted]

    def wait_for(self, path: str, count: int = 1, seconds: float = 20.0) -> list[ServerRequest]:
        """Wait until ``count`` requests for ``path`` were read whole and return them."""
        wait_until(
            lambda: len(self.requests_for(path)) >= count,
            f"{count} requests for {path} at {self.name}",
            seconds,
        )
        return self.requests_for(path)

    def received(self) -> bytes:
        """Return everything this server was ever sent, connection after connection."""
        return b"".join(bytes(connection.received) for connection in self.connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = ServerConnection(len(self.connections))
        self.connections.append(connection)
        self._writers.add(writer)
        try:
            await _Conversation(self, connection, reader, writer).run()
            connection.ended = connection.ended or "closed"
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            connection.ended = "reset" if isinstance(error, ConnectionResetError) else "closed"
        except asyncio.CancelledError:
            connection.ended = "closed"
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(ConnectionError):
                writer.close()


class _Conversation:
    """One connection's requests and answers."""

    def __init__(
        self,
        backend: Backend,
        connection: ServerConnection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.backend = backend
        self.connection = connection
        self.reader = reader
        self.writer = writer

    async def run(self) -> None:
        number = 0
        while (head := await self._read_head()) is not None:
            request = parse_request_head(head, self.connection.number)
            behaviour = self.backend.script.get(request.target.partition(b"?")[0])
            if isinstance(behaviour, InTurn):
                behaviour = behaviour.behaviours[min(number, len(behaviour.behaviours) - 1)]
            number += 1
            if not (isinstance(behaviour, Answer) and behaviour.read == "head"):
                says_continue = not isinstance(behaviour, Answer) or behaviour.says_continue
                request = await self._with_body(request, says_continue)
            self.backend.requests.append(request)
            if behaviour is None:
                await self._send(_echo(request, self.backend.name))
            elif isinstance(behaviour, Endless):
                await self._send(behaviour.head)
                while True:
                    await self._send(behaviour.piece)
            elif not await self._answer(behaviour):
                return

    async def _answer(self, answer: Answer) -> bool:
        for part in answer.parts:
            if isinstance(part, bytes):
                await self._send(part)
            elif isinstance(part, Gate):
                await part._pass()
            else:
                await asyncio.sleep(part)
        if answer.after == "keep":
            return True
        if answer.after == "reset":
            raw: socket.socket = self.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        elif answer.after == "hang":
            while data := await self.reader.read(65536):
                self.connection.received += data
        return False

    async def _send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.connection.sent += len(data)

    async def _read_head(self) -> bytes | None:
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            self.connection.received += error.partial
            return None
        self.connection.received += head
        return head

    async def _exactly(self, count: int) -> bytes:
        try:
            data = await self.reader.readexactly(count)
        except asyncio.IncompleteReadError as error:
            self.connection.received += error.partial
            raise
        self.connection.received += data
        return data

    async def _line(self) -> bytes:
        line = await self.reader.readline()
        self.connection.received += line
        if not line.endswith(b"\r\n"):
            raise asyncio.IncompleteReadError(line, None)
        return line

    async def _with_body(self, request: ServerRequest, says_continue: bool) -> ServerRequest:
        expects = b"100-continue" in [value.lower() for value in request.values("Expect")]
        length = request.value("Content-Length")
        chunked = request.value("Transfer-Encoding") is not None
        if expects and says_continue and (length or chunked):
            await self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body, block, framing = b"", b"", "none"
        if chunked:
            framing = "chunked"
            while size := int((await self._line()).partition(b";")[0], 16):
                body += (await self._exactly(size + 2))[:-2]
            while (line := await self._line()) != b"\r\n":
                block += line
        elif length is not None:
            framing = "length"
            body = await self._exactly(int(length))
        return ServerRequest(
            request.connection,
            request.method,
            request.target,
            request.version,
            request.headers,
            request.head,
            body,
            parse_fields(block),
            framing,
        )


def _echo(request: ServerRequest, name: str) -> bytes:
    body = b"" if request.method == b"HEAD" else request.head + request.body
    length = len(request.head) + len(request.body)
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nX-Server: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (name.encode(), length, body)
    )


def echoed(response: Response) -> ServerRequest:
    """Return the request that a server's default answer holds in its body."""
    assert response.status == 200, f"{response.status} {response.raw[:500]!r}"
    head, separator, body = response.body.partition(b"\r\n\r\n")
    assert separator, f"not an echo: {response.body!r}"
    request = parse_request_head(head + separator)
    return ServerRequest(
        request.connection,
        request.method,
        request.target,
        request.version,
        request.headers,
        request.head,
        body,
    )


class Greeter:
    """A server that answers the first bytes of any connection with ``greeting`` and closes."""

    def __init__(self, loop_thread: LoopThread, greeting: bytes) -> None:
        """Listen on a free port of 127.0.0.1."""
        self._greeting = greeting
        self._loop_thread = loop_thread
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._server: asyncio.Server = loop_thread.run(self._listen())

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._greet, sock=self._listener)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read(65536)
            writer.write(self._greeting)
            await writer.drain()
            writer.close()

    def stop(self) -> None:
        """Stop listening."""

        async def close() -> None:
            self._server.close()

        self._loop_thread.run(close())


class ManualServer:
    """A listener whose connections the test itself serves, one step after the other."""

    def __init__(self, receive_buffer: int | None = None) -> None:
        """Listen on a free port; ``receive_buffer`` limits the kernel's buffer (bytes)."""
        self._listener = socket.socket()
        if receive_buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """The URL that goes into a configuration."""
        return f"http://127.0.0.1:{self.port}"

    def accept(self, seconds: float = 20.0) -> RawConnection:
        """Return the next connection; TimeoutError when none comes."""
        self._listener.settimeout(seconds)
        accepted, _ = self._listener.accept()
        return RawConnection.over(accepted, seconds)

    def stop(self) -> None:
        """Stop listening."""
        self._listener.close()


class ReservedPort(Closing):
    """A port of 127.0.0.1 that is ours and does not listen: connecting to it is refused.

    A process of the same user may listen on it (with SO_REUSEPORT) while we hold it, so no other
    program can take it between choosing and using it.
    """

    def __init__(self) -> None:
        """Bind a free port."""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


class UnansweringPort(Closing):
    """A port where connecting neither succeeds nor fails: its queue is full."""

    def __init__(self) -> None:
        """Listen with the smallest queue and fill it."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._listener.getsockname()[1]
        self._fillers: list[socket.socket] = []
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)

    def close(self) -> None:
        """Give the port and the fillers back."""
        for filler in self._fillers:
            filler.close()
        self._listener.close()
