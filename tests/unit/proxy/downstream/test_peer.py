"""What servers are told of a client."""

from __future__ import annotations

from typing import Any

import pytest

from kvproxy.http.scan import scan_request
from kvproxy.model.static import EntryPoint, ForwardedHeaders
from kvproxy.proxy.downstream.listener import Listener
from kvproxy.proxy.downstream.peer import Peer
from kvproxy.proxy.request.decision import Asked
from tests.unit.proxy.worlds import World


class Transport:
    """What a transport tells of a client."""

    def __init__(self, name: tuple[Any, ...] | None) -> None:
        self._name = name

    def get_extra_info(self, name: str) -> Any:
        return self._name if name == "peername" else None


def asked(lines: list[bytes]) -> Asked:
    """Return a request with these header lines."""
    received = b"\r\n".join([b"GET / HTTP/1.1", b"Host: h", *lines, b"", b""])
    result = scan_request(received, 65536, 128)
    assert isinstance(result, tuple), result
    head, host, _, flags, _, end = result
    return Asked(received[:end], head, host, flags, b"/", b"", b"", b"/")


def a_peer(address: str, **entry_point: Any) -> Peer:
    world = World()
    listener = Listener(
        "http",
        EntryPoint(address=":0", **entry_point),
        world.settings,
        clock=world.clock,
        server_name=b"edge",
    )
    transport: Any = Transport((address, 4711))
    return Peer(listener, transport)


def test_facts() -> None:
    peer = a_peer("::ffff:192.0.2.9")
    assert (peer.address, peer.port, peer.secure) == ("192.0.2.9", 4711, False)
    assert peer.entry_point == "http"
    assert peer.certificates() == ()


@pytest.mark.parametrize(
    ("trusted", "expected"),
    [(False, b"For: 192.0.2.9\r\n"), (True, b"For: 198.51.100.1, 192.0.2.9\r\n")],
)
def test_lines_of_a_request_with_forwarded_headers(trusted: bool, expected: bytes) -> None:
    networks = ("192.0.2.0/24",) if trusted else ("203.0.113.1",)
    peer = a_peer("192.0.2.9", forwarded_headers=ForwardedHeaders(trusted_ips=networks))
    headers = [b"X-Forwarded-For: 198.51.100.1", b"X-Forwarded-Uri: /x"]
    lines = peer.lines(b"host", peer.believed(asked(headers)))
    assert expected in lines
    assert (b"X-Forwarded-Uri: /x" in lines) is trusted


@pytest.mark.parametrize(
    "name",
    [
        *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto"),
        *(b"x-forwarded-server", b"x-forwarded-uri", b"x-forwarded-method"),
        *(b"x-forwarded-prefix", b"x-real-ip", b"x_forwarded_proto", b"x-forwarded_for"),
    ],
)
def test_untrusted_cannot_set(name: bytes) -> None:
    peer = a_peer("192.0.2.9", forwarded_headers=ForwardedHeaders(trusted_ips=("203.0.113.1",)))
    believed = peer.believed(asked([name + b": evil", b"Accept: */*"]))
    assert believed == {b"accept": [b"*/*"]}
    assert peer.lines(b"h", believed) == peer.plain_lines(b"h")


def test_what_a_middleware_sets_is_sent_whoever_the_client_is() -> None:
    peer = a_peer("192.0.2.9", forwarded_headers=ForwardedHeaders(trusted_ips=("203.0.113.1",)))
    lines = peer.lines(b"h", {b"x-forwarded-prefix": [b"/ours"]})
    assert b"X-Forwarded-Prefix: /ours\r\n" in lines


def test_lines_of_a_plain_request() -> None:
    peer = a_peer("192.0.2.9")
    assert peer.lines(b"host:81", {}) == peer.plain_lines(b"host:81")
    assert peer.plain_lines(b"other") == peer.lines(b"other", {})
    assert b"X-Forwarded-Port: 81\r\n" in peer.plain_lines(b"host:81")
