"""Dynamic weights with real servers: who fails gets little (section 7.3, observed)."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import Answer, Backend, plain_answer
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

READY_SECONDS = 11
REQUESTS = 90


@pytest.fixture
def servers(loop_thread: LoopThread) -> Iterator[list[Backend]]:
    """Two servers that are well, and one that always answers 502."""
    made = [Backend(loop_thread, name) for name in "abc"]
    failing = plain_answer(b"c", "X-Server: c", status="502 Bad Gateway")
    made[2].on("/", Answer((failing,)))
    yield made
    for server in made:
        server.stop()


def test_a_failing_server_is_starved(servers: list[Backend]) -> None:
    routes = {
        "backends": {
            "b": {
                "servers": {each.name: {"url": each.url} for each in servers},
                "loadBalancer": {"method": "drr"},
            }
        },
        "frontends": {"f": {"backend": "b", "routes": {"r": {"rule": "PathPrefix:/"}}}},
    }
    with ProxyProcess(routes) as proxy, proxy.connect() as client:

        def shares(requests: int) -> Counter[str]:
            answers = [client.request(build_request("/")) for _ in range(requests)]
            return Counter((answer.value("X-Server") or b"").decode() for answer in answers)

        assert shares(REQUESTS) == {"a": 30, "b": 30, "c": 30}
        ends = time.monotonic() + READY_SECONDS
        while time.monotonic() < ends:
            shares(3)
            time.sleep(0.1)
        starved = shares(REQUESTS)
        # One step of the weights (4:4:1), or two (16:16:1) on a slow machine.
        assert starved["c"] in (10, 9, 11, 2, 3, 4), starved
        assert abs(starved["a"] - starved["b"]) <= 4
