"""How a server is reached for a check: by address, by name, and what is said when it is not."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from kvproxy.control.health.client import HealthClient
from kvproxy.control.health.request import health_request, parsed
from kvproxy.http.trust import server_context
from kvproxy.model.dynamic import HealthCheck
from tests.support.backend import Answer, Backend, UnansweringPort, plain_answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    yield made
    made.stop()


async def asked(url: str, *, dial_seconds: float = 10.0, seconds: float = 10.0) -> str:
    request = health_request(url, HealthCheck(path="/well", timeout=seconds), 30.0)
    client = HealthClient(server_context((), verify=True), dial_seconds)
    try:
        return await client.ask(request, parsed(request))
    finally:
        await client.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]"])
async def test_a_server_by_address_and_by_name(backend: Backend, host: str) -> None:
    assert await asked(f"http://{host}:{backend.port}") == ""
    assert backend.requests_for("/well")[-1].value("Host") == f"{host}:{backend.port}".encode()
    assert backend.requests_for("/well")[-1].value("Connection") == b"close"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_request_is_the_same_whoever_writes_it(backend: Backend, host: str) -> None:
    check = HealthCheck(
        path="/same?a=%20b&c", hostname="x.test", headers={"X-One": "1", "User-Agent": "mine"}
    )
    request = health_request(f"http://{host}:{backend.port}", check, 30.0)
    client = HealthClient(server_context((), verify=True), 10.0)
    try:
        assert await client.ask(request, parsed(request)) == ""
    finally:
        await client.close()
    seen = backend.requests_for("/same")[-1]
    assert seen.target == b"/same?a=%20b&c"
    assert sorted(seen.headers) == [
        (b"Connection", b"close"),
        (b"Host", b"x.test"),
        (b"User-Agent", b"mine"),
        (b"X-One", b"1"),
    ]


INFORMATIONAL = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"

# What the server says, and what is wrong with it.
ANSWERS = {
    "well": (plain_answer(), ""),
    "after one that is not final": (INFORMATIONAL * 3 + plain_answer(), ""),
    "ill after one that is not final": (
        INFORMATIONAL + plain_answer(status="503 Service Unavailable"),
        "status 503",
    ),
    "nothing but such": (INFORMATIONAL, "closed without an answer"),
    "without a body's end": (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", ""),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "no answer that could be passed on",
    ),
    "no HTTP": (b"SSH-2.0-OpenSSH\r\n\r\n", "no answer that could be passed on"),
    "HTTP/0.9": (b"<html></html>", "no answer that could be passed on"),
}


@pytest.mark.parametrize(("data", "expected"), ANSWERS.values(), ids=ANSWERS)
async def test_answers_of_a_server_at_an_address(
    backend: Backend, data: bytes, expected: str
) -> None:
    backend.on("/well", Answer((data,), "close"))
    try:
        assert await asked(backend.url) == expected
    finally:
        del backend.script[b"/well"]


async def test_an_answer_in_single_bytes(backend: Backend) -> None:
    backend.on("/well", Answer(tuple(bytes([each]) for each in INFORMATIONAL + plain_answer())))
    try:
        assert await asked(backend.url) == ""
    finally:
        del backend.script[b"/well"]


@pytest.mark.parametrize("value", ["a\r\nX-Two: 2", "a\nb", "\x00"])
async def test_a_header_that_would_be_two(backend: Backend, value: str) -> None:
    check = HealthCheck(path="/split", headers={"X-One": value})
    request = health_request(backend.url, check, 30.0)
    client = HealthClient(server_context((), verify=True), 10.0)
    try:
        assert await client.ask(request, parsed(request)) != ""
    finally:
        await client.close()
    assert backend.requests_for("/split") == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_server_that_is_not_there(host: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        reason = await asked(f"http://{host}:{bound.getsockname()[1]}")
    assert reason.lower().startswith("cannot connect to ")
    assert f"{host}:" in reason


@pytest.mark.parametrize(
    ("dial_seconds", "seconds", "expected"),
    [(0.2, 10.0, "no connection within 0.2 s"), (0.0, 0.2, "no answer within 0.2 s")],
)
async def test_a_server_that_takes_no_connection(
    dial_seconds: float, seconds: float, expected: str
) -> None:
    with UnansweringPort() as silent:
        url = f"http://127.0.0.1:{silent.port}"
        async with asyncio.timeout(9):
            reason = await asked(url, dial_seconds=dial_seconds, seconds=seconds)
    assert reason == expected
