"""Header blocks of HTTP/2 to and from HTTP/1.1 heads, in pure Python.

The twin of `_http2.c`: both give the same answer, byte for byte, for every input. This one serves
where there is no compiler and is the oracle of the fuzz test.

The proxy's own form of a head is that of HTTP/1.1, as the scanner of `kvproxy.http.scan` gives it.
A block that is decoded here has passed the rules of HTTP/2 (RFC 9113, section 8) and of that
scanner; what is encoded here is trusted to have passed a scanner.

Order of judgement, which both implementations keep: the compression of the whole block first, then
its size, then whether the message is well-formed, then what it asks for.
"""

from __future__ import annotations

from typing import Final

from kvproxy.http.chunked import is_trailer
from kvproxy.http.flags import (
    CHUNKED,
    EXPECT,
    FORWARDED,
    HTTP2,
    IDEMPOTENT,
    KEEP_ALIVE,
    OPTIONS_STAR,
    PLAIN_PATH,
    UPGRADE,
)
from kvproxy.http.frames import (
    DATA,
    DEFAULT_FRAME_SIZE,
    END_HEADERS,
    END_STREAM,
    FRAME_HEADER_BYTES,
    HEADERS,
    MAX_WINDOW,
    PADDED,
    PRIORITISED,
    PROTOCOL_ERROR,
    pack_header,
    unpack_header,
)
from kvproxy.http.grammar import MAX_LENGTH_DIGITS, TARGET, VALUE, compiled, is_host, is_plain
from kvproxy.http.head import canonical_name
from kvproxy.http.hpack import Decoder, Field, encode_field
from kvproxy.http.scan_pure import METHOD_FLAGS, SWITCH, TE_TRAILERS

_is_name = compiled(r"[!#$%&'*+\-.^_`|~0-9a-z]++").fullmatch
_is_value = compiled(rf"(?![\t ]){VALUE}*+(?<![\t ])").fullmatch
_is_method = compiled(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++").fullmatch
_is_path = compiled(rf"{TARGET}++").fullmatch

_PSEUDO_FIELDS: Final = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))
# RFC 9113, section 8.2.2. What these say is said by frames in HTTP/2.
_CONNECTION_FIELDS: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
# What a server is not told. A name with `_` counts as what it imitates.
_CUT: Final = _CONNECTION_FIELDS | {
    *(b"host", b"te", b"trailer", b"x-real-ip", b"content-length"),
    *(b"proxy-authenticate", b"proxy-authorization"),
}
_REQUEST_FLAGS: Final = END_STREAM | END_HEADERS | PADDED | PRIORITISED
_WITH_BODY: Final = frozenset((b"POST", b"PUT", b"PATCH"))


class BlockDecoder(Decoder):
    """Decodes the header blocks of one direction of a connection into lines of HTTP/1.1."""

    __slots__ = ()

    def request(
        self, block: bytes, max_bytes: int, max_headers: int, ended: bool
    ) -> int | tuple[bytes, bytes, bytes, int, int, bytes]:
        """Read the block of a request and make the head for the server from it.

        `max_bytes` bounds the fields as RFC 9113 (6.5.2) counts them, `max_headers` their number;
        `ended`: no body follows. The answer is a code of kvproxy.http.frames (COMPRESSION_ERROR
        and ENHANCE_YOUR_CALM for the connection, PROTOCOL_ERROR for the stream), a status (405,
        417, 431, 501) when the request must be refused, or `(head, host, target, flags, length,
        cut)`. The first five are those of `kvproxy.http.scan.scan_request`, except that `length`
        is -1 when it is not known; a body of unknown length is announced as chunked. `cut` has the
        lines that rules may look at, but servers are not sent.
        """
        fields = self.decode(block, max_bytes)
        if isinstance(fields, int):
            return fields
        if len(fields) > max_headers:
            return 431
        pseudo: dict[bytes, bytes] = {}
        kept: list[bytes] = []
        cut: list[bytes] = []
        cookies: list[bytes] = []
        cookie_position = 0
        host: bytes | None = None
        length = -1
        flags = KEEP_ALIVE | HTTP2
        trailers = unknown_expectation = False
        for count, (name, value) in enumerate(fields):
            if name.startswith(b":"):
                if name not in _PSEUDO_FIELDS or name in pseudo or len(pseudo) < count:
                    return PROTOCOL_ERROR
                pseudo[name] = value
                continue
            if not _is_name(name) or not _is_value(value) or name in _CONNECTION_FIELDS:
                return PROTOCOL_ERROR
            line = b"%b: %b\r\n" % (canonical_name(name), value)
            meaning = name.replace(b"_", b"-")
            if name == b"cookie":
                # RFC 9113, section 8.2.3: crumbs are one field again for those behind us.
                if not cookies:
                    cookie_position = len(kept)
                    kept.append(b"")
                cookies.append(value)
            elif name == b"host":
                if host is not None:
                    return PROTOCOL_ERROR
                host = value
            elif name == b"content-length":
                if length >= 0 or len(value) > MAX_LENGTH_DIGITS or not value.isdigit():
                    return PROTOCOL_ERROR
                length = int(value)
                kept.append(line)
            elif name == b"te":
                if value != b"trailers":
                    return PROTOCOL_ERROR
                trailers = True
            elif name == b"expect":
                unknown_expectation |= value.lower() != b"100-continue"
                flags |= EXPECT
                kept.append(line)
            elif meaning in _CUT or meaning.startswith(b"x-forwarded-"):
                if name == b"x-real-ip" or name.startswith(b"x-forwarded-"):
                    flags |= FORWARDED
                cut.append(line)
            else:
                if name in (b"idempotency-key", b"x-idempotency-key"):
                    flags |= IDEMPOTENT
                kept.append(line)
        if cookies:
            kept[cookie_position] = b"Cookie: %b\r\n" % b"; ".join(cookies)

        method = pseudo.get(b":method", b"")
        authority = pseudo.get(b":authority", host or b"")
        if not _is_method(method) or not authority or not is_host(authority):
            return PROTOCOL_ERROR
        if host is not None and host.lower() != authority.lower():
            return PROTOCOL_ERROR
        protocol = pseudo.get(b":protocol")
        if method == b"CONNECT" and protocol is None:
            return 405
        path = pseudo.get(b":path", b"")
        if pseudo.get(b":scheme") not in (b"http", b"https") or not _is_path(path):
            return PROTOCOL_ERROR
        if path == b"*" and method == b"OPTIONS":
            flags |= OPTIONS_STAR
        elif not path.startswith(b"/"):
            return PROTOCOL_ERROR
        if ended and length > 0:
            return PROTOCOL_ERROR
        if protocol is not None:
            # RFC 8441, section 4.
            if method != b"CONNECT" or length >= 0:
                return PROTOCOL_ERROR
            if protocol != b"websocket":
                return 501
            method = b"GET"
            flags |= UPGRADE
        if unknown_expectation:
            return 417

        flags |= METHOD_FLAGS.get(method, 0)
        if is_plain(path):
            flags |= PLAIN_PATH
        if length < 0 and protocol is None:
            if not ended:
                flags |= CHUNKED
                kept.append(b"Transfer-Encoding: chunked\r\n")
            elif method in _WITH_BODY:
                kept.append(b"Content-Length: 0\r\n")
        if trailers:
            kept.append(TE_TRAILERS)
        if protocol is not None:
            kept.append(SWITCH)
        head = b"%b %b HTTP/1.1\r\n%b" % (method, path, b"".join(kept))
        return head, authority, path, flags, length, b"".join(cut)

    def response(
        self, block: bytes, max_bytes: int, max_headers: int
    ) -> int | tuple[int, bytes, int]:
        """Read the block of an answer.

        The answer is a code or 431 as that of `request`, or `(status, lines, length)`: the header
        lines of HTTP/1.1, and Content-Length, -1 when there is none.
        """
        fields = self.decode(block, max_bytes)
        if isinstance(fields, int):
            return fields
        if len(fields) > max_headers:
            return 431
        if not fields or fields[0][0] != b":status":
            return PROTOCOL_ERROR
        status = fields[0][1]
        if len(status) != 3 or not status.isdigit() or status[0] == 0x30 or status == b"101":
            return PROTOCOL_ERROR
        lines: list[bytes] = []
        length = -1
        for name, value in fields[1:]:
            if not _is_name(name) or not _is_value(value) or name in _CONNECTION_FIELDS:
                return PROTOCOL_ERROR
            if name == b"content-length":
                if len(value) > MAX_LENGTH_DIGITS or not value.isdigit():
                    return PROTOCOL_ERROR
                if length >= 0:
                    if length != int(value):
                        return PROTOCOL_ERROR
                    continue
                length = int(value)
            lines.append(b"%b: %b\r\n" % (canonical_name(name), value))
        return int(status), b"".join(lines), length

    def trailers(self, block: bytes, max_bytes: int, max_headers: int) -> int | bytes:
        """Read the block of trailers: a code or 431 as that of `request`, or lines of HTTP/1.1.

        Fields that must not be in a trailer are left out (RFC 9110, section 6.5.1).
        """
        fields = self.decode(block, max_bytes)
        if isinstance(fields, int):
            return fields
        if len(fields) > max_headers:
            return 431
        lines: list[bytes] = []
        for name, value in fields:
            if not _is_name(name) or not _is_value(value) or name in _CONNECTION_FIELDS:
                return PROTOCOL_ERROR
            if is_trailer(name):
                lines.append(b"%b: %b\r\n" % (canonical_name(name), value))
        return b"".join(lines)


def request_block(data: bytes, position: int, stream: int) -> bytes | None:
    """Return the header block of the frame at ``position`` when it is the whole of a request: one
    HEADERS frame of this stream, complete, without padding and priority, that no body follows.

    Anything else, which includes nothing, gives None. Raises ValueError for a position that is not
    in ``data`` or at its end.
    """
    if not 0 <= position <= len(data):
        raise ValueError("position out of range")
    start = position + FRAME_HEADER_BYTES
    if start > len(data):
        return None
    head, flags, number = unpack_header(data, position)
    length = head >> 8
    if (
        head & 0xFF != HEADERS
        or flags & _REQUEST_FLAGS != END_STREAM | END_HEADERS
        or number & MAX_WINDOW != stream
        or length > min(DEFAULT_FRAME_SIZE, len(data) - start)
    ):
        return None
    return data[start : start + length]


def encode_response(data: bytes) -> tuple[bytes, int]:
    """Encode the head of an answer, with or without its empty line.

    The answer is the block, and the offset in `data` of the first byte behind the head. Raises
    ValueError when there is no head.
    """
    lines, end = _lines(data)
    status = lines[0][9:12]
    if not data.startswith(b"HTTP/1.1 ") or len(status) != 3 or not status.isdigit():
        raise ValueError("no status line")
    fields = [(name, value) for name, value in _fields(lines[1:]) if name != b"te"]
    return _encode([(b":status", status), *fields]), end


def encode_answer(data: bytes, stream: int, room: int) -> tuple[bytes, int] | None:
    """Make the frames of a whole answer: HEADERS and, where there is a body, DATA.

    The answer is the frames and the size of the body; None when the body is larger than `room`, or
    one of them larger than every frame may be. Raises ValueError when there is no head.
    """
    block, end = encode_response(data)
    size = len(data) - end
    if size > min(room, DEFAULT_FRAME_SIZE) or len(block) > DEFAULT_FRAME_SIZE:
        return None
    if not size:
        return pack_header(len(block) << 8 | HEADERS, END_HEADERS | END_STREAM, stream) + block, 0
    head = pack_header(len(block) << 8 | HEADERS, END_HEADERS, stream)
    body = pack_header(size << 8 | DATA, END_STREAM, stream) + data[end:]
    return head + block + body, size


def encode_request(data: bytes, scheme: bytes) -> bytes:
    """Encode the head of a request that has a Host line. Raises ValueError when there is none."""
    lines, _ = _lines(data)
    words = lines[0].split(b" ")
    if len(words) != 3 or words[2] != b"HTTP/1.1":
        raise ValueError("no request line")
    hosts = []
    fields = []
    for name, value in _fields(lines[1:]):
        if name == b"host":
            hosts.append(value)
        elif name != b"te" or value.lower() == b"trailers":
            fields.append((name, value))
    if len(hosts) != 1:
        raise ValueError("no host")
    pseudo = [(b":method", words[0]), (b":scheme", scheme)]
    return _encode([*pseudo, (b":authority", hosts[0]), (b":path", words[1]), *fields])


def encode_trailers(lines: bytes) -> bytes:
    """Encode lines of HTTP/1.1, each with its CRLF. Raises ValueError."""
    return _encode(_fields(_lines(lines)[0])) if lines else b""


def _lines(data: bytes) -> tuple[list[bytes], int]:
    """The lines of a head, and the offset behind it."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if not data.endswith(b"\r\n"):
            raise ValueError("no line end")
        return data[:-2].split(b"\r\n"), len(data)
    return data[:end].split(b"\r\n"), end + 4


def _fields(lines: list[bytes]) -> list[Field]:
    """The fields of lines, without those that concern a connection of HTTP/1.1."""
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name:
            raise ValueError("no field line")
        name = name.lower()
        if name not in _CONNECTION_FIELDS:
            fields.append((name, value.strip(b" \t")))
    return fields


def _encode(fields: list[Field]) -> bytes:
    return b"".join([encode_field(name, value) for name, value in fields])
