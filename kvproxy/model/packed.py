"""Values of keys as text: UTF-8, plain or packed by gzip, as large values may be (certificates).

No UTF-8 text starts with the two bytes of gzip, so nothing can be taken for the other. Unpacking is
bounded: a small value that unpacks to a huge one costs no more than a large one.
"""

from __future__ import annotations

import zlib

UNPACKED_BYTES = 4 * 1024 * 1024
"""The longest text that a packed value may hold."""

_GZIP = b"\x1f\x8b"
_GZIP_FORMAT = 31


class NotTextError(ValueError):
    """A value is no text; the message says why, ``expected`` what would be right."""

    def __init__(self, message: str, expected: str) -> None:
        """Keep what was expected."""
        super().__init__(message)
        self.expected = expected


def readable(value: bytes) -> bytes:
    """Return ``value`` as UTF-8, unpacked if need be; raises `NotTextError`."""
    if value.startswith(_GZIP):
        value = _unpacked(value)
    try:
        value.decode()
    except UnicodeDecodeError:
        raise NotTextError("the value is not UTF-8", "text encoded as UTF-8") from None
    return value


def _unpacked(value: bytes) -> bytes:
    unpacker = zlib.decompressobj(_GZIP_FORMAT)
    try:
        found = unpacker.decompress(value, UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise NotTextError(f"the value is damaged gzip: {error}", "text, or gzip of it") from None
    if len(found) > UNPACKED_BYTES:
        raise NotTextError(
            f"the value is gzip of more than {UNPACKED_BYTES:,} bytes", "a shorter text"
        )
    if not unpacker.eof or unpacker.unused_data:
        raise NotTextError("the value is damaged gzip: it is cut or goes on", "text, or gzip of it")
    return found
