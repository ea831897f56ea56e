"""``kvproxy kv watch``."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import click
import msgspec

from kvproxy.cli.kv.keys import clean_key, text_of
from kvproxy.cli.output import output_option
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.provider import Changes, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from kvproxy.provider import Store


@click.command("watch", cls=SettingsCommand)
@click.argument("below", metavar="[PREFIX]", required=False)
@click.option("--once", is_flag=True, help="Exit after the first change.")
@store_option
@output_option
def command(below: str | None, once: bool, store: str | None, output: str) -> None:
    """Print every change of the keys at PREFIX and below as it happens, until Ctrl-C.

    A line is `revision put KEY = VALUE` or `revision del KEY`; JSON output is one object a line.

    \b
    Examples:
      kvproxy kv watch
      kvproxy kv watch kvproxy/frontends/web --once
      kvproxy kv watch --output json
    """

    async def follow(opened: Store, prefix: str) -> None:
        place = prefix if below is None else clean_key(below, allow_empty=True)
        tree = await opened.read(place)
        known = dict(tree.values)
        click.echo(f"watching `{place}` from revision {tree.version}", err=True)
        events = cast("AsyncGenerator[Changes | Tree, None]", opened.watch(place, tree.version))
        async with aclosing(events):
            async for event in events:
                changed = differences(known, event)
                for key, value in sorted(changed.items()):
                    print_change(event.version, key, value, output)
                    if value is None:
                        known.pop(key, None)
                    else:
                        known[key] = value
                if once and changed:
                    return

    with_store(store, follow)


def differences(known: Mapping[str, bytes], event: Changes | Tree) -> dict[str, bytes | None]:
    """Return what an event changes: key to value, None for a deletion."""
    if isinstance(event, Changes):
        return dict(event.values)
    changed: dict[str, bytes | None] = {
        key: value for key, value in event.values.items() if known.get(key) != value
    }
    changed.update(dict.fromkeys(known.keys() - event.values.keys()))
    return changed


def print_change(version: int, key: str, value: bytes | None, output: str) -> None:
    """Print one change as a line."""
    if output == "json":
        shown = None if value is None else text_of(value)
        line = msgspec.json.encode({"revision": version, "key": key, "value": shown}).decode()
    elif value is None:
        line = f"{version} del {key}"
    else:
        line = f"{version} put {key} = {text_of(value)}"
    click.echo(line)
