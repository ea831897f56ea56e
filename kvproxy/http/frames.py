"""HTTP/2 frames: their numbers, and writing them (RFC 9113, sections 4, 6 and 7)."""

from __future__ import annotations

from struct import Struct
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113, section 3.4)."""

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9
PRIORITY_UPDATE: Final = 16
"""RFC 9218, section 7.1."""

END_STREAM: Final = 1
ACK: Final = 1
END_HEADERS: Final = 4
PADDED: Final = 8
PRIORITISED: Final = 32
"""The flag PRIORITY of a HEADERS frame."""

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6
ENABLE_CONNECT_PROTOCOL: Final = 8
"""RFC 8441, section 3."""
NO_RFC7540_PRIORITIES: Final = 9
"""RFC 9218, section 2.1."""

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
SETTINGS_TIMEOUT: Final = 4
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
CONNECT_ERROR: Final = 10
ENHANCE_YOUR_CALM: Final = 11
INADEQUATE_SECURITY: Final = 12
HTTP_1_1_REQUIRED: Final = 13

ERROR_NAMES: Final = (
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
)

FRAME_HEADER_BYTES: Final = 9
DEFAULT_WINDOW: Final = 65_535
DEFAULT_FRAME_SIZE: Final = 16_384
MAX_FRAME_SIZE_LIMIT: Final = (1 << 24) - 1
MAX_WINDOW: Final = (1 << 31) - 1

unpack_header = Struct(">IBI").unpack_from
"""Reads `length << 8 | kind`, the flags, and the stream (with its reserved bit)."""
pack_header = Struct(">IBI").pack
"""The same for writing."""
unpack_setting = Struct(">HI").iter_unpack
pack_number = Struct(">I").pack

SETTINGS_ACK: Final = pack_header(SETTINGS, ACK, 0)


def error_name(code: int) -> str:
    """Return the name of an error code (RFC 9113, section 7)."""
    return ERROR_NAMES[code] if code < len(ERROR_NAMES) else f"error {code}"


def settings(values: dict[int, int]) -> bytes:
    """Return a SETTINGS frame."""
    pairs = [number.to_bytes(2, "big") + pack_number(value) for number, value in values.items()]
    return pack_header(len(pairs) * 6 << 8 | SETTINGS, 0, 0) + b"".join(pairs)


def window_update(stream: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection."""
    return pack_header(4 << 8 | WINDOW_UPDATE, 0, stream) + pack_number(increment)


def rst_stream(stream: int, code: int) -> bytes:
    """Return a RST_STREAM frame."""
    return pack_header(4 << 8 | RST_STREAM, 0, stream) + pack_number(code)


def ping(payload: bytes, flags: int = 0) -> bytes:
    """Return a PING frame; ``payload`` has eight bytes."""
    return pack_header(8 << 8 | PING, flags, 0) + payload


def goaway(last_stream: int, code: int, reason: bytes = b"") -> bytes:
    """Return a GOAWAY frame; ``reason`` is for people."""
    return b"".join(
        (
            pack_header(8 + len(reason) << 8 | GOAWAY, 0, 0),
            pack_number(last_stream),
            pack_number(code),
            reason,
        )
    )


def headers(stream: int, block: bytes, *, ended: bool, frame_size: int) -> bytes:
    """Return a HEADERS frame, with CONTINUATION frames where the block is larger than
    ``frame_size``."""
    size = len(block)
    if size <= frame_size:
        return pack_header(size << 8 | HEADERS, END_HEADERS | ended, stream) + block
    pieces = [pack_header(frame_size << 8 | HEADERS, int(ended), stream), block[:frame_size]]
    for start in range(frame_size, size, frame_size):
        piece = block[start : start + frame_size]
        flags = END_HEADERS if start + frame_size >= size else 0
        pieces += [pack_header(len(piece) << 8 | CONTINUATION, flags, stream), piece]
    return b"".join(pieces)
