"""From a typed configuration to the plain document that a TOML file holds."""

from __future__ import annotations

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


def _struct(value: Struct) -> dict[str, Any]:
    overrides = FILE.defaults.get(type(value), {})
    simple: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for option in structs.fields(type(value)):
        content = getattr(value, option.name)
        if option.default_factory is not NODEFAULT:
            default = option.default_factory()
        else:
            default = option.default
        if content == overrides.get(option.name, default) and not option.required:
            continue
        converted = _value(content, option.type)
        # A table ends the options of its parent, so simple options go first.
        (tables if isinstance(converted, dict) else simple)[option.encode_name] = converted
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
