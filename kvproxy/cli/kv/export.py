"""``kvproxy kv export``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import rtoml

from kvproxy.cli.kv.document import to_document
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.model.decode import decode_configuration
from kvproxy.model.keytree import nest

if TYPE_CHECKING:
    from kvproxy.provider import Store, Tree


@click.command("export", cls=SettingsCommand)
@store_option
def command(store: str | None) -> None:
    """Print the frontends, backends and certificates in the store as TOML.

    The result can be imported again, or be read by the file provider. Entries that cannot be
    decoded are named on standard error and left out, and the exit code is 1.

    \b
    Examples:
      kvproxy kv export > routes.toml
    """

    async def read(opened: Store, prefix: str) -> tuple[Tree, str]:
        return await opened.read(prefix), f"{prefix.strip('/')}/".lstrip("/")

    tree, stem = with_store(store, read)
    below = {key[len(stem) :]: value for key, value in tree.values.items() if key.startswith(stem)}
    configuration, problems = decode_configuration(
        nest(below), where=lambda path: stem + "/".join(path), style="kv"
    )
    click.echo(f"# revision {tree.version}")
    click.echo(rtoml.dumps(to_document(configuration)), nl=False)
    for problem in problems:
        click.echo(f"{'Error' if problem.fatal else 'Warning'}: {problem}", err=True)
    if any(problem.fatal for problem in problems):
        raise SystemExit(1)
