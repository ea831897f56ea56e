"""The chunked transfer coding (RFC 9112, section 7.1), read strictly and passed on or decoded."""

import re
from collections.abc import Container
from typing import Final

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VALUE: Final = rb"[\t -~\x80-\xff]"
_QUOTED_BYTE: Final = rb"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])"
# No white space around the parts of an extension: it is only there in grammar for bad senders, and
# what passes unchanged must mean the same to everybody.
_EXTENSION: Final = rb";" + _TOKEN + rb"++(?:=(?:" + _TOKEN + rb'++|"' + _QUOTED_BYTE + rb'*+"))?'

_EXTENSION_BEGUN: Final = (
    rb";(?:" + _TOKEN + rb"++(?:=(?:" + _TOKEN + rb'*+|"' + _QUOTED_BYTE + rb"*+\\?))?)?"
)

_match_size_line = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*+\r\n").match
_begins_size_line = re.compile(
    rb"[0-9A-Fa-f]{1,15}(?:" + _EXTENSION + rb")*(?:\r|" + _EXTENSION_BEGUN + rb")?"
).fullmatch
_match_trailer_line = re.compile(rb"(" + _TOKEN + rb"++):" + _VALUE + rb"*+\r\n").match
_begins_trailer_line = re.compile(
    _TOKEN + rb"++(?::" + _VALUE + rb"*+\r?)?|\r",
).fullmatch

MAX_SIZE_LINE: Final = 256
"""Longest line with a chunk size and its extensions, in bytes."""

# Fields that frame, route, authenticate or describe the content: RFC 9110, section 6.5.1.
_FORBIDDEN_TRAILERS: Final = frozenset(
    (
        b"authorization",
        b"connection",
        b"cookie",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"set-cookie",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-real-ip",
    )
)
_FORBIDDEN_TRAILER_PREFIXES: Final = (b"content-", b"x-forwarded-")

_SIZE, _DATA, _DATA_END, _TRAILERS = range(4)


def is_trailer(name: bytes) -> bool:
    """Tell whether a field (name in lower case) may be in a trailer."""
    name = name.replace(b"_", b"-")
    return name not in _FORBIDDEN_TRAILERS and not name.startswith(_FORBIDDEN_TRAILER_PREFIXES)


class ChunkedError(Exception):
    """The bytes are no chunked body; the message says what is wrong with them."""


class ChunkedReader:
    """Reads one chunked body, piece by piece as it arrives.

    With `decode` the pieces of content come out; without it the body comes out as it is spelled,
    only trailer fields that must not be there are left out. `finished` is true once the body has
    ended. Trailers are bounded by `max_trailer_bytes`, everything else by constants. `forbidden`
    are further names (lower case, with hyphens) of trailers that must not be there.
    """

    __slots__ = (
        "_decode",
        "_forbidden",
        "_held",
        "_max_trailer_bytes",
        "_remaining",
        "_state",
        "_trailer_bytes",
        "_trailers",
        "finished",
    )

    def __init__(
        self,
        decode: bool = False,
        max_trailer_bytes: int = 8192,
        forbidden: Container[bytes] = (),
    ) -> None:
        """Start before the first chunk."""
        self._decode = decode
        self._forbidden = forbidden
        self._max_trailer_bytes = max_trailer_bytes
        self._state = _SIZE
        self._remaining = 0
        self._held = b""
        self._trailers: list[bytes] = []
        self._trailer_bytes = 0
        self.finished = False

    @property
    def trailers(self) -> bytes:
        """The lines of the trailers that may pass, once the body has ended."""
        return b"".join(self._trailers)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Read `data`; the bytes to pass on now, and those that lie behind the body.

        A `data` that lies wholly inside the body comes back as the same object. An unfinished line
        is held back until its end arrives, so nothing is passed on that was not understood. Raises
        ChunkedError; the body cannot be continued then.
        """
        if self.finished:
            return b"", data
        if self._held:
            data = self._held + data
            self._held = b""
        size = len(data)
        content: list[bytes] = []
        position = 0
        state = self._state
        while position < size and state != _TRAILERS:
            if state == _DATA:
                stop = position + self._remaining
                if stop > size:
                    self._remaining = stop - size
                    stop = size
                else:
                    self._remaining = 0
                    state = _DATA_END
                if self._decode:
                    content.append(data[position:stop])
                position = stop
            elif state == _DATA_END:
                if data[position : position + 2] != b"\r\n":
                    if data[position:] != b"\r":
                        raise ChunkedError("no line end behind the data of a chunk")
                    break
                position += 2
                state = _SIZE
            else:
                match = _match_size_line(data, position, position + MAX_SIZE_LINE)
                if match is None:
                    if size - position >= MAX_SIZE_LINE or not _begins_size_line(data, position):
                        raise ChunkedError("bad chunk size line")
                    break
                position = match.end()
                self._remaining = int(match[1], 16)
                state = _DATA if self._remaining else _TRAILERS
        self._state = state
        if state == _TRAILERS:
            return self._feed_trailers(data, position, content)
        if position < size:
            self._held = data[position:]
        if self._decode:
            return content[0] if len(content) == 1 else b"".join(content), b""
        return data if position == size else data[:position], b""

    def _feed_trailers(
        self, data: bytes, position: int, content: list[bytes]
    ) -> tuple[bytes, bytes]:
        """Read trailer lines from `position` on; `content` is what was decoded before them."""
        passed = position
        while data[position : position + 2] != b"\r\n":
            match = _match_trailer_line(data, position)
            if match is None:
                if position < len(data) and not _begins_trailer_line(data, position):
                    raise ChunkedError("bad trailer line")
                if self._trailer_bytes + len(data) - position > self._max_trailer_bytes:
                    raise ChunkedError("trailers too large")
                self._held = data[position:]
                return b"".join(content) if self._decode else data[:passed], b""
            self._trailer_bytes += match.end() - position
            if self._trailer_bytes > self._max_trailer_bytes:
                raise ChunkedError("trailers too large")
            position = match.end()
            name = match[1].lower()
            if is_trailer(name) and name.replace(b"_", b"-") not in self._forbidden:
                self._trailers.append(match[0])
        self.finished = True
        end = position + 2
        if self._decode:
            out = b"".join(content)
        elif position == passed and not self._trailers:
            out = data if end == len(data) else data[:end]
        else:
            out = b"%b%b\r\n" % (data[:passed], b"".join(self._trailers))
        return out, data[end:]
