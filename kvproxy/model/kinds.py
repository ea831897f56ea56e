"""Types of options that need more than Python's own to be read and documented."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

from msgspec import Meta

Duration = Annotated[float, Meta(extra={"kind": "duration"})]
"""Seconds; written with a unit, or as bare digits that are seconds."""

UnitDuration = Annotated[float, Meta(extra={"kind": "unit duration"})]
"""Seconds; written with a unit. Text that is no duration is a warning and counts as absent."""

Secret = Annotated[str, Meta(extra={"secret": True})]
"""Text that is never shown."""

SecretList = Annotated[tuple[str, ...], Meta(extra={"secret": True})]
"""Texts that are never shown."""


def describe(annotation: Any) -> tuple[Any, dict[str, Any], str]:
    """Return (bare type, merged ``extra``, description) of the type of an option."""
    extra: dict[str, Any] = {}
    description = ""
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
        for item in metadata:
            if isinstance(item, Meta):
                extra.update(item.extra or {})
                description = item.description or description
    return annotation, extra, description
