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


def table(header: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    """Print rows below a header, indented, columns as wide as they need to be."""
    lines = [header, *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        click.echo(("  " + "  ".join(cells)).rstrip())


def age(seconds: float) -> str:
    """Return a time span in words, such as ``3 min``."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(seconds, 0) * 1000:.0f} ms"


def show_problems(problems: Iterable[Problem]) -> None:
    """Print problems on standard error, a line each."""
    for problem in problems:
        click.echo(f"{'Error' if problem.fatal else 'Warning'}: {problem}", err=True)


def fail(message: str, *, nearest: str = "", code: int = 1) -> NoReturn:
    """End the command with an exit code and a message; ``nearest``: the name that was meant."""
    raise _Failure(message + (f"; did you mean `{nearest}`?" if nearest else ""), code)


class _Failure(click.ClickException):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]
