"""``kvproxy kv import``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kvproxy.cli.output import fail, output_option, print_json, show_problems
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.model.decode import SECTIONS, decode_configuration
from kvproxy.model.keytree import EncodeError, encode_configuration
from kvproxy.model.problem import Problem
from kvproxy.model.toml import TomlError, read_toml
from kvproxy.provider import Transaction
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
    changes nothing.

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
    entries = [
        f"{section}/{name}" for section in SECTIONS for name in getattr(configuration, section)
    ]

    async def write(opened: Store, prefix: str) -> tuple[int, dict[str, str], list[str]]:
        stem = f"{prefix.strip('/')}/".lstrip("/")
        keys = {stem + key: value for key, value in below.items()}
        tree = await opened.read(prefix)
        gone = [key for key in tree.values if _replaced(key[len(stem) :], entries, replace)]
        deleted = sorted(set(gone) - keys.keys())
        if dry_run:
            return tree.version, keys, deleted
        put = {key: value.encode() for key, value in keys.items()}
        version = await opened.write(Transaction(put=put, delete=tuple(deleted)))
        return version, keys, deleted

    version, keys, deleted = with_store(store, write, create=not dry_run)
    if output == "json":
        print_json({"revision": version, "written": not dry_run, "put": keys, "deleted": deleted})
    elif dry_run:
        for key in deleted:
            click.echo(f"del {key}")
        for key, value in keys.items():
            click.echo(f"put {key} = {value}")
    else:
        click.echo(f"revision {version}: {len(keys)} keys written, {len(deleted)} deleted")


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


def _replaced(key: str, entries: list[str], replace: bool) -> bool:
    """Whether a key (below the prefix) belongs to something that an import replaces."""
    section, _, rest = key.partition("/")
    section = section.lower()
    if section not in SECTIONS:
        return False
    name = rest.partition("/")[0]
    return replace or f"{section}/{name}" in entries
