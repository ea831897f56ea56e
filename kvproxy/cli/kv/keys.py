"""Keys as a user types them, values as a terminal shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable


def clean_key(key: str, *, allow_empty: bool = False) -> str:
    """Return the key without slashes at its ends; raises `click.UsageError` for a wrong one."""
    cleaned = key.strip("/")
    if not cleaned and not allow_empty:
        raise click.UsageError(
            "the key is empty; expected one such as kvproxy/frontends/web/backend."
        )
    if "//" in cleaned:
        raise click.UsageError(f"`{key}` has an empty part between two slashes.")
    return cleaned


def warn_outside(keys: Iterable[str], prefix: str) -> None:
    """Say on standard error which keys the proxy does not read."""
    stem = prefix.strip("/")
    for key in keys:
        if stem and key != stem and not key.startswith(stem + "/"):
            click.echo(f"Warning: `{key}` is outside the proxy's prefix `{stem}`", err=True)


def text_of(value: bytes) -> str:
    """Return a value as text; bytes that are not UTF-8 are shown as replacement characters."""
    return value.decode("utf-8", "replace")
