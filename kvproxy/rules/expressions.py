"""User-written regular expressions, on RE2: linear time, and the syntax that Traefik 1.7 (Go) uses.

Subjects are bytes as they come off the wire. Go reads a byte that is not valid UTF-8 as one U+FFFD,
RE2 would match it with nothing; so such a subject is translated first, one U+FFFD a byte.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import re2

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_MEMORY = 1 << 20
"""Bytes that one expression may take (RE2 ``max_mem``): its program and its cache of states."""

MAX_RESULT = 1 << 17
"""Longest text, in characters, that a replacement may make (a short path can match very often)."""

MAX_REPLACEMENTS = 1024
"""Most matches that are replaced in one path: bounds what a hostile path can cost."""

_UNDECODABLE = re.compile("[\udc80-\udcff]")
_REFERENCE = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,7}")


class ExpressionError(ValueError):
    """A regular expression is not valid, or needs too much; the message says why."""


class TooLargeError(ExpressionError):
    """An expression needs more than `MAX_MEMORY`."""


def _compile(pattern: str, *, capture: bool) -> Any:
    options = re2.Options()
    options.max_mem = MAX_MEMORY
    options.log_errors = False
    options.never_capture = not capture
    try:
        return re2.compile(pattern.encode(), options)
    except re2.error as error:
        reason = error.args[0]
        if isinstance(reason, bytes):
            reason = reason.decode(errors="replace")
        if "too large" in reason:
            raise TooLargeError(f"the expression needs more than {MAX_MEMORY >> 10} KiB") from None
        raise ExpressionError(reason) from None
    except UnicodeEncodeError:
        raise ExpressionError("not valid Unicode") from None


def check_expression(pattern: str) -> None:
    """Raise `ExpressionError` when ``pattern`` is not a valid expression."""
    _compile(pattern, capture=False)


class Expression:
    """A compiled expression that answers yes or no.

    ``pattern`` carries its own anchors; `end_of_match` is for those that start with ``^``.
    """

    __slots__ = ("_match", "pattern", "size")

    def __init__(self, pattern: str) -> None:
        """Compile ``pattern``; raises `ExpressionError`. ``size``: its instructions."""
        self.pattern = pattern
        compiled = _compile(pattern, capture=False)
        self.size: int = compiled.programsize
        # The wrapper's own search() builds a generator and a match object: three times the cost of
        # the match itself, and this is on the request path.
        self._match = compiled._regexp.Match

    def matches(self, subject: bytes) -> bool:
        """Say whether the expression is found in ``subject``."""
        return self.end_of_match(subject) >= 0

    def end_of_match(self, subject: bytes) -> int:
        """Return the offset behind the leftmost match in ``subject``, or -1."""
        if not subject.isascii():
            return self._end_in_text(subject)
        end: int = self._match(_UNANCHORED, subject, 0, len(subject))[0][1]
        return end

    def _end_in_text(self, subject: bytes) -> int:
        translated, _ = as_go_text(subject)
        encoded = translated.encode()
        end: int = self._match(_UNANCHORED, encoded, 0, len(encoded))[0][1]
        if end <= 0 or encoded == subject:
            return end
        characters = len(encoded[:end].decode())
        original = subject.decode("utf-8", "surrogateescape")
        return len(original[:characters].encode("utf-8", "surrogateescape"))


_UNANCHORED = re2._re2.RE2.Anchor.UNANCHORED


def as_go_text(subject: bytes) -> tuple[str, str]:
    """Return ``subject`` as Go's regexp reads it, and as text that encodes back to it.

    Both have the same number of characters. Encode the second with ``surrogateescape``.
    """
    original = subject.decode("utf-8", "surrogateescape")
    return _UNDECODABLE.sub("\ufffd", original), original


class Replacement:
    """``ReplacePathRegex``: an expression and what each of its matches becomes.

    The template is Go's: ``$1``, ``${1}``, ``$name``, ``$$``; a name is as long as it can be, so
    ``$1x`` is the (empty) group named ``1x``; a ``$`` that names nothing stays.
    """

    __slots__ = ("_expression", "_pieces", "pattern", "size", "template")

    def __init__(self, pattern: str, template: str) -> None:
        """Compile ``pattern`` and read ``template``; raises `ExpressionError`."""
        self.pattern = pattern
        self.template = template
        self._expression = _compile(pattern, capture=True)
        self.size: int = self._expression.programsize
        self._pieces = tuple(_template_pieces(template, self._group_numbers()))

    def _group_numbers(self) -> dict[str, int]:
        names = {name.decode(): number for name, number in self._expression.groupindex.items()}
        numbers = {str(number): number for number in range(self._expression.groups + 1)}
        return names | numbers

    def apply(self, subject: bytes) -> bytes | None:
        """Return ``subject`` with every match replaced, as Go's ReplaceAllString; None: no match.

        Raises `ExpressionError` when there are more than `MAX_REPLACEMENTS` matches or the result
        would be longer than `MAX_RESULT` characters.
        """
        text, original = as_go_text(subject)
        result: list[str] = []
        copied = 0
        length = len(text)
        matches = 0
        for match in self._expression.finditer(text):
            matches += 1
            if matches > MAX_REPLACEMENTS:
                raise ExpressionError(f"more than {MAX_REPLACEMENTS} matches in one path")
            start, end = match.span()
            result.append(original[copied:start])
            # An empty match right behind another one is not replaced.
            if end > copied or start == 0:
                replaced = "".join(self._expand(match, original))
                length += len(replaced)
                if length > MAX_RESULT:
                    raise ExpressionError(f"the result is longer than {MAX_RESULT} characters")
                result.append(replaced)
            copied = end
        if not matches:
            return None
        result.append(original[copied:])
        return "".join(result).encode("utf-8", "surrogateescape")

    def _expand(self, match: Any, original: str) -> Iterator[str]:
        for piece in self._pieces:
            if isinstance(piece, str):
                yield piece
            else:
                start, end = match.span(piece)
                yield original[start:end] if start >= 0 else ""


def _template_pieces(template: str, groups: dict[str, int]) -> Iterator[str | int]:
    end = 0
    for reference in _REFERENCE.finditer(template):
        if reference.start() > end:
            yield template[end : reference.start()]
        end = reference.end()
        if reference[0] == "$$":
            yield "$"
            continue
        name = reference[1] or reference[2]
        if name in groups and (not name[0].isdigit() or _NUMBER.fullmatch(name)):
            yield groups[name]
    if end < len(template):
        yield template[end:]
