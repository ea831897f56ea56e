"""Durations as text: the syntax of Go, which the configuration language uses, and back."""

from __future__ import annotations

import re
from decimal import Decimal

NANOSECONDS = 1_000_000_000
"""Nanoseconds in a second."""

_LONGEST = 2**63 - 1
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": NANOSECONDS,
    "m": 60 * NANOSECONDS,
    "h": 3600 * NANOSECONDS,
}
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_WHOLE = re.compile(r"[+-]?[0-9]{1,19}")


def parse_duration(text: str, *, bare_seconds: bool = False) -> float:
    """Return the seconds that ``text`` names.

    ``text`` follows Go: an optional sign, then one or more decimal numbers with a unit
    (``1h15m30s``, ``1.5h``, ``300ms``, ``-2s``), or ``0``. With ``bare_seconds``, digits without a
    unit are seconds. Precise to the nanosecond. Raises `ValueError` for anything else and for more
    than 292 years.
    """
    if bare_seconds and _WHOLE.fullmatch(text):
        return _seconds(int(text) * NANOSECONDS, text)
    sign = -1 if text.startswith("-") else 1
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0.0
    total = 0
    position = 0
    while position < len(rest):
        part = _PART.match(rest, position)
        if part is None or not (part[1] or part[2]):
            break
        unit = _UNITS[part[3]]
        fraction = part[2] or ""
        if len(part[1]) > 19 or len(fraction) > 40:
            break
        total += int(part[1] or "0") * unit
        if fraction:
            total += int(fraction) * unit // 10 ** len(fraction)
        position = part.end()
    if not rest or position < len(rest):
        message = f"`{text[:80]}` is not a duration"
        raise ValueError(message)
    return _seconds(sign * total, text)


def _seconds(nanoseconds: int, text: str) -> float:
    if abs(nanoseconds) > _LONGEST:
        message = f"`{text[:80]}` is too long a duration"
        raise ValueError(message)
    return nanoseconds / NANOSECONDS


def format_duration(seconds: float) -> str:
    """Return ``seconds`` as text (``1.5s``) that `parse_duration` reads back to the same number."""
    text = format(Decimal(repr(float(seconds))), "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text}s"


def format_nanoseconds(nanoseconds: int) -> str:
    """Return a duration, 0 or more, as Go spells it: ``1m30s``, ``1.5s``, ``250ms``, ``0s``."""
    for unit, name in ((1, "ns"), (1_000, "\u00b5s"), (1_000_000, "ms")):
        if 0 < nanoseconds < 1_000 * unit:
            return f"{_decimal(nanoseconds, unit)}{name}"
    minutes, rest = divmod(nanoseconds, 60 * NANOSECONDS)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, NANOSECONDS)}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def _decimal(number: int, unit: int) -> str:
    """Return ``number`` / ``unit`` (a power of ten) without needless zeros."""
    whole, part = divmod(number, unit)
    digits = f"{part:0{len(str(unit)) - 1}}".rstrip("0") if part else ""
    return f"{whole}.{digits}" if digits else str(whole)
