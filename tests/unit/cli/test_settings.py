"""How the arguments of a command are told apart from the flags of the configuration."""

from __future__ import annotations

import click
import pytest

from kvproxy.cli.output import output_option
from kvproxy.cli.settings import ARGUMENTS, SettingsCommand


@click.command("try", cls=SettingsCommand)
@click.argument("words", nargs=-1)
@click.option("-H", "headers", multiple=True)
@click.option("--if", "expected")
@click.option("--recursive", "-r", is_flag=True)
@output_option
def command(**_: object) -> None:
    """Stand for any command."""


def split(*arguments: str) -> tuple[dict[str, object], list[str]]:
    context = command.make_context("try", list(arguments))
    return context.params, context.meta[ARGUMENTS]


@pytest.mark.parametrize(
    ("arguments", "flags", "words"),
    [
        (["--embedded", "word"], ["--embedded"], ("word",)),
        (["--embedded.path=x", "word"], ["--embedded.path=x"], ("word",)),
        (["--embedded.path", "x", "word"], ["--embedded.path", "x"], ("word",)),
        (["--EMBEDDED.PATH=x"], ["--EMBEDDED.PATH=x"], ()),
        (["word", "--debug", "more"], ["--debug"], ("word", "more")),
        (["-c", "x", "word"], ["-c", "x"], ("word",)),
        (["-cx", "word"], ["-cx"], ("word",)),
        (["-d", "word"], ["-d"], ("word",)),
        (["-lINFO", "-r"], ["-lINFO"], ()),
        (["--", "--embedded", "-c"], [], ("--embedded", "-c")),
        (["blue", "docs", "gl", "cl"], [], ("blue", "docs", "gl", "cl")),
        (["--if", "--embedded", "word"], [], ("word",)),
        (["-o", "json", "word"], [], ("word",)),
        (["-ojson", "word"], [], ("word",)),
        (["-H", "--debug", "word"], [], ("word",)),
        (
            ["--entryPoints=Name:a Address::1", "--entryPoints=Name:b Address::2"],
            ["--entryPoints=Name:a Address::1", "--entryPoints=Name:b Address::2"],
            (),
        ),
    ],
    ids=" ".join,
)
def test_flags_and_words_are_told_apart(
    arguments: list[str], flags: list[str], words: tuple[str, ...]
) -> None:
    params, found = split(*arguments)
    assert found == flags
    assert params["words"] == words


def test_options_of_the_command_keep_their_values() -> None:
    params, flags = split("--if", "-x", "-H", "A: b", "-H", "C: d", "-r", "--stateDir=s", "word")
    assert params == {
        "expected": "-x",
        "headers": ("A: b", "C: d"),
        "recursive": True,
        "output": "text",
        "words": ("word",),
    }
    assert flags == ["--stateDir=s"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--embeded", "Did you mean `--embedded`?"),
        ("--recursve", "Did you mean `--recursive`?"),
        ("--debug=maybe", "`maybe` is not a boolean"),
        ("--embedded.path", "needs a value"),
        ("-c", "needs a value"),
        ("-x", "No such option"),
        ("--output=xml", "'xml' is not one of"),
    ],
)
def test_wrong_use_is_a_usage_error(argument: str, message: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        split(argument)
    assert message in raised.value.format_message()
    assert raised.value.exit_code == 2


def test_help_does_not_judge_flags() -> None:
    with pytest.raises(click.exceptions.Exit) as raised:
        split("--debug=maybe", "--help")
    assert raised.value.exit_code == 0
