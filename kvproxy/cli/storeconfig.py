"""``kvproxy storeconfig``."""

from __future__ import annotations

import click

from kvproxy.cli.output import output_option
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option


@click.command("storeconfig", cls=SettingsCommand)
@click.option("--dry-run", is_flag=True, help="Print what would change, and write nothing.")
@click.option(
    "--prune", is_flag=True, help="Also delete keys that the configuration does not have."
)
@click.option("--take-over", is_flag=True, help="Go on in the place of a run that was interrupted.")
@store_option
@output_option
def command(dry_run: bool, prune: bool, take_over: bool, store: str | None, output: str) -> None:
    """Write the configuration into a key-value store; then `run` needs nothing but the store.

    The static settings of the file and the arguments are written, defaults included, and with a
    file provider its frontends, backends and certificates. The store is not asked for settings.
    Readers see all of it or nothing; another writer is noticed. What was written is read back and
    compared. A second run writes nothing.

    Not written: configFile, stateDir, pidFile, workers and nodeName, which belong to one machine;
    the section `file`, whose content is; how the store itself is logged in to.

    Exit code 0: the store says all of it; 1: it does not; 2: wrong usage.

    \b
    Examples:
      kvproxy storeconfig --configFile=traefik.toml --consul.endpoint=127.0.0.1:8500 --dry-run
      kvproxy storeconfig --configFile=traefik.toml --consul.endpoint=127.0.0.1:8500 --prune
      kvproxy run --consul.endpoint=127.0.0.1:8500
    """
    # Imported when used: it costs more than all of help.
    from kvproxy.cli.storeconfig_work import write_configuration  # noqa: PLC0415

    write_configuration(
        dry_run=dry_run, prune=prune, take_over=take_over, store=store, output=output
    )
