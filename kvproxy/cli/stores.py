"""Opening a store for a command that reads or writes keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

from kvproxy.cli.output import fail
from kvproxy.cli.settings import errors_end_the_command, local_sources, stores_of
from kvproxy.model.problem import nearest_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kvproxy.config.static_keys import StorePlace
    from kvproxy.model.static import StaticConfiguration
    from kvproxy.provider import Store

Result = TypeVar("Result")

store_option = click.option(
    "--store", metavar="NAME", help="Which store, when several are configured."
)


def with_store(
    name: str | None, action: Callable[[Store, str], Awaitable[Result]], *, create: bool = False
) -> Result:
    """Open the store that the command's flags select, run ``action(store, prefix)``, close it.

    ``name``: the value of --store. Ends the command with exit code 1 when the store cannot do what
    it is asked. A store in a file that does not exist is made only with ``create``.
    """
    return with_place(find_place(name), action, create=create)


def with_place(
    place: StorePlace, action: Callable[[Store, str], Awaitable[Result]], *, create: bool = False
) -> Result:
    """Do as `with_store` with a store that is known."""
    # Imported when used: it costs more than all of help.
    import asyncio  # noqa: PLC0415

    from kvproxy.provider import StoreError  # noqa: PLC0415

    missing = place.missing_file
    if missing is not None and not create:
        fail(f"there is no store at `{missing}`; `kvproxy kv put` makes one")

    async def run() -> Result:
        store = place.open()
        try:
            return await action(store, place.prefix)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreError as error:
        fail(str(error))
    except KeyboardInterrupt:
        raise SystemExit(0) from None


def find_place(name: str | None, default: str | None = "embedded") -> StorePlace:
    """Return the store that is meant: ``name``, or the one that is configured, or ``default``.

    Stores that arguments name come before those of the file. Ends the command with exit code 2 when
    there is no such store, or when several are configured and ``name`` is None; with 1 when none is
    configured and there is no default.
    """
    from kvproxy.config.plugins import plugin_names  # noqa: PLC0415
    from kvproxy.config.static_keys import STORES  # noqa: PLC0415

    if name is not None and name not in STORES:
        if name in plugin_names():
            raise click.UsageError(f"`{name}` is not a store: it has no keys.")
        nearest = nearest_name(name, STORES)
        hint = f"Did you mean `{nearest}`?" if nearest else f"Expected one of {', '.join(STORES)}."
        raise click.UsageError(f"No store is named `{name}`. {hint}")
    with errors_end_the_command():
        places = stores_of(local_sources())
        if name is None:
            meant = [place for place in places if place.by_argument] or list(places)
            if len(meant) > 1:
                names = ", ".join(place.store for place in meant)
                raise click.UsageError(f"Several stores are configured ({names}): give --store.")
            if meant:
                return meant[0]
            name = default
        if name is None:
            flags = ", ".join(f"--{store}" for store in STORES)
            fail(f"no key-value store is configured; expected one of {flags}")
        for place in (*places, *stores_of(local_sources(f"--{name}"))):
            if place.store == name:
                return place
    raise AssertionError(name)


def missing_file(static: StaticConfiguration) -> Path | None:
    """Return the file of the embedded store when it is configured and does not exist."""
    from kvproxy.config.static_keys import StorePlace  # noqa: PLC0415

    if static.embedded is None:
        return None
    return StorePlace("embedded", static.embedded, static).missing_file
