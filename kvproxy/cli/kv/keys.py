"""Keys as a user types them, values as a terminal shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvproxy.config.store_plan import is_dynamic

if TYPE_CHECKING:
    from collections.abc import Collection

    from kvproxy.provider import Store


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


async def warn_unread(store: Store, keys: Collection[str], prefix: str) -> None:
    """Say on standard error which keys the proxy does not read, and why."""
    alias = f"{prefix}/alias".lstrip("/")
    value = (await store.read(alias)).values.get(alias, b"")
    active = value.decode("utf-8", "replace").strip().strip("/") or prefix
    for key in keys:
        if active != prefix and (key == active or key.startswith(f"{active}/")):
            continue
        if prefix and key != prefix and not key.startswith(f"{prefix}/"):
            click.echo(f"Warning: `{key}` is outside the proxy's prefix `{prefix}`", err=True)
        elif active != prefix and is_dynamic(key[len(prefix) :]):
            click.echo(f"Warning: `{key}` is not read: `{alias}` names `{active}`", err=True)


def text_of(value: bytes) -> str:
    """Return a value as text; bytes that are not UTF-8 are shown as replacement characters."""
    return value.decode("utf-8", "replace")
