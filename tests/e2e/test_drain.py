"""A server that is emptied: one key, live at once, and nobody who is tied to it notices."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.model.decode import decode_configuration
from kvproxy.model.keytree import encode_configuration
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore
from tests.support.backend import Answer, Backend, Gate
from tests.support.deadline import wait_until
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.backend import LoopThread

DRAIN = "kvproxy/backends/b/servers/old/drain"


@pytest.fixture(scope="module")
def servers(loop_thread: LoopThread) -> Iterator[dict[str, Backend]]:
    made = {name: Backend(loop_thread, name) for name in ("old", "new")}
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture
def store(
    loop_thread: LoopThread, tmp_path: Path, servers: dict[str, Backend]
) -> Iterator[EmbeddedStore]:
    document = {
        "backends": {
            "b": {
                "servers": {name: {"url": server.url} for name, server in servers.items()},
                "loadBalancer": {"stickiness": {"cookieName": "s"}},
            }
        },
        "frontends": {"f": {"backend": "b", "routes": {"r": {"rule": "Host:h"}}}},
    }
    configuration, problems = decode_configuration(document, where=lambda path: "", style="file")
    assert not problems
    keys = encode_configuration(configuration)
    opened = EmbeddedStore(tmp_path / "store.db")
    put = {f"kvproxy/{key}": value.encode() for key, value in keys.items()}
    loop_thread.run(opened.write(Transaction(put=put)))
    yield opened
    loop_thread.run(opened.close())


@pytest.fixture
def proxy(store: EmbeddedStore, tmp_path: Path) -> Iterator[ProxyProcess]:
    static = {"embedded": {"path": str(tmp_path / "store.db")}}
    with ProxyProcess(None, static=static, workers=2) as running:
        wait_until(lambda: running.fetch(host="h").status == 200, "the first routes", 10)
        yield running


def new_clients(proxy: ProxyProcess) -> set[str]:
    """Return who answers clients without a cookie."""
    answers = [proxy.fetch(host="h") for _ in range(16)]
    return {(answer.value("X-Server") or b"").decode() for answer in answers}


def test_a_draining_server_keeps_its_clients(
    proxy: ProxyProcess,
    store: EmbeddedStore,
    servers: dict[str, Backend],
    loop_thread: LoopThread,
) -> None:
    tied: dict[str, Any] = {"host": "h", "headers": (("Cookie", f"s={servers['old'].url}"),)}
    gate = Gate()
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"
    servers["old"].on("/slow", Answer((half, gate, b"more")))
    with proxy.connect() as slow:
        slow.send(build_request("/slow", **tied))
        assert slow.read_head().status == 200
        assert new_clients(proxy) == {"old", "new"}

        seconds = []
        for value, wanted in ((b"true", {"new"}), (b"false", {"old", "new"})) * 3:
            loop_thread.run(store.write(Transaction(put={DRAIN: value})))
            started = time.monotonic()
            wait_until(lambda wanted=wanted: new_clients(proxy) == wanted, f"{value!r} to be live")  # type: ignore[misc]
            seconds.append(time.monotonic() - started)
            for _ in range(6):
                answer = proxy.fetch(**tied)
                assert answer.value("X-Server") == b"old"
                assert answer.value("Set-Cookie") is None
        assert sorted(seconds)[3] < 0.5, f"seconds to be live: {seconds}"

        gate.open()
        assert slow.read_exactly(8) == b"halfmore"


def test_the_command_that_operators_use(proxy: ProxyProcess) -> None:
    proxy.command("kv", "put", DRAIN, "true")
    wait_until(lambda: new_clients(proxy) == {"new"}, "the change to be live")
