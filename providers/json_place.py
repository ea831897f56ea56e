"""Which entry of an answer in JSON cannot be decoded, for messages that name its key."""

from __future__ import annotations

import re
from typing import Any

import msgspec

_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


def entry_at(error: msgspec.DecodeError, answer: bytes) -> dict[str, Any]:
    """Return the innermost object of ``answer`` that holds what ``error`` is about; empty where
    there is none, or where the answer is no JSON at all.

    msgspec names the place at the end of its message, such as ``$.kvs[3].value``.
    """
    place = str(error).rpartition(" - at `$")[2]
    entry: dict[str, Any] = {}
    try:
        found = msgspec.json.decode(answer)
        for name, number in _STEP.findall(place):
            if isinstance(found, dict):
                entry = found
            found = found[name] if name else found[int(number)]
    except (msgspec.DecodeError, LookupError, TypeError):
        return {}
    return entry
