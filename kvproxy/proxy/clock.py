"""The coarse time of a worker: refreshed by its sweep, read by every request for nothing."""

from __future__ import annotations

import time
from email.utils import formatdate


class Clock:
    """``now``: monotonic seconds, at most one sweep old; ``date``: the ready-made ``Date`` line."""

    __slots__ = ("date", "now")

    def __init__(self) -> None:
        """Start with the present moment."""
        self.now = 0.0
        self.date = b""
        self.refresh()

    def refresh(self) -> None:
        """Take the present moment (the date line: RFC 9110 section 6.6.1)."""
        self.now = time.monotonic()
        self.date = b"Date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()
