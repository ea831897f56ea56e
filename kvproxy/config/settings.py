"""Static settings from all sources: key-value store over arguments over file over defaults."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from kvproxy.config.effective import Draft
from kvproxy.config.files import find_configuration_file
from kvproxy.config.flags import parse_flags
from kvproxy.config.layers import Layer, Layers, merged
from kvproxy.config.options import ANY, options
from kvproxy.model.decode import SECTIONS
from kvproxy.model.keytree import nest
from kvproxy.model.problem import Problem
from kvproxy.model.schema import INVALID, Decoder, Report, Schema, Style, dotted
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.toml import TomlError, read_toml

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Path = tuple[str, ...]

_STYLES: dict[Layer, Style] = {
    "file": Style(name="static file", plain=True),
    "argument": Style(name="arguments", text=True, plain=True),
    "store": Style(name="static keys", text=True, plain=True, bare="nanoseconds", skip_empty=True),
}
_DYNAMIC_NAMES = frozenset((*SECTIONS, "alias"))


class Settings(Struct, frozen=True, kw_only=True):
    """The effective static configuration and where it comes from.

    ``problems``: warnings. ``configuration_file``: absolute path of the file that was read.
    ``sources``: dotted option name -> the layer that won (``default``, ``file``, ``argument``,
    ``store``); options below sections that are absent are not listed.
    """

    static: StaticConfiguration
    problems: tuple[Problem, ...]
    configuration_file: str | None
    sources: Mapping[str, Layer]


class SettingsError(Exception):
    """The settings cannot be used; ``problems`` holds every problem, warnings too."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep ``problems``, of which at least one is fatal."""
        super().__init__("\n".join(str(problem) for problem in problems if problem.fatal))
        self.problems = tuple(problems)


def load_settings(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    key_values: Mapping[str, str] | None = None,
) -> Settings:
    """Read all sources and return the effective settings.

    ``arguments``: flags without the names of program and command. ``environment``: only for
    variables in the path of the configuration file and its search path. ``key_values``: keys below
    the prefix of the store (``entrypoints/http/address``) and their texts; keys of the dynamic
    configuration are passed over. Raises `SettingsError` when a problem is fatal.
    """
    flags = parse_flags(arguments)
    problems = list(flags.problems)
    places: dict[Layer, Callable[[Path], str]] = {"argument": flags.where}
    layers = Layers()

    path, missing = find_configuration_file(flags.text("configFile") or "", environment)
    if missing is not None:
        problems.append(missing)
    if path is not None:
        try:
            document = read_toml(path)
        except TomlError as error:
            raise SettingsError([*problems, error.problem]) from None
        places["file"] = document.where
        _add(layers, "file", _static_part(document.data), document.where, problems)

    _decline(flags.declined, layers, flags.where, problems)
    for section in flags.resets:
        layers.forget(section)
    _add(layers, "argument", flags.document, flags.where, problems)

    if key_values:
        store = _KeyValues(key_values)
        places["store"] = store.where
        _add(layers, "store", store.document, store.where, problems)

    plain, sources = merged(layers)

    def where(option: Path) -> str:
        for length in range(len(option), 0, -1):
            layer = sources.get(option[:length])
            if layer is not None:
                return places[layer](option)
        return ""

    configuration_file = None if path is None else str(path)
    plain["configFile"] = configuration_file or ""
    draft = Draft(plain, sources, where, configuration_file)
    if not any(problem.fatal for problem in problems):
        draft.complete()
    problems.extend(draft.problems)
    if any(problem.fatal for problem in problems):
        raise SettingsError(problems)
    return Settings(
        static=msgspec.convert(plain, StaticConfiguration),
        problems=tuple(problems),
        configuration_file=configuration_file,
        sources=_named(sources, plain),
    )


@cache
def _decoder(layer: Layer) -> Decoder:
    return Schema(_STYLES[layer]).decoder(StaticConfiguration)


class _KeyValues:
    """The keys of a store as a document, and back to the keys."""

    def __init__(self, key_values: Mapping[str, str]) -> None:
        self._keys = {
            tuple(part.lower() for part in key.split("/") if part): key for key in key_values
        }
        self.document = _static_part(nest({key: text.encode() for key, text in key_values.items()}))

    def where(self, path: Path) -> str:
        folded = tuple(part.lower() for part in path)
        return self._keys.get(folded) or "/".join(path)


def _static_part(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out the dynamic configuration, which may stand beside the static one."""
    return {name: value for name, value in document.items() if name.lower() not in _DYNAMIC_NAMES}


def _add(
    layers: Layers,
    layer: Layer,
    document: dict[str, Any],
    where: Callable[[Path], str],
    problems: list[Problem],
) -> None:
    """Decode ``document`` as the settings of ``layer`` and put them above what is there."""
    report = Report(lambda path: where(path[1:]))
    if not document:
        return
    plain = _decoder(layer)(document, (), "", report)
    problems.extend(
        msgspec.structs.replace(problem, path=problem.path.removeprefix('"".'))
        for problem in report.problems
    )
    if plain is not INVALID:
        layers.put(layer, plain)


def _decline(
    sections: Sequence[Path],
    layers: Layers,
    where: Callable[[Path], str],
    problems: list[Problem],
) -> None:
    """Warn of ``--section=false`` for a section of the file: it stays, as in Traefik 1.7."""
    present = {given.path for given in layers}
    for section in sections:
        if section in present:
            problems.append(
                Problem(
                    message="false does not remove the section of the configuration file",
                    where=f"--{dotted(section)}",
                    path=dotted(section),
                    expected="to remove it from the file",
                    fatal=False,
                )
            )


def _named(sources: Mapping[Path, Layer], plain: Mapping[str, Any]) -> dict[str, Layer]:
    """Name the layer of each value given, and ``default`` for the other options that are there."""
    named = {dotted(path): layer for path, layer in sources.items()}
    absent = {
        option.path
        for option in options()
        if option.default == "absent" and not _present(option.path, plain)
    }
    for option in options():
        above = (option.path[:length] for length in range(1, len(option.path) + 1))
        if ANY not in option.path and not absent.intersection(above):
            named.setdefault(option.name, "default")
    return named


def _present(path: Path, plain: Mapping[str, Any]) -> bool:
    level: Any = plain
    for part in path:
        if not isinstance(level, dict) or part not in level:
            return False
        level = level[part]
    return True
