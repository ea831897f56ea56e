"""Scan, validate and rewrite HTTP/1.1 heads, in pure Python.

The twin of `_scan.c`: both give the same answer, byte for byte, for every input. This one serves
where there is no compiler and is the oracle of the fuzz test.

One possessive regular expression decides whether a head is complete and well-formed, a second one
splits it at the lines that mean something to a proxy. A head that the first expression does not
take is read again, line by line, to tell an incomplete one from a bad one.

Order of judgement, which both implementations keep: grammar first, at the first byte that no good
head could have there; then, with the head complete, what its lines mean.
"""

import os
import re
from collections.abc import Collection
from typing import Final

from kvproxy.http.flags import (
    ABSOLUTE,
    CHUNKED,
    CHUNKED_BODY,
    CLOSE,
    EXPECT,
    FORWARDED,
    HEAD,
    HTTP10,
    IDEMPOTENT,
    INFORMATIONAL,
    KEEP_ALIVE,
    LENGTH,
    MAX_CONNECTION_OPTIONS,
    MAX_EMPTY_LINES,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_RESPONSE_HEAD_BYTES,
    NO_BODY,
    OPTIONS_STAR,
    PLAIN_PATH,
    SPLIT,
    SWITCHING,
    UPGRADE,
)
from kvproxy.http.grammar import (
    MAX_LENGTH_DIGITS,
    TARGET,
    TOKEN,
    VALUE,
    compiled,
    is_host,
    is_plain,
)


def _any_of(patterns: list[str]) -> str:
    """Alternatives, arranged by their first letter: most names fall out at the first test."""
    groups: dict[str, list[str]] = {}
    for pattern in patterns:
        groups.setdefault(pattern[0], []).append(pattern[1:])
    alternatives = "|".join(f"{letter}(?:{'|'.join(tails)})" for letter, tails in groups.items())
    return f"(?=[{''.join(groups)}])(?:{alternatives})"


_LINE = rf"{TOKEN}++:{VALUE}*+\r\n"
_FIELDS = rf"(\n(?>{_LINE})*+)\r\n"
_EMPTY_LINES = rf"(?:\r\n){{0,{MAX_EMPTY_LINES}}}+"

_match_request = compiled(
    rf"{_EMPTY_LINES}({TOKEN}++) ({TARGET}++) HTTP/1\.([01])\r{_FIELDS}"
).match
_match_response = compiled(rf"HTTP/1\.([01]) (([1-9][0-9][0-9])(?: {VALUE}*+)?)\r{_FIELDS}").match
_match_empty_lines = compiled(_EMPTY_LINES).match
_match_token = compiled(rf"{TOKEN}*+").match
_match_target = compiled(rf"{TARGET}*+").match
_match_value = compiled(rf"{VALUE}*+").match
_match_line = compiled(_LINE).match

# Splitting at these gives: kept text, line, name, value, kept text, line, name, value, ...
_FIELD = r"(\n({names}):[ \t]*+([^\r]*+)\r)"
_HOP_BY_HOP = [
    "connection",
    "keep-alive",
    "te",
    "upgrade",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
]
_FRAMING = ["content-length", "transfer-encoding"]
# A server may read `_` as `-`, so a name of a request counts as what it imitates.
_REQUEST_NAMES = [
    name.replace("-", "[-_]")
    for name in (*_HOP_BY_HOP, *_FRAMING, "host", "trailer", "expect", "x-real-ip", "x-forwarded-")
]
_REQUEST_NAMES[-1] += f"{TOKEN}*+"
_split_request = compiled(
    _FIELD.format(names=_any_of([*_REQUEST_NAMES, "idempotency-key", "x-idempotency-key"])),
    re.IGNORECASE,
).split
_split_response = compiled(
    _FIELD.format(names=_any_of([*_HOP_BY_HOP, *_FRAMING, "date"])), re.IGNORECASE
).split

_match_absolute = compiled(r"[Hh][Tt][Tt][Pp][Ss]?://([^/?]+)").match

METHOD_FLAGS: Final = {
    b"GET": IDEMPOTENT,
    b"HEAD": IDEMPOTENT | HEAD,
    b"OPTIONS": IDEMPOTENT,
    b"TRACE": IDEMPOTENT,
}
# A Connection line cannot remove what frames the message or what the proxy itself looks at.
_PROTECTED: Final = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"expect", b"date")
)
_OPTIONS_WITHOUT_FIELD: Final = frozenset((b"close", b"keep-alive", b"upgrade"))
# What nearly every Connection line says, read already.
_COMMON_OPTIONS: Final = {
    value: (value.lower(),) for value in (b"keep-alive", b"Keep-Alive", b"close", b"Close")
}
_DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
TE_TRAILERS: Final = b"Te: trailers\r\n"
SWITCH: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
# As a number: looking for one byte is several times faster than for bytes of length 1.
_TAB: Final = 0x09
_NOT_WHOLE: Final = 0


def scan_request(
    data: bytes, max_bytes: int, max_headers: int
) -> int | tuple[bytes, bytes, bytes, int, int, int] | None:
    """Read one request head from the start of `data` and make the head for the server from it.

    `max_bytes` and `max_headers` bound the head; at most MAX_HEAD_BYTES and MAX_HEADERS, else
    ValueError. The answer is None when the head is not complete, a status (400, 405, 417, 431,
    501, 505) when it must be refused, or `(head, host, target, flags, length, end)`:

    head: the outgoing head, from the request line to the CRLF of the last kept header, without
      Host, without the final empty line, without what concerns only this hop (RFC 9110, 7.6.1)
      and without names that only a trusted party may set;
    host: the Host value as sent, or the authority of an absolute-form target;
    target: the request target in origin-form, or `*`;
    flags: bits of kvproxy.http.flags;
    length: Content-Length, 0 when there is none;
    end: offset in `data` of the first byte behind the head.
    """
    if not (0 < max_bytes <= MAX_HEAD_BYTES and 0 < max_headers <= MAX_HEADERS):
        raise ValueError("max_bytes or max_headers out of range")
    match = _match_request(data, 0, max_bytes)
    if match is None:
        verdict = _judge_request(data, min(len(data), max_bytes), max_headers)
        if verdict == _NOT_WHOLE:
            return 431 if len(data) >= max_bytes else None
        return verdict
    method, target, minor, fields = match.groups()
    if fields.count(b"\n") > max_headers + 1:
        return 431
    if method == b"CONNECT":
        return 405
    flags = METHOD_FLAGS.get(method, 0)
    pieces = _split_request(fields)
    host: bytes | None = None
    length: bytes | None = None
    coding: bytes | None = None
    connection: bytes | None = None
    te = upgrade = b""
    known_expectation = True
    for at in range(1, len(pieces), 4):
        line, name, value = pieces[at], pieces[at + 1].lower(), pieces[at + 2]
        # What stays in `pieces` goes to the server.
        pieces[at] = pieces[at + 1] = pieces[at + 2] = b""
        if name == b"host":
            if host is not None:
                return 400
            host = value.rstrip(b" \t")
            if not is_host(host):
                return 400
        elif name == b"connection":
            connection = value if connection is None else connection + b"," + value
        elif name == b"content-length":
            # Not all parsers take a tab for white space beside a framing value.
            if length is not None or _TAB in line:
                return 400
            length = value.rstrip(b" ")
            if len(length) > MAX_LENGTH_DIGITS or not length.isdigit():
                return 400
            pieces[at] = line
        elif name == b"transfer-encoding":
            if coding is not None or _TAB in line:
                return 400
            coding = value.rstrip(b" ").lower()
            pieces[at] = line
        elif name == b"expect":
            known_expectation &= value.rstrip(b" \t").lower() == b"100-continue"
            flags |= EXPECT
            # An HTTP/1.0 client cannot wait for 100 (Continue): RFC 9110, section 10.1.1.
            if minor == b"1":
                pieces[at] = line
        elif name == b"te":
            te += b"," + value
        elif name == b"upgrade":
            upgrade += b"," + value
        elif name == b"x-real-ip" or name.startswith(b"x-forwarded-"):
            flags |= FORWARDED
        elif name.endswith(b"idempotency-key"):
            flags |= IDEMPOTENT
            pieces[at] = line

    if host is None:
        if minor == b"1":
            return 400
        host = b""
    if not target.startswith(b"/"):
        absolute = _match_absolute(target)
        if absolute is not None:
            flags |= ABSOLUTE
            host = absolute[1]
            if not is_host(host):
                return 400
            target = target[absolute.end() :]
            if not target.startswith(b"/"):
                target = b"/" + target
        elif target == b"*" and method == b"OPTIONS":
            flags |= OPTIONS_STAR
        else:
            return 400
    if coding is not None:
        if length is not None or minor == b"0":
            return 400
        flags |= CHUNKED
    options: Collection[bytes] = ()
    if connection is not None:
        options = _COMMON_OPTIONS.get(connection) or _elements(connection)
        if len(options) > MAX_CONNECTION_OPTIONS:
            return 400
    if coding is not None and coding != b"chunked":
        return 501
    if not known_expectation:
        return 417

    if is_plain(target):
        flags |= PLAIN_PATH
    size = 0 if length is None else int(length)
    if minor == b"0":
        flags = flags & ~EXPECT | HTTP10
    elif b"close" not in options:
        flags |= KEEP_ALIVE
    if options and not _OPTIONS_WITHOUT_FIELD.issuperset(options):
        pieces = [_without_nominated(b"".join(pieces), options)]
    if te and b"trailers" in _elements(te):
        pieces.append(TE_TRAILERS)
    if (
        b"upgrade" in options
        and b"websocket" in _elements(upgrade)
        and method == b"GET"
        and minor == b"1"
        and not size
        and coding is None
    ):
        flags |= UPGRADE
        pieces.append(SWITCH)
    head = b"".join((method, b" ", target, b" HTTP/1.1\r", *pieces))
    return head, host, target, flags, size, match.end()


def scan_response(
    data: bytes, request_flags: int, date: bytes
) -> int | bytes | tuple[bytes, int, int, int, int, int] | None:
    """Read one response head from the start of `data` and make the head for the client from it.

    `request_flags` are those of the request that is answered (KEEP_ALIVE, HEAD, UPGRADE and HTTP10
    matter here), with SPLIT when headers will be added; `date` is a whole `Date: ...` line with
    CRLF, appended when the answer has none.

    The answer is None when the head is not complete, 500 when it must not be passed on, bytes when
    it is complete, both connections stay usable and the bytes are all that the client gets, or
    `(out, kind, remaining, end, reuse, status)`:

    out: the rewritten head and what may follow at once of the body in `data`: up to the length for
      LENGTH, everything for CLOSE, nothing for the other kinds. With SPLIT the head alone, without
      its final CRLF;
    kind: how the body ends, see kvproxy.http.flags;
    remaining: bytes of a LENGTH body that are not in `out`;
    end: offset in `data` of the first byte behind the head;
    reuse: 1 when the server's connection may carry another request after this answer;
    status: the status code.
    """
    match = _match_response(data, 0, MAX_RESPONSE_HEAD_BYTES)
    if match is None:
        verdict = _judge_response(data, min(len(data), MAX_RESPONSE_HEAD_BYTES))
        return None if verdict == _NOT_WHOLE and len(data) < MAX_RESPONSE_HEAD_BYTES else 500
    minor, status_line, code, fields = match.groups()
    if fields.count(b"\n") > MAX_HEADERS + 1:
        return 500
    status = int(code)
    pieces = _split_response(fields)
    length = -1
    chunked = dated = False
    options: Collection[bytes] = ()
    nominates = False
    upgrade = b""
    bodiless = status < 200 or status == 204
    for at in range(1, len(pieces), 4):
        line, name, value = pieces[at], pieces[at + 1].lower(), pieces[at + 2]
        # What stays in `pieces` goes to the client.
        pieces[at + 1] = pieces[at + 2] = b""
        if name == b"date":
            dated = True
            continue
        if name == b"content-length":
            value = value.rstrip(b" ")
            if _TAB in line or len(value) > MAX_LENGTH_DIGITS or not value.isdigit():
                return 500
            size = int(value)
            if length < 0:
                length = size
                if not bodiless:
                    continue
            elif length != size:
                return 500
        elif name == b"connection":
            found: Collection[bytes] | None = _COMMON_OPTIONS.get(value)
            if found is None:
                found = _elements(value)
                nominates = not _OPTIONS_WITHOUT_FIELD.issuperset(found) or nominates
            options = found if not options else [*options, *found]
        elif name == b"transfer-encoding":
            value = value.rstrip(b" ")
            if _TAB in line or chunked or minor == b"0" or value.lower() != b"chunked":
                return 500
            chunked = True
            if not bodiless and not request_flags & HTTP10:
                continue
        elif name == b"upgrade":
            upgrade += b"," + value
        pieces[at] = b""
    if (chunked and length >= 0) or len(options) > MAX_CONNECTION_OPTIONS:
        return 500

    end = match.end()
    available = len(data) - end
    reuse = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    remaining = 0
    if status < 200:
        kind = INFORMATIONAL
        if status == 101:
            kind = SWITCHING
            reuse = False
            if not (
                request_flags & UPGRADE and minor == b"1" and b"websocket" in _elements(upgrade)
            ):
                return 500
    elif request_flags & HEAD or status == 204 or status == 304:
        kind = NO_BODY
        if available or (status == 204 and (length > 0 or chunked)):
            reuse = False
    elif chunked:
        kind = CHUNKED_BODY
    elif length >= 0:
        kind = LENGTH
        remaining = length
        if available > length:
            reuse = False
    else:
        kind = CLOSE
        reuse = False

    if nominates:
        pieces = [_without_nominated(b"".join(pieces), options)]
    keep = request_flags & KEEP_ALIVE and kind != CLOSE
    if kind == SWITCHING:
        pieces.append(SWITCH)
    elif kind != INFORMATIONAL:
        if not dated:
            pieces.append(date)
        if not keep:
            pieces.append(b"Connection: close\r\n")
    if request_flags & SPLIT:
        out = b"".join((b"HTTP/1.1 ", status_line, b"\r", *pieces))
        return out, kind, remaining, end, int(reuse), status
    body = b""
    if kind == LENGTH:
        body = data[end : end + length]
        remaining -= len(body)
    elif kind == CLOSE:
        body = data[end:]
    out = b"".join((b"HTTP/1.1 ", status_line, b"\r", *pieces, b"\r\n", body))
    if reuse and keep and not remaining and kind in (LENGTH, NO_BODY):
        return out
    return out, kind, remaining, end, int(reuse), status


def send(fd: int, data: bytes) -> int | None:
    """Write `data` to the stream socket `fd`, which is in non-blocking mode, as far as it takes it.

    None when all was written, else the number of bytes written: 0 when the socket is full, and
    `len(data)` when it is dead, because the event loop will see that and nothing can be kept.
    """
    try:
        written = os.write(fd, data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)
    return None if written == len(data) else written


def _elements(value: bytes) -> list[bytes]:
    """The elements of a comma list in lower case, empty ones left out (RFC 9110, 5.6.1)."""
    elements = [element.strip(b" \t") for element in value.lower().split(b",")]
    return [element for element in elements if element]


def _without_nominated(fields: bytes, options: Collection[bytes]) -> bytes:
    """`fields` without the lines that a Connection header names (RFC 9110, section 7.6.1)."""
    nominated = set(options) - _OPTIONS_WITHOUT_FIELD - _PROTECTED
    lines = fields.split(b"\n")
    return b"\n".join(
        [line for line in lines if not line or line.partition(b":")[0].lower() not in nominated]
    )


def _judge_request(data: bytes, end: int, max_headers: int) -> int:
    """Why `data[:end]` is no whole request head: a status, or _NOT_WHOLE."""
    match = _match_empty_lines(data, 0, end)
    position = match.end() if match else 0
    if position < 2 * MAX_EMPTY_LINES and data[position:end] == b"\r":
        return _NOT_WHOLE
    for match_part in (_match_token, _match_target):
        match = match_part(data, position, end)
        stop = match.end() if match else position
        if stop == end:
            return _NOT_WHOLE
        if stop == position or data[stop] != 0x20:
            return 400
        position = stop + 1
    version = data[position : min(position + 10, end)]
    if version.translate(_DIGITS_TO_ZERO) != b"HTTP/0.0\r\n"[: len(version)]:
        return 400
    if len(version) < 10:
        return _NOT_WHOLE
    if version not in (b"HTTP/1.1\r\n", b"HTTP/1.0\r\n"):
        return 505
    return _judge_fields(data, position + 10, end, max_headers)


def _judge_response(data: bytes, end: int) -> int:
    """Why `data[:end]` is no whole response head: a status, or _NOT_WHOLE."""
    start = data[: min(12, end)]
    if start.translate(_DIGITS_TO_ZERO) != b"HTTP/0.0 000"[: len(start)]:
        return 500
    if start[:7] != b"HTTP/1."[: len(start)] or start[7:8] not in b"01" or start[9:10] == b"0":
        return 500
    if end <= 12:
        return _NOT_WHOLE
    position = 12
    if data[12] == 0x20:
        match = _match_value(data, 12, end)
        position = match.end() if match else 12
        if position == end:
            return _NOT_WHOLE
    line_end = data[position : min(position + 2, end)]
    if line_end == b"\r":
        return _NOT_WHOLE
    if line_end != b"\r\n":
        return 500
    return _judge_fields(data, position + 2, end, MAX_HEADERS)


def _judge_fields(data: bytes, position: int, end: int, max_headers: int) -> int:
    """Why the header lines in `data[position:end]` do not end a head: a status, or _NOT_WHOLE."""
    count = 0
    while True:
        if data[position:end] in (b"", b"\r"):
            return _NOT_WHOLE
        if data[position] == 0x0D:
            return 400
        if count == max_headers:
            return 431
        line = _match_line(data, position, end)
        if line is None:
            break
        position = line.end()
        count += 1
    match = _match_token(data, position, end)
    stop = match.end() if match else position
    if stop == end:
        return _NOT_WHOLE
    if stop == position or data[stop] != 0x3A:
        return 400
    match = _match_value(data, stop + 1, end)
    stop = match.end() if match else stop
    return _NOT_WHOLE if data[stop:end] in (b"", b"\r") else 400
