from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from kvproxy.control import service_manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        if request.param == "path":
            listening.bind(str(tmp_path / "notify"))
            monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        else:
            name = f"kvproxy-test-{os.getpid()}"
            listening.bind("\0" + name)
            monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        listening.settimeout(5)
        yield listening


def test_facts_arrive(manager: socket.socket) -> None:
    service_manager.ready()
    assert manager.recv(1000).decode() == f"READY=1\nMAINPID={os.getpid()}"
    service_manager.stopping()
    assert manager.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "@nobody-listens-here"])
def test_without_a_manager_nothing_happens(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service_manager.ready()


def test_a_manager_that_does_not_read_stops_nothing(manager: socket.socket) -> None:
    for _ in range(5000):
        service_manager.tell("STATUS=" + "x" * 1000)
    assert manager.recv(2000).startswith(b"STATUS=")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", None), ("0", None), ("x", None), ("30000000", 15.0), ("500000", 0.25)],
)
def test_watchdog(monkeypatch: pytest.MonkeyPatch, text: str, seconds: float | None) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", text)
    assert service_manager.watchdog_seconds() == seconds
