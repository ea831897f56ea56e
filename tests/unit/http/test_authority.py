"""Ports of Host values."""

from __future__ import annotations

import pytest

from kvproxy.http.authority import port_of

PORTS = {
    "plain": (b"h", b"80"),
    "explicit": (b"pass:99", b"99"),
    "ipv6": (b"[::1]", b"80"),
    "ipv6-port": (b"[::1]:81", b"81"),
    "bare-ipv6": (b"::1", b"80"),
    "digits-only": (b"10", b"80"),
    "empty-port": (b"h:", b"80"),
}


@pytest.mark.parametrize(("host", "port"), PORTS.values(), ids=PORTS)
def test_port(host: bytes, port: bytes) -> None:
    assert port_of(host, b"80") == port
