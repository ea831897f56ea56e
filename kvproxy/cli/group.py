"""A group whose commands are imported when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import click

from kvproxy.model.problem import nearest_name

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN_FLAGS = ("-h", "--help", "--version")
"""Flags in first position that are not those of the default command."""


class CommandGroup(click.Group):
    """Commands by name: (module, one line of help). The module's ``command`` is the command.

    With ``default``, that command takes over when the first argument is a flag or absent, as
    Traefik 1.7 runs the proxy without a command word.
    """

    def __init__(
        self, name: str, table: Mapping[str, tuple[str, str]], *, help: str, default: str = ""
    ) -> None:
        """``table``: name -> (module, help line); ``default``: the command of bare flags."""
        super().__init__(name, help=help, context_settings={"help_option_names": ["-h", "--help"]})
        self._table = table
        self._default = default

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the table, sorted."""
        return sorted(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command; None when there is no such command."""
        entry = self._table.get(cmd_name)
        if entry is None:
            return None
        command = import_module(entry[0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the first argument (any case); an unknown one names the nearest."""
        name = args[0].lower()
        command = self.get_command(ctx, name)
        if command is None and not ctx.resilient_parsing and not args[0].startswith("-"):
            nearest = nearest_name(name, self._table)
            hint = f" Did you mean `{nearest}`?" if nearest else ""
            raise click.UsageError(f"No such command `{args[0]}`.{hint}", ctx)
        if command is None:
            return super().resolve_command(ctx, args)
        return name, command, args[1:]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command in front of bare flags."""
        if self._default and not ctx.resilient_parsing:
            if args[:1] == ["--version"]:
                args = ["version"]
            elif not args or (args[0].startswith("-") and args[0] not in OWN_FLAGS):
                args = [self._default, *args]
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._table[name][1]) for name in self.list_commands(ctx)])
