"""``kvproxy reload``."""

from __future__ import annotations

from typing import Any

import click

from kvproxy.cli.output import output_option, print_json
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.supervisor_client import ask

SECONDS = 30.0
"""How long the running proxy may take; it asks its store, and waits for its workers."""


@click.command("reload", cls=SettingsCommand)
@output_option
def command(output: str) -> None:
    """Let the running proxy read its static settings again and change its entry points.

    Entry points come, change and go without a restart and without a lost request. What else differs
    is named: it needs a restart or SIGUSR2. Exit code 1 when anything could not be put into effect.

    \b
    Examples:
      kvproxy reload --configFile=traefik.toml
    """
    answer: dict[str, Any] = ask("reload", SECONDS)
    failed = any(problem["fatal"] for problem in answer["problems"])
    if output == "json":
        print_json({"entryPoints": answer["entryPoints"], "problems": answer["problems"]})
    else:
        for name, addresses in answer["entryPoints"].items():
            click.echo(f"entry point {name}: {', '.join(addresses)}")
        for problem in answer["problems"]:
            kind = "Error" if problem["fatal"] else "Warning"
            click.echo(f"{kind}: {problem['text']}", err=True)
    raise SystemExit(1 if failed else 0)
