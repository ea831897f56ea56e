"""From a typed configuration to the plain document that a TOML file holds."""

from __future__ import annotations

from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from msgspec import NODEFAULT, Struct, structs

from kvproxy.model.decode import FILE, SECTIONS
from kvproxy.model.durations import format_duration
from kvproxy.model.kinds import describe

if TYPE_CHECKING:
    from kvproxy.model.dynamic import Configuration


def to_document(configuration: Configuration) -> dict[str, Any]:
    """Return the document that decodes, in file style, to an equal configuration.

    Options at the default that files have are left out.
    """
    document = {
        section: {name: _struct(entry) for name, entry in entries.items()}
        for section in SECTIONS
        if (entries := getattr(configuration, section))
    }
    return {section: document[section] for section in sorted(document)}


class _Option(Struct, frozen=True):
    """One field of a section: where it is, what it is called, when it is left out."""

    attribute: str
    name: str
    annotation: Any
    default: Any
    required: bool


@cache
def _options(kind: type[Struct]) -> tuple[_Option, ...]:
    overrides = FILE.defaults.get(kind, {})
    found = []
    for field in structs.fields(kind):
        default = field.default
        if field.default_factory is not NODEFAULT:
            default = field.default_factory()
        default = overrides.get(field.name, default)
        found.append(_Option(field.name, field.encode_name, field.type, default, field.required))
    return tuple(found)


def _struct(value: Struct) -> dict[str, Any]:
    simple: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for option in _options(type(value)):
        content = getattr(value, option.attribute)
        if content == option.default and not option.required:
            continue
        converted = _value(content, option.annotation)
        # A table ends the options of its parent, so simple options go first.
        (tables if isinstance(converted, dict) else simple)[option.name] = converted
    return simple | tables


def _value(content: Any, annotation: Any) -> Any:
    bare, extra, _ = describe(annotation)
    if get_origin(bare) in (Union, UnionType):
        return _value(content, next(item for item in get_args(bare) if item is not NoneType))
    if isinstance(content, Struct):
        return _struct(content)
    if isinstance(content, dict):
        return {name: _value(item, get_args(bare)[1]) for name, item in content.items()}
    if isinstance(content, tuple):
        return [_value(item, get_args(bare)[0]) for item in content]
    if isinstance(content, float) and "kind" in extra:
        return format_duration(content)
    return content
