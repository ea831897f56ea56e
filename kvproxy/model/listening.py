"""The addresses of an entry point: one, or several with commas between them."""

from __future__ import annotations


def split_addresses(text: str) -> tuple[str, ...]:
    """Return the single addresses of the option ``address``, such as ``:80`` or ``[::1]:80``."""
    return tuple(part.strip() for part in text.split(","))
