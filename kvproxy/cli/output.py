"""What commands print: text for people, JSON for programs, and how they fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.model.problem import Problem

output_option = click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"], case_sensitive=False),
    default="text",
    show_default=True,
    help="Form of what is printed.",
)


def print_json(value: Any) -> None:
    """Print a value as indented JSON on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value)))


def count(number: int, noun: str) -> str:
    """Return a number with its noun in the right form."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def show_problems(problems: Iterable[Problem]) -> None:
    """Print problems on standard error, a line each."""
    for problem in problems:
        click.echo(f"{'Error' if problem.fatal else 'Warning'}: {problem}", err=True)


def fail(message: str, *, nearest: str = "") -> NoReturn:
    """End the command with exit code 1 and a message; ``nearest``: the name that was meant."""
    raise click.ClickException(message + (f"; did you mean `{nearest}`?" if nearest else ""))
