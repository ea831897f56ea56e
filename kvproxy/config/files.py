"""Finding the configuration file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE_NAMES = ("kvproxy.toml", "traefik.toml")
"""What is looked for in a directory given by ``--configFile``."""

SEARCHED = ("/etc/kvproxy/kvproxy.toml", "$HOME/.kvproxy/kvproxy.toml", "./kvproxy.toml")
"""Where the file is looked for when none is given; the first one that exists is used."""

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Replace ``$NAME`` and ``${NAME}``; unknown variables are empty (Traefik 1.7 behaviour)."""
    return _VARIABLE.sub(lambda match: environment.get(match[1] or match[2], ""), text)


def find_configuration_file(
    given: str, environment: Mapping[str, str]
) -> tuple[Path | None, Problem | None]:
    """Return the absolute path of the configuration file, or what is wrong with the one given.

    ``given`` is the value of ``--configFile``, a file or a directory, or empty: then `SEARCHED` are
    tried, and none is no problem. Traefik 1.7 goes on searching when the given file is missing.
    """
    if not given:
        for place in SEARCHED:
            if "$HOME" in place and not environment.get("HOME"):
                continue
            path = Path(expand(place, environment))
            if path.is_file():
                return path.absolute(), None
        return None, None
    path = Path(expand(given, environment))
    if path.is_dir():
        for name in FILE_NAMES:
            if (path / name).is_file():
                return (path / name).absolute(), None
        expected = f"{' or '.join(FILE_NAMES)} in it"
        return None, _missing(f"the directory `{path}` holds no configuration", expected)
    if not path.exists():
        return None, _missing(f"`{path}` does not exist", "a file or a directory")
    return path.absolute(), None


def _missing(message: str, expected: str) -> Problem:
    return Problem(message=message, where="--configFile", expected=expected)
