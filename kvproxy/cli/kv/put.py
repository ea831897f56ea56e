"""``kvproxy kv put``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from kvproxy.cli.kv.keys import clean_key, warn_unread
from kvproxy.cli.output import output_option, print_json
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.provider import Transaction

if TYPE_CHECKING:
    from kvproxy.provider import Store


@click.command("put", cls=SettingsCommand)
@click.argument("pairs", metavar="KEY VALUE [KEY VALUE]...", nargs=-1, required=True)
@click.option("--if", "expected", metavar="OLD", help="Write only if the first key has this value.")
@click.option("--if-absent", is_flag=True, help="Write only if none of the keys exists.")
@store_option
@output_option
def command(
    pairs: tuple[str, ...], expected: str | None, if_absent: bool, store: str | None, output: str
) -> None:
    """Write keys as one transaction and print the store's new revision.

    A VALUE of `-` is read from standard input.

    \b
    Examples:
      kvproxy kv put kvproxy/frontends/web/backend blue
      kvproxy kv put kvproxy/backends/b/servers/one/url http://10.0.0.1:80 \\
                     kvproxy/backends/b/servers/one/weight 3
      kvproxy kv put --if blue kvproxy/frontends/web/backend green
      kvproxy kv put kvproxy/tls/a/certificate/certfile - < a.pem
    """
    if len(pairs) % 2:
        raise click.UsageError(f"`{pairs[-1]}` has no value; expected KEY VALUE pairs.")
    if expected is not None and if_absent:
        raise click.UsageError("--if and --if-absent exclude each other.")
    if pairs[1::2].count("-") > 1:
        raise click.UsageError("only one VALUE can be read from standard input.")
    values = {
        clean_key(key): sys.stdin.buffer.read()
        if value == "-"
        else value.encode(errors="surrogateescape")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True)
    }
    expect: dict[str, bytes | None] = {}
    if expected is not None:
        expect[clean_key(pairs[0])] = expected.encode(errors="surrogateescape")
    elif if_absent:
        expect = dict.fromkeys(values)

    async def write(opened: Store, prefix: str) -> int:
        revision = await opened.write(Transaction(put=values, expect=expect))
        await warn_unread(opened, values, prefix)
        return revision

    revision = with_store(store, write, create=True)
    if output == "json":
        print_json({"revision": revision, "keys": sorted(values)})
    else:
        click.echo(f"revision {revision}")
