"""The PROXY protocol with real connections: what is believed, and what bad headers do."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import Backend, echoed
from tests.support.certificates import authority
from tests.support.http_client import RawConnection, build_request
from tests.support.proxy_process import ProxyProcess, single_backend
from tests.support.tls_client import tls_options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

READ_TIMEOUT = 0.8
"""Bound of a header in the test that waits for it, seconds."""

LATE = 10.0
"""By how much that may be exceeded on a busy machine, seconds."""

ANNOUNCED = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
REQUEST = build_request("/", host="a")


@pytest.fixture(scope="module")
def proxy(loop_thread: LoopThread) -> Iterator[ProxyProcess]:
    backend = Backend(loop_thread)
    trusted = {"trustedIPs": ["127.0.0.0/8"]}
    entry_points = {
        "trusted": {"proxyProtocol": trusted},
        "secure": {"proxyProtocol": trusted, **tls_options(authority().issue("localhost"))},
        "listed": {
            "proxyProtocol": trusted,
            "whiteList": {"sourceRange": ["192.0.2.0/24"]},
        },
        "nobody": {"proxyProtocol": {}},
    }
    routes = single_backend(backend.url, {"all": "PathPrefix:/"})
    with ProxyProcess(routes, entry_points=entry_points) as running:
        yield running
    backend.stop()


@pytest.fixture(scope="module")
def impatient() -> Iterator[ProxyProcess]:
    """Return a proxy that waits for a header no longer than READ_TIMEOUT."""
    static = {"respondingTimeouts": {"readTimeout": f"{READ_TIMEOUT * 1000:.0f}ms"}}
    entry_points = {"trusted": {"proxyProtocol": {"trustedIPs": ["127.0.0.0/8"]}}}
    with ProxyProcess({}, entry_points=entry_points, static=static) as running:
        yield running


def told(connection: RawConnection) -> list[bytes]:
    """Return what the server is told of the client's address."""
    return echoed(connection.request(REQUEST)).values("X-Forwarded-For")


def test_curl_announces_itself(proxy: ProxyProcess) -> None:
    for scheme, name in (("http", "trusted"), ("https", "secure")):
        command = ["curl", "--silent", "--show-error", "--insecure", "--haproxy-protocol"]
        done = subprocess.run(
            [*command, f"{scheme}://127.0.0.1:{proxy.ports[name]}/"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
        assert "X-Forwarded-For: 127.0.0.1" in done.stdout


def test_the_announced_address_holds_for_all_requests_of_a_connection(
    proxy: ProxyProcess,
) -> None:
    with proxy.connect("trusted") as client:
        client.send(ANNOUNCED)
        for _ in range(3):
            assert told(client) == [b"192.0.2.1"]


def test_a_header_in_pieces(proxy: ProxyProcess) -> None:
    with proxy.connect("trusted") as client:
        for at in range(len(ANNOUNCED)):
            client.send(ANNOUNCED[at : at + 1])
        assert told(client) == [b"192.0.2.1"]
    with proxy.connect("trusted") as client:
        client.send(ANNOUNCED + REQUEST[:10])
        client.send(REQUEST[10:])
        assert echoed(client.read_response()).values("X-Forwarded-For") == [b"192.0.2.1"]


def test_white_lists_judge_the_announced_address(proxy: ProxyProcess) -> None:
    with proxy.connect("listed") as client:
        client.send(ANNOUNCED)
        assert client.request(REQUEST).status == 200
    with proxy.connect("listed") as client:
        assert client.request(REQUEST).status == 403


def test_a_section_without_addresses_believes_nobody(proxy: ProxyProcess) -> None:
    with proxy.connect("nobody") as client:
        client.send(ANNOUNCED)
        assert told(client) == [b"127.0.0.1"]
    assert "entryPoints.nobody.proxyProtocol: believes nobody" in proxy.log()


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 bad bad 1 2\r\n",
        b"PROXY " + b"x" * 200,
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 70000\r\n",
        b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + bytes(12),
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff" + bytes(12),
    ],
)
@pytest.mark.parametrize("entry_point", ["trusted", "secure"])
def test_a_bad_header_ends_the_connection(
    proxy: ProxyProcess, entry_point: str, header: bytes
) -> None:
    with proxy.connect(entry_point) as client:
        client.send_if_open(header + REQUEST)
        assert client.read_to_end() == b""
    with proxy.connect("trusted") as client:
        assert client.request(REQUEST).status == 200


@pytest.mark.parametrize("beginning", [b"", b"PRO", ANNOUNCED[:-1], b"\r\n\r\n\x00"])
def test_a_header_that_stops_is_given_up(impatient: ProxyProcess, beginning: bytes) -> None:
    with impatient.connect("trusted") as client:
        client.send(beginning)
        started = time.monotonic()
        client.assert_closed()
        assert time.monotonic() - started < READ_TIMEOUT + LATE


def test_clients_that_leave_at_once(proxy: ProxyProcess) -> None:
    for beginning in (b"", b"P", ANNOUNCED, ANNOUNCED + b"GET"):
        with socket.create_connection(("127.0.0.1", proxy.ports["trusted"]), timeout=5) as client:
            client.sendall(beginning)
    with proxy.connect("trusted") as after:
        assert told(after) == [b"127.0.0.1"]
