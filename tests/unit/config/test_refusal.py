"""Whether anybody listens where a store should be, on real sockets."""

from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from kvproxy.config import refusal
from kvproxy.config.last_keys import keep
from kvproxy.config.refusal import addresses_of, is_refused
from kvproxy.config.settings import LocalSources
from kvproxy.config.static_keys import StaticKeys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

START = """
import asyncio, pathlib, sys
from kvproxy.config import refusal
from kvproxy.config.settings import LocalSources
from kvproxy.config.startup import prepare

refusal.REFUSAL_SECONDS = 30.0
sources = LocalSources(sys.argv[2:], {})
start = asyncio.run(prepare(sources, sources.stores(), pathlib.Path(sys.argv[1])))
print(start.origin, start.unanswered, start.settings.static.workers)
print(start.complaints[0])
print(sorted({"aiohttp", "kazoo", "consul"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a busy machine take its time."""
    monkeypatch.setattr(refusal, "REFUSAL_SECONDS", 30.0)


@pytest.fixture
def dead() -> Iterator[int]:
    """A port that is taken, but on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def alive() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("endpoints", "addresses"),
    [
        ("127.0.0.1:2379", [("127.0.0.1", 2379)]),
        ("a.example:1, b-c:65535", [("a.example", 1), ("b-c", 65535)]),
        ("http://127.0.0.1:8500/", [("127.0.0.1", 8500)]),
        ("https://consul:8501", [("consul", 8501)]),
        ("[::1]:2181", [("::1", 2181)]),
        ("", []),
        ("consul", []),
        ("consul:", []),
        ("consul:0", []),
        ("consul:65536", []),
        ("::1:2181", []),
        ("127.0.0.1:1,consul", []),
        ("127.0.0.1:1,", []),
        ("user@consul:8500", []),
        ("zoo:2181/chroot", []),
        ("unix:///run/store.sock", []),
    ],
)
def test_addresses_of(endpoints: str, addresses: list[tuple[str, int]]) -> None:
    assert addresses_of(endpoints) == addresses


async def test_an_address_at_which_nobody_listens_refuses(dead: int) -> None:
    assert await is_refused(f"127.0.0.1:{dead}")
    assert await is_refused(f"127.0.0.1:{dead},http://127.0.0.1:{dead}")


async def test_one_that_listens_is_enough(dead: int, alive: int) -> None:
    assert not await is_refused(f"127.0.0.1:{alive}")
    assert not await is_refused(f"127.0.0.1:{dead},127.0.0.1:{alive}")


@pytest.mark.parametrize("endpoints", ["", "127.0.0.1", "no.such.name.invalid:2379"])
async def test_what_is_not_known_is_no_refusal(endpoints: str) -> None:
    assert not await is_refused(endpoints)


async def test_an_answer_that_takes_long_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, dead: int
) -> None:
    monkeypatch.setattr(refusal, "REFUSAL_SECONDS", 0.0)
    assert not await is_refused(f"127.0.0.1:{dead}")


@pytest.mark.parametrize("store", ["etcd", "consul", "zookeeper"])
def test_a_start_without_the_server_needs_no_client_library(
    tmp_path: Path, dead: int, store: str
) -> None:
    flags = [f"--{store}.endpoint=127.0.0.1:{dead}"]
    (place,) = LocalSources(flags, {}).stores()
    keep(tmp_path, StaticKeys(place, 1, {"workers": b"7"}))
    done = subprocess.run(
        [sys.executable, "-c", START, str(tmp_path), *flags],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "last True 7",
        f"{store}: 127.0.0.1:{dead}: cannot connect: Connection refused",
        "[]",
    ]
