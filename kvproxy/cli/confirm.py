"""``kvproxy confirm``."""

from __future__ import annotations

import click

from kvproxy.cli.output import fail
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.supervisor_client import ask


@click.command("confirm", cls=SettingsCommand)
@click.argument("provider")
def command(provider: str) -> None:
    """Apply a revision of PROVIDER that the mass-deletion guard holds.

    A revision that removes most frontends at once waits for a second read that says the same
    (`kvproxy status` shows it). Use this when you meant it.

    \b
    Examples:
      kvproxy confirm embedded --stateDir=/var/lib/kvproxy
    """
    if not ask("confirm", 10.0, provider=provider)["confirmed"]:
        fail(f"no revision of `{provider}` is held")
    click.echo("applied")
