"""``kvproxy kv get``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvproxy.cli.kv.keys import clean_key, text_of
from kvproxy.cli.output import fail, output_option, print_json
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.model.problem import nearest_name

if TYPE_CHECKING:
    from kvproxy.provider import Store


@click.command("get", cls=SettingsCommand)
@click.argument("key")
@click.option("--raw", is_flag=True, help="Print the bytes as they are, without a line end.")
@store_option
@output_option
def command(key: str, raw: bool, store: str | None, output: str) -> None:
    """Print the value of KEY.

    Exit code 1 when there is no such key. JSON output also says the revision of the store.

    \b
    Examples:
      kvproxy kv get kvproxy/frontends/web/backend
      kvproxy kv get kvproxy/frontends/web/backend --output json
      kvproxy kv get --raw kvproxy/tls/a/certificate/certfile > a.pem
    """
    key = clean_key(key)

    async def read(opened: Store, prefix: str) -> tuple[bytes | None, int, str]:
        tree = await opened.read(key)
        value = tree.values.get(key)
        if value is None:
            everything = await opened.read(prefix)
            return None, tree.version, nearest_name(key, everything.values)
        return value, tree.version, ""

    value, version, nearest = with_store(store, read)
    if value is None:
        fail(f"no key `{key}` at revision {version}", nearest=nearest)
    if output == "json":
        print_json({"key": key, "value": text_of(value), "revision": version})
        return
    click.echo(value, nl=not raw and not value.endswith(b"\n"))
