"""``kvproxy kv export``."""

from __future__ import annotations

import click
import rtoml

from kvproxy.cli.kv.document import to_document
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.config.store_writer import read
from kvproxy.model.decode import decode_configuration
from kvproxy.model.keytree import nest


@click.command("export", cls=SettingsCommand)
@store_option
def command(store: str | None) -> None:
    """Print the frontends, backends and certificates in the store as TOML.

    Those of the tree that the key `alias` names, if there is one. The result can be imported
    again, or be read by the file provider. Entries that cannot be decoded are named on standard
    error and left out, and the exit code is 1.

    \b
    Examples:
      kvproxy kv export > routes.toml
    """
    held = with_store(store, read)
    stem = f"{held.active}/".lstrip("/")
    configuration, problems = decode_configuration(
        nest(held.dynamic), where=lambda path: stem + "/".join(path), style="kv"
    )
    click.echo(f"# revision {held.version}")
    click.echo(rtoml.dumps(to_document(configuration)), nl=False)
    for problem in problems:
        click.echo(f"{'Error' if problem.fatal else 'Warning'}: {problem}", err=True)
    if any(problem.fatal for problem in problems):
        raise SystemExit(1)
