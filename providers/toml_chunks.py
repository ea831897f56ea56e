"""A TOML text cut where another frontend or backend begins, so that a change is read in part.

Each chunk is the text of one entry, ``[frontends.web]`` with the tables below it, or text between
entries. Chunks that are each valid TOML are valid together, because TOML is read line by line and a
chunk ends at the end of a line. What chunks cannot know of each other is checked: no entry has two
chunks, and the texts between entries define none. Wherever the text is unusual in these respects,
or holds strings of several lines, it is not cut.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import accumulate, pairwise
from typing import NamedTuple

from kvproxy.model.toml import load_toml

Entry = tuple[str, str]
"""(section, name)."""

_HEADER = re.compile(
    rb"^[ \t]*\[(?:[ \t]*(frontends|backends)[ \t]*\.[ \t]*"
    rb"(?:([A-Za-z0-9_-]+)|\"([^\"\\\n]*)\"|'([^'\n]*)')[ \t]*[.\]])?",
    re.MULTILINE,
)
_BLOCK_BYTES = 64 * 1024


class Change(NamedTuple):
    """What differs between two texts: the chunks from ``first`` on, and what stood there before."""

    chunks: Chunks
    first: int
    last: int
    replaced: list[Entry | None]


class Chunks:
    """A text and where its chunks begin; chunk ``i`` belongs to ``entries[i]``, None for none."""

    def __init__(self, text: bytes, starts: list[int], entries: list[Entry | None]) -> None:
        """Keep what `cut` found."""
        self.text = text
        self.starts = starts
        self.entries = entries
        self._positions: dict[Entry, int] | None = None
        self._lines: list[int] | None = None

    def end(self, index: int) -> int:
        """Return where a chunk ends."""
        return self.starts[index + 1] if index + 1 < len(self.starts) else len(self.text)

    def chunk(self, index: int) -> bytes:
        """Return the text of a chunk."""
        return self.text[self.starts[index] : self.end(index)]

    def between(self) -> bytes:
        """Return all text that belongs to no entry."""
        return b"".join(
            [self.chunk(index) for index, entry in enumerate(self.entries) if entry is None]
        )

    def position(self, entry: Entry) -> int:
        """Return the index of the chunk of an entry; raises KeyError."""
        if self._positions is None:
            self._positions = {
                entry: index for index, entry in enumerate(self.entries) if entry is not None
            }
        return self._positions[entry]

    def place(self, path: tuple[str, ...], name: str) -> str:
        """Return ``name:line`` of a key; reads only the chunk in which it stands."""
        try:
            index = self.position((path[0].lower(), path[1]))
        except (IndexError, KeyError):
            line = _line(load_toml(self.between(), name).where(path), name)
            return name if line is None else f"{name}:{self._line_of_between(line)}"
        line = _line(load_toml(self.chunk(index), name).where(path), name)
        return name if line is None else f"{name}:{self.line(index) + line}"

    def line(self, index: int) -> int:
        """Return the number of the line, from 0, on which a chunk begins."""
        if self._lines is None:
            counts = (self.text.count(b"\n", start, end) for start, end in pairwise(self.starts))
            self._lines = list(accumulate(counts, initial=0))
        return self._lines[index]

    def _line_of_between(self, line: int) -> int:
        """Return which line of the text a line of `between` is, both from 1."""
        for index, entry in enumerate(self.entries):
            if entry is None:
                lines = self.chunk(index).count(b"\n")
                if line <= lines or index == len(self.entries) - 1:
                    return self.line(index) + line
                line -= lines
        return line

    def changed_to(self, text: bytes) -> Change | None:
        """Cut ``text``, looking only at what differs from this one; None when it cannot be cut.

        Does not look for a second chunk of an entry: the caller knows all entries.
        """
        old = self.text
        prefix = _common_prefix(old, text)
        suffix = _common_suffix(old, text, min(len(old), len(text)) - prefix)
        # The chunk in which the first difference lies, or the one before if its header may differ.
        first = bisect_right(self.starts, prefix) - 1
        header_end = old.find(b"\n", self.starts[first])
        if first > 0 and not 0 <= header_end < prefix:
            first -= 1
        # The first chunk that is the same again, with the line break before it.
        last = max(bisect_left(self.starts, len(old) - suffix + 1), first + 1)
        moved = len(text) - len(old)
        start = self.starts[first]
        end = self.starts[last] + moved if last < len(self.starts) else len(text)
        found = _cut(text, start, end)
        if found is None:
            return None
        starts, entries = found
        following = self.entries[last] if last < len(self.starts) else None
        if following is not None and following == entries[-1]:
            return None
        shifted = self.starts[last:]
        if moved:
            shifted = [position + moved for position in shifted]
        chunks = Chunks(
            text,
            self.starts[:first] + starts + shifted,
            self.entries[:first] + entries + self.entries[last:],
        )
        return Change(chunks, first, first + len(starts), self.entries[first:last])


def cut(text: bytes) -> Chunks | None:
    """Cut a whole text; None when it is too unusual for that."""
    found = _cut(text, 0, len(text))
    if found is None:
        return None
    chunks = Chunks(text, *found)
    named = [entry for entry in chunks.entries if entry is not None]
    return chunks if len(set(named)) == len(named) else None


def _cut(text: bytes, start: int, end: int) -> tuple[list[int], list[Entry | None]] | None:
    """Cut a part that begins at the begin of a line and ends at the end of one."""
    if text.find(b'"""', start, end) >= 0 or text.find(b"'''", start, end) >= 0:
        return None
    part = text if end - start == len(text) else text[start:end]
    starts: list[int] = []
    entries: list[Entry | None] = []
    current: tuple[bytes, ...] | None = ()
    for match in _HEADER.finditer(part):
        section, bare, basic, literal = match.groups()
        name = None if section is None else (bare or basic or literal or b"")
        found = None if name is None else (section, name)
        if found == current:
            continue
        current = found
        starts.append(match.start() + start)
        try:
            entries.append(None if name is None else (section.decode(), name.decode()))
        except UnicodeDecodeError:
            return None
    if not starts or starts[0] != start:
        starts.insert(0, start)
        entries.insert(0, None)
    return starts, entries


def _line(place: str, name: str) -> int | None:
    """Return the line of a place such as ``name:12``."""
    line = place.removeprefix(f"{name}:").partition(":")[0]
    return int(line) if line.isdecimal() else None


def _common_prefix(first: bytes, second: bytes) -> int:
    """Return how many bytes are the same at the begin."""
    limit = min(len(first), len(second))
    position = 0
    size = _BLOCK_BYTES
    while position < limit:
        size = min(size, limit - position)
        if first[position : position + size] == second[position : position + size]:
            position += size
        elif size == 1:
            break
        else:
            size //= 2
    return position


def _common_suffix(first: bytes, second: bytes, limit: int) -> int:
    """Return how many bytes are the same at the end, at most ``limit``."""
    position = 0
    size = _BLOCK_BYTES
    while position < limit:
        size = min(size, limit - position)
        ours = first[len(first) - position - size : len(first) - position]
        if ours == second[len(second) - position - size : len(second) - position]:
            position += size
        elif size == 1:
            break
        else:
            size //= 2
    return position
