"""Scan, validate and rewrite HTTP/1.1 heads, in pure Python.

The twin of `_scan.c`: both give the same answer, byte for byte, for every input. This one serves
where there is no compiler and is the oracle of the fuzz test.

Possessive regular expressions decide whether a head is complete and well-formed, another one splits
it at the lines that mean something to a proxy. A head that the first do not take is read again,
line by line, to tell an incomplete one from a bad one (`kvproxy.http.head_faults`).

What the header lines of a request say does not depend on its request line, and what an answer's
head says not on the request: both are remembered for a moment (`kvproxy.http.head_memory`), and
what depends on the rest is added each time.

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
    PLAIN,
    TARGET,
    TOKEN,
    VALUE,
    compiled,
    is_host,
    is_plain,
)
from kvproxy.http.head_faults import EMPTY_LINES, LINE, refused_request, refused_response
from kvproxy.http.head_memory import MAX_KNOWN_BYTES, HeadMemory


def _any_of(patterns: list[str]) -> str:
    """Alternatives, arranged by their first letter: most names fall out at the first test."""
    groups: dict[str, list[str]] = {}
    for pattern in patterns:
        groups.setdefault(pattern[0], []).append(pattern[1:])
    alternatives = "|".join(f"{letter}(?:{'|'.join(tails)})" for letter, tails in groups.items())
    return f"(?=[{''.join(groups)}])(?:{alternatives})"


_FIELDS = rf"\r\n(?>{LINE})*+\r\n"

_match_request_line = compiled(
    rf"{EMPTY_LINES}({TOKEN}++) (({PLAIN})(?= )|{TARGET}++) HTTP/1\.([01])(?=\r\n)"
).match
_match_fields = compiled(_FIELDS).match
_match_response = compiled(rf"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: {VALUE}*+)?{_FIELDS}").match

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
TE_TRAILERS: Final = b"Te: trailers\r\n"
SWITCH: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
# As a number: looking for one byte is several times faster than for bytes of length 1.
_TAB: Final = 0x09
_NOT_AS_IT_IS: Final = KEEP_ALIVE | HEAD | HTTP10 | SPLIT
"""Only with KEEP_ALIVE of these, an answer goes to the client as the server framed it."""

_RequestFacts = tuple[bytes, bytes, int, int, int, int, int, bool]
"""Kept lines behind a CRLF, host, flags, length, number of lines, the status that refuses them in
HTTP/1.1 and in HTTP/1.0 (0: none), whether they ask for a switch to WebSocket."""
_ResponseFacts = tuple[bytes, bool, int, int, bool, int]
"""Status line and kept lines, whether there is a Date, how the body ends unless the method is HEAD,
length (-1: none), whether another request may follow, status."""
known_requests: HeadMemory[_RequestFacts] = HeadMemory()
known_responses: HeadMemory[_ResponseFacts] = HeadMemory()


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
    line = _match_request_line(data, 0, max_bytes)
    if line is None:
        return refused_request(data, max_bytes, max_headers)
    start, end = line.end(), len(data)
    facts: _RequestFacts | None = None
    # Most requests have no body: if the head is known, it ends with the data.
    sought = known_requests.useful and end - start <= MAX_KNOWN_BYTES and end <= max_bytes
    if sought:
        fields = data[start:]
        facts = known_requests.get(fields)
    if facts is not None:
        known_requests.misses = 0
    else:
        match = _match_fields(data, start, max_bytes)
        if match is None:
            return refused_request(data, max_bytes, max_headers)
        facts = _read_request(match[0])
        if sought and match.end() == end:
            known_requests.offer(fields, facts)
        end = match.end()
    kept, host, flags, length, count, refusal, refusal_of_http10, switches = facts
    if count > max_headers:
        return 431
    method, target, plain, minor = line.groups()
    if method == b"CONNECT":
        return 405
    head = data[line.start(1) : start]
    if not plain or minor == b"0":
        if minor == b"0":
            refusal, switches = refusal_of_http10, False
            if flags & EXPECT:
                # An HTTP/1.0 client cannot wait for 100 (Continue): RFC 9110, section 10.1.1.
                kept = _without(kept, {b"expect"})
            flags = flags & ~(EXPECT | KEEP_ALIVE) | HTTP10
        if refusal == 400:
            return 400
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
                plain = is_plain(target)
            elif target == b"*" and method == b"OPTIONS":
                flags |= OPTIONS_STAR
            else:
                return 400
        head = b"%b %b HTTP/1.1" % (method, target)
    if refusal:
        return refusal
    if plain:
        flags |= PLAIN_PATH
    head += kept
    if switches and method == b"GET":
        flags |= UPGRADE
        head += SWITCH
    return head, host, target, flags | METHOD_FLAGS.get(method, 0), length, end


def _read_request(fields: bytes) -> _RequestFacts:
    """What the header lines of a request say, whatever its request line is."""
    count = fields.count(b"\n") - 2
    pieces = _split_request(fields[:-2])
    flags = 0
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
                return _refused(count)
            host = value.rstrip(b" \t")
            if not is_host(host):
                return _refused(count)
        elif name == b"connection":
            connection = value if connection is None else connection + b"," + value
        elif name == b"content-length":
            # Not all parsers take a tab for white space beside a framing value.
            if length is not None or _TAB in line:
                return _refused(count)
            length = value.rstrip(b" ")
            if len(length) > MAX_LENGTH_DIGITS or not length.isdigit():
                return _refused(count)
            pieces[at] = line
        elif name == b"transfer-encoding":
            if coding is not None or _TAB in line:
                return _refused(count)
            coding = value.rstrip(b" ").lower()
            pieces[at] = line
        elif name == b"expect":
            known_expectation &= value.rstrip(b" \t").lower() == b"100-continue"
            flags |= EXPECT
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

    options: Collection[bytes] = ()
    if connection is not None:
        options = _COMMON_OPTIONS.get(connection) or _elements(connection)
        if len(options) > MAX_CONNECTION_OPTIONS:
            return _refused(count)
    refusal = refusal_of_http10 = 0 if known_expectation else 417
    if coding is not None:
        if length is not None:
            return _refused(count)
        flags |= CHUNKED
        refusal_of_http10 = 400
        if coding != b"chunked":
            refusal = 501
    if host is None:
        refusal = 400
        host = b""
    if b"close" not in options:
        flags |= KEEP_ALIVE
    kept = b"".join(pieces)
    if options and not _OPTIONS_WITHOUT_FIELD.issuperset(options):
        kept = _without(kept, set(options) - _OPTIONS_WITHOUT_FIELD - _PROTECTED)
    if te and b"trailers" in _elements(te):
        kept += TE_TRAILERS
    size = 0 if length is None else int(length)
    switches = (
        b"upgrade" in options and b"websocket" in _elements(upgrade) and not size and coding is None
    )
    return kept, host, flags, size, count, refusal, refusal_of_http10, switches


def _refused(count: int) -> _RequestFacts:
    """The facts of `count` header lines that no request may have."""
    return b"", b"", 0, 0, count, 400, 400, False


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
    facts: _ResponseFacts | None = None
    sought = known_responses.useful
    if sought:
        end = data.find(b"\r\n\r\n", 0, MAX_KNOWN_BYTES) + 4
        head = data[:end]
        facts = known_responses.get(head)
    if facts is not None:
        known_responses.misses = 0
    else:
        match = _match_response(data, 0, MAX_RESPONSE_HEAD_BYTES)
        if match is None:
            return refused_response(data)
        facts = _read_response(match)
        if facts is None:
            return 500
        if sought and match.end() == end:
            known_responses.offer(head, facts)
        end = match.end()
    out, dated, kind, length, reusable, status = facts
    available = len(data) - end
    if (
        kind == LENGTH
        and available == length
        and dated
        and reusable
        and request_flags & _NOT_AS_IT_IS == KEEP_ALIVE
    ):
        return out + data[end - 2 :]

    if request_flags & HTTP10:
        out = _without(out, {b"transfer-encoding"})
    if request_flags & HEAD and status >= 200:
        kind = NO_BODY
    remaining = 0
    if kind == NO_BODY:
        reusable = reusable and not available
    elif kind == LENGTH:
        remaining = length
        reusable = reusable and available <= length
    elif kind == CLOSE:
        reusable = False
    elif kind == SWITCHING and not request_flags & UPGRADE:
        return 500
    keep = request_flags & KEEP_ALIVE and kind != CLOSE
    if kind == SWITCHING:
        out += SWITCH
    elif kind != INFORMATIONAL:
        if not dated:
            out += date
        if not keep:
            out += b"Connection: close\r\n"
    if request_flags & SPLIT:
        return out, kind, remaining, end, int(reusable), status
    body = b""
    if kind == LENGTH:
        body = data[end : end + length]
        remaining -= len(body)
    elif kind == CLOSE:
        body = data[end:]
    out = b"".join((out, b"\r\n", body))
    if reusable and keep and not remaining and kind in (LENGTH, NO_BODY):
        return out
    return out, kind, remaining, end, int(reusable), status


def _read_response(match: re.Match[bytes]) -> _ResponseFacts | None:
    """What a head of an answer says, whatever the request was; None: it must not be passed on."""
    minor, code = match.groups()
    head = match[0]
    if head.count(b"\n") > MAX_HEADERS + 2:
        return None
    status = int(code)
    pieces = _split_response(head[8:-2])
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
                return None
            size = int(value)
            if length < 0:
                length = size
                if not bodiless:
                    continue
            elif length != size:
                return None
        elif name == b"connection":
            found: Collection[bytes] | None = _COMMON_OPTIONS.get(value)
            if found is None:
                found = _elements(value)
                nominates = not _OPTIONS_WITHOUT_FIELD.issuperset(found) or nominates
            options = found if not options else [*options, *found]
        elif name == b"transfer-encoding":
            value = value.rstrip(b" ")
            if _TAB in line or chunked or minor == b"0" or value.lower() != b"chunked":
                return None
            chunked = True
            if not bodiless:
                continue
        elif name == b"upgrade":
            upgrade += b"," + value
        pieces[at] = b""
    if (chunked and length >= 0) or len(options) > MAX_CONNECTION_OPTIONS:
        return None

    reusable = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    if status == 101:
        kind = SWITCHING
        reusable = False
        if minor == b"0" or b"websocket" not in _elements(upgrade):
            return None
    elif status < 200:
        kind = INFORMATIONAL
    elif status in (204, 304):
        kind = NO_BODY
        if status == 204 and (length > 0 or chunked):
            reusable = False
    elif chunked:
        kind = CHUNKED_BODY
    elif length >= 0:
        kind = LENGTH
    else:
        kind = CLOSE
    out = b"".join((b"HTTP/1.1", *pieces))
    if nominates:
        out = _without(out, set(options) - _OPTIONS_WITHOUT_FIELD - _PROTECTED)
    return out, dated, kind, length, reusable, status


def forget_heads() -> None:
    """Forget the heads of a while: they may hold secrets. To be called about every second."""
    known_requests.forget()
    known_responses.forget()


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


def _without(head: bytes, names: Collection[bytes]) -> bytes:
    """`head` without the lines of these headers."""
    lines = head.split(b"\n")
    return b"\n".join(
        [line for line in lines if not line or line.partition(b":")[0].lower() not in names]
    )
