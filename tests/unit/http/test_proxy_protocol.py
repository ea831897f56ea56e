from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http.proxy_protocol import (
    LONGEST_BINARY,
    LONGEST_TEXT,
    NO_HEADER,
    Header,
    ProxyProtocolError,
    read_header,
)

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
REST = b"GET / HTTP/1.1\r\n"


def text(family: str, source: str, target: str, port: int, other: int = 443) -> bytes:
    return f"PROXY {family} {source} {target} {port} {other}\r\n".encode()


def binary(
    command: int = 0x21, family: int = 0x11, payload: bytes = b"", length: int | None = None
) -> bytes:
    count = len(payload) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, count) + payload


def addresses(source: str, target: str, port: int, other: int = 443) -> bytes:
    packed = ip_address(source).packed + ip_address(target).packed
    return packed + struct.pack("!HH", port, other)


V4 = addresses("192.0.2.1", "192.0.2.2", 56324)
V6 = addresses("2001:db8::1", "2001:db8::2", 1)

GOOD = {
    "v1 IPv4": (text("TCP4", "192.0.2.1", "192.0.2.2", 56324), ("192.0.2.1", 56324)),
    "v1 IPv6": (text("TCP6", "2001:DB8::1", "::1", 0, 65535), ("2001:db8::1", 0)),
    "v1 IPv4-mapped": (text("TCP6", "::ffff:192.0.2.1", "::1", 9), ("192.0.2.1", 9)),
    "v1 zone": (text("TCP6", "fe80::1%a\nX-Evil:b", "::1", 9), ("fe80::1", 9)),
    "v2 IPv4-mapped": (
        binary(family=0x21, payload=addresses("::ffff:192.0.2.1", "::1", 9)),
        ("192.0.2.1", 9),
    ),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2 IPv4": (binary(payload=V4), ("192.0.2.1", 56324)),
    "v2 IPv6": (binary(family=0x21, payload=V6), ("2001:db8::1", 1)),
    "v2 with more": (binary(payload=V4 + b"\x03\x00\x04abcd"), ("192.0.2.1", 56324)),
    "v2 local": (binary(command=0x20, payload=V4), None),
    "v2 local without anything": (binary(command=0x20, family=0), None),
    "v2 unspecified": (binary(family=0, payload=b"x" * 10), None),
    "v2 UDP": (binary(family=0x12, payload=V4), None),
    "v2 unix": (binary(family=0x31, payload=b"/" * 216), None),
}


@pytest.mark.parametrize(("header", "source"), GOOD.values(), ids=GOOD.keys())
@pytest.mark.parametrize("rest", [b"", REST, SIGNATURE, b"PROXY "])
def test_a_header_and_what_follows(
    header: bytes, source: tuple[str, int] | None, rest: bytes
) -> None:
    assert read_header(header + rest) == Header(source, len(header))
    for length in range(len(header)):
        assert read_header(header[:length]) is None, "not all of it is there"


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\n", b"PROPFIND / HTTP/1.1\r\n", b"\x16\x03\x01", b"\r\nGET", b"PROXY\r"],
)
def test_a_connection_without_header_is_normal(data: bytes) -> None:
    assert read_header(data) == NO_HEADER


BAD = {
    "v1 family": text("TCP5", "192.0.2.1", "192.0.2.2", 1),
    "v1 lower case": text("tcp4", "192.0.2.1", "192.0.2.2", 1),
    "v1 address of the other family": text("TCP4", "::1", "192.0.2.2", 1),
    "v1 no address": text("TCP4", "host", "192.0.2.2", 1),
    "v1 leading zeros": text("TCP4", "192.0.02.1", "192.0.2.2", 1),
    "v1 bad target": text("TCP4", "192.0.2.1", "x", 1),
    "v1 port": text("TCP4", "192.0.2.1", "192.0.2.2", 65536),
    "v1 negative port": text("TCP4", "192.0.2.1", "192.0.2.2", -1),
    "v1 bad target port": text("TCP4", "192.0.2.1", "192.0.2.2", 1, 99999),
    "v1 fields missing": b"PROXY TCP4 192.0.2.1\r\n",
    "v1 fields too many": b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
    "v1 two spaces": b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
    "v1 nothing": b"PROXY \r\n",
    "v1 digits of another script": "PROXY TCP4 192.0.2.1 192.0.2.2 \u0661 2\r\n".encode(),
    "v1 too long": b"PROXY TCP4 " + b"1" * LONGEST_TEXT,
    "v1 end too late": b"PROXY UNKNOWN " + b"x" * (LONGEST_TEXT - 15) + b"\r\n",
    "v2 version": binary(command=0x11, payload=V4),
    "v2 command": binary(command=0x22, payload=V4),
    "v2 too short for its addresses": binary(payload=V4[:-1]),
    "v2 IPv6 too short": binary(family=0x21, payload=V4),
    "v2 too long": binary(length=LONGEST_BINARY),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_what_begins_like_a_header_and_is_none(data: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        read_header(data)


def test_the_longest_text() -> None:
    line = b"PROXY UNKNOWN ".ljust(LONGEST_TEXT - 2, b"x") + b"\r\n"
    assert read_header(line) == Header(None, LONGEST_TEXT)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE]))
def test_any_bytes_are_understood_or_refused(data: bytes, prefix: bytes) -> None:
    try:
        found = read_header(prefix + data)
    except ProxyProtocolError:
        return
    if found is None:
        assert len(prefix + data) < LONGEST_BINARY
    else:
        assert 0 <= found.end <= len(prefix + data)


@given(
    st.ip_addresses(),
    st.ip_addresses(),
    st.integers(0, 65535),
    st.integers(0, 65535),
    st.booleans(),
)
def test_what_is_written_is_read(
    source: object, target: object, port: int, other: int, as_text: bool
) -> None:
    if type(source) is not type(target):
        target = source
    version = 4 if "." in str(source) else 6
    if as_text:
        data = text(f"TCP{version}", str(source), str(target), port, other)
    else:
        payload = addresses(str(source), str(target), port, other)
        data = binary(family=0x11 if version == 4 else 0x21, payload=payload)
    client = str(getattr(source, "ipv4_mapped", None) or source)
    assert read_header(data + REST) == Header((client, port), len(data))
