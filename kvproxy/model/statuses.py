"""Statuses as options name them: one, or a range."""

from __future__ import annotations

import re

STATUS_RANGE = re.compile(r"([0-9]{1,3})(?:-([0-9]{1,3}))?")


def is_status_range(text: str) -> bool:
    """Tell whether ``text`` is a status (``404``) or an inclusive range of them (``500-599``)."""
    return STATUS_RANGE.fullmatch(text.strip()) is not None
