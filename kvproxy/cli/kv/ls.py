"""``kvproxy kv ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvproxy.cli.kv.keys import clean_key, text_of
from kvproxy.cli.output import output_option, print_json
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store

if TYPE_CHECKING:
    from kvproxy.provider import Store, Tree


@click.command("ls", cls=SettingsCommand)
@click.argument("below", metavar="[PREFIX]", required=False)
@click.option("--values", "-v", is_flag=True, help="Also print the values.")
@store_option
@output_option
def command(below: str | None, values: bool, store: str | None, output: str) -> None:
    """List the keys that are PREFIX or below it, sorted; by default those of the proxy's prefix.

    \b
    Examples:
      kvproxy kv ls
      kvproxy kv ls --values kvproxy/frontends/web
      kvproxy kv ls --output json
    """

    async def read(opened: Store, prefix: str) -> Tree:
        return await opened.read(prefix if below is None else clean_key(below, allow_empty=True))

    tree = with_store(store, read)
    if output == "json":
        found = {key: text_of(tree.values[key]) for key in sorted(tree.values)}
        print_json({"revision": tree.version, "keys": found})
        return
    for key in sorted(tree.values):
        click.echo(f"{key} = {text_of(tree.values[key])}" if values else key)
