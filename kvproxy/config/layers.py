"""Layering of static settings: which of several sources wins, option by option.

Dynaconf keeps the layers. Its conveniences evaluate text (``@format``, ``@jinja``, ``@read_file``),
read the environment, follow includes, run hook files, and append lists where we replace them. None
of that can happen here: no loader runs, each option is one setting under a name that has no meaning
to dynaconf, and values travel inside an object that it does not look into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dynaconf import Dynaconf
from msgspec import Struct, json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Layer = Literal["default", "file", "argument", "store"]
"""Sources by rising precedence."""

Path = tuple[str, ...]


class Given(Struct, frozen=True):
    """A value and the layer that gave it; ``value`` is `PRESENT` for a section."""

    path: Path
    value: Any
    layer: Layer


PRESENT = object()
"""The value of a section that is there, whatever stands below it."""


class Layers:
    """Values of options by path; a later layer replaces what an earlier one says."""

    def __init__(self) -> None:
        """Start empty."""
        self._settings = Dynaconf(
            dynaconf_skip_loaders=True,
            dynaconf_skip_validators=True,
            core_loaders=[],
            loaders=[],
            settings_files=[],
            includes=[],
            envvar_prefix="KVPROXY_NEVER_READ",
            load_dotenv=False,
            environments=False,
            auto_cast=False,
            dotted_lookup=False,
            merge_enabled=False,
        )
        self._names: dict[Path, str] = {}

    def put(self, layer: Layer, document: Mapping[str, Any], path: Path = ()) -> None:
        """Add the options of ``document``: nested dicts are sections, the rest are values."""
        for name, value in document.items():
            here = (*path, name)
            if isinstance(value, dict):
                self._set(here, PRESENT, layer)
                self.put(layer, value, here)
            else:
                self._set(here, value, layer)

    def forget(self, path: Path) -> None:
        """Drop the section ``path`` and everything below it."""
        for known in list(self._names):
            if known[: len(path)] == path:
                self._settings.unset(self._names.pop(known), force=True)

    def __iter__(self) -> Iterator[Given]:
        """Yield what counts, parents before what is below them."""
        for path in sorted(self._names, key=len):
            given: Given = self._settings.store[self._names[path]]
            yield given

    def _set(self, path: Path, value: Any, layer: Layer) -> None:
        name = f"OPTION_{json.encode(path).hex().upper()}"
        self._names[path] = name
        given = Given(path, value, layer)
        self._settings.set(
            name, given, loader_identifier=layer, validate=False, merge=False, dotted_lookup=False
        )


def merged(layers: Layers) -> tuple[dict[str, Any], dict[Path, Layer]]:
    """Return the nested document of what counts, and the layer of each path in it."""
    document: dict[str, Any] = {}
    sources: dict[Path, Layer] = {}
    for given in layers:
        level = document
        for part in given.path[:-1]:
            level = level.setdefault(part, {})
        if given.value is PRESENT:
            level.setdefault(given.path[-1], {})
        else:
            level[given.path[-1]] = given.value
        sources[given.path] = given.layer
    return document, sources
