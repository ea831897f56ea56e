"""``kvproxy check``."""

from __future__ import annotations

import click

from kvproxy.cli.output import output_option, print_json
from kvproxy.cli.reading import read_providers
from kvproxy.cli.settings import SettingsCommand, load_for_check


@click.command("check", cls=SettingsCommand)
@click.option("--strict", is_flag=True, help="Warnings make the exit code 1, too.")
@output_option
def command(strict: bool, output: str) -> None:
    """Validate a configuration or a live store without serving.

    Everything that `kvproxy run` with the same flags would read is read and judged: the static
    configuration, files and stores. Every problem is listed with its file and line or its key,
    what was expected, and the nearest valid name.

    Exit code 0: nothing is wrong (there may be warnings); 1: something would be refused.

    \b
    Examples:
      kvproxy check --configFile=traefik.toml
      kvproxy check --file --file.directory=routes
      kvproxy check --embedded --embedded.path=store.db --output json
    """
