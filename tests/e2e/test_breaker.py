"""A circuit breaker over several workers: it trips for all, is seen, and comes back."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Answer, Backend, plain_answer
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread


@pytest.fixture
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    yield made
    made.stop()


def routes(url: str) -> dict[str, Any]:
    document = single_backend(url, {"all": "PathPrefix:/"})
    expression = "ResponseCodeRatio(500, 600, 0, 600) > 0.5"
    document["backends"]["server"]["circuitBreaker"] = {"expression": expression}
    return document


def test_it_trips_for_every_worker_and_recovers(backend: Backend) -> None:
    """What is only true for the ten seconds that it is tripped is not asked when they are over:
    commands take long on a busy machine."""
    backend.on("/bad", Answer((plain_answer(b"bad", status="500 Internal Server Error"),)))
    with ProxyProcess(routes(backend.url), workers=3) as proxy:
        assert {proxy.fetch("/").status for _ in range(12)} == {200}
        assert proxy.ask("status")["breakers"] == []
        wait_until(lambda: proxy.fetch("/bad").status == 503, "the breaker to trip")
        tripped = time.monotonic()

        def is_tripped() -> bool:
            return time.monotonic() - tripped < 9

        # Thirty connections reach every worker.
        answers = [proxy.fetch("/") for _ in range(30)]
        if is_tripped():
            refused = {(503, b"Service Unavailable")}
            assert {(each.status, each.body) for each in answers} == refused
        (seen,) = proxy.ask("status")["breakers"]
        assert (seen["backend"], seen["trips"]) == ("server", 1)
        assert seen["state"] == "tripped" or not is_tripped()
        assert "circuit breaker tripped backend=server" in proxy.log()
        # An unrelated generation does not reset it.
        proxy.apply({**routes(backend.url), "backends": routes(backend.url)["backends"]})
        assert proxy.fetch("/").status == 503 or not is_tripped()
        told = proxy.command("status")
        assert "tripped: backend `server`" in told or not is_tripped()
        wait_until(lambda: proxy.fetch("/").status == 200, "the first request to pass", 40)
        assert time.monotonic() - tripped > 9.5
        passed = time.monotonic()
        state = proxy.ask("status")["breakers"][0]["state"]
        assert state == "recovering" or time.monotonic() - passed > 1
