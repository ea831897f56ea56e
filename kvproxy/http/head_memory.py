"""What heads said, remembered for a moment: clients and servers say the same again and again.

Only the scanner in pure Python has such a memory: reading a head anew costs it several times as
much as finding it here.
"""

from __future__ import annotations

from typing import Final, TypeVar

Facts = TypeVar("Facts")

MAX_KNOWN_BYTES: Final = 2048
"""Largest head that may be looked up and offered: hashing more is not cheap."""

MAX_KNOWN: Final = 256
"""Most heads in a memory."""

MAX_MISSES: Final = 256
"""So many heads in a row that were not known make a memory useless for now."""

_MARKS: Final = 1024


class HeadMemory(dict[bytes, Facts]):
    """The facts of heads by their exact bytes; `get` finds them, `offer` puts them in.

    A head is kept when it comes for the second time, so one that is unique drives out nothing and
    leaves nothing behind. A full memory starts anew. At most MAX_KNOWN heads of at most
    MAX_KNOWN_BYTES are kept, which is about a megabyte with their facts.

    ``useful``: whether looking here is worth it. It is not for a while when all heads are
    different. Whoever finds something sets ``misses`` to 0.
    """

    __slots__ = ("_marks", "misses", "useful")

    def __init__(self) -> None:
        """Know nothing."""
        super().__init__()
        self._marks = [0] * _MARKS
        self.misses = 0
        self.useful = True

    def offer(self, head: bytes, facts: Facts) -> None:
        """Keep the facts of a head that was not found, if it has been here before."""
        self.misses += 1
        if self.misses >= MAX_MISSES:
            self.useful = False
        # Bytes remember their hash, and `get` has just asked for it. Its key is secret.
        mark = hash(head)
        slot = mark % _MARKS
        if self._marks[slot] != mark:
            self._marks[slot] = mark
        else:
            if len(self) >= MAX_KNOWN:
                self.clear()
            self[head] = facts

    def forget(self) -> None:
        """Know nothing again, and be of use."""
        self.clear()
        self.misses = 0
        self.useful = True
