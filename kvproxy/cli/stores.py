"""Opening a store for a command that reads or writes keys."""

from __future__ import annotations

import asyncio
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from kvproxy.cli.output import fail
from kvproxy.cli.settings import load
from kvproxy.control.sources import GROUP
from kvproxy.model.problem import nearest_name
from kvproxy.provider import Plugin, StoreError
from providers.embedded import DEFAULT_FILE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kvproxy.model.static import StaticConfiguration
    from kvproxy.provider import Store

Result = TypeVar("Result")

store_option = click.option(
    "--store", metavar="NAME", default="embedded", show_default=True, help="Which store."
)


def with_store(
    name: str, action: Callable[[Store, str], Awaitable[Result]], *, create: bool = False
) -> Result:
    """Open the store ``name`` as the command's flags say, run ``action(store, prefix)``, close it.

    Ends the command with exit code 1 when the store cannot do what it is asked. A store in a file
    that does not exist is made only with ``create``.
    """

    async def run() -> Result:
        store, prefix = _open(name, create)
        try:
            return await action(store, prefix)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def missing_file(static: StaticConfiguration) -> Path | None:
    """Return the file of the embedded store when it is configured and does not exist."""
    if static.embedded is None:
        return None
    path = Path(static.embedded.path or Path(static.state_dir) / DEFAULT_FILE)
    return None if path.exists() else path


def _open(name: str, create: bool) -> tuple[Store, str]:
    """Open a store by the name of its plugin; returns it and the proxy's prefix."""
    plugins = {plugin.name: plugin for plugin in entry_points(group=GROUP)}
    if name not in plugins:
        nearest = nearest_name(name, plugins)
        hint = f"Did you mean `{nearest}`?" if nearest else f"Expected one of {', '.join(plugins)}."
        raise click.UsageError(f"No store is named `{name}`. {hint}")
    plugin = plugins[name].load()
    if not isinstance(plugin, Plugin) or plugin.open_store is None:
        raise click.UsageError(f"`{name}` is not a store: it has no keys.")
    static = load().static
    section = getattr(static, name, None)
    if section is None:
        static = load(f"--{name}").static
        section = getattr(static, name)
    missing = missing_file(static)
    if name == "embedded" and missing is not None and not create:
        fail(f"there is no store at `{missing}`; `kvproxy kv put` makes one")
    return plugin.open_store(section, static), section.prefix
