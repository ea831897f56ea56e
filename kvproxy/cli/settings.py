"""Commands that take the flags of the static configuration besides options of their own."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem
from msgspec.structs import replace

from kvproxy.cli.output import show_problems
from kvproxy.config.flags import flag_table, parse_flags
from kvproxy.config.options import SHORT_FLAGS
from kvproxy.model.problem import nearest_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from kvproxy.config.options import Option
    from kvproxy.config.settings import LocalSources, Settings
    from kvproxy.config.startup import Start
    from kvproxy.config.static_keys import StaticKeys, StorePlace

ARGUMENTS = "kvproxy.arguments"
"""Where the context keeps the flags of the configuration."""

VALUES = {
    "text": "TEXT",
    "whole number": "N",
    "number": "NUMBER",
    "duration": "DURATION",
    "list of texts": "TEXT,TEXT",
    "list of numbers": "NUMBER,NUMBER",
    "list of sections": "TEXT,TEXT",
    "map of texts": "'NAME=TEXT ...'",
    "map of sections": "'Name:TEXT Address:TEXT'",
}
"""What help shows for the value of an option, by its kind."""


class SettingsCommand(click.Command):
    """A command that also takes every flag of ``kvproxy run``.

    The flags are those that `kvproxy.config` generates from the model; they are kept as they were
    given, for `load`.
    """

    def __init__(self, *arguments: Any, list_flags: bool = False, **options: Any) -> None:
        """``list_flags``: help lists the flags of the configuration instead of naming them."""
        super().__init__(*arguments, **options)
        self._list_flags = list_flags

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the flags of the configuration, give the rest to click."""
        own, flags = self._split(ctx, args)
        if not ctx.resilient_parsing and "--help" not in own and "-h" not in own:
            problems = parse_flags(flags).problems
            if problems:
                raise click.UsageError("\n       ".join(str(each) for each in problems), ctx)
        ctx.meta[ARGUMENTS] = flags
        return super().parse_args(ctx, own)

    def _split(self, ctx: click.Context, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return (arguments for click, flags of the configuration)."""
        mine: dict[str, click.Parameter] = {
            name: parameter for parameter in self.get_params(ctx) for name in parameter.opts
        }
        own: list[str] = []
        flags: list[str] = []
        rest = list(args)
        while rest:
            argument = rest.pop(0)
            if argument == "--":
                return [*own, argument, *rest], flags
            name, equals, _ = argument.partition("=")
            is_short = argument.startswith("-") and not argument.startswith("--")
            short = argument[:2] if is_short else ""
            if name in mine or short in mine:
                own.append(argument)
                parameter = mine.get(name) or mine[short]
                separate = name in mine and not equals
                takes_value = isinstance(parameter, click.Option) and not (
                    parameter.is_flag or parameter.count
                )
                if separate and takes_value and rest:
                    own.append(rest.pop(0))
            elif short and short[1:] in SHORT_FLAGS:
                flags.append(argument)
                option = flag_table()[SHORT_FLAGS[short[1:]].lower()]
                if argument == short and _takes_value(option) and _is_value(rest):
                    flags.append(rest.pop(0))
            elif name.startswith("--") and name[2:].lower() in flag_table():
                flags.append(argument)
                option = flag_table()[name[2:].lower()]
                if not equals and _takes_value(option) and _is_value(rest):
                    flags.append(rest.pop(0))
            elif name.startswith("--") and not ctx.resilient_parsing:
                raise click.UsageError(_unknown(name, mine), ctx)
            else:
                own.append(argument)
        return own, flags

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Offer the flags of the configuration, too."""
        found = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            folded = incomplete.lower()
            found += [
                CompletionItem(f"--{option.name}", help=option.help)
                for option in flag_table().values()
                if option.active and f"--{option.name}".lower().startswith(folded)
            ]
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options of this command, then the flags of the configuration."""
        super().format_options(ctx, formatter)
        with formatter.section("Configuration"):
            if not self._list_flags:
                formatter.write_text("The same options as `kvproxy run` (see its --help).")
                return
            formatter.write_dl(
                [
                    (_usage(option), _help(option))
                    for option in flag_table().values()
                    if option.active
                ]
            )


def local_sources(*added: str) -> LocalSources:
    """Read the file and take the command's flags, and those ``added``; no store is asked.

    Raises `SettingsError` when they cannot be read.
    """
    # Imported when used: it costs more than all of help.
    from kvproxy.config.settings import LocalSources  # noqa: PLC0415

    arguments: list[str] = click.get_current_context().meta[ARGUMENTS]
    return LocalSources([*added, *arguments], os.environ)


def state_directory(sources: LocalSources) -> Path:
    """Return the state directory that file and arguments name, as a whole path."""
    from kvproxy.control.state_directory import resolve  # noqa: PLC0415

    return resolve(sources.state_dir())


def stores_of(sources: LocalSources) -> tuple[StorePlace, ...]:
    """Return the stores that file and arguments name; plugins see the state directory in use."""
    directory = str(state_directory(sources))
    return tuple(
        replace(place, static=replace(place.static, state_dir=directory))
        for place in sources.stores()
    )


def read_start(*, patience: float | None = None) -> Start:
    """Choose the settings to start with, those of a store included.

    ``state_dir`` is a whole path. ``patience``: see `kvproxy.config.startup.prepare`. Raises
    `SettingsError` when they cannot be used.
    """
    import asyncio  # noqa: PLC0415

    from kvproxy.config.startup import prepare  # noqa: PLC0415

    sources = local_sources()
    directory = state_directory(sources)
    start = asyncio.run(prepare(sources, stores_of(sources), directory, patience=patience))
    return replace(start, settings=_in_directory(start.settings, directory))


def reader() -> Callable[[StaticKeys | None], Awaitable[Start]]:
    """Return what reads the command's settings again later (`kvproxy.config.startup.again`)."""
    from kvproxy.config.settings import LocalSources  # noqa: PLC0415
    from kvproxy.config.startup import again  # noqa: PLC0415

    arguments: list[str] = click.get_current_context().meta[ARGUMENTS]

    async def read(last: StaticKeys | None) -> Start:
        sources = LocalSources(arguments, os.environ)
        start = await again(sources, stores_of(sources), last)
        return replace(start, settings=_in_directory(start.settings, state_directory(sources)))

    return read


def read_settings() -> Settings:
    """Read all settings that the command's flags select, those of a store as it is now included.

    ``state_dir`` is a whole path. Raises `SettingsError` when they cannot be used.
    """
    import asyncio  # noqa: PLC0415

    from kvproxy.config.startup import examine  # noqa: PLC0415

    sources = local_sources()
    settings = asyncio.run(examine(sources, stores_of(sources)))
    return _in_directory(settings, state_directory(sources))


def _in_directory(settings: Settings, directory: Path) -> Settings:
    """Providers keep files in the state directory, so they must see the one that is used."""
    return replace(settings, static=replace(settings.static, state_dir=str(directory)))


@contextmanager
def errors_end_the_command() -> Iterator[None]:
    """End the command with exit code 1 where settings cannot be used, and say why."""
    from kvproxy.config.settings import SettingsError  # noqa: PLC0415

    try:
        yield
    except SettingsError as error:
        show_problems(error.problems)
        raise SystemExit(1) from None


def _takes_value(option: Option) -> bool:
    return not option.section and option.kind != "boolean"


def _is_value(rest: Sequence[str]) -> bool:
    return bool(rest) and not rest[0].startswith("--")


def _unknown(name: str, mine: dict[str, click.Parameter]) -> str:
    known = [*mine, *(f"--{option.name}" for option in flag_table().values())]
    nearest = nearest_name(name, known)
    return f"No such option `{name}`." + (f" Did you mean `{nearest}`?" if nearest else "")


def _usage(option: Option) -> str:
    short = f"-{option.short}, " if option.short else ""
    value = f"={VALUES[option.kind]}" if _takes_value(option) else ""
    return f"{short}--{option.name}{value}"


def _help(option: Option) -> str:
    text = option.help
    if option.default not in ("absent", "none", "empty", "present", "false", "required"):
        text += f" [default: {option.default}]"
    if option.repeated:
        text += " (may be repeated)"
    return text
