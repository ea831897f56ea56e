"""``kvproxy check``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvproxy.cli.output import count, output_option, print_json, show_problems
from kvproxy.cli.settings import SettingsCommand, read_settings

if TYPE_CHECKING:
    from kvproxy.cli.reading import Reading
    from kvproxy.model.problem import Problem


@click.command("check", cls=SettingsCommand)
@click.option("--strict", is_flag=True, help="Warnings make the exit code 1, too.")
@output_option
def command(strict: bool, output: str) -> None:
    """Validate a configuration or a live store without serving.

    Everything that `kvproxy run` with the same flags would read is read and judged: the static
    configuration, certificates, files and stores. Every problem is listed with its file and line
    or its key, what was expected, and the nearest valid name.

    Exit code 0: nothing is wrong (there may be warnings); 1: something would be refused.

    \b
    Examples:
      kvproxy check --configFile=traefik.toml
      kvproxy check --file --file.directory=routes
      kvproxy check --embedded --embedded.path=store.db --output json
    """
    # Imported when used: they cost more than all of help.
    from kvproxy.cli.entry_point_tls import examine_entry_points  # noqa: PLC0415
    from kvproxy.cli.reading import read_providers  # noqa: PLC0415
    from kvproxy.config.settings import SettingsError  # noqa: PLC0415

    problems: list[Problem] = []
    reading: Reading | None = None
    file: str | None = None
    try:
        settings = read_settings()
    except SettingsError as error:
        problems += error.problems
    else:
        reading = read_providers(settings.static)
        problems += settings.problems
        problems += examine_entry_points(settings.static.entry_points, settings.where)
        problems += reading.problems
        file = settings.configuration_file
    errors = sum(problem.fatal for problem in problems)
    warnings = len(problems) - errors
    wrong = errors > 0 or (strict and warnings > 0)
    if output == "json":
        print_json(
            {
                "valid": not wrong,
                "configurationFile": file,
                "providers": reading.providers if reading else [],
                "frontends": len(reading.generation.frontends) if reading else 0,
                "backends": len(reading.generation.backends) if reading else 0,
                "certificates": len(reading.generation.certificates) if reading else 0,
                "problems": problems,
            }
        )
    else:
        show_problems(sorted(problems, key=lambda problem: not problem.fatal))
        click.echo(f"{count(errors, 'error')}, {count(warnings, 'warning')}; {_served(reading)}")
    raise SystemExit(1 if wrong else 0)


def _served(reading: Reading | None) -> str:
    if reading is None:
        return "the static configuration cannot be used, nothing else was read"
    frontends = count(len(reading.generation.frontends), "frontend")
    parts = [frontends, count(len(reading.generation.backends), "backend")]
    if reading.generation.certificates:
        parts.append(count(len(reading.generation.certificates), "certificate"))
    return f"valid: {', '.join(parts)} from {', '.join(reading.providers) or 'no provider'}"
