"""What ``kvproxy kv import`` does; imported when it is done: it costs more than all of help."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvproxy.cli.output import fail, print_json, show_problems
from kvproxy.cli.stores import with_store
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
    from pathlib import Path

    from kvproxy.model.dynamic import Configuration
    from kvproxy.provider import Store


def load(file: Path, *, replace: bool, dry_run: bool, store: str | None, output: str) -> None:
    """Write a file to a store; the arguments are those of the command."""
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
