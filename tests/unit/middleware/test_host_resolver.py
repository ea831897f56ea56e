"""Where hosts lead to, asked of real DNS servers (specification section 2.6)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from kvproxy.middleware import host_resolver as module
from kvproxy.middleware.host_resolver import HostResolver
from tests.support.dns_server import DnsServer
from tests.unit.middleware.requests import a_request, outcome

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.backend import LoopThread

RECORDS = {
    "alias.test": ("target.test", 300),
    "one.test": ("two.test", 60),
    "two.test": ("Three.Test", 10),
    "loop.test": ("loop.test", 60),
    "short.test": ("target.test", 0),
}


@pytest.fixture
def server(loop_thread: LoopThread) -> Iterator[DnsServer]:
    made = DnsServer(loop_thread, dict(RECORDS))
    yield made
    made.stop()


@pytest.fixture
def resolver(server: DnsServer, tmp_path: Path) -> HostResolver:
    file = tmp_path / "resolv.conf"
    file.write_text("# comment\nsearch test\nnameserver 127.0.0.1\noptions ndots:1\n")
    return HostResolver(str(file), 5, port=server.port)


async def final(resolver: HostResolver, host: str) -> str:
    request = a_request(host=host)
    async with asyncio.timeout(10):
        assert await outcome(resolver, request) is None
    return request.final_host.decode()


HOSTS = {
    "alias": ("alias.test", "target.test", 2),
    "case-and-port": ("ALIAS.test:8080", "target.test", 2),
    "chain": ("one.test", "three.test", 3),
    "nothing": ("unrelated.test", "unrelated.test", 1),
    "depth": ("loop.test", "loop.test", 5),
    "address": ("10.0.0.1", "", 0),
    "ipv6": ("[::1]:80", "", 0),
    "single-label": ("localhost", "", 0),
    "no-name": ("a..b", "", 0),
    "too-long": ("a" * 64 + ".test", "a" * 64 + ".test", 0),
}


@pytest.mark.parametrize(("host", "name", "questions"), HOSTS.values(), ids=HOSTS)
async def test_where_hosts_lead_to(
    resolver: HostResolver, server: DnsServer, host: str, name: str, questions: int
) -> None:
    for _ in range(3):
        assert await final(resolver, host) == name
    assert len(server.asked) == questions


async def test_answers_live_as_long_as_the_first_record(
    resolver: HostResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    for host in ("one.test", "short.test", "nothing.test"):
        await final(resolver, host)
    lives = {host.decode(): entry.until - now[0] for host, entry in resolver._known.items()}
    assert lives == {"one.test": 60.0, "short.test": 1.0, "nothing.test": 1800.0}


async def test_of_several_servers_the_longest_life_counts(
    loop_thread: LoopThread, tmp_path: Path
) -> None:
    first = DnsServer(loop_thread, {"a.test": ("short.test", 5)}, address="127.0.0.1")
    second = DnsServer(
        loop_thread, {"a.test": ("long.test", 50)}, address="127.0.0.2", port=first.port
    )
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\nnameserver 127.0.0.2\n")
    resolver = HostResolver(str(file), 1, port=first.port)
    assert await final(resolver, "a.test") == "long.test"
    first.silent = True
    second.records["b.test"] = ("only.test", 50)
    assert await final(resolver, "b.test") == "only.test"
    first.stop()
    second.stop()


async def test_a_silent_server_leaves_the_host_as_it_is(
    resolver: HostResolver,
    server: DnsServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(module, "LOOKUP_SECONDS", 0.1)
    server.silent = True
    assert await final(resolver, "alias.test") == "alias.test"
    assert "taken as it is" in caplog.text
    asked = len(server.asked)
    assert await final(resolver, "alias.test") == "alias.test"
    assert len(server.asked) == asked


async def test_requests_for_one_host_share_a_question(
    resolver: HostResolver, server: DnsServer
) -> None:
    names = await asyncio.gather(*(final(resolver, "alias.test") for _ in range(20)))
    assert set(names) == {"target.test"}
    assert server.asked == ["alias.test", "target.test"]


async def test_hosts_that_clients_make_up_cost_bounded_memory_and_questions(
    resolver: HostResolver, server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 10)
    monkeypatch.setattr(module, "MAX_LOOKUPS", 4)
    hosts = [f"made-up-{number}.test" for number in range(30)]
    await asyncio.gather(*(final(resolver, host) for host in hosts))
    assert len(server.asked) <= 8
    for host in hosts:
        await final(resolver, host)
    assert len(resolver._known) <= 10
    assert resolver._lookups == {}


def test_files_that_name_no_server(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search test\n")
    with pytest.raises(ValueError, match="names no DNS server"):
        HostResolver(str(file), 5)
    with pytest.raises(OSError, match="No such file"):
        HostResolver(str(tmp_path / "nowhere"), 5)
