"""Servers: their URLs, and what dialling them can end in, with real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
import time
from typing import Any

import pytest

from kvproxy.model.static import EntryPoint, ForwardingTimeouts, StaticConfiguration
from kvproxy.proxy.upstream.http1 import UpstreamConnection
from kvproxy.proxy.upstream.server import DialError, Server, split_server_url
from kvproxy.proxy.upstream.transport import TransportSettings
from tests.support.backend import ReservedPort, UnansweringPort
from tests.support.certificates import Authority, authority
from tests.support.http2_frames import NO_ERROR, PING, frame, goaway, settings
from tests.unit.proxy.wires import FakeTransport, Wires


def transport(**options: Any) -> TransportSettings:
    return TransportSettings(
        StaticConfiguration(entry_points={"http": EntryPoint(address=":0")}, **options)
    )


URLS = [
    ("http://a", ("http", "a", 80, "a")),
    ("https://a", ("https", "a", 443, "a")),
    ("ws://a", ("ws", "a", 80, "a")),
    ("wss://a", ("wss", "a", 443, "a")),
    ("ftp://a", ("ftp", "a", 80, "a")),
    ("HTTP://A:81", ("http", "A", 81, "A:81")),
    ("http://10.0.0.7:8080/path?query", ("http", "10.0.0.7", 8080, "10.0.0.7:8080")),
    ("http://a:", ("http", "a", 80, "a:")),
    ("http://a:8989474", ("http", "a", 8989474, "a:8989474")),
    ("http://[::1]", ("http", "::1", 80, "[::1]")),
    ("https://[fe80::1]:8443/x", ("https", "fe80::1", 8443, "[fe80::1]:8443")),
    ("http://user:secret@a:1", ("http", "a", 1, "a:1")),
    ("http://user@[::1]:1", ("http", "::1", 1, "[::1]:1")),
]


@pytest.mark.parametrize(("url", "parts"), URLS, ids=[url for url, _ in URLS])
def test_url(url: str, parts: tuple[str, str, int, str]) -> None:
    assert split_server_url(url) == parts


@pytest.mark.parametrize("url", ["", "a", "http://", "http:///x", "http://:80", "http://u@:1"])
def test_url_without_host(url: str) -> None:
    with pytest.raises(ValueError, match="no host"):
        split_server_url(url)


def test_user_names_and_passwords_are_never_shown() -> None:
    server = Server("http://user:secret@a:1/path", transport())
    shown = (server.name, server.host_line, server.identity)
    assert "secret" not in repr(shown)
    assert "user" not in repr(shown)
    assert server.identity == ("http", "a:1", "/path")
    assert server.host_line == b"Host: a:1\r\n\r\n"


SCHEMES = [
    ("http", True, True),
    ("https", True, True),
    ("ws", False, True),
    ("wss", False, True),
    ("ftp", False, False),
    ("h2c", True, False),
]


@pytest.mark.parametrize(("scheme", "plain", "websocket"), SCHEMES)
def test_schemes(scheme: str, plain: bool, websocket: bool) -> None:
    server = Server(f"{scheme}://a", transport())
    assert server.accepts(False) is plain
    assert server.accepts(True) is websocket


async def failed(url: str, **options: Any) -> int:
    with pytest.raises(DialError) as caught:
        async with asyncio.timeout(10):
            await Server(url, transport(**options)).dial()
    assert str(caught.value)
    return caught.value.status


async def test_refused_is_502() -> None:
    with ReservedPort() as reserved:
        assert await failed(f"http://127.0.0.1:{reserved.port}") == 502


@pytest.mark.parametrize(
    "url", ["http://name.invalid", "http://127.0.0.1:8989474", "http://a..b", f"http://{'a' * 70}"]
)
async def test_addresses_that_do_not_exist_are_502(url: str) -> None:
    assert await failed(url) == 502


async def test_no_answer_to_the_first_packet_is_504() -> None:
    with UnansweringPort() as silent:
        limits = ForwardingTimeouts(dial_timeout=0.2)
        url = f"http://127.0.0.1:{silent.port}"
        assert await failed(url, forwarding_timeouts=limits) == 504


class Listening:
    """A server with ``behaviour`` on a free port."""

    def __init__(self, behaviour: Any, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour = behaviour
        self.tls = tls

    async def __aenter__(self) -> int:
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.tls)
        port: int = self.server.sockets[0].getsockname()[1]
        return port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self.behaviour(reader, writer)
        except (ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def __aexit__(self, *details: object) -> None:
        self.server.close()


async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def answer_plainly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await reader.read()


async def test_plain_server_where_tls_is_expected_is_500() -> None:
    async with Listening(answer_plainly) as port:
        assert await failed(f"https://127.0.0.1:{port}") == 500


async def test_unknown_authority_is_500() -> None:
    async with Listening(wait, authority().server_context("127.0.0.1")) as port:
        assert await failed(f"https://127.0.0.1:{port}") == 500
        stranger = Authority("another").pem
        assert await failed(f"https://127.0.0.1:{port}", root_cas=(stranger,)) == 500


async def test_certificate_for_another_name_is_500() -> None:
    async with Listening(wait, authority().server_context("other.test")) as port:
        assert await failed(f"https://127.0.0.1:{port}", root_cas=(authority().pem,)) == 500


TRUST = [
    lambda: {"root_cas": (authority().pem,)},
    lambda: {"root_cas": (str(authority().path),)},
    lambda: {"insecure_skip_verify": True},
]


@pytest.mark.parametrize("options", TRUST, ids=["text", "file", "skip"])
async def test_trusted_server(options: Any) -> None:
    async with Listening(wait, authority().server_context("127.0.0.1")) as port:
        connection = await Server(f"https://127.0.0.1:{port}", transport(**options())).dial()
        assert connection.descriptor == -1, "bytes must not bypass the encryption"
        connection.abort()


async def test_silent_tls_handshake_is_504() -> None:
    async with Listening(wait) as port:
        limits = ForwardingTimeouts(dial_timeout=0.2)
        assert await failed(f"https://127.0.0.1:{port}", forwarding_timeouts=limits) == 504


async def test_plain_server() -> None:
    async with Listening(wait) as port:
        connection = await Server(f"http://127.0.0.1:{port}", transport()).dial()
        assert connection.descriptor >= 0
        assert connection.used_at == 0
        connection.abort()


# id: what an HTTP/2 server says at once, which leaves no room for a request
UNUSABLE: dict[str, bytes] = {
    "no streams": settings((3, 0)),
    "leaves": settings() + goaway(NO_ERROR, last=0),
    "breaks the protocol": frame(PING, 0, 0, b"8 octets"),
    "speaks HTTP/1.1": b"HTTP/1.1 400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("said", UNUSABLE.values(), ids=UNUSABLE.keys())
async def test_an_http2_server_that_takes_no_requests_is_not_dialled_without_end(
    said: bytes,
) -> None:
    """Each dial ends after one connection; whether it gets a stream first is a matter of luck."""
    connections = 0

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(said)
        await reader.read()

    async with Listening(behave) as port, asyncio.timeout(20):
        server = Server(f"h2c://127.0.0.1:{port}", transport())
        for count in range(1, 31):
            with contextlib.suppress(DialError):
                await server.dial()
            assert connections <= count
            assert len(server.multiplexed) <= 1
        server.close_idle(math.inf)


async def test_many_who_dial_a_server_of_http_1_1_get_a_connection_each() -> None:
    """Whether it speaks HTTP/2 is asked once."""
    async with Listening(wait, authority().server_context("127.0.0.1")) as port:
        server = Server(f"https://127.0.0.1:{port}", transport(insecure_skip_verify=True))
        dialled = await asyncio.gather(*[server.dial() for _ in range(20)])
        assert all(isinstance(each, UpstreamConnection) for each in dialled)
        assert len({id(each) for each in dialled}) == 20
        for each in dialled:
            each.abort()


@pytest.mark.parametrize("scheme", ["h2c", "https"])
async def test_many_who_dial_in_vain_are_all_told(scheme: str) -> None:
    with ReservedPort() as dead:
        server = Server(f"{scheme}://127.0.0.1:{dead.port}", transport())
        for _ in range(2):
            results = await asyncio.gather(
                *[server.dial() for _ in range(20)], return_exceptions=True
            )
            assert [getattr(each, "status", each) for each in results] == [502] * 20


async def test_who_gives_up_while_dialling_costs_the_others_nothing() -> None:
    async with Listening(wait) as port:
        server = Server(f"h2c://127.0.0.1:{port}", transport())
        dials = [asyncio.ensure_future(server.dial()) for _ in range(3)]
        await asyncio.sleep(0)
        dials[0].cancel()
        streams = await asyncio.gather(*dials[1:])
        assert len(streams) == 2
        assert len(server.multiplexed) == 1
        server.close_idle(math.inf)


async def test_a_new_http2_connection_is_not_taken_for_one_that_nobody_needs() -> None:
    async with Listening(wait) as port:
        server = Server(f"h2c://127.0.0.1:{port}", transport())
        started = time.monotonic()
        await server.dial()
        server.close_idle(started)
        assert len(server.multiplexed) == 1
        server.close_idle(math.inf)
        assert not server.multiplexed


async def test_ip6() -> None:
    listening = socket.socket(socket.AF_INET6)
    try:
        listening.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    listening.listen(1)
    connection = await Server(f"http://[::1]:{listening.getsockname()[1]}", transport()).dial()
    connection.abort()
    listening.close()


def pooled(server: Server, used_at: float) -> tuple[UpstreamConnection, FakeTransport]:
    connection = UpstreamConnection(server)
    connection.used_at = used_at
    wire = FakeTransport(Wires(), connection, 100)
    return connection, wire


def test_pool_drops_the_unused_and_the_surplus() -> None:
    async def run() -> None:
        server = Server("http://a", transport(max_idle_conns_per_host=3))
        server.users = 1
        connections = [pooled(server, float(number)) for number in range(5)]
        for connection, _ in connections:
            server.release(connection)
        server.close_idle(3.5)
        assert server.idle == [connections[4][0]]
        assert [wire.closing for _, wire in connections] == [True] * 4 + [False]

    asyncio.run(run())


@pytest.mark.parametrize("events", ["eof", "data", "reset"])
def test_connection_that_ends_or_speaks_leaves_the_pool(events: str) -> None:
    async def run() -> None:
        server = Server("http://a", transport())
        server.users = 1
        connection, wire = pooled(server, 1.0)
        server.release(connection)
        if events == "eof":
            wire.eof_coming = True
        elif events == "data":
            wire.coming.append(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        else:
            wire.reset()
            await asyncio.sleep(0)
        wire.deliver(1000)
        assert server.idle == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.lost
        assert connection.descriptor == -1

    asyncio.run(run())
