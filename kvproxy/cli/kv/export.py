"""``kvproxy kv export``."""

from __future__ import annotations

import click

from kvproxy.cli.output import show_problems
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store


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
    # Imported when used: it costs more than all of help.
    import rtoml  # noqa: PLC0415

    from kvproxy.cli.kv.document import to_document  # noqa: PLC0415
    from kvproxy.config.store_writer import read  # noqa: PLC0415
    from kvproxy.control.sources.entry_tree import EntryTree  # noqa: PLC0415

    held = with_store(store, read)
    stem = f"{held.active}/".lstrip("/")
    tree = EntryTree(held.active)
    tree.replace({stem + key: value for key, value in held.dynamic.items()})
    tree.refresh()
    click.echo(f"# revision {held.version}")
    click.echo(rtoml.dumps(to_document(tree.configuration)), nl=False)
    show_problems(tree.problems)
    if any(problem.fatal for problem in tree.problems):
        raise SystemExit(1)
