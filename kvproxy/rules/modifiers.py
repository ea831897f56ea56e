"""The modifiers: what a frontend's rule does to the path after the frontend was chosen.

Always in the order of Traefik 1.7, whatever the order in the rule: strip by template, strip
literal, ``AddPrefix``, ``ReplacePathRegex``, ``ReplacePath``.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from kvproxy.rules.expressions import Expression, ExpressionError, Replacement

FORWARDED_PREFIX = b"X-Forwarded-Prefix"
REPLACED_PATH = b"X-Replaced-Path"

_DOT_SEGMENT = re.compile(rb"(?:^|/)\.\.?(?:;[^/]*)?(?:/|$)")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_VALID_RAW = re.compile(rb"[A-Za-z0-9\-._~!$&'()*+,;=:@\[\]/%]*")


class Modified(Struct, frozen=True):
    """A path after the modifiers.

    ``path``: decoded, always with a leading slash. ``raw_path``: its spelling on the wire when that
    is kept, else empty: encode ``path`` then. ``headers``: lines to add to the request, in order.
    """

    path: bytes
    raw_path: bytes
    headers: tuple[tuple[bytes, bytes], ...]


class Modifiers(Struct, frozen=True, gc=False, kw_only=True):
    """The modifiers of one frontend; false when there is none.

    ``strip_templates``: expressions anchored at the start, in the order in which they are tried;
    ``strips``: literal prefixes likewise. ``strip`` tells an element with no usable value (it never
    lets a request through) from no element at all. ``add_prefix`` and ``replace_path`` begin with a
    slash.
    """

    strip_template: bool = False
    strip_templates: tuple[Expression, ...] = ()
    strip: bool = False
    strips: tuple[bytes, ...] = ()
    add_prefix: bytes = b""
    replace_expression: Replacement | None = None
    replace_path: bytes = b""

    def __bool__(self) -> bool:
        """Say whether there is anything to do."""
        return self is not NO_MODIFIERS and self != NO_MODIFIERS

    def apply(self, path: bytes, raw_path: bytes) -> Modified | None:
        """Return the modified path; None: answer with the default 404.

        None when a strip element finds nothing to strip (as Traefik 1.7), and when the modifiers
        made a ``.`` or ``..`` segment that the request had not, which would leave the routed part
        of the server. Query strings are none of its business. Header values are the path at that
        moment, control characters percent-encoded.
        """
        original = path
        headers: list[tuple[bytes, bytes]] = []
        if self.strip_template:
            end = self._end_of_template(path)
            if end < 0:
                return None
            headers.append((FORWARDED_PREFIX, path[:end]))
            path = path[end:]
            raw_path = raw_path[end:]
        if self.strip:
            prefix = next((prefix for prefix in self.strips if path.startswith(prefix)), None)
            if prefix is None:
                return None
            headers.append((FORWARDED_PREFIX, prefix))
            path = with_slash(path[len(prefix) :])
            if raw_path:
                raw_path = with_slash(raw_path.removeprefix(prefix))
        if self.add_prefix:
            path = self.add_prefix + path
            if raw_path:
                raw_path = self.add_prefix + raw_path
        if self.replace_expression is not None:
            try:
                replaced = self.replace_expression.apply(path)
            except ExpressionError:
                return None
            if replaced is not None:
                headers.append((REPLACED_PATH, path))
                path = replaced
                raw_path = b""
        if self.replace_path:
            headers.append((REPLACED_PATH, path))
            path = self.replace_path
            raw_path = b""
        path = with_slash(path)
        if raw_path:
            raw_path = with_slash(raw_path)
            if not _VALID_RAW.fullmatch(raw_path) or unquote_to_bytes(raw_path) != path:
                raw_path = b""
        if has_dot_segment(path) and not has_dot_segment(original):
            return None
        return Modified(
            path, raw_path, tuple([(name, _header_value(value)) for name, value in headers])
        )

    def _end_of_template(self, path: bytes) -> int:
        for expression in self.strip_templates:
            end = expression.end_of_match(path)
            if end >= 0:
                return end
        return -1


NO_MODIFIERS = Modifiers()


def with_slash(path: bytes) -> bytes:
    """Return ``path`` with a leading slash; one that is there stays as it is."""
    return path if path.startswith(b"/") else b"/" + path


def has_dot_segment(path: bytes) -> bool:
    """Say whether a decoded path has a ``.`` or ``..`` segment, with path parameters or without."""
    return b"." in path and _DOT_SEGMENT.search(path) is not None


def _percent_encode(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]


def _header_value(value: bytes) -> bytes:
    return _CONTROL.sub(_percent_encode, value)
