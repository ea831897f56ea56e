"""What a server said on a connection that broke before it was read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_BYTES = 65_536


def unread(descriptor: int) -> Iterator[bytes]:
    """Yield the bytes that a broken connection still holds.

    The event loop gives a connection up when it cannot send, and reads no more: an early refusal of
    a large body may wait unread then. To be used in `connection_lost`, until the end of which
    ``descriptor`` is open; nothing comes of one below 0.
    """
    try:
        while data := os.read(descriptor, READ_BYTES):
            yield data
    except OSError:
        return
