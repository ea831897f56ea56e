"""Opening a store for a command that reads or writes keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import click

from kvproxy.cli.output import fail
from kvproxy.cli.settings import settings_of_command
from kvproxy.config.plugins import load_plugin, plugin_names
from kvproxy.model.problem import nearest_name
from kvproxy.provider import StoreError

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
