"""``kvproxy kv del``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvproxy.cli.kv.keys import clean_key
from kvproxy.cli.output import fail, output_option, print_json
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.model.problem import nearest_name
from kvproxy.provider import Transaction

if TYPE_CHECKING:
    from kvproxy.provider import Store


@click.command("del", cls=SettingsCommand)
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.option("--recursive", "-r", is_flag=True, help="Also delete every key below.")
@store_option
@output_option
def command(keys: tuple[str, ...], recursive: bool, store: str | None, output: str) -> None:
    """Delete keys as one transaction and print the store's new revision.

    Nothing is deleted when one of the keys does not exist.

    \b
    Examples:
      kvproxy kv del kvproxy/frontends/web/priority
      kvproxy kv del --recursive kvproxy/frontends/web kvproxy/backends/web
    """
    cleaned = tuple(clean_key(key) for key in keys)

    async def remove(opened: Store, prefix: str) -> tuple[int, list[str]]:
        found: list[str] = []
        for key in cleaned:
            tree = await opened.read(key)
            matching = sorted(tree.values) if recursive else [key] * (key in tree.values)
            if not matching:
                if tree.values:
                    fail(f"`{key}` has no value, only keys below it; --recursive deletes them")
                everything = await opened.read(prefix)
                fail(f"no key `{key}`", nearest=nearest_name(key, everything.values))
            found.extend(matching)
        transaction = (
            Transaction(delete_prefixes=cleaned) if recursive else Transaction(delete=cleaned)
        )
        return await opened.write(transaction), found

    revision, deleted = with_store(store, remove)
    if output == "json":
        print_json({"revision": revision, "keys": deleted})
    else:
        click.echo(f"revision {revision}")
