"""The flat list of options, generated from the model: the source of flags and documentation."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args, get_origin

from msgspec import NODEFAULT, Struct, structs

from kvproxy.model.activity import is_active
from kvproxy.model.durations import format_duration
from kvproxy.model.dynamic import Configuration
from kvproxy.model.kinds import describe, fields_of
from kvproxy.model.static import StaticConfiguration

SHORT_FLAGS = {"c": "configFile", "d": "debug", "g": "graceTimeOut", "l": "logLevel"}
"""Flags of one letter."""

ANY = "*"
"""Stands in a path for a name that the user chooses, or for a position in a list."""


class Option(Struct, frozen=True):
    """One option of the model.

    ``path``: its names from the root. ``kind``: what a value is, in words. ``default``: the default
    in words. ``section``: it only opens what is below it. ``flag``: it can be given by argument;
    ``repeated``: the argument may be given several times; ``separators``: what splits its lists.
    ``active``: it has an effect now.
    ``initial``: the default as a plain value, None where there is none.
    """

    path: tuple[str, ...]
    kind: str
    default: str
    help: str
    section: bool = False
    flag: bool = False
    repeated: bool = False
    separators: str = ","
    short: str = ""
    active: bool = False
    secret: bool = False
    initial: Any = None

    @property
    def name(self) -> str:
        """The dotted name, ``<name>`` for what the user chooses."""
        return ".".join("<name>" if part == ANY else part for part in self.path)


@cache
def options() -> tuple[Option, ...]:
    """Return every static option, in the order of the model, parents before what is below them."""
    return tuple(_walk(StaticConfiguration, (), flags=True))


@cache
def dynamic_options() -> tuple[Option, ...]:
    """Return every option of the dynamic configuration, in the order of the model."""
    return tuple(_walk(Configuration, (), flags=False))


def _walk(section: type[Struct], path: tuple[str, ...], *, flags: bool) -> list[Option]:
    found: list[Option] = []
    for field in fields_of(section):
        bare, extra, help_text = describe(field.type)
        here = (*path, field.encode_name)
        flag = flags and extra.get("flag", True)
        kind, below, chosen = _kind(bare, extra)
        default = extra.get("default") or _default(field, bare, extra)
        found.append(
            Option(
                path=here,
                kind=kind,
                default=default,
                help=help_text,
                section=kind == "section",
                flag=flag,
                repeated=flag and (chosen or kind.startswith(("list", "map"))),
                separators=extra.get("separators", ","),
                short=next((key for key, name in SHORT_FLAGS.items() if (name,) == here), ""),
                active=is_active(here),
                secret="secret" in extra,
                initial=_initial(field),
            )
        )
        if below is not None:
            inner = (*here, ANY) if chosen else here
            found.extend(_walk(below, inner, flags=flag and not chosen))
    return found


def _kind(bare: Any, extra: dict[str, Any]) -> tuple[str, type[Struct] | None, bool]:
    """Return (kind in words, struct below it, whether the user names the elements)."""
    arguments = get_args(bare)
    if isinstance(bare, type) and issubclass(bare, Struct):
        return "section", bare, False
    if get_origin(bare) is dict:
        if arguments[1] is str:
            return "map of texts", None, False
        return "map of sections", arguments[1], True
    if get_origin(bare) is tuple:
        if arguments[0] is str:
            return "list of texts", None, False
        if arguments[0] is float:
            return "list of numbers", None, False
        return "list of sections", arguments[0], True
    if bare is float and "kind" in extra:
        return "duration", None, False
    return {str: "text", bool: "boolean", int: "whole number", float: "number"}[bare], None, False


def _initial(field: structs.FieldInfo) -> Any:
    if field.default is NODEFAULT:
        return None
    return list(field.default) if isinstance(field.default, tuple) else field.default


def _default(field: structs.FieldInfo, bare: Any, extra: dict[str, Any]) -> str:
    if field.required:
        return "required"
    if field.default is NODEFAULT:
        return "present" if isinstance(bare, type) and issubclass(bare, Struct) else "none"
    value = field.default
    if value is None:
        return "absent"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" if isinstance(item, float) else item for item in value) or (
            "none"
        )
    if isinstance(value, float):
        return format_duration(value) if "kind" in extra else f"{value:g}"
    return str(value) or "empty"
