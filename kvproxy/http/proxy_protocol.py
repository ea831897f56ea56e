"""The PROXY protocol, versions 1 and 2: what a load balancer says of a client before its first
byte.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

LONGEST_TEXT = 107
"""The longest header of version 1, its line end included."""

LONGEST_BINARY = 4096
"""The longest header of version 2 that is accepted (65551 would be allowed)."""

_TEXT = b"PROXY "
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")
_LOCAL, _PROXY = 0, 1
_FAMILIES: dict[int, tuple[struct.Struct, type[IPv4Address | IPv6Address]]] = {
    0x11: (struct.Struct("!4s4sHH"), IPv4Address),
    0x21: (struct.Struct("!16s16sHH"), IPv6Address),
}
_TEXT_FAMILIES: dict[bytes, type[IPv4Address | IPv6Address]] = {
    b"TCP4": IPv4Address,
    b"TCP6": IPv6Address,
}


class ProxyProtocolError(Exception):
    """A header began and is none; the message says what is wrong with it."""


class Header(NamedTuple):
    """What was found at the beginning of a connection.

    ``source``: the client's address and port as announced, None when the header names nobody or
    there is none. ``end``: where the client's own bytes begin; 0 means that there is no header.
    """

    source: tuple[str, int] | None
    end: int


NO_HEADER = Header(None, 0)


def read_header(data: bytes) -> Header | None:
    """Read the header at the beginning of ``data``; None while more bytes are needed to tell.

    Raises `ProxyProtocolError`.
    """
    if data.startswith(_TEXT):
        return _read_text(data)
    if data.startswith(_SIGNATURE):
        return _read_binary(data)
    if _TEXT.startswith(data) or _SIGNATURE.startswith(data):
        return None
    return NO_HEADER


def _read_text(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LONGEST_TEXT)
    if end < 0:
        if len(data) >= LONGEST_TEXT:
            raise ProxyProtocolError(f"no end of line in {LONGEST_TEXT} bytes")
        return None
    fields = data[len(_TEXT) : end].split(b" ")
    if fields[0] == b"UNKNOWN":
        return Header(None, end + 2)
    family = _TEXT_FAMILIES.get(fields[0])
    if family is None or len(fields) != 5:
        raise ProxyProtocolError("expected TCP4 or TCP6, two addresses and two ports")
    try:
        source, _ = (_spelled(family(field.decode("ascii"))) for field in fields[1:3])
    except ValueError:
        raise ProxyProtocolError("bad address") from None
    port, _ = (_port(field) for field in fields[3:5])
    return Header((source, port), end + 2)


def _port(field: bytes) -> int:
    if not field.isdigit() or len(field) > 5 or int(field) > 65535:
        raise ProxyProtocolError("bad port")
    return int(field)


def _read_binary(data: bytes) -> Header | None:
    if len(data) < _FIXED.size:
        return None
    _, version_and_command, family, length = _FIXED.unpack_from(data)
    version, command = version_and_command >> 4, version_and_command & 0x0F
    if version != 2 or command not in (_LOCAL, _PROXY):
        raise ProxyProtocolError(f"unknown version or command 0x{version_and_command:02x}")
    end = _FIXED.size + length
    if end > LONGEST_BINARY:
        raise ProxyProtocolError(f"{end} bytes; at most {LONGEST_BINARY} are accepted")
    if len(data) < end:
        return None
    known = _FAMILIES.get(family)
    if command == _LOCAL or known is None:
        # Health checks of the load balancer, and what is no TCP over IP: the peer speaks for
        # itself.
        return Header(None, end)
    layout, address = known
    if length < layout.size:
        raise ProxyProtocolError("shorter than its addresses")
    source, _, port, _ = layout.unpack_from(data, _FIXED.size)
    return Header((_spelled(address(source)), port), end)


def _spelled(address: IPv4Address | IPv6Address) -> str:
    """Return an address without zone; an IPv4-mapped one as IPv4, for it is the same client."""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address).partition("%")[0]
