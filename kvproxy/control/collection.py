"""Python's garbage collector, kept away from bulk work."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no cycles inside the block.

    Entries live long and form no cycles. While 100,000 of them are made, the collector would look
    at all that exist again and again, and find nothing, for half of the time.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
