"""Which of several waiting streams may send next (RFC 9218, Extensible Priorities)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from kvproxy.http.http2_stream import Stream


class Priority(NamedTuple):
    """``urgency`` from 0 (first) to 7; ``incremental``: takes turns with others of its urgency."""

    urgency: int = 3
    incremental: bool = False


UNSPECIFIED: Final = Priority(3, True)
"""Of a client that says nothing: it knows of no order, so nobody waits for another to end."""


def parse_priority(value: bytes) -> Priority:
    """Read the value of a Priority field (RFC 9218, section 4); what is not understood counts as
    absent."""
    urgency, incremental = Priority()
    for member in value.split(b","):
        key, _, text = member.partition(b";")[0].strip(b" \t").partition(b"=")
        if key == b"u":
            urgency = int(text) if len(text) == 1 and b"0" <= text <= b"7" else 3
        elif key == b"i":
            incremental = text in (b"", b"?1")
    return Priority(urgency, incremental)


class Schedule:
    """The streams that have something to send and a window to send it in.

    The most urgent are served first. Among those of one urgency, the ones that are not incremental
    come first, in the order in which they were opened; the incremental ones take turns.

    ``levels``: who waits, by rank and number; empty when nobody does.
    """

    __slots__ = ("levels",)

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self.levels: dict[int, dict[int, Stream]] = {}

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return bool(self.levels)

    def add(self, stream: Stream, priority: Priority) -> None:
        """Let a stream wait; does nothing when it already does with this priority."""
        level = self.levels.setdefault(priority.urgency * 2 + priority.incremental, {})
        if stream.number in level:
            return
        in_order = priority.incremental or not level or stream.number > next(reversed(level))
        level[stream.number] = stream
        if not in_order:
            for number in sorted(level):
                level[number] = level.pop(number)

    def discard(self, stream: Stream, priority: Priority) -> bool:
        """Let a stream wait no more; tells whether it did."""
        key = priority.urgency * 2 + priority.incremental
        level = self.levels.get(key)
        if level is None or level.pop(stream.number, None) is None:
            return False
        if not level:
            del self.levels[key]
        return True

    def next(self) -> Stream | None:
        """Return the stream whose turn it is; it goes on waiting, incremental ones at the end."""
        if not self.levels:
            return None
        key = min(self.levels)
        level = self.levels[key]
        number, stream = next(iter(level.items()))
        if key & 1 and len(level) > 1:
            level[number] = level.pop(number)
        return stream
