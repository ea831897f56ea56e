"""The X-Forwarded-* lines (specification section 8.3, cases 10.10)."""

from __future__ import annotations

import pytest

from kvproxy.model.static import ForwardedHeaders
from kvproxy.proxy.downstream.forwarded import ForwardedLines, Trust, client_address

LINES = ForwardedLines(b"10.0.0.9", b"http", b"edge")
LINES_TLS = ForwardedLines(b"10.0.0.9", b"https", b"edge")


def parsed(lines: bytes) -> dict[bytes, bytes]:
    pairs = [line.split(b": ", 1) for line in lines.split(b"\r\n") if line]
    assert len({name for name, _ in pairs}) == len(pairs)
    return dict(pairs)


def test_nothing_sent_by_the_client() -> None:
    assert parsed(LINES.plain(b"plain")) == {
        b"X-Forwarded-For": b"10.0.0.9",
        b"X-Real-Ip": b"10.0.0.9",
        b"X-Forwarded-Proto": b"http",
        b"X-Forwarded-Server": b"edge",
        b"X-Forwarded-Port": b"80",
        b"X-Forwarded-Host": b"plain",
    }


MERGED = {
    "W07-proto-decides-port": (
        b"plain",
        {b"x-forwarded-proto": [b"https"]},
        b"X-Forwarded-Port",
        b"443",
    ),
    "W08-port-of-host": (
        b"plain:8443",
        {b"x-forwarded-proto": [b"https"]},
        b"X-Forwarded-Port",
        b"8443",
    ),
    "W09-chain": (
        b"h",
        {b"x-forwarded-for": [b"1.1.1.1", b"2.2.2.2"]},
        b"X-Forwarded-For",
        b"1.1.1.1, 2.2.2.2, 10.0.0.9",
    ),
    "host-kept": (b"h", {b"x-forwarded-host": [b"first"]}, b"X-Forwarded-Host", b"first"),
    "real-ip-kept": (b"h", {b"x-real-ip": [b"9.9.9.9"]}, b"X-Real-Ip", b"9.9.9.9"),
    "empty-is-absent": (b"h", {b"x-real-ip": [b""]}, b"X-Real-Ip", b"10.0.0.9"),
    "uri-kept": (b"h", {b"x-forwarded-uri": [b"/bar"]}, b"X-Forwarded-Uri", b"/bar"),
    "prefix-kept": (b"h", {b"x-forwarded-prefix": [b"/p"]}, b"X-Forwarded-Prefix", b"/p"),
    "server-never-kept": (b"h", {b"x-forwarded-server": [b"liar"]}, b"X-Forwarded-Server", b"edge"),
}


@pytest.mark.parametrize(("host", "sent", "name", "value"), MERGED.values(), ids=MERGED)
def test_trusted(host: bytes, sent: dict[bytes, list[bytes]], name: bytes, value: bytes) -> None:
    assert parsed(LINES.merged(host, sent, trusted=True))[name] == value


@pytest.mark.parametrize("name", [b"for", b"host", b"port", b"proto", b"server"])
def test_what_the_proxy_writes_is_not_taken_from_others(name: bytes) -> None:
    lines = LINES.merged(b"h", {b"x-forwarded-" + name: [b"evil"]}, trusted=False)
    assert b"evil" not in lines
    assert parsed(lines) == parsed(LINES.plain(b"h"))


def test_other_names_of_the_family_pass() -> None:
    lines = LINES.merged(b"h", {b"x-forwarded-user": [b"ann"], b"accept": [b"*/*"]}, trusted=False)
    assert parsed(lines)[b"X-Forwarded-User"] == b"ann"
    assert b"accept" not in lines.lower()


def test_tls_port() -> None:
    assert parsed(LINES_TLS.plain(b"h"))[b"X-Forwarded-Port"] == b"443"
    assert parsed(LINES_TLS.plain(b"h:8443"))[b"X-Forwarded-Port"] == b"8443"


PEERS = {
    "ipv4": (("10.0.0.9", 5), "10.0.0.9"),
    "ipv6": (("2001:db8::9", 5, 0, 0), "2001:db8::9"),
    "mapped": (("::ffff:10.0.0.9", 5, 0, 0), "10.0.0.9"),
    "zone": (("fe80::1%eth0", 5, 0, 2), "fe80::1"),
    "not-mapped": (("::ffff:1", 5, 0, 0), "::ffff:1"),
    "gone": (None, ""),
}


@pytest.mark.parametrize(("peer", "address"), PEERS.values(), ids=PEERS)
def test_client_address(peer: tuple[str, int] | None, address: str) -> None:
    assert client_address(peer) == address


TRUST = {
    "absent-section": (None, "1.2.3.4", True),
    "insecure": (ForwardedHeaders(insecure=True), "1.2.3.4", True),
    "W01-listed": (ForwardedHeaders(trusted_ips=("10.10.10.10",)), "10.10.10.10", True),
    "W02-other": (ForwardedHeaders(trusted_ips=("10.10.10.10",)), "50.50.50.50", False),
    "host-bits": (ForwardedHeaders(trusted_ips=("10.1.2.3/8",)), "10.9.9.9", True),
    "mapped": (ForwardedHeaders(trusted_ips=("10.0.0.0/8",)), "::ffff:10.1.1.1", True),
    "zone": (ForwardedHeaders(trusted_ips=("fe80::/16",)), "fe80::1%eth0", True),
    "not-an-address": (ForwardedHeaders(trusted_ips=("10.0.0.0/8",)), "", False),
    "empty-section": (ForwardedHeaders(), "10.1.1.1", False),
}


@pytest.mark.parametrize(("settings", "peer", "believed"), TRUST.values(), ids=TRUST)
def test_trust(settings: ForwardedHeaders | None, peer: str, believed: bool) -> None:
    assert Trust(settings).includes(peer) is believed


def test_a_bad_network_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Trust(ForwardedHeaders(trusted_ips=("nonsense",)))
