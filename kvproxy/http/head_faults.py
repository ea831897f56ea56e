"""Why the start of a message is no whole HTTP/1.1 head: incomplete, or bad, and with which status.

Read line by line, because only what the expressions of `kvproxy.http.scan_pure` do not take comes
here.
"""

from __future__ import annotations

from typing import Final

from kvproxy.http.flags import MAX_EMPTY_LINES, MAX_HEADERS, MAX_RESPONSE_HEAD_BYTES
from kvproxy.http.grammar import TARGET, TOKEN, VALUE, compiled

LINE: Final = rf"{TOKEN}++:{VALUE}*+\r\n"
EMPTY_LINES: Final = rf"(?:\r\n){{0,{MAX_EMPTY_LINES}}}+"

_match_empty_lines = compiled(EMPTY_LINES).match
_match_token = compiled(rf"{TOKEN}*+").match
_match_target = compiled(rf"{TARGET}*+").match
_match_value = compiled(rf"{VALUE}*+").match
_match_line = compiled(LINE).match

_DIGITS_TO_ZERO: Final = bytes.maketrans(b"123456789", b"000000000")
_NOT_WHOLE: Final = 0


def refused_request(data: bytes, max_bytes: int, max_headers: int) -> int | None:
    """The status that refuses what is no whole request head; None: it may become one."""
    verdict = _judge_request(data, min(len(data), max_bytes), max_headers)
    if verdict == _NOT_WHOLE:
        return 431 if len(data) >= max_bytes else None
    return verdict


def refused_response(data: bytes) -> int | None:
    """500 for what is no whole head of an answer; None: it may become one."""
    verdict = _judge_response(data, min(len(data), MAX_RESPONSE_HEAD_BYTES))
    return None if verdict == _NOT_WHOLE and len(data) < MAX_RESPONSE_HEAD_BYTES else 500


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
