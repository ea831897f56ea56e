"""Decoders built from the types of the model: plain documents in, typed values and problems out.

A decoder never raises for what a document holds: it reports to a `Report` and returns `INVALID` if
the value cannot be used, or `ABSENT` when it counts as not given. Names are matched without regard
to case.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args, get_origin

from msgspec import Struct, field

from kvproxy.model.durations import NANOSECONDS, parse_duration
from kvproxy.model.kinds import describe, fields_of
from kvproxy.model.problem import Problem, nearest_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Path = tuple[str, ...]
"""The names from the root to an option, as the document spells them."""
Decoder: TypeAlias = "Callable[[Any, Path, str, Report], Any]"
"""``decode(value, path of its parent, its key, report)``: the decoded value or a `Sentinel`."""


class Sentinel:
    """A value that no document can hold."""

    def __init__(self, name: str) -> None:
        """Name it for messages of debuggers."""
        self._name = name

    def __repr__(self) -> str:
        """Return the name."""
        return self._name


INVALID: Final = Sentinel("INVALID")
"""The value is wrong; a fatal problem was reported."""
ABSENT: Final = Sentinel("ABSENT")
"""The value counts as not given."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?")
_LARGEST = 2**63 - 1
_BOOLEANS = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_WHITE = " \t\r\n"
_STRICTLY_SECONDS = 1_000_000
"""Bare integers from here on are nanoseconds where both were ever written: 11 days, or 1 ms."""


class Style(Struct, frozen=True):
    """How values are spelled in one kind of document.

    ``text``: every value is text and lists may be comma-separated or sub-keys (key-value stores).
    ``bare``: what a duration without a unit is. ``doubled_backslash``: two backslashes mean one.
    ``skip_empty``: an empty text counts as not given, whatever the option. ``plain``: the result is
    dicts by option name with nothing filled in, instead of structs. ``defaults``: defaults that
    differ from the model's, by struct and attribute. ``aliases``: further names, by struct.
    ``switches``: sections that also accept a boolean as their own value.
    """

    name: str
    text: bool = False
    bare: Literal["seconds", "nanoseconds", "either"] = "seconds"
    doubled_backslash: bool = False
    skip_empty: bool = False
    plain: bool = False
    defaults: Mapping[type, Mapping[str, Any]] = field(default_factory=dict)
    aliases: Mapping[type, Mapping[str, str]] = field(default_factory=dict)
    switches: frozenset[type] = frozenset()


class Report:
    """Collects problems; ``entry`` is the entry that fatal ones refuse."""

    def __init__(self, where: Callable[[Path], str], entry: tuple[str, str] | None = None) -> None:
        """Ask ``where`` for the place of a path as it is spelled in the document."""
        self.problems: list[Problem] = []
        self.entry = entry
        self._where = where

    def add(
        self,
        path: Path,
        message: str,
        *,
        expected: str = "",
        nearest: str = "",
        fatal: bool = True,
    ) -> None:
        """Record one problem of the option at ``path``."""
        self.problems.append(
            Problem(
                message=message,
                where=self._where(path),
                path=dotted(path),
                expected=expected,
                nearest=nearest,
                entry=self.entry if fatal else None,
                fatal=fatal,
            )
        )

    def unknown(self, path: Path, known: Iterable[str]) -> None:
        """Record an option that does not exist: a warning."""
        known = sorted(known, key=str.lower)
        nearest = nearest_name(path[-1], known)
        expected = "" if nearest or len(known) > 12 else f"one of {', '.join(known)}"
        self.add(path, "unknown option", expected=expected, nearest=nearest, fatal=False)


def dotted(path: Path) -> str:
    """Return ``path`` as one text, names that hold a dot in quotes."""
    return ".".join(f'"{part}"' if "." in part or not part else part for part in path)


def kind_of(value: Any) -> str:
    """Return what a user would call the type of a plain value."""
    if isinstance(value, bool):
        return "true or false"
    for kind, name in (
        (str, "text"),
        (int, "a whole number"),
        (float, "a number with a fraction"),
        (dict, "a table"),
        (list, "a list"),
    ):
        if isinstance(value, kind):
            return name
    return "a date or time" if value is not None else "nothing"


class Schema:
    """The decoders of one style; each type is compiled once."""

    def __init__(self, style: Style) -> None:
        """Compile for ``style``; types are compiled when they are first asked for."""
        self.style = style
        self._structs: dict[type, Decoder] = {}

    def decoder(self, annotation: Any) -> Decoder:
        """Return the decoder of a type of the model."""
        bare, extra, _ = describe(annotation)
        origin = get_origin(bare)
        arguments = get_args(bare)
        if isinstance(bare, type) and issubclass(bare, Struct):
            return self._struct(bare)
        if origin is tuple:
            item = self.decoder(arguments[0])
            return self._text_list(item) if self.style.text else self._list(item)
        if origin is dict:
            return self._map(self.decoder(arguments[1]))
        if bare is float and "kind" in extra:
            lenient = extra["kind"] == "unit duration"
            return self._text_duration(lenient) if self.style.text else self._duration(lenient)
        if bare is int and ("least" in extra or "most" in extra):
            return _bounded(self.decoder(int), extra.get("least"), extra.get("most"))
        scalar: dict[type, Decoder] = {
            str: self._text_text if self.style.text else self._plain_text,
            bool: self._text_bool if self.style.text else self._plain_bool,
            int: self._text_int if self.style.text else self._plain_int,
            float: self._text_float if self.style.text else self._plain_float,
        }
        return scalar[bare]

    # Sections.

    def _struct(self, cls: type[Struct]) -> Decoder:
        if cls in self._structs:
            return self._structs[cls]
        style = self.style
        plain = style.plain
        exact: dict[str, tuple[str, Any]] = {}
        folded: dict[str, str] = {}
        required: list[tuple[str, str]] = []
        overrides = {} if plain else dict(style.defaults.get(cls, {}))
        for option in fields_of(cls):
            target = option.encode_name if plain else option.name
            exact[option.encode_name] = (target, self.decoder(option.type))
            folded[option.encode_name.lower()] = option.encode_name
            if option.required and not plain:
                required.append((target, option.encode_name))
        for alias, name in style.aliases.get(cls, {}).items():
            folded[alias.lower()] = name
        switch_allowed = cls in style.switches

        def decode(value: Any, path: Path, key: str, report: Report) -> Any:
            here = (*path, key)
            if type(value) is not dict:
                if style.text:
                    return text_section(value, here, report)
                report.add(here, f"is {kind_of(value)}", expected="a table")
                return INVALID
            values = overrides.copy()
            valid = True
            for name, item in value.items():
                found = exact.get(name)
                if found is None:
                    if style.text and not name:
                        if item:
                            outcome = text_section(item, here, report)
                            if outcome is INVALID or outcome is ABSENT:
                                return outcome
                        continue
                    canonical = folded.get(name.lower())
                    if canonical is None:
                        report.unknown((*here, name), exact)
                        continue
                    used = canonical if canonical in value else _first(value, canonical, folded)
                    if used != name:
                        message = f"is given twice; `{used}` is used"
                        report.add((*here, name), message, fatal=False)
                        continue
                    found = exact[canonical]
                result = found[1](item, here, name, report)
                if result is INVALID:
                    valid = False
                if result is not ABSENT:
                    values[found[0]] = result
            for target, name in required:
                if not values.get(target):
                    report.add((*here, name), "is required", expected="a text that is not empty")
                    valid = False
            if not valid:
                return INVALID
            return values if plain else cls(**values)

        def text_section(value: str, here: Path, report: Report) -> Any:
            stripped = value.strip(_WHITE) if isinstance(value, str) else value
            switch = _BOOLEANS.get(stripped) if switch_allowed else None
            if switch is False:
                return ABSENT
            if switch or not stripped:
                return decode({}, here[:-1], here[-1], report)
            report.add(here, "is a value", expected="keys below it")
            return INVALID

        self._structs[cls] = decode
        return decode

    def _map(self, item: Decoder) -> Decoder:
        text = self.style.text

        def decode(value: Any, path: Path, key: str, report: Report) -> Any:
            here = (*path, key)
            if type(value) is not dict:
                if text and not value:
                    return ABSENT
                expected = "keys below it" if text else "a table"
                report.add(here, f"is {'a value' if text else kind_of(value)}", expected=expected)
                return INVALID
            result = {}
            valid = True
            for name, element in value.items():
                if text and not name:
                    if element:
                        report.add(here, "is a value", expected="keys below it")
                        valid = False
                    continue
                decoded = item(element, here, name, report)
                if decoded is INVALID:
                    valid = False
                elif decoded is not ABSENT:
                    result[name] = decoded
            return result if valid else INVALID

        return decode

    def _list(self, item: Decoder) -> Decoder:
        plain = self.style.plain

        def decode(value: Any, path: Path, key: str, report: Report) -> Any:
            if type(value) is not list:
                report.add(
                    (*path, key), f"is {kind_of(value)}", expected='a list such as ["a", "b"]'
                )
                return INVALID
            here = (*path, key)
            result = []
            for number, element in enumerate(value):
                decoded = item(element, here, str(number), report)
                if decoded is INVALID:
                    return INVALID
                if decoded is not ABSENT:
                    result.append(decoded)
            return result if plain else tuple(result)

        return decode

    def _text_list(self, item: Decoder) -> Decoder:
        plain = self.style.plain

        def decode(value: Any, path: Path, key: str, report: Report) -> Any:
            here = (*path, key)
            elements: list[tuple[Path, str, Any]] = []
            own = value.get("", "") if type(value) is dict else value
            if own.strip(_WHITE) or type(value) is not dict:
                elements = [(path, key, part) for part in own.split(",")]
                if type(value) is dict and len(value) > 1:
                    report.add(here, _BOTH, fatal=False)
            else:
                names = sorted(filter(None, value), key=_position)
                elements = [(here, name, value[name]) for name in names]
            result = []
            for parent, name, element in elements:
                if isinstance(element, str):
                    element = element.strip(_WHITE)
                    if not element:
                        continue
                decoded = item(element, parent, name, report)
                if decoded is INVALID:
                    return INVALID
                if decoded is not ABSENT:
                    result.append(decoded)
            return result if plain else tuple(result)

        return decode

    # Scalars of typed documents (TOML, JSON).

    @staticmethod
    def _plain_text(value: Any, path: Path, key: str, report: Report) -> Any:
        if type(value) is str:
            return value
        report.add((*path, key), f"is {kind_of(value)}", expected="text in quotes")
        return INVALID

    @staticmethod
    def _plain_bool(value: Any, path: Path, key: str, report: Report) -> Any:
        if type(value) is bool:
            return value
        report.add((*path, key), f"is {kind_of(value)}", expected="true or false without quotes")
        return INVALID

    @staticmethod
    def _plain_int(value: Any, path: Path, key: str, report: Report) -> Any:
        if type(value) is int and -_LARGEST - 1 <= value <= _LARGEST:
            return value
        problem = "is too large" if type(value) is int else f"is {kind_of(value)}"
        report.add((*path, key), problem, expected="a whole number without quotes")
        return INVALID

    @staticmethod
    def _plain_float(value: Any, path: Path, key: str, report: Report) -> Any:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
        report.add((*path, key), f"is {kind_of(value)}", expected="a number without quotes")
        return INVALID

    def _duration(self, lenient: bool) -> Decoder:
        def decode(value: Any, path: Path, key: str, report: Report) -> Any:
            if type(value) is int and not lenient:
                value = str(value)
            if type(value) is not str:
                report.add((*path, key), f"is {kind_of(value)}", expected=_expected(lenient))
                return INVALID
            return _parse(value, path, key, report, lenient)

        return decode

    # Scalars of documents where everything is text (key-value stores, arguments).

    def _own_text(self, value: Any, path: Path, key: str, report: Report, expected: str) -> Any:
        """Return the text of a scalar, or a sentinel."""
        if type(value) is dict:
            own = value.get("")
            if own:
                report.add((*path, key), _BOTH, fatal=False)
                value = own
            elif len(value) > (own is not None):
                report.add((*path, key), "has keys below it", expected=expected)
                return INVALID
            else:
                value = ""
        if not value and self.style.skip_empty:
            return ABSENT
        return value

    def _text_text(self, value: Any, path: Path, key: str, report: Report) -> Any:
        if type(value) is not str:
            value = self._own_text(value, path, key, report, "a text")
            if type(value) is not str:
                return value
        elif not value and self.style.skip_empty:
            return ABSENT
        if self.style.doubled_backslash and "\\" in value:
            return value.replace("\\\\", "\\")
        return value

    def _stripped(self, value: Any, path: Path, key: str, report: Report, expected: str) -> Any:
        text = self._own_text(value, path, key, report, expected)
        if isinstance(text, str):
            return text.strip(_WHITE) or ABSENT
        return text

    def _text_bool(self, value: Any, path: Path, key: str, report: Report) -> Any:
        text = self._stripped(value, path, key, report, "true or false")
        if not isinstance(text, str):
            return text
        result = _BOOLEANS.get(text)
        if result is None:
            report.add((*path, key), f"`{text[:80]}` is not a boolean", expected="true or false")
            return INVALID
        return result

    def _text_int(self, value: Any, path: Path, key: str, report: Report) -> Any:
        text = self._stripped(value, path, key, report, "a whole number")
        if not isinstance(text, str):
            return text
        if not _INTEGER.fullmatch(text) or not -_LARGEST - 1 <= int(text) <= _LARGEST:
            report.add(
                (*path, key), f"`{text[:80]}` is not a whole number", expected="a whole number"
            )
            return INVALID
        return int(text)

    def _text_float(self, value: Any, path: Path, key: str, report: Report) -> Any:
        text = self._stripped(value, path, key, report, "a number")
        if not isinstance(text, str):
            return text
        if not _FLOAT.fullmatch(text) or not math.isfinite(float(text)):
            report.add((*path, key), f"`{text[:80]}` is not a number", expected="a number")
            return INVALID
        return float(text)

    def _text_duration(self, lenient: bool) -> Decoder:
        bare = self.style.bare
        digits = "nanoseconds" if bare == "nanoseconds" else "seconds"

        def decode(value: Any, path: Path, key: str, report: Report) -> Any:
            text = self._stripped(value, path, key, report, _expected(lenient, digits))
            if not isinstance(text, str):
                return text
            if bare != "seconds" and _INTEGER.fullmatch(text):
                number = int(text)
                if abs(number) <= _LARGEST and (
                    bare == "nanoseconds" or abs(number) >= _STRICTLY_SECONDS
                ):
                    return number / NANOSECONDS
            return _parse(text, path, key, report, lenient, digits)

        return decode


def _first(value: dict[str, Any], canonical: str, folded: dict[str, str]) -> str:
    """Return the first name in ``value`` that is some spelling of ``canonical``."""
    return next(name for name in value if folded.get(name.lower()) == canonical)


def _bounded(decoder: Decoder, least: int | None, most: int | None) -> Decoder:
    """Wrap the decoder of a whole number so that it refuses what is out of bounds."""
    expected = f"at least {least}" if most is None else f"from {least} to {most}"

    def decode(value: Any, path: Path, key: str, report: Report) -> Any:
        result = decoder(value, path, key, report)
        if isinstance(result, int):
            below = least is not None and result < least
            if below or (most is not None and result > most):
                report.add((*path, key), f"{result} is out of bounds", expected=expected)
                return INVALID
        return result

    return decode


_BOTH = "is both a value and the parent of other keys; the keys below it are ignored"


def _position(name: str) -> tuple[int, int, str]:
    """Sort key of a list's sub-keys: numbers by value, then other names by text."""
    if name.isascii() and name.isdigit() and len(name) <= 18:
        return (0, int(name), name)
    return (1, 0, name)


def _expected(lenient: bool, digits: str = "seconds") -> str:
    if lenient:
        return "a duration with a unit in quotes, such as 10s or 1m30s"
    return f"a duration such as 10s or 1m30s (digits alone are {digits})"


def _parse(
    text: str, path: Path, key: str, report: Report, lenient: bool, digits: str = "seconds"
) -> Any:
    try:
        return parse_duration(text, bare_seconds=not lenient)
    except ValueError as error:
        if not lenient:
            report.add((*path, key), str(error), expected=_expected(lenient, digits))
            return INVALID
        report.add(
            (*path, key),
            f"{error}; the default is used",
            expected=_expected(lenient, digits),
            fatal=False,
        )
        return ABSENT
