"""The Date header line, made once a second for every answer of this worker."""

from __future__ import annotations

import time
from email.utils import formatdate


class DateLine:
    """Holds the ready-made ``Date`` line; `refresh` is called by the worker's sweep."""

    __slots__ = ("line",)

    def __init__(self) -> None:
        """Start with the present second."""
        self.line = b""
        self.refresh()

    def refresh(self) -> None:
        """Take the present second (RFC 9110 section 6.6.1)."""
        self.line = b"Date: %b\r\n" % formatdate(time.time(), usegmt=True).encode()
