"""Opening a store for a command that reads or writes keys."""

from __future__ import annotations

import asyncio
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, TypeVar

import click

from kvproxy.cli.output import fail
from kvproxy.cli.settings import load
from kvproxy.control.sources import GROUP
from kvproxy.model.problem import nearest_name
from kvproxy.provider import Plugin, StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from kvproxy.provider import Store

Result = TypeVar("Result")

store_option = click.option(
    "--store", metavar="NAME", default="embedded", show_default=True, help="Which store."
)


def with_store(name: str, action: Callable[[Store, str], Awaitable[Result]]) -> Result:
    """Open the store ``name`` as the command's flags say, run ``action(store, prefix)``, close it.

    Ends the command with exit code 1 when the store cannot do what it is asked.
    """

    async def run() -> Result:
        store, prefix = _open(name)
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


def _open(name: str) -> tuple[Store, str]:
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
    return plugin.open_store(section, static), section.prefix
