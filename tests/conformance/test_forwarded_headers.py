"""Case table 10.10: what servers are told about the client, and what hop-by-hop headers become."""

from __future__ import annotations

import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from tests.conformance.cases import Ask, Case, Forwarded, frontend, parameters, waits_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.cases import CaseTable

PEER = "127.0.0.1"
ELSEWHERE = "10.10.10.10"
SENT = (
    ("X-Forwarded-For", "30.30.30.30"),
    ("X-Forwarded-Uri", "/bar"),
    ("X-Forwarded-Method", "GET"),
    ("X-Foo", "bar"),
)
KEPT = {
    "X-Forwarded-For": (f"30.30.30.30, {PEER}",),
    "X-Forwarded-Uri": ("/bar",),
    "X-Forwarded-Method": ("GET",),
    "X-Foo": ("bar",),
}
EMPTIED = {
    "X-Forwarded-For": (PEER,),
    "X-Forwarded-Uri": (),
    "X-Forwarded-Method": (),
    "X-Foo": ("bar",),
}
EVERYBODY = {"forwardedHeaders": {"insecure": True}}
TRUSTED_PEER = {"forwardedHeaders": {"trustedIPs": [PEER]}}
OTHER_PEER = {"forwardedHeaders": {"trustedIPs": [ELSEWHERE]}}
HOP_BY_HOP = (
    ("Connection", "X-Foo, keep-alive"),
    ("X-Foo", "secret"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Authorization", "Basic eDp5"),
    ("Te", "trailers, deflate"),
    ("Trailer", "X-Late"),
    ("Upgrade", "h2c"),
)
GONE: tuple[str, ...] = ()
ANNOUNCED = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
ANNOUNCED_IN_BINARY = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x21\x00\x24"
    + ip_address("2001:db8::1").packed
    + ip_address("2001:db8::2").packed
    + b"\xdc\x04\x01\xbb"
)


def row(
    identity: str,
    sent: tuple[tuple[str, str], ...],
    seen: Mapping[str, tuple[str, ...]],
    *,
    host: str = "plain",
    entry_point: Mapping[str, object] | None = None,
    announced: bytes = b"",
    difference: str = "",
    pass_host: bool = True,
) -> Case:
    return Case(
        identity,
        {"all": frontend("PathPrefix:/", passHostHeader=pass_host)},
        ((Ask("/", host=host, headers=sent), Forwarded(headers=seen)),),
        entry_point=entry_point or {},
        announced=announced,
        difference=difference,
    )


CASES = [
    row("W01", SENT, KEPT, entry_point=TRUSTED_PEER),
    row("W02", SENT, EMPTIED, entry_point=OTHER_PEER),
    *waits_for("no TCP peer is without a port: the row is about a library's parser", "W03"),
    row("W04", SENT, KEPT, entry_point=EVERYBODY),
    row(
        "W05",
        (),
        {
            "X-Forwarded-For": (PEER,),
            "X-Forwarded-Host": ("plain",),
            "X-Forwarded-Port": ("80",),
            "X-Forwarded-Proto": ("http",),
            "X-Forwarded-Server": (socket.gethostname(),),
            "X-Real-Ip": (PEER,),
            "Host": ("plain",),
        },
    ),
    row(
        "W06",
        (),
        {"X-Forwarded-Port": ("99",), "X-Forwarded-Host": ("pass:99",)},
        host="pass:99",
    ),
    row("W07", (("X-Forwarded-Proto", "https"),), {"X-Forwarded-Port": ("443",)}),
    row(
        "W08",
        (("X-Forwarded-Proto", "https"),),
        {"X-Forwarded-Port": ("8443",), "X-Forwarded-Proto": ("https",)},
        host="plain:8443",
    ),
    row(
        "W09",
        (("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "2.2.2.2")),
        {"X-Forwarded-For": (f"1.1.1.1, 2.2.2.2, {PEER}",)},
    ),
    row(
        "W10",
        (("X-Forwarded-For", ELSEWHERE), *SENT[1:]),
        EMPTIED,
        entry_point=OTHER_PEER,
        difference="the reference believes whoever lists a trusted address; kvproxy asks the peer",
    ),
    row(
        "W11",
        (("X-Forwarded-For", "foo"), *SENT[1:]),
        {**KEPT, "X-Forwarded-For": (f"foo, {PEER}",)},
        entry_point=TRUSTED_PEER,
        difference="trust is the peer's alone: an odd X-Forwarded-For does not take it away",
    ),
    row(
        "W12",
        (),
        {"X-Forwarded-Proto": ("https",), "X-Forwarded-Port": ("8443",)},
        host="h:8443",
        entry_point={"tls": {}},
    ),
    row(
        "W13-off",
        (),
        {"X-Forwarded-Host": ("client.test:81",), "Host": ("{echo}",)},
        host="client.test:81",
        pass_host=False,
    ),
    row(
        "W13-on",
        (),
        {"X-Forwarded-Host": ("client.test:81",), "Host": ("client.test:81",)},
        host="client.test:81",
    ),
    row(
        "W14",
        (),
        {"X-Forwarded-For": ("192.0.2.1",), "X-Real-Ip": ("192.0.2.1",)},
        entry_point={"proxyProtocol": {"trustedIPs": [PEER]}},
        announced=ANNOUNCED,
    ),
    row(
        "W15",
        (),
        {"X-Forwarded-For": (PEER,), "X-Real-Ip": (PEER,)},
        entry_point={"proxyProtocol": {"trustedIPs": [ELSEWHERE]}},
        announced=ANNOUNCED,
    ),
    row(
        "6.7-insecure",
        (),
        {"X-Forwarded-For": ("192.0.2.1",)},
        entry_point={"proxyProtocol": {"insecure": True}},
        announced=ANNOUNCED,
    ),
    row(
        "6.7-version-2",
        (),
        {"X-Forwarded-For": ("2001:db8::1",)},
        entry_point={"proxyProtocol": {"trustedIPs": [PEER]}},
        announced=ANNOUNCED_IN_BINARY,
        difference="version 2 is understood too",
    ),
    row(
        "6.7-without-header",
        (),
        {"X-Forwarded-For": (PEER,)},
        entry_point={"proxyProtocol": {"trustedIPs": [PEER]}},
    ),
    row(
        "6.7-before-tls",
        (),
        {"X-Forwarded-For": ("192.0.2.1",), "X-Forwarded-Proto": ("https",)},
        entry_point={"proxyProtocol": {"trustedIPs": [PEER]}, "tls": {}},
        announced=ANNOUNCED,
    ),
    row(
        "6.7-then-trusted",
        SENT,
        {**KEPT, "X-Forwarded-For": ("30.30.30.30, 192.0.2.1",)},
        entry_point={
            "proxyProtocol": {"trustedIPs": [PEER]},
            "forwardedHeaders": {"trustedIPs": ["192.0.2.0/24"]},
        },
        announced=ANNOUNCED,
    ),
    row("W16", HOP_BY_HOP, {**{name: GONE for name, _ in HOP_BY_HOP}, "Te": ("trailers",)}),
    row("W17", (("Te", "gzip"),), {"Te": GONE}),
    row(
        "8.3-kept-when-trusted",
        (
            ("X-Real-Ip", "9.9.9.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Port", "1234"),
            ("X-Forwarded-Host", "outer"),
            ("X-Forwarded-Server", "spoofed"),
        ),
        {
            "X-Real-Ip": ("9.9.9.9",),
            "X-Forwarded-Proto": ("https",),
            "X-Forwarded-Port": ("1234",),
            "X-Forwarded-Host": ("outer",),
            "X-Forwarded-Server": (socket.gethostname(),),
        },
        entry_point=TRUSTED_PEER,
    ),
    row(
        "8.3-overwritten-when-untrusted",
        (
            ("X-Real-Ip", "9.9.9.9"),
            ("X-Forwarded-Proto", "https"),
            ("X-Forwarded-Port", "1234"),
            ("X-Forwarded-Host", "outer"),
            ("X-Forwarded-Server", "spoofed"),
        ),
        {
            "X-Real-Ip": (PEER,),
            "X-Forwarded-Proto": ("http",),
            "X-Forwarded-Port": ("80",),
            "X-Forwarded-Host": ("plain",),
            "X-Forwarded-Server": (socket.gethostname(),),
        },
        entry_point=OTHER_PEER,
    ),
    row(
        "8.3-insecure-by-default",
        SENT,
        KEPT,
    ),
    row(
        "8.2-connection-cannot-remove-ours",
        (("Connection", "X-Real-Ip, X-Forwarded-Proto, x-forwarded-for, X-FORWARDED-HOST"),),
        {
            "X-Real-Ip": (PEER,),
            "X-Forwarded-Proto": ("http",),
            "X-Forwarded-For": (PEER,),
            "X-Forwarded-Host": ("plain",),
        },
        difference="in the reference a Connection header deletes forwarded headers",
    ),
    row(
        "8.2-prefix-and-forwarded-kept",
        (
            ("X-Forwarded-Prefix", "/outer"),
            ("X-Replaced-Path", "/old"),
            ("Forwarded", "for=1.2.3.4"),
        ),
        {
            "X-Forwarded-Prefix": ("/outer",),
            "X-Replaced-Path": ("/old",),
            "Forwarded": ("for=1.2.3.4",),
        },
    ),
    row(
        "8.2-prefix-of-the-untrusted",
        (("X-Forwarded-Prefix", "//evil.test"),),
        {"X-Forwarded-Prefix": GONE},
        entry_point=OTHER_PEER,
        difference="the reference passes it on, which makes open redirects behind it",
    ),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_forwarded_headers(case: Case, table: CaseTable) -> None:
    table.run(case)
