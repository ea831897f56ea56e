"""What is wrong in a configuration, where, and what would be right."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable


class Problem(Struct, frozen=True, kw_only=True):
    """One thing wrong in a configuration.

    ``where``: the place as a user finds it (``routes.toml:12`` or a full store key). ``path``:
    dotted option path. ``entry``: (section, name) of the entry that is refused because of it, such
    as ``("frontends", "web")``, or (section, "") for all entries of a section that is no table;
    None when no entry is refused. ``fatal`` False marks a warning.
    """

    message: str
    where: str = ""
    path: str = ""
    expected: str = ""
    nearest: str = ""
    entry: tuple[str, str] | None = None
    fatal: bool = True

    def __str__(self) -> str:
        """One line: place, path, message, expected, nearest valid name."""
        parts = [part for part in (self.where, self.path) if part]
        text = ": ".join([*parts, self.message])
        if self.expected:
            text += f"; expected {self.expected}"
        if self.nearest:
            text += f"; did you mean `{self.nearest}`?"
        return text


def nearest_name(name: str, valid: Iterable[str]) -> str:
    """Return the valid name closest to ``name`` without regard to case, or an empty string."""
    by_folded = {candidate.lower(): candidate for candidate in valid}
    found = get_close_matches(name.lower(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else ""
