"""Messages and file descriptors between supervisor and worker, or two supervisors, by unix socket.

A frame is a big-endian header - 4 bytes length of the body, 1 byte number of descriptors - and the
body, one message in MessagePack. Descriptors travel with the first byte of a frame.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Incoming = TypeVar("Incoming")

MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Bound of one message; a larger one is refused by the sender and ends the receiver's channel."""

MAX_DESCRIPTORS = 250
"""Bound of the descriptors of one message (the kernel takes 253)."""

_HEADER = struct.Struct("!IB")
_READ_BYTES = 256 * 1024
_MAX_WAITING_MESSAGES = 64
_DESCRIPTOR_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)
_RECEIVE_FLAGS = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


class ChannelClosed(Exception):  # noqa: N818 - an end is no error
    """Nothing more will come: the other side closed, died, or sent something that is no message."""


def encode(message: Any) -> bytes:
    """Return the body of ``message`` for `Channel.send_encoded`; raises ValueError if too large."""
    body = msgspec.msgpack.encode(message)
    if len(body) > MAX_FRAME_BYTES:
        raise ValueError(f"message of {len(body)} bytes; at most {MAX_FRAME_BYTES} can be sent")
    return body


@cache
def decoder(incoming_type: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return the decoder of what `Channel` receives; of large types it takes a while to make."""
    return msgspec.msgpack.Decoder(incoming_type)


class Channel(Generic[Incoming]):
    """One end of a connected unix stream socket; must be made inside a running event loop.

    ``incoming_type`` is the message type, or union of tagged types, that the other side sends. The
    channel owns the socket from then on.
    """

    def __init__(self, sock: socket.socket, incoming_type: Any) -> None:
        """Start reading at once."""
        sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._decoder: msgspec.msgpack.Decoder[Incoming] = decoder(incoming_type)
        self._buffer = bytearray()
        self._descriptors: deque[int] = deque()
        self._messages: deque[tuple[Incoming, list[int]]] = deque()
        self._receiver: asyncio.Future[None] | None = None
        self._outgoing: deque[tuple[memoryview, list[int]]] = deque()
        self._drained: asyncio.Future[None] | None = None
        self._closed = ""
        self._reading = True
        self._loop.add_reader(sock.fileno(), self._on_readable)

    @property
    def closed(self) -> bool:
        """Whether either side closed the channel (messages that came before may still wait)."""
        return bool(self._closed)

    @property
    def queued_bytes(self) -> int:
        """Bytes that were sent but not yet taken by the kernel."""
        return sum(len(view) for view, _ in self._outgoing)

    def send(self, message: Any, fds: Sequence[int] = ()) -> None:
        """Send ``message`` with duplicates of ``fds``, which the caller may close at once.

        Never blocks: what the kernel does not take now is queued. On a closed channel the message
        is dropped; `receive` is what tells of the end. Raises ValueError when the message or the
        number of descriptors is too large.
        """
        self.send_encoded(encode(message), fds)

    def send_encoded(self, body: bytes, fds: Sequence[int] = ()) -> None:
        """Send what `encode` returned: the same message to many channels is encoded once."""
        if len(fds) > MAX_DESCRIPTORS:
            raise ValueError(
                f"{len(fds)} descriptors; at most {MAX_DESCRIPTORS} can be sent at once"
            )
        if self._closed:
            return
        idle = not self._outgoing
        frame = memoryview(_HEADER.pack(len(body), len(fds)) + body)
        self._outgoing.append((frame, [os.dup(fd) for fd in fds]))
        if idle:
            self._flush()
            if self._outgoing:
                self._loop.add_writer(self._socket.fileno(), self._on_writable)

    async def drain(self) -> None:
        """Wait until everything queued was taken by the kernel; raises `ChannelClosed`."""
        while self._outgoing:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)
        if self._closed:
            raise ChannelClosed(self._closed)

    async def receive(self) -> tuple[Incoming, list[int]]:
        """Return the next message and its descriptors, which are the caller's to close from now on.

        Raises `ChannelClosed` after the last message. Only one task may receive at a time.
        """
        while not self._messages:
            if self._closed:
                raise ChannelClosed(self._closed)
            self._receiver = self._loop.create_future()
            try:
                await self._receiver
            finally:
                self._receiver = None
        message = self._messages.popleft()
        if not self._reading and not self._closed and len(self._messages) < _MAX_WAITING_MESSAGES:
            self._reading = True
            self._loop.add_reader(self._socket.fileno(), self._on_readable)
        return message

    def close(self) -> None:
        """Close now and drop what is still queued (`drain` first where it matters)."""
        self._close("closed on this side")
        while self._messages:
            _close_all(self._messages.popleft()[1])

    def _close(self, reason: str) -> None:
        if self._closed:
            return
        self._closed = reason
        if self._reading:
            self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()
        self._buffer.clear()
        _close_all(self._descriptors)
        self._descriptors.clear()
        while self._outgoing:
            _close_all(self._outgoing.popleft()[1])
        self._wake_drained()
        self._wake_receiver()

    def _wake_receiver(self) -> None:
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _wake_drained(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    def _on_writable(self) -> None:
        self._flush()
        if not self._outgoing and not self._closed:
            self._loop.remove_writer(self._socket.fileno())
            self._wake_drained()

    def _flush(self) -> None:
        while self._outgoing:
            view, fds = self._outgoing[0]
            ancillary = (
                [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            )
            try:
                sent = self._socket.sendmsg([view], ancillary)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # Messages of the other side may still wait to be read (a worker's last words), so
                # only the sending half ends here; the reader finds the end of file after them.
                while self._outgoing:
                    _close_all(self._outgoing.popleft()[1])
                if error.errno not in (errno.EPIPE, errno.ECONNRESET):
                    self._close(f"cannot send: {error}")
                return
            _close_all(fds)
            if sent < len(view):
                self._outgoing[0] = (view[sent:], [])
                return
            self._outgoing.popleft()

    def _on_readable(self) -> None:
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                _READ_BYTES, _DESCRIPTOR_SPACE, _RECEIVE_FLAGS
            )
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._close(f"cannot receive: {error}")
            return
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(content[: len(content) - len(content) % received.itemsize])
                self._descriptors.extend(received)
        if flags & socket.MSG_CTRUNC:
            self._close("descriptors were lost")
        elif not data:
            self._close("the other side closed")
        else:
            self._buffer += data
            self._take_frames()

    def _take_frames(self) -> None:
        buffer = self._buffer
        start = 0
        while len(buffer) - start >= _HEADER.size:
            length, count = _HEADER.unpack_from(buffer, start)
            if length > MAX_FRAME_BYTES or count > MAX_DESCRIPTORS:
                self._close(f"a frame of {length} bytes with {count} descriptors")
                return
            end = start + _HEADER.size + length
            if len(buffer) < end:
                break
            if count > len(self._descriptors):
                self._close("a message without its descriptors")
                return
            try:
                # The copy is temporary; a memoryview of the buffer would forbid to shrink it.
                message = self._decoder.decode(
                    bytes(memoryview(buffer)[start + _HEADER.size : end])
                )
            except msgspec.DecodeError as error:
                self._close(f"no message: {error}")
                return
            self._messages.append((message, [self._descriptors.popleft() for _ in range(count)]))
            start = end
        del buffer[:start]
        if self._messages:
            self._wake_receiver()
            if len(self._messages) >= _MAX_WAITING_MESSAGES and self._reading:
                self._reading = False
                self._loop.remove_reader(self._socket.fileno())


def _close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
