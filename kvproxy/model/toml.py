"""TOML files: the parsed data, and where in the file each key stands.

`rtoml` parses (10 MB of routes in 0.9 s; 3.1 s for compiled tomli, 4.5 s for tomllib; depth of
nesting is bounded). Places are found by a second, lazy scan that runs only when somebody asks
`TomlDocument.where`, which is when there is a problem to report.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import rtoml

from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAXIMUM_BYTES = 100 * 1024 * 1024
"""Largest file that is read unless the caller says otherwise."""

_POSITION = re.compile(r"(.*?)(?: at line (\d+) column (\d+))?", re.DOTALL)
_SPACE = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_KEY_PART = re.compile(
    r"[ \t]*(?:([A-Za-z0-9_-]+)|\"((?:[^\"\\\n]|\\.)*)\"|'([^'\n]*)')[ \t]*(\.?)", re.DOTALL
)
_VALUE_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*|[\[{]|[\]}]|\n|[^\"'#\[{\]}\n]+",
    re.DOTALL,
)
_ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(["\\]))')


class TomlError(Exception):
    """A file that is no TOML; ``problem`` says where and what was expected."""

    def __init__(self, problem: Problem) -> None:
        """Keep ``problem``."""
        super().__init__(str(problem))
        self.problem = problem


class TomlDocument:
    """A parsed file: ``data`` is plain Python, ``name`` is how messages call the file."""

    def __init__(self, data: dict[str, Any], name: str, text: str) -> None:
        """Keep the parsed ``data`` and the ``text`` that it came from."""
        self.data = data
        self.name = name
        self._text = text
        self._lines: dict[tuple[str, ...], int] | None = None

    def where(self, path: Sequence[str]) -> str:
        """Return ``name:line`` of the key ``path``, of its nearest parent, or the bare name.

        Case does not matter. Elements of lists are named by their position (``("tls", "0")``).
        """
        if self._lines is None:
            self._lines = {}
            for scanned, line, _ in scan_keys(self._text):
                place = tuple(part.lower() for part in scanned)
                while place and place not in self._lines:
                    self._lines[place] = line
                    place = place[:-1]
        folded = tuple(part.lower() for part in path)
        while folded:
            found = self._lines.get(folded)
            if found is not None:
                return f"{self.name}:{found}"
            folded = folded[:-1]
        return self.name


def load_toml(text: bytes, name: str, *, maximum_bytes: int = MAXIMUM_BYTES) -> TomlDocument:
    """Parse ``text``; ``name`` (a file name) is used in messages.

    Raises `TomlError` for text that is too long, not UTF-8 or not TOML. Empty text is an empty
    document.
    """
    if len(text) > maximum_bytes:
        raise TomlError(_too_large(name, maximum_bytes))
    try:
        decoded = text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - (text.rfind(b"\n", 0, error.start) + 1) + 1
        raise TomlError(
            Problem(
                message=f"byte 0x{text[error.start]:02x} is not UTF-8",
                where=f"{name}:{line}:{column}",
                expected="a text file encoded as UTF-8",
            )
        ) from None
    decoded = decoded.removeprefix("\ufeff")
    try:
        data = rtoml.loads(decoded)
    except rtoml.TomlParsingError as error:
        raise TomlError(_syntax_problem(str(error), name, decoded)) from None
    return TomlDocument(data, name, decoded)


def read_toml(
    path: Path, name: str | None = None, *, maximum_bytes: int = MAXIMUM_BYTES
) -> TomlDocument:
    """Read and parse the file at ``path``; ``name`` for messages is the path unless given.

    Never reads more than ``maximum_bytes``. Raises `TomlError` also for a file that cannot be read.
    """
    name = str(path) if name is None else name
    try:
        with path.open("rb") as file:
            text = file.read(maximum_bytes + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise TomlError(Problem(message=f"cannot be read: {reason}", where=name)) from None
    return load_toml(text, name, maximum_bytes=maximum_bytes)


def scan_keys(text: str) -> list[tuple[tuple[str, ...], int, int]]:
    """Return (path, line, column) of each table header and key, in the order of ``text``.

    Needs no valid TOML: it stops at the first thing that it does not understand. Keys inside inline
    tables and arrays are not listed; they stand on their parent's line or below it.
    """
    line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
    found: list[tuple[tuple[str, ...], int, int]] = []
    table: tuple[str, ...] = ()
    lengths: dict[tuple[str, ...], int] = {}
    position = 0
    while True:
        space = _SPACE.match(text, position)
        position = space.end() if space else position
        if position >= len(text):
            break
        line = bisect_right(line_starts, position)
        column = position - line_starts[line - 1] + 1
        if text[position] == "[":
            brackets = 2 if text.startswith("[[", position) else 1
            parts, position = _key(text, position + brackets)
            if not parts or not text.startswith("]" * brackets, position):
                break
            position += brackets
            table = _table_path(parts, lengths, appended=brackets == 2)
            found.append((table, line, column))
            continue
        parts, position = _key(text, position)
        if not parts or not text.startswith("=", position):
            break
        found.append(((*table, *parts), line, column))
        position = _end_of_value(text, position + 1)
    return found


def _key(text: str, position: int) -> tuple[tuple[str, ...], int]:
    """Read a dotted key at ``position``; return its parts and the position behind it."""
    parts: list[str] = []
    while True:
        part = _KEY_PART.match(text, position)
        if part is None:
            return (), position
        bare, basic, literal, dot = part.groups()
        name = bare if bare is not None else literal
        if name is None:
            name = _ESCAPE.sub(_unescape, basic)
        parts.append(name)
        position = part.end()
        if not dot:
            return tuple(parts), position


def _unescape(match: re.Match[str]) -> str:
    code = match[1] or match[2]
    if code is None:
        return match[3]
    value = int(code, 16)
    return chr(value) if value < 0x110000 else match[0]


def _table_path(
    parts: tuple[str, ...], lengths: dict[tuple[str, ...], int], *, appended: bool
) -> tuple[str, ...]:
    """Return the path of a table header with the positions of the array elements it stands in."""
    path: tuple[str, ...] = ()
    for number, part in enumerate(parts):
        path = (*path, part)
        if appended and number == len(parts) - 1:
            lengths[path] = lengths.get(path, 0) + 1
        if path in lengths:
            path = (*path, str(lengths[path] - 1))
    return path


def _end_of_value(text: str, position: int) -> int:
    """Return the position of the newline that ends the value at ``position``, or of the end."""
    depth = 0
    while True:
        token = _VALUE_TOKEN.match(text, position)
        if token is None:
            return len(text)
        first = text[position]
        if first == "\n" and depth <= 0:
            return position
        if first in "[{":
            depth += 1
        elif first in "]}":
            depth -= 1
        position = token.end()


def _too_large(name: str, maximum_bytes: int) -> Problem:
    return Problem(
        message="the file is too large",
        where=name,
        expected=f"at most {maximum_bytes:,} bytes; split it and use a directory",
    )


def _syntax_problem(reason: str, name: str, text: str) -> Problem:
    match = _POSITION.fullmatch(reason)
    message, expected = reason, ""
    where, path = name, ""
    if match is not None and match[2] is not None:
        message = match[1]
        line, column = int(match[2]), int(match[3])
        where = f"{name}:{line}:{column}"
        before = [entry for entry in scan_keys(text) if entry[1] <= line]
        if before:
            path = ".".join(before[-1][0])
    message, _, expected = message.partition(", expected ")
    return Problem(message=f"not TOML: {message}", where=where, path=path, expected=expected)
