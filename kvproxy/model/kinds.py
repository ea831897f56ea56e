"""What options are made of: the base of all sections, types with a spelling of their own, help."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from msgspec import Meta, Struct, structs

HIDDEN = "***"
"""What is shown instead of a secret."""


def about(
    description: str,
    *,
    default: str = "",
    flag: bool = True,
    separators: str = ",",
    secret: bool = False,
    content: bool = False,
    least: int | None = None,
    most: int | None = None,
) -> Meta:
    """Describe one option of the model.

    ``default``: words for a default that is not a constant. ``flag`` False: no command-line flag.
    ``separators``: what splits a list given by flag. ``secret``: never shown. ``content``: a file
    name, or the content of a file, which is then secret. ``least``, ``most``: bounds of a number.
    """
    extra: dict[str, Any] = {}
    if default:
        extra["default"] = default
    if not flag:
        extra["flag"] = False
    if separators != ",":
        extra["separators"] = separators
    if secret or content:
        extra["secret"] = "content" if content else "always"
    return Meta(description=description, extra=extra, ge=least, le=most)


Duration = Annotated[float, Meta(extra={"kind": "duration"})]
"""Seconds; written with a unit, or as bare digits that are seconds."""

UnitDuration = Annotated[float, Meta(extra={"kind": "unit duration"})]
"""Seconds; written with a unit. Text that is no duration is a warning and counts as absent."""


class Section(Struct, frozen=True, rename="camel", kw_only=True, omit_defaults=True, gc=False):
    """Base of every section of the configuration; its ``repr`` hides secrets."""

    def __repr__(self) -> str:
        """Return the class and its options, secrets hidden."""
        shown = ", ".join(f"{name}={value!r}" for name, value in self._visible())
        return f"{type(self).__name__}({shown})"

    def __rich_repr__(self) -> Any:
        """Yield (name, value) for rich, secrets hidden."""
        yield from self._visible()

    def _visible(self) -> list[tuple[str, Any]]:
        secrets = secret_options(type(self))
        return [
            (name, hidden(getattr(self, name), secrets.get(name, "")))
            for name in self.__struct_fields__
        ]


def describe(annotation: Any) -> tuple[Any, dict[str, Any], str]:
    """Return (bare type, merged ``extra`` with bounds, description) of the type of an option.

    The bare type of ``X | None`` is X, that of a ``Mapping`` a dictionary.
    """
    extra: dict[str, Any] = {}
    description = ""
    if get_origin(annotation) in (Union, UnionType):
        annotation = next(item for item in get_args(annotation) if item is not NoneType)
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        for item in metadata:
            if isinstance(item, Meta):
                extra.update(item.extra or {})
                bounds = {"least": item.ge, "most": item.le}
                extra.update({name: value for name, value in bounds.items() if value is not None})
                description = item.description or description
    if get_origin(annotation) is Mapping:
        annotation = dict[*get_args(annotation)]  # type: ignore[misc]
    return annotation, extra, description


@cache
def fields_of(section: type[Struct]) -> tuple[structs.FieldInfo, ...]:
    """Return the options of ``section``; resolving their types is costly, so once."""
    return structs.fields(section)


@cache
def secret_options(section: type[Struct]) -> dict[str, str]:
    """Return the attributes of ``section`` that hold secrets: ``always`` or ``content``."""
    found = {field.name: describe(field.type)[1].get("secret") for field in fields_of(section)}
    return {name: secret for name, secret in found.items() if secret}


def hidden(value: Any, secret: str) -> Any:
    """Return ``value`` as it may be shown, for an option whose secrecy is ``secret``.

    Only what is there is hidden; file names of ``content`` options are shown.
    """
    if not secret or not value:
        return value
    if isinstance(value, tuple):
        return tuple(hidden(item, secret) for item in value)
    if secret == "content" and "-----" not in value:
        return value
    return HIDDEN
