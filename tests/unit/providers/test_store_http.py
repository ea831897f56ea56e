"""HTTP to several store servers: which is asked, what is asked again, what ends a watch."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvproxy.provider import StoreError
from providers.store_http import StoreHttp
from tests.support.backend import Answer, Backend, InTurn, ReservedPort
from tests.support.certificates import Authority, authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from tests.support.backend import LoopThread

OK = Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",))
BROKEN = Answer((b"HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\nwhy",))
SILENT = Answer(after="hang")
LOST = Answer(after="close")
LOST_AFTER_ONE = InTurn((OK, LOST))

ENDPOINTS = [
    ("10.0.0.1:1234", False, ["http://10.0.0.1:1234"]),
    ("store", False, ["http://store:99"]),
    ("store", True, ["https://store:99"]),
    (" a:1 , b:2,", False, ["http://a:1", "http://b:2"]),
    ("https://store:1/", False, ["https://store:1"]),
    ("HTTP://store", False, ["http://store:99"]),
    ("[::1]:8500", False, ["http://[::1]:8500"]),
]
REFUSED_ENDPOINTS = [
    ("", False, "`test.endpoint` is empty"),
    (" , ", False, "`test.endpoint` is empty"),
    ("store:port", False, "`test.endpoint` `store:port` is no address"),
    ("store:99999", False, "is no address"),
    (":8500", False, "is no address"),
    ("a b:1", False, "is no address"),
    ("[::1", False, "is no address"),
    ("http://store/path", False, "is no address"),
    ("ftp://store", False, "is no address"),
    ("http://store:1", True, "is plain http although `test.tls` is set"),
    ("http://me:hidden@store:x", False, "holds a user or password"),
    ("http://me:hidden@store:1", False, "holds a user or password"),
]


@pytest.fixture
def servers(loop_thread: LoopThread) -> Iterator[tuple[Backend, Backend]]:
    made = Backend(loop_thread, "first"), Backend(loop_thread, "second")
    yield made
    for each in made:
        each.stop()


@pytest.fixture
async def http(servers: tuple[Backend, Backend]) -> AsyncIterator[StoreHttp]:
    client = StoreHttp("test", ",".join(f"127.0.0.1:{each.port}" for each in servers), 99, None)
    yield client
    await client.close()


async def ask(http: StoreHttp, *, repeatable: bool = True, seconds: float = 5.0) -> bytes:
    answer = await http.ask("PUT", "/ask", seconds=seconds, body=b"x", repeatable=repeatable)
    return answer.body


@pytest.mark.parametrize(("text", "tls", "bases"), ENDPOINTS)
def test_endpoints_are_addresses(text: str, tls: bool, bases: list[str]) -> None:
    http = StoreHttp("test", text, 99, ssl.create_default_context() if tls else None)
    assert http.bases == bases


@pytest.mark.parametrize(("text", "tls", "message"), REFUSED_ENDPOINTS)
def test_what_is_no_endpoint_is_refused(text: str, tls: bool, message: str) -> None:
    with pytest.raises(StoreError) as caught:
        StoreHttp("test", text, 99, ssl.create_default_context() if tls else None)
    assert message in str(caught.value)
    assert "hidden" not in str(caught.value)


async def test_the_server_that_answered_is_asked_again(
    servers: tuple[Backend, Backend], http: StoreHttp
) -> None:
    first, second = servers
    first.on("/ask", BROKEN)
    second.on("/ask", OK)
    assert await ask(http) == b"ok"
    assert await ask(http) == b"ok"
    assert (len(first.requests), len(second.requests)) == (1, 2)


@pytest.mark.parametrize("failure", [SILENT, LOST, BROKEN], ids=["silent", "lost", "broken"])
async def test_a_question_goes_to_the_next_server(
    servers: tuple[Backend, Backend], http: StoreHttp, failure: Answer
) -> None:
    first, second = servers
    first.on("/ask", failure)
    second.on("/ask", OK)
    assert await ask(http, seconds=0.5) == b"ok"
    assert len(first.requests) == 1


@pytest.mark.parametrize("failure", [SILENT, LOST], ids=["silent", "lost"])
async def test_a_write_that_may_have_been_done_is_not_repeated(
    servers: tuple[Backend, Backend], http: StoreHttp, failure: Answer
) -> None:
    first, second = servers
    first.on("/ask", failure)
    second.on("/ask", OK)
    with pytest.raises(StoreError, match="it may have been written all the same"):
        await ask(http, repeatable=False, seconds=0.5)
    assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_a_write_that_reached_nobody_goes_to_the_next_server(
    servers: tuple[Backend, Backend],
) -> None:
    second = servers[1]
    second.on("/ask", OK)
    with ReservedPort() as closed:
        http = StoreHttp("test", f"127.0.0.1:{closed.port},127.0.0.1:{second.port}", 99, None)
        assert await ask(http, repeatable=False) == b"ok"
        await http.close()


@pytest.mark.parametrize("repeatable", [True, False], ids=["read", "write"])
async def test_a_connection_that_breaks_sends_nothing_twice(
    servers: tuple[Backend, Backend], repeatable: bool
) -> None:
    """aiohttp by itself would repeat it on a new connection."""
    server = servers[0]
    server.on("/ask", LOST_AFTER_ONE)
    http = StoreHttp("test", f"127.0.0.1:{server.port}", 99, None)
    assert await ask(http, repeatable=repeatable) == b"ok"
    with pytest.raises(StoreError, match="the connection was closed"):
        await ask(http, repeatable=repeatable)
    assert len(server.requests) == 2
    await http.close()


@pytest.mark.parametrize(
    ("host", "reason"),
    [("127.0.0.1", "Connection refused"), ("no-such-host.invalid", "(not known|resolution)")],
    ids=["refused", "unknown-name"],
)
async def test_nobody_there_is_said_in_words(host: str, reason: str) -> None:
    with ReservedPort() as closed:
        http = StoreHttp("test", f"{host}:{closed.port}", 99, None)
        with pytest.raises(StoreError, match=f"{host}:{closed.port}: cannot connect: .*{reason}"):
            await ask(http)
        await http.close()


async def test_every_reason_is_named(servers: tuple[Backend, Backend], http: StoreHttp) -> None:
    first, second = servers
    first.on("/ask", SILENT)
    second.on("/ask", LOST)
    with pytest.raises(StoreError) as caught:
        await ask(http, seconds=0.3)
    assert str(caught.value) == (
        f"test at 127.0.0.1:{first.port}: no answer within 0.3 s; "
        f"127.0.0.1:{second.port}: the connection was closed"
    )


async def test_a_redirection_is_not_followed(
    servers: tuple[Backend, Backend], http: StoreHttp
) -> None:
    first, second = servers
    location = f"Location: http://127.0.0.1:{second.port}/ask".encode()
    moved = b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n" + location + b"\r\n\r\n"
    first.on("/ask", Answer((moved,)))
    answer = await http.ask("GET", "/ask", seconds=5.0, headers={"X-Token": "secret"})
    assert answer.status == 301
    assert second.requests == []


async def test_a_failed_question_ends_the_watches_on_its_server(
    servers: tuple[Backend, Backend], http: StoreHttp
) -> None:
    first, second = servers
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    first.on("/watch", Answer((head,), after="hang"))
    first.on("/poll", SILENT)
    first.on("/ask", SILENT)
    second.on("/ask", OK)

    async def watch() -> None:
        async with http.stream("POST", "/watch", body=b"", headers={}) as stream:
            assert await stream.piece() == b"first"
            await stream.piece()

    watching = asyncio.create_task(watch())
    polling = asyncio.create_task(http.long_poll("/poll", headers={}, seconds=600.0))
    await asyncio.to_thread(first.wait_for, "/watch")
    await asyncio.to_thread(first.wait_for, "/poll")
    assert await ask(http, seconds=0.3) == b"ok"
    for each in (watching, polling):
        with pytest.raises(StoreError, match="the server failed, so the watch on it ended"):
            async with asyncio.timeout(5):
                await each


async def test_a_silent_watch_is_kept_alive_by_the_kernel(
    servers: tuple[Backend, Backend], http: StoreHttp
) -> None:
    """Firewalls forget connections that are silent; nobody would ever be told."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    servers[0].on("/watch", Answer((head,), after="hang"))
    async with http.stream("POST", "/watch", body=b"", headers={}) as stream:
        assert await stream.piece() == b"first"
        server = f"0100007F:{servers[0].port:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        timers = [fields[5] for fields in lines if fields[2] == server]
        # The number before the colon is the kind of timer that runs: 2 is keep-alive.
        assert [timer.partition(":")[0] for timer in timers] == ["02"]


async def test_a_question_that_was_given_up_late_counts_as_failed(
    servers: tuple[Backend, Backend], http: StoreHttp
) -> None:
    first, second = servers
    first.on("/ask", SILENT)
    second.on("/ask", OK)
    with suppress(TimeoutError):
        async with asyncio.timeout(2.2):
            await ask(http, seconds=30.0)
    assert await ask(http) == b"ok"


async def test_closing_ends_everything(servers: tuple[Backend, Backend], http: StoreHttp) -> None:
    servers[0].on("/poll", SILENT)
    polling = asyncio.create_task(http.long_poll("/poll", headers={}, seconds=600.0))
    await asyncio.to_thread(servers[0].wait_for, "/poll")
    await http.close()
    with pytest.raises(StoreError, match="closed"):
        async with asyncio.timeout(5):
            await polling
    with pytest.raises(StoreError, match="test: closed"):
        await ask(http)


@pytest.mark.parametrize(
    ("names", "expired", "trusting", "message"),
    [
        (("127.0.0.1",), True, True, "its certificate is not trusted: certificate has expired"),
        (("elsewhere",), False, True, "its certificate is not trusted: IP address mismatch"),
        (
            ("127.0.0.1",),
            False,
            False,
            "is not trusted: unable to get local issuer",
        ),
    ],
    ids=["expired", "another-name", "another-authority"],
)
async def test_a_bad_certificate_is_said_in_words(
    names: tuple[str, ...], expired: bool, trusting: bool, message: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority().write(authority().issue(*names, expired=expired)))
    cafile = str(authority().path if trusting else Authority("another").path)
    server = await asyncio.start_server(
        lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context
    )
    port = server.sockets[0].getsockname()[1]
    http = StoreHttp("test", f"127.0.0.1:{port}", 99, ssl.create_default_context(cafile=cafile))
    async with server:
        with pytest.raises(StoreError, match=message):
            await ask(http)
    await http.close()
