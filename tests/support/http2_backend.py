"""An HTTP/2 server behind the proxy, scripted by path, over a library that knows nothing of ours
(``h2``)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    DataReceived,
    RequestReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)

if TYPE_CHECKING:
    import ssl

    from tests.support.backend import LoopThread

Fields = list[tuple[bytes, bytes]]


class Asked:
    """One request: its fields, its body and trailers as they came, how it ended."""

    def __init__(self, connection: int, number: int, fields: Fields) -> None:
        self.connection = connection
        self.number = number
        self.fields = fields
        self.body = b""
        self.trailers: Fields = []
        self.ended = asyncio.Event()
        self.reset_code: int | None = None

    def value(self, name: bytes) -> bytes | None:
        """Return the first value of a field."""
        return next((value for key, value in self.fields if key == name), None)

    @property
    def path(self) -> str:
        return (self.value(b":path") or b"").decode()


class Http2Backend:
    """Listens on a free port of 127.0.0.1. Answers by path:

    ``/echo``: the fields and the body as JSON; ``/large/N``: N bytes without length; ``/length/N``
    with it; ``/trailers``; ``/hints``: 103 first; ``/status/N``; ``/refuse-once``, ``/reset``,
    ``/broken`` (more than its Content-Length); ``/goaway``: serves the first such request and turns
    down those that come behind it on the connection; ``/early``: answers before the body has come;
    ``/wait``: answers when `release` is called.
    """

    def __init__(
        self,
        loop_thread: LoopThread,
        *,
        tls: ssl.SSLContext | None = None,
        streams: int = 100,
    ) -> None:
        """``streams``: how many one connection may have open."""
        self.requests: list[Asked] = []
        self.connections = 0
        self.tls = tls
        self.streams = streams
        self.refused: set[str] = set()
        self.gone = False
        self.released: asyncio.Event
        self._loop_thread = loop_thread
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self._server: asyncio.Server = loop_thread.run(self._listen())

    async def _listen(self) -> asyncio.Server:
        self.released = asyncio.Event()
        return await asyncio.start_server(self._serve, sock=self._listener, ssl=self.tls)

    @property
    def url(self) -> str:
        """The URL that goes into a configuration."""
        return f"{'https' if self.tls else 'h2c'}://127.0.0.1:{self.port}"

    @property
    def open_connections(self) -> int:
        """Return how many connections there are now."""
        return len(self._writers)

    def release(self) -> None:
        """Let all requests for ``/wait`` be answered."""
        self._loop_thread.loop.call_soon_threadsafe(self.released.set)

    def close_connections(self) -> None:
        """Abort every connection."""

        async def close() -> None:
            for writer in self._writers:
                writer.transport.abort()

        self._loop_thread.run(close())

    def stop(self) -> None:
        """Close the listener and every connection."""
        self._loop_thread.loop.call_soon_threadsafe(self._server.close)
        self.close_connections()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        self.connections += 1
        try:
            await _Conversation(self, self.connections, reader, writer).run()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            with contextlib.suppress(ConnectionError):
                writer.close()


class _Conversation:
    """One connection."""

    def __init__(
        self,
        backend: Http2Backend,
        number: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.backend = backend
        self.number = number
        self.reader = reader
        self.writer = writer
        self.machine = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.asked: dict[int, Asked] = {}
        self.window = asyncio.Event()
        self.going_away = False
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self.machine.initiate_connection()
        self.machine.update_settings({3: self.backend.streams})
        self.flush()
        try:
            while data := await self.reader.read(65536):
                for event in self.machine.receive_data(data):
                    self._happened(event)
                self.flush()
        finally:
            for task in self.tasks:
                task.cancel()

    def flush(self) -> None:
        self.writer.write(self.machine.data_to_send())

    def _happened(self, event: object) -> None:
        if isinstance(event, RequestReceived):
            asked = Asked(self.number, event.stream_id, list(event.headers))
            if self.going_away:
                return
            self.asked[event.stream_id] = asked
            self.backend.requests.append(asked)
            task = asyncio.get_running_loop().create_task(self._answer(asked))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        elif isinstance(event, DataReceived):
            self.machine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            if event.stream_id in self.asked:
                self.asked[event.stream_id].body += event.data
        elif isinstance(event, TrailersReceived):
            self.asked[event.stream_id].trailers = list(event.headers)
        elif isinstance(event, StreamEnded):
            if event.stream_id in self.asked:
                self.asked[event.stream_id].ended.set()
        elif isinstance(event, StreamReset):
            if event.stream_id in self.asked:
                self.asked[event.stream_id].reset_code = int(event.error_code)
                self.asked[event.stream_id].ended.set()
        elif isinstance(event, WindowUpdated):
            self.window.set()

    async def _answer(self, asked: Asked) -> None:
        kind, _, size = asked.path.partition("?")[0].lstrip("/").partition("/")
        if kind == "refuse-once" and asked.path not in self.backend.refused:
            self.backend.refused.add(asked.path)
            self.machine.reset_stream(asked.number, ErrorCodes.REFUSED_STREAM)
        elif kind == "reset":
            self.machine.reset_stream(asked.number, ErrorCodes.INTERNAL_ERROR)
        elif kind == "goaway" and not self.backend.gone:
            self.backend.gone = self.going_away = True
            self.machine.close_connection(last_stream_id=asked.number)
            # The library sends nothing more after a GOAWAY of its own: written by hand.
            block = b"\x88\x5c\x012"  # :status 200, content-length 2
            frame = len(block).to_bytes(3, "big") + b"\x01\x04" + asked.number.to_bytes(4, "big")
            data = b"\x00\x00\x02\x00\x01" + asked.number.to_bytes(4, "big") + b"ok"
            self.flush()
            self.writer.write(frame + block + data)
            return
        elif kind == "broken":
            self._head(asked, [(b"content-length", b"2")])
            await self._body(asked, b"more than two")
        elif kind == "early":
            self._head(asked, [(b"content-length", b"5")])
            await self._body(asked, b"early")
        else:
            await self._plain_answer(asked, kind, int(size or 0))
        self.flush()

    async def _plain_answer(self, asked: Asked, kind: str, size: int) -> None:
        await asked.ended.wait()
        if asked.reset_code is not None:
            return
        if kind == "wait":
            await self.backend.released.wait()
            if asked.reset_code is not None:
                return
        if kind == "hints":
            hints = [(b":status", b"103"), (b"link", b"</a>")]
            self.machine.send_headers(asked.number, hints)
        if kind == "status":
            self._head(asked, [], size)
            await self._body(asked, b"" if size in (204, 304) else b"%d" % size)
        elif kind in ("large", "length"):
            fields = [(b"content-length", b"%d" % size)] if kind == "length" else []
            self._head(asked, fields)
            if asked.value(b":method") == b"HEAD":
                await self._body(asked, b"")
            else:
                await self._body(asked, b"0123456789" * (size // 10))
        elif kind == "trailers":
            self._head(asked, [(b"content-type", b"application/grpc")])
            self.machine.send_data(asked.number, b"message")
            status = [(b"grpc-status", b"0"), (b"grpc-message", b"fine")]
            self.machine.send_headers(asked.number, status, end_stream=True)
        else:
            said = {
                "fields": [[name.decode(), value.decode()] for name, value in asked.fields],
                "body": asked.body.decode("latin-1"),
                "trailers": [[name.decode(), value.decode()] for name, value in asked.trailers],
            }
            self._head(asked, [(b"content-type", b"application/json")])
            await self._body(asked, json.dumps(said).encode())

    def _head(self, asked: Asked, fields: Fields, status: int = 200) -> None:
        self.machine.send_headers(
            asked.number,
            [(b":status", b"%d" % status), (b"x-connection", b"%d" % self.number), *fields],
        )

    async def _body(self, asked: Asked, data: bytes) -> None:
        while data:
            room = min(
                self.machine.local_flow_control_window(asked.number),
                self.machine.max_outbound_frame_size,
            )
            if not room:
                self.window.clear()
                self.flush()
                await self.window.wait()
                continue
            self.machine.send_data(asked.number, data[:room])
            data = data[room:]
            self.flush()
            await self.writer.drain()
        self.machine.end_stream(asked.number)
