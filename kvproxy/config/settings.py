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
from kvproxy.config.static_keys import STORES, StaticKeys, StorePlace, connection_options
from kvproxy.model.decode import SECTIONS
from kvproxy.model.kinds import fields_of
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
OF_THE_MACHINE = frozenset({"configFile", "stateDir"})
"""Options that say where this machine keeps things: never taken from a store."""
_FOLDED_OF_THE_MACHINE = frozenset(name.lower() for name in OF_THE_MACHINE)


class Settings(Struct, frozen=True, kw_only=True):
    """The effective static configuration and where it comes from.

    ``problems``: warnings. ``configuration_file``: absolute path of the file that was read.
    ``sources``: dotted option name -> the layer that won (``default``, ``file``, ``argument``,
    ``store``); options below sections that are absent are not listed. ``where`` returns the place
    that gave the option at a path (``traefik.toml:12``, a flag, a store key).
    """

    static: StaticConfiguration
    problems: tuple[Problem, ...]
    configuration_file: str | None
    sources: Mapping[str, Layer]
    where: Callable[[Path], str]


class SettingsError(Exception):
    """The settings cannot be used; ``problems`` holds every problem, warnings too."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Keep ``problems``, of which at least one is fatal."""
        super().__init__("\n".join(str(problem) for problem in problems if problem.fatal))
        self.problems = tuple(problems)


class LocalSources:
    """What this machine says: file and arguments. A store may say more (`settings`)."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
        """Read flags and file.

        ``arguments``: flags without the names of program and command. ``environment``: only for
        variables in the path of the configuration file and its search path. Raises `SettingsError`
        for a file that is no TOML.
        """
        self._flags = parse_flags(arguments)
        self._problems = list(self._flags.problems)
        self._document: dict[str, Any] = {}
        self._where_in_file: Callable[[Path], str] = lambda path: ""
        path, missing = find_configuration_file(self._flags.text("configFile") or "", environment)
        self.configuration_file = None if path is None else str(path)
        if missing is not None:
            self._problems.append(missing)
        if path is not None:
            try:
                document = read_toml(path)
            except TomlError as error:
                raise SettingsError([*self._problems, error.problem]) from None
            self._document = _static_part(document.data)
            self._where_in_file = document.where

    def stores(self) -> tuple[StorePlace, ...]:
        """Return the key-value stores that file and arguments name, the deciding one first.

        Raises `SettingsError` when something that they say cannot be decoded.
        """
        plain, sources = self._part((*STORES, "stateDir"))
        static = msgspec.convert(plain, StaticConfiguration)
        return tuple(
            StorePlace(name, getattr(static, name), static, sources[(name,)] == "argument")
            for name in STORES
            if name in plain
        )

    def state_dir(self) -> str:
        """Return the option ``stateDir``, empty when neither file nor arguments give it.

        Raises `SettingsError` when something that they say cannot be decoded.
        """
        value = self._part(("stateDir",))[0].get("stateDir", "")
        assert isinstance(value, str)
        return value

    def _part(self, names: Sequence[str]) -> tuple[dict[str, Any], Mapping[Path, Layer]]:
        """Return some of the options as plain values, and the layer of each path.

        Raises `SettingsError` when anything cannot be decoded.
        """
        problems = list(self._problems)
        plain, sources = merged(self._layers(problems))
        if any(problem.fatal for problem in problems):
            raise SettingsError(problems)
        return {name: plain[name] for name in names if name in plain}, sources

    def settings(self, keys: StaticKeys | None = None) -> Settings:
        """Return the effective settings, with ``keys`` of a store above all else.

        Raises `SettingsError` when a problem is fatal.
        """
        problems = list(self._problems)
        plain, sources = self._merged(keys, problems)
        places: dict[Layer, Callable[[Path], str]] = {
            "file": self._where_in_file,
            "argument": self._flags.where,
        }
        if keys is not None:
            places["store"] = keys.where

        def where(option: Path) -> str:
            for length in range(len(option), 0, -1):
                layer = sources.get(option[:length])
                if layer is not None:
                    return places[layer](option)
            return ""

        draft = Draft(plain, sources, where, self.configuration_file)
        if not any(problem.fatal for problem in problems):
            draft.complete()
        problems.extend(draft.problems)
        if any(problem.fatal for problem in problems):
            raise SettingsError(problems)
        return Settings(
            static=msgspec.convert(plain, StaticConfiguration),
            problems=tuple(problems),
            configuration_file=self.configuration_file,
            sources=_named(sources, plain),
            where=where,
        )

    def stated(self) -> StaticConfiguration:
        """Return what file and arguments say and the defaults, without fix-ups and checks.

        Raises `SettingsError` for what cannot be decoded, and for entry points without an address.
        """
        problems = list(self._problems)
        return _typed(self._merged(None, problems)[0], problems)

    def _merged(
        self, keys: StaticKeys | None, problems: list[Problem]
    ) -> tuple[dict[str, Any], dict[Path, Layer]]:
        """Return the plain values of all layers, and the layer of each path."""
        layers = self._layers(problems)
        if keys is not None:
            _add_keys(layers, keys, problems)
        plain, sources = merged(layers)
        plain["configFile"] = self.configuration_file or ""
        return plain, sources

    def _layers(self, problems: list[Problem]) -> Layers:
        layers = Layers()
        _add(layers, "file", self._document, self._where_in_file, problems)
        _decline(self._flags.declined, layers, problems)
        for section in self._flags.resets:
            layers.forget(section)
        _add(layers, "argument", self._flags.document, self._flags.where, problems)
        return layers


def load_settings(
    arguments: Sequence[str], *, environment: Mapping[str, str], keys: StaticKeys | None = None
) -> Settings:
    """Read file and arguments and return the effective settings (see `LocalSources`)."""
    return LocalSources(arguments, environment).settings(keys)


def stated_by(keys: StaticKeys) -> StaticConfiguration:
    """Return what keys of a store say by themselves and the defaults; raises `SettingsError`."""
    problems: list[Problem] = []
    layers = Layers()
    _add_keys(layers, keys, problems)
    return _typed(merged(layers)[0], problems)


def _typed(plain: dict[str, Any], problems: list[Problem]) -> StaticConfiguration:
    try:
        static = msgspec.convert(plain, StaticConfiguration)
    except msgspec.ValidationError as error:
        problems.append(Problem(message=str(error)))
    if any(problem.fatal for problem in problems):
        raise SettingsError(problems)
    return static


@cache
def _decoder(layer: Layer) -> Decoder:
    return Schema(_STYLES[layer]).decoder(StaticConfiguration)


def _static_part(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out the dynamic configuration, which may stand beside the static one."""
    return {name: value for name, value in document.items() if name.lower() not in SECTIONS}


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


def _add_keys(layers: Layers, keys: StaticKeys, problems: list[Problem]) -> None:
    """Add what a store says, except of itself and of what belongs to the machine.

    How a store is reached cannot be said by the store: a key would cut the proxy off.
    """
    report = Report(keys.where)
    document = keys.document(report)
    for name in [name for name in document if name.lower() in _FOLDED_OF_THE_MACHINE]:
        del document[name]
        report.add((name,), "belongs to the machine: it is not read from a store", fatal=False)
    section = keys.place.section
    own = connection_options(keys.place.store)
    used: dict[str, Any] = {
        field.encode_name.lower(): getattr(section, field.name)
        for field in fields_of(type(section))
    }
    for name, below in document.items():
        if name.lower() != keys.place.store or not isinstance(below, dict):
            continue
        for option in [each for each in below if each.lower() in own]:
            value, known = below.pop(option), used[option.lower()]
            if isinstance(known, str) and value and value != known:
                report.add(
                    (name, option),
                    "is not read from the store itself: it is reached as file and arguments say",
                    fatal=False,
                )
    problems.extend(report.problems)
    _add(layers, "store", document, keys.where, problems)


def _decline(sections: Sequence[Path], layers: Layers, problems: list[Problem]) -> None:
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
