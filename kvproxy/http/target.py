"""Request targets: one canonical meaning, used by rules, modifiers and servers alike.

Decoding and encoding follow Go's net/url, in which Traefik 1.7 keeps a target: a decoded path, and
the spelling of it where that is not what encoding would give.
"""

import re
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

# The characters that net/url leaves as they are when it encodes a path, and those it accepts in a
# spelled one.
_UNENCODED: Final = rb"0-9A-Za-z\-._~$&+,/:;=@"
_ENCODE: Final = re.compile(rb"[^" + _UNENCODED + rb"]")
_is_unencoded = re.compile(rb"[" + _UNENCODED + rb"]*+").fullmatch
_is_spelling = re.compile(rb"[" + _UNENCODED + rb"!'()*\[\]%]*+").fullmatch
_find_bad_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})").search
_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")

# What one server decodes before it splits a path and another one after.
_find_unsafe_spelling = re.compile(rb"\\|%(?:2[fF]|5[cC]|00|3[bBfF]|23)").search
# Some servers cut `;parameters` off a segment before they look whether it is a dot segment.
_find_dot_segment = re.compile(rb"/\.\.?(?:[/;]|\Z)").search


class CanonicalTarget(NamedTuple):
    """What a request target means."""

    path: bytes
    """The percent-decoded path."""
    raw_path: bytes
    """The path as spelled, when that is not what encoding `path` would give, else empty."""
    query: bytes
    """The query with its `?` as spelled (bytes above 0x7F encoded), empty also for a lone `?`."""
    uri: bytes
    """What a server is asked for."""


def canonical_target(target: bytes, allow_unsafe: bool) -> CanonicalTarget | None:
    """The meaning of a request target in origin-form (or `*`), None when it must be refused (400).

    Refused is a bad percent escape and, unless `allow_unsafe`, all that servers are known to read
    in two ways: an encoded slash, backslash, NUL, semicolon, question mark or hash, a backslash or
    hash as such, and a segment that is `.` or `..` in whatever spelling, with `;parameters` or
    without. With `allow_unsafe` those pass as Traefik 1.7 passes them.
    """
    if target == b"*":
        return CanonicalTarget(b"*", b"", b"", b"*")
    if not target.startswith(b"/"):
        return None
    spelled, mark, query = target.partition(b"?")
    query = _NOT_ASCII.sub(_escape, mark + query) if query else b""
    path = spelled
    if b"%" in spelled:
        if _find_bad_escape(spelled):
            return None
        path = unquote_to_bytes(spelled)
    if not allow_unsafe and (
        b"#" in target or _find_unsafe_spelling(spelled) or _find_dot_segment(path)
    ):
        return None
    raw_path = b"" if encode_path(path) == spelled else spelled
    return CanonicalTarget(path, raw_path, query, request_uri(path, raw_path, query))


def spelling(path: bytes) -> bytes:
    """The spelling to keep of a path without escapes: empty when encoding it changes nothing."""
    return b"" if _is_unencoded(path) else path


def request_uri(path: bytes, raw_path: bytes, query: bytes) -> bytes:
    """The target to send for a decoded path, its spelling (or empty) and a query with its `?`.

    The spelling is used when it is a valid one of this very path, else the path is encoded; an
    empty path gives `/` (Go: URL.EscapedPath, URL.RequestURI).
    """
    if raw_path and _is_spelling(raw_path) and not _find_bad_escape(raw_path):
        decoded = unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path
        if decoded == path:
            return raw_path + query
    if path == b"*":
        return path + query
    return (encode_path(path) or b"/") + query


def encode_path(path: bytes) -> bytes:
    """Percent-encode a decoded path as Go's net/url does (upper-case hexadecimal)."""
    if _is_unencoded(path):
        return path
    return _ENCODE.sub(_escape, path)


def _escape(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % ord(match[0])
