"""What ``kvproxy storeconfig`` does; imported when it is done: it costs more than all of help."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.progress import Progress

from kvproxy.cli.output import count, fail, print_json, show_problems
from kvproxy.cli.reading import read_files
from kvproxy.cli.settings import errors_end_the_command, local_sources
from kvproxy.cli.stores import find_place, with_place
from kvproxy.config.settings import SettingsError, stated_by
from kvproxy.config.static_encoding import encode_static
from kvproxy.config.static_keys import StaticKeys, connection_options
from kvproxy.config.store_plan import Edit, plan_dynamic, plan_static
from kvproxy.config.store_writer import NOTHING, Held, Written, clean_up, empty, write
from kvproxy.config.store_writer import read as read_store
from kvproxy.model.dynamic import Certificate, TLSCertificate
from kvproxy.model.key_options import shown
from kvproxy.model.keytree import EncodeError, encode_configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from kvproxy.config.static_keys import StorePlace
    from kvproxy.model.dynamic import Configuration
    from kvproxy.model.static import StaticConfiguration
    from kvproxy.provider import Store

OF_A_MACHINE = ("nodeName", "pidFile", "stateDir", "workers")
"""Options that are not written, and of which that may surprise."""

READ_ONLY = ("boltdb",)
"""Stores that cannot be written."""

SHOWN_STALE = 10


class Wanted(Struct, frozen=True):
    """What the store is to say, by key below the prefix; ``dynamic`` None: nothing about routes."""

    static: Mapping[str, bytes]
    dynamic: Mapping[str, bytes] | None


class Outcome(Struct, frozen=True):
    """What was planned and done.

    ``held`` and ``found``: the store before and after. ``written`` None: it was a dry run.
    """

    held: Held
    found: Held
    static: Edit
    dynamic: Edit
    stale: tuple[str, ...]
    written: Written | None


def write_configuration(
    *, dry_run: bool, prune: bool, take_over: bool, store: str | None, output: str
) -> None:
    """Write what the command's flags say; the arguments are those of the command."""
    place = find_place(store, default=None)
    if place.store in READ_ONLY and not dry_run:
        fail(
            f"a {place.store} store is read-only for kvproxy: no library writes files that bbolt "
            "accepts; expected another store, such as --embedded (--store=embedded)"
        )
    with errors_end_the_command():
        sources = local_sources()
        settings = sources.settings()
        static = replace(sources.stated(), log_level=settings.static.log_level)
    show_problems(settings.problems)
    given = [name for name in OF_A_MACHINE if settings.sources.get(name) in ("file", "argument")]
    if given:
        click.echo(f"Not written, of this machine alone: {', '.join(given)}", err=True)
    wanted = _wanted(static, settings.static, place)

    async def look(opened: Store, prefix: str) -> Outcome:
        return _planned(await read_store(opened, prefix), wanted, prune)

    async def work(opened: Store, prefix: str) -> Outcome:
        return await _write(opened, await look(opened, prefix), wanted, prune, take_over)

    if dry_run and place.missing_file is not None:
        outcome = _planned(empty(place.prefix), wanted, prune)
    else:
        outcome = with_place(place, look if dry_run else work, create=True)
    if not dry_run and (prune or not outcome.stale):
        _verify(place, wanted, outcome.found)
    if output == "json":
        print_json(_as_json(outcome, place, dry_run, prune))
    else:
        _say(outcome, place, dry_run, prune)


def _wanted(
    static: StaticConfiguration, effective: StaticConfiguration, place: StorePlace
) -> Wanted:
    """Return the keys to write; what cannot be said by keys ends the command."""
    dynamic: dict[str, str] | None = None
    try:
        keys = encode_static(static, place.store)
        if effective.file is not None:
            configuration, problems = read_files(effective)
            show_problems(problems)
            if any(problem.fatal for problem in problems):
                fail("nothing was written: the routes of the file provider are not right")
            dynamic = encode_configuration(_with_contents(configuration))
    except EncodeError as error:
        fail(f"nothing was written: {error}")
    return Wanted(_encoded(keys), None if dynamic is None else _encoded(dynamic))


def _with_contents(configuration: Configuration) -> Configuration:
    """Replace the files of certificates by their contents: who reads the keys has no such files."""
    tls = {}
    for name, entry in configuration.tls.items():
        files = entry.certificate
        try:
            certificate = Certificate(
                cert_file=_content(files.cert_file), key_file=_content(files.key_file)
            )
        except (OSError, UnicodeDecodeError) as error:
            fail(f"nothing was written: tls.{name}: {error}")
        tls[name] = TLSCertificate(entry_points=entry.entry_points, certificate=certificate)
    return replace(configuration, tls=tls)


def _content(value: str) -> str:
    if "-----" in value or not Path(value).is_file():
        return value
    return Path(value).read_text(encoding="utf-8")


def _encoded(keys: Mapping[str, str]) -> dict[str, bytes]:
    return {key: value.encode() for key, value in keys.items()}


def _planned(held: Held, wanted: Wanted, prune: bool) -> Outcome:
    """Return what has to change."""
    static, stale = plan_static(held.static, wanted.static, prune=prune)
    dynamic = NOTHING
    if wanted.dynamic is not None:
        dynamic, stale_entries = plan_dynamic(held.dynamic, wanted.dynamic, prune=prune)
        stale += stale_entries
    return Outcome(held, held, static, dynamic, tuple(stale), None)


async def _write(
    store: Store, planned: Outcome, wanted: Wanted, prune: bool, take_over: bool
) -> Outcome:
    """Write what was planned and read it back."""
    held, static, dynamic = planned.held, planned.static, planned.dynamic
    with _progress() as progress:
        written = await write(
            store, held, static=static, dynamic=dynamic, take_over=take_over, progress=progress
        )
    found = await read_store(store, held.prefix)
    for edit, values in ((static, found.static), (dynamic, found.dynamic)):
        for key in edit.before:
            if values.get(key) != edit.put.get(key):
                fail(f"`{key}` does not hold what was written: another writer came after")
    if written.switched_to or prune:
        await clean_up(store, found, unused=prune and wanted.dynamic is not None)
    return replace(planned, found=found, written=written)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal while something is written that takes long."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing", total=None)

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield show


def _verify(place: StorePlace, wanted: Wanted, found: Held) -> None:
    """End the command when the static keys that were read back do not mean what was written."""
    try:
        said = stated_by(StaticKeys(place, found.version, found.static))
    except SettingsError as error:
        show_problems(error.problems)
        fail("the static settings in the store cannot be used")
    keys = _encoded(encode_static(said, place.store))
    # How the store is reached is written, as Traefik 1.7 does, but never read from itself.
    own = {f"{place.store}/{name}" for name in connection_options(place.store)}
    wrong = sorted(
        key for key in {*keys, *wanted.static} - own if keys.get(key) != wanted.static.get(key)
    )
    if wrong:
        fail(f"the store does not mean what was written: {', '.join(wrong)}")


def _changes(outcome: Outcome) -> Iterator[tuple[str, str, bytes | None, bytes | None]]:
    """Yield (whole key, key below the prefix, value before, value after) of each change, sorted."""
    held = outcome.held
    for prefix, edit in ((held.prefix, outcome.static), (held.active, outcome.dynamic)):
        for key, before in sorted(edit.before.items()):
            yield f"{prefix}/{key}".lstrip("/"), key, before, edit.put.get(key)


def _as_json(outcome: Outcome, place: StorePlace, dry_run: bool, prune: bool) -> dict[str, object]:
    changes = list(_changes(outcome))
    written = outcome.written
    return {
        "store": place.store,
        "prefix": place.prefix,
        "revision": outcome.held.version if written is None else written.version,
        "dryRun": dry_run,
        "put": {key: shown(name, after) for key, name, _, after in changes if after is not None},
        "deleted": [key for key, _, _, after in changes if after is None],
        "stale": [] if prune else list(outcome.stale),
        "switchedTo": None if written is None else written.switched_to or None,
    }


def _say(outcome: Outcome, place: StorePlace, dry_run: bool, prune: bool) -> None:
    changes = list(_changes(outcome))
    where = f"{place.store} ({place.address}, prefix {place.prefix})"
    if dry_run:
        for key, name, before, after in changes:
            if after is None:
                click.echo(f"- {key}")
            elif before is None:
                click.echo(f"+ {key} = {shown(name, after)}")
            else:
                click.echo(f"~ {key} = {shown(name, after)} (was {shown(name, before)})")
        click.echo(f"{count(len(changes), 'key')} would change in {where}")
    elif not changes:
        click.echo(f"nothing to write: {where} says all of it, revision {outcome.held.version}")
    else:
        assert outcome.written is not None
        put = sum(after is not None for *_, after in changes)
        click.echo(
            f"revision {outcome.written.version}: {count(put, 'key')} written, "
            f"{len(changes) - put} deleted in {where}, read back and compared"
        )
        if outcome.written.switched_to:
            click.echo(f"the alias names {outcome.written.switched_to}")
    if outcome.stale and not prune:
        some = ", ".join(outcome.stale[:SHOWN_STALE])
        more = ", ..." if len(outcome.stale) > SHOWN_STALE else ""
        click.echo(
            f"Warning: {count(len(outcome.stale), 'key')} of the store "
            f"that this configuration does not have stay; --prune deletes them: "
            f"{some}{more}",
            err=True,
        )
