"""How a server is reached for a check: by address, by name, and what is said when it is not."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from kvproxy.control.health_client import HealthClient
from kvproxy.control.health_request import health_request, parsed
from kvproxy.http.trust import server_context
from kvproxy.model.dynamic import HealthCheck
from tests.support.backend import Backend, UnansweringPort

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
async def test_a_server_that_is_not_there(host: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        reason = await asked(f"http://{host}:{bound.getsockname()[1]}")
    assert reason.startswith(f"Cannot connect to host {host}:")


@pytest.mark.parametrize(
    ("dial_seconds", "seconds", "expected"),
    [(0.2, 10.0, "no connection within 0.2 s"), (0.0, 0.2, "no answer within 0.2 s")],
)
async def test_a_server_that_takes_no_connection(
    dial_seconds: float, seconds: float, expected: str
) -> None:
    port = UnansweringPort()
    try:
        async with asyncio.timeout(9):
            reason = await asked(
                f"http://127.0.0.1:{port.port}", dial_seconds=dial_seconds, seconds=seconds
            )
    finally:
        port.release()
    assert reason == expected
