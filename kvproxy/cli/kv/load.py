"""``kvproxy kv import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvproxy.cli.output import fail, output_option, print_json, show_problems
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.config.store_plan import Edit, plan_dynamic
from kvproxy.config.store_writer import Held, Written, clean_up, write
from kvproxy.config.store_writer import read as read_store
from kvproxy.model.decode import decode_configuration
from kvproxy.model.key_options import shown
from kvproxy.model.keytree import EncodeError, encode_configuration
from kvproxy.model.problem import Problem
from kvproxy.model.toml import TomlError, read_toml
from kvproxy.rules.errors import RuleError
from kvproxy.rules.parser import parse_rules

if TYPE_CHECKING:
    from kvproxy.model.dynamic import Configuration
    from kvproxy.provider import Store


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
    configuration = read(file)
    try:
        below = encode_configuration(configuration)
    except EncodeError as error:
        fail(f"{file}: {error}")
    wanted = {key: value.encode() for key, value in below.items()}

    async def work(opened: Store, prefix: str) -> tuple[Held, Edit, Written]:
        held = await read_store(opened, prefix)
        edit, _ = plan_dynamic(held.dynamic, wanted, prune=replace)
        if dry_run:
            return held, edit, Written(held.version)
        written = await write(opened, held, dynamic=edit)
        if written.switched_to:
            await clean_up(opened, await read_store(opened, prefix), unused=False)
        return held, edit, written

    held, edit, written = with_store(store, work, create=not dry_run)
    stem = f"{held.active}/".lstrip("/")
    put = {stem + key: shown(key, value) for key, value in sorted(edit.put.items())}
    deleted = [stem + key for key in edit.delete]
    if output == "json":
        print_json(
            {
                "revision": written.version,
                "written": not dry_run,
                "put": put,
                "deleted": deleted,
                "switchedTo": written.switched_to or None,
            }
        )
    elif dry_run:
        for key in deleted:
            click.echo(f"del {key}")
        for key, value in put.items():
            click.echo(f"put {key} = {value}")
    else:
        click.echo(f"revision {written.version}: {len(put)} keys written, {len(deleted)} deleted")
        if written.switched_to:
            click.echo(f"the alias names {written.switched_to}")


def read(file: Path) -> Configuration:
    """Return the dynamic part of a file; prints every problem, a fatal one ends the command."""
    try:
        document = read_toml(file)
    except TomlError as error:
        fail(str(error))
    configuration, problems = decode_configuration(
        document.data, where=document.where, style="file"
    )
    found = list(problems)
    for name, frontend in configuration.frontends.items():
        path = ("frontends", name, "routes")
        where, dotted = document.where(path), ".".join(path)
        try:
            rule = parse_rules({route: each.rule for route, each in frontend.routes.items()})
        except RuleError as error:
            found.append(Problem(message=str(error), where=where, path=dotted))
        else:
            found += [
                Problem(message=text, where=where, path=dotted, fatal=False)
                for text in rule.warnings
            ]
    show_problems(found)
    if any(problem.fatal for problem in found):
        fail(f"{file}: nothing was written")
    return configuration
