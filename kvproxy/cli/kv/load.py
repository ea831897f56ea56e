"""``kvproxy kv import``."""

from __future__ import annotations

from pathlib import Path

import click

from kvproxy.cli.output import output_option
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option


@click.command("import", cls=SettingsCommand)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Also delete entries that the file does not have.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@store_option
@output_option
def command(file: Path, replace: bool, dry_run: bool, store: str | None, output: str) -> None:
    """Write the frontends, backends and certificates of a TOML FILE to the store, all or nothing.

    An entry of the file replaces the entry of the same name as a whole; other entries stay
    unless --replace is given. Static settings in the file are passed over. A file with an error
    changes nothing. Secrets are not printed.

    What does not fit into one transaction of the store is written to a tree of its own, which the
    key `alias` below the prefix then names; proxies switch to it at once.

    \b
    Examples:
      kvproxy kv import routes.toml
      kvproxy kv import routes.toml --replace --dry-run
    """
    # Imported when used: it costs more than all of help.
    from kvproxy.cli.kv.load_work import load  # noqa: PLC0415

    load(file, replace=replace, dry_run=dry_run, store=store, output=output)
