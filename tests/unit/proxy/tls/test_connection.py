"""The TLS layer between a socket and the protocol of the requests, in memory."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import ssl
from typing import TYPE_CHECKING, Any, cast

import pytest

from kvproxy.control.validation.certificates import generate_default
from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.model.tls import ServedTLS
from kvproxy.proxy.clock import Clock
from kvproxy.proxy.downstream.listener import Listener
from kvproxy.proxy.tls.connection import TLSConnection
from tests.support.tls_client import trusting
from tests.unit.proxy.wires import FakeTransport, Wires

if TYPE_CHECKING:
    from kvproxy.proxy.tls.entry_point import EntryPointTLS

TLS = ServedTLS(default=generate_default(datetime.datetime.now(datetime.UTC)))


class Recorder(asyncio.Protocol):
    """Keeps what it receives; ``times``: in how many pieces."""

    def __init__(self) -> None:
        self.received = b""
        self.times = 0

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.times += 1


class Session:
    """A client that has just made its handshake; ``recorder`` gets what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, version: ssl.TLSVersion) -> None:
        wires = Wires()
        monkeypatch.setattr("kvproxy.proxy.tls.connection.send", wires.send)
        listener = Listener(
            "https",
            EntryPoint(address=":0"),
            StaticConfiguration(entry_points={}),
            clock=Clock(),
            server_name=b"edge",
            tls=TLS,
        )
        self.recorder = Recorder()
        monkeypatch.setattr(listener, "protocol_for", lambda negotiated: self.recorder)
        self.connection = TLSConnection(listener, cast("EntryPointTLS", listener.tls))
        transport: Any = FakeTransport(wires, self.connection, 1 << 20)
        self._transport = transport
        self._to_client, self._to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = trusting()
        context.maximum_version = version
        self._client = context.wrap_bio(self._to_client, self._to_server, server_hostname="a.test")
        for _ in range(3):
            with contextlib.suppress(ssl.SSLWantReadError):
                self._client.do_handshake()
            if self._to_server.pending:
                self.connection.data_received(self._to_server.read())
            self._to_client.write(transport.read(1 << 20))

    def record(self, plain: bytes) -> bytes:
        """Encrypt."""
        self._client.write(plain)
        return self._to_server.read()

    def read(self, size: int) -> bytes:
        """Decrypt what the proxy has sent."""
        self._to_client.write(self._transport.read(1 << 20))
        plain = b""
        while len(plain) < size:
            piece = self._client.read(size - len(plain))
            assert piece, "the proxy has ended the connection"
            plain += piece
        return plain


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Session:
    return Session(monkeypatch, request.param)


async def test_records_may_be_cut_anywhere(session: Session) -> None:
    """What is whole is passed on at once, however little of a record comes last."""
    connection, recorder = session.connection, session.recorder
    for cut in range(1, 240):
        first, second = session.record(b"a" * 40), session.record(b"b" * 200)
        both = first + second
        recorder.received = b""
        connection.data_received(both[:cut])
        assert recorder.received == (b"" if cut < len(first) else b"a" * 40)
        connection.data_received(both[cut:])
        assert recorder.received == b"a" * 40 + b"b" * 200
        connection.data_received(session.record(b"c"))
        assert recorder.received.endswith(b"bc")


async def test_large_records_may_come_in_small_pieces(session: Session) -> None:
    whole = session.record(b"a" * 16_384) + session.record(b"b" * 16_384)
    for at in range(0, len(whole), 997):
        session.connection.data_received(whole[at : at + 997])
    assert session.recorder.received == b"a" * 16_384 + b"b" * 16_384


class Spy:
    """Passes on to a `ssl.MemoryBIO`, and notes the most that it ever held."""

    def __init__(self, memory: ssl.MemoryBIO) -> None:
        self._memory = memory
        self.most = 0

    @property
    def pending(self) -> int:
        return self._memory.pending

    def write(self, data: Any) -> int:
        written = self._memory.write(data)
        self.most = max(self.most, self._memory.pending)
        return written

    def read(self, size: int = -1) -> bytes:
        self.most = max(self.most, self._memory.pending)
        return self._memory.read(size)


MUCH = bytes(range(256)) * 1200
"""More than what passes through the buffers of OpenSSL at a time."""


@pytest.mark.parametrize("surplus", [1, 5, 100])
async def test_much_passes_through_small_buffers(session: Session, surplus: int) -> None:
    """OpenSSL keeps the memory for the most that a buffer ever held as long as it lives."""
    connection: Any = session.connection
    incoming, outgoing = Spy(connection._incoming), Spy(connection._outgoing)
    connection._incoming, connection._outgoing = incoming, outgoing
    whole = session.record(MUCH) + session.record(b"end")
    connection.data_received(whole[: len(whole) - surplus])
    assert session.recorder.times == 1
    connection.data_received(whole[len(whole) - surplus :])
    assert session.recorder.received == MUCH + b"end"
    connection.write(MUCH)
    assert session.read(len(MUCH)) == MUCH
    assert 0 < incoming.most <= 16_384
    assert 16_384 < outgoing.most < 17_000


async def test_a_record_that_is_not_whole_leaves_no_garbage(session: Session) -> None:
    """An error that is kept together with its traceback would keep what was decrypted, until the
    garbage collector comes."""
    whole = session.record(MUCH)
    gc.collect()
    gc.disable()
    try:
        for at in range(0, len(whole), 30_000):
            session.connection.data_received(whole[at : at + 30_000])
        kept = [each for each in gc.get_objects() if issubclass(type(each), ssl.SSLWantReadError)]
    finally:
        gc.enable()
    assert session.recorder.received == MUCH
    assert not kept
