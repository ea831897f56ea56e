"""``kvproxy run``."""

from __future__ import annotations

import gc

import click

from kvproxy.cli.output import show_problems
from kvproxy.cli.settings import SettingsCommand, errors_end_the_command, read_start, reader

SUCCESSOR_SECONDS = 10.0
"""How long a new version of the program waits for a store: the old one serves meanwhile."""


@click.command("run", cls=SettingsCommand, list_flags=True)
def command() -> None:
    """Run the proxy until SIGTERM or Ctrl-C.

    Settings come from the arguments and from a TOML file: --configFile, or else the first that
    exists of /etc/kvproxy/kvproxy.toml, ~/.kvproxy/kvproxy.toml and ./kvproxy.toml. Names of
    flags are those of the TOML file, in any case; booleans and sections need no value.

    SIGTERM stops gracefully, SIGUSR2 hands over to a new version of the program, SIGHUP reads the
    settings again: entry points change without a restart. SIGUSR1 opens the access log again.

    \b
    Examples:
      kvproxy run --configFile=traefik.toml
      kvproxy run --file --file.directory=routes --entryPoints='Name:http Address::8080'
      kvproxy run --embedded --embedded.path=store.db --entryPoints='Name:http Address::8080'
    """
    # Imported when used: it costs more than all of help.
    from kvproxy.control.collection import without_collection  # noqa: PLC0415
    from kvproxy.control.workers.fork_server import ForkServer  # noqa: PLC0415

    # Begins beside all that follows here, which takes as long as its own imports.
    with ForkServer() as fork_server:
        # A tenth of a start would go into collections: modules that are imported are no garbage.
        with without_collection():
            from kvproxy.api.service import ApiService  # noqa: PLC0415
            from kvproxy.control import handover, supervisor  # noqa: PLC0415

            patience = SUCCESSOR_SECONDS if handover.is_successor() else None
            with errors_end_the_command():
                start = read_start(patience=patience)
        gc.freeze()
        show_problems(start.settings.problems)
        raise SystemExit(supervisor.run(start, reader(), fork_server, ApiService))
