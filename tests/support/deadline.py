"""Waiting with a deadline: the only way in which these tests wait for anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")


class DeadlineExceededError(AssertionError):
    """What a test waited for did not happen in time; the message says what that was."""


def wait_until(check: Callable[[], Value], what: str, seconds: float = 20.0) -> Value:
    """Call ``check`` until it returns something true; return that.

    ``what`` completes the sentence "waited in vain for". Raises `DeadlineExceededError`.
    """
    end = time.monotonic() + seconds
    pause = 0.001
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() >= end:
            raise DeadlineExceededError(f"waited {seconds:g} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
