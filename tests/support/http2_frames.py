"""Frames and header blocks of HTTP/2 written and read by hand, for tests that send what no library
would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

(
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
) = range(10)
PRIORITY_UPDATE = 16
END_STREAM = ACK = 1
END_HEADERS = 4
PADDED = 8
PRIORITISED = 32
END = END_STREAM | END_HEADERS

(
    NO_ERROR,
    PROTOCOL_ERROR,
    INTERNAL_ERROR,
    FLOW_CONTROL_ERROR,
    SETTINGS_TIMEOUT,
    STREAM_CLOSED,
    FRAME_SIZE_ERROR,
    REFUSED_STREAM,
    CANCEL,
    COMPRESSION_ERROR,
    CONNECT_ERROR,
    ENHANCE_YOUR_CALM,
) = range(12)

Fields = list[tuple[bytes, bytes]]

GET: Fields = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":authority", b"a.test"),
    (b":path", b"/"),
]
POST: Fields = [(b":method", b"POST"), *GET[1:]]


class Frame(NamedTuple):
    """A frame that was received."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return b"%b%c%c%b%b" % (
        len(payload).to_bytes(3, "big"),
        kind,
        flags,
        stream.to_bytes(4, "big"),
        payload,
    )


def number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def settings(*values: tuple[int, int], flags: int = 0, stream: int = 0) -> bytes:
    pairs = b"".join(key.to_bytes(2, "big") + number(value) for key, value in values)
    return frame(SETTINGS, flags, stream, pairs)


def window_update(increment: int, stream: int = 0) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, number(increment))


def rst_stream(stream: int, code: int = CANCEL) -> bytes:
    return frame(RST_STREAM, 0, stream, number(code))


def goaway(code: int = NO_ERROR, last: int = 0, stream: int = 0) -> bytes:
    return frame(GOAWAY, 0, stream, number(last) + number(code))


def priority(stream: int, depends_on: int = 0, weight: int = 15) -> bytes:
    return frame(PRIORITY, 0, stream, number(depends_on) + bytes((weight,)))


def integer(value: int, prefix: int, first: int = 0) -> bytes:
    """An integer of HPACK (RFC 7541, section 5.1)."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes((first | value,))
    encoded = [first | limit]
    value -= limit
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


def block(fields: Fields) -> bytes:
    """A header block that leaves the table as it is."""
    return b"".join(
        b"\0" + integer(len(name), 7) + name + integer(len(value), 7) + value
        for name, value in fields
    )


def headers(fields: Fields, stream: int = 1, flags: int = END) -> bytes:
    return frame(HEADERS, flags, stream, block(fields))


def data(payload: bytes, stream: int = 1, flags: int = END_STREAM) -> bytes:
    return frame(DATA, flags, stream, payload)


def split(received: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames, and the rest."""
    frames = []
    while len(received) >= 9:
        end = 9 + int.from_bytes(received[:3], "big")
        if len(received) < end:
            break
        stream = int.from_bytes(received[5:9], "big")
        frames.append(Frame(received[3], received[4], stream, received[9:end]))
        received = received[end:]
    return frames, received


# What a test waits for.


@dataclass(frozen=True)
class Goaway:
    """The end of the connection, with one of these codes."""

    codes: tuple[int, ...]

    def matches(self, received: Frame) -> bool:
        code = int.from_bytes(received.payload[4:8], "big")
        return received.kind == GOAWAY and code in self.codes


@dataclass(frozen=True)
class Reset:
    """The end of a stream, with one of these codes."""

    codes: tuple[int, ...]
    stream: int = 1

    def matches(self, received: Frame) -> bool:
        return (
            received.kind == RST_STREAM
            and received.stream == self.stream
            and int.from_bytes(received.payload, "big") in self.codes
        )


@dataclass(frozen=True)
class Head:
    """The head of an answer."""

    stream: int = 1

    def matches(self, received: Frame) -> bool:
        return received.kind == HEADERS and received.stream == self.stream


@dataclass(frozen=True)
class Ended:
    """The end of an answer."""

    stream: int = 1

    def matches(self, received: Frame) -> bool:
        return (
            received.kind in (DATA, HEADERS)
            and received.stream == self.stream
            and bool(received.flags & END_STREAM)
        )


@dataclass(frozen=True)
class Body:
    """A piece of an answer's body, of a known length."""

    length: int
    stream: int = 1

    def matches(self, received: Frame) -> bool:
        return (received.kind, received.stream) == (DATA, self.stream) and self.length == len(
            received.payload
        )


@dataclass(frozen=True)
class Pong:
    """The answer to a PING."""

    payload: bytes = b"8 octets"

    def matches(self, received: Frame) -> bool:
        return received == Frame(PING, ACK, 0, self.payload)


@dataclass(frozen=True)
class Question:
    """A PING of the other side."""

    def matches(self, received: Frame) -> bool:
        return (received.kind, received.flags) == (PING, 0)


@dataclass(frozen=True)
class SettingsAck:
    """The answer to SETTINGS."""

    def matches(self, received: Frame) -> bool:
        return received == Frame(SETTINGS, ACK, 0, b"")


@dataclass(frozen=True)
class Settings:
    """The settings of the other side."""

    def matches(self, received: Frame) -> bool:
        return received.kind == SETTINGS and not received.flags & ACK


Expected = Goaway | Reset | Head | Ended | Body | Pong | Question | SettingsAck | Settings

PING_FRAME = frame(PING, 0, 0, b"8 octets")
