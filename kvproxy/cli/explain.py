"""``kvproxy explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kvproxy.cli.output import fail, output_option, print_json
from kvproxy.cli.settings import SettingsCommand, errors_end_the_command, read_settings
from kvproxy.model.problem import nearest_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kvproxy.cli.explanation import Candidate, Explanation
    from kvproxy.model.static import StaticConfiguration
    from kvproxy.rules.explain import ElementVerdict

SHOWN = 10
"""How many frontends that do not match are listed without --all."""


@click.command("explain", cls=SettingsCommand)
@click.argument("method")
@click.argument("url")
@click.option("-H", "headers", multiple=True, metavar="'Name: value'", help="A request header.")
@click.option("--on", "entry_point", metavar="NAME", help="The entry point the request comes to.")
@click.option("--all", "everything", is_flag=True, help="List every frontend that does not match.")
@output_option
def command(
    method: str,
    url: str,
    headers: tuple[str, ...],
    entry_point: str | None,
    everything: bool,
    output: str,
) -> None:
    """Say which frontend takes a request, why, and why the others do not.

    The configuration is read as `kvproxy run` with the same flags would read it: files, a store,
    or both. Nothing is sent. Exit code 0 when a frontend takes the request, 1 when none does.

    \b
    Examples:
      kvproxy explain GET http://web.localhost/hello --configFile=kvproxy.toml
      kvproxy explain POST http://web.localhost/api -H 'X-Version: 2' --embedded.path=store.db
      kvproxy explain GET http://web.localhost/ --on https --all
    """
    # Imported when used: they cost more than all of help.
    from kvproxy.cli.explanation import RequestError, build_request, explain  # noqa: PLC0415
    from kvproxy.cli.reading import read_providers  # noqa: PLC0415

    with errors_end_the_command():
        settings = read_settings().static
    name = _entry_point(entry_point, settings)
    reading = read_providers(settings)
    if not reading.providers:
        fail("no provider is configured; give --configFile, --file or --embedded")
    try:
        request = build_request(method, url, headers, settings)
    except RequestError as error:
        fail(str(error))
    explanation = explain(
        reading.generation.frontends.values(),
        reading.generation.backends,
        request,
        entry_point=name,
        keep_trailing_slash=settings.keep_trailing_slash,
    )
    refused = [problem for problem in reading.problems if problem.fatal]
    if output == "json":
        print_json(
            {"entryPoint": name, "explanation": explanation, "refused": [str(p) for p in refused]}
        )
    else:
        click.echo(f"{method} {url} on entry point `{name}`\n")
        show(explanation, everything)
        if refused:
            click.echo("\nRefused, so not considered (`kvproxy check` lists all):")
            for problem in refused[:SHOWN]:
                click.echo(f"  {problem}")
    if explanation.taken_by is None:
        raise SystemExit(1)


def show(explanation: Explanation, everything: bool) -> None:
    """Print an explanation."""
    taken = explanation.taken_by
    if taken is None:
        click.echo("No frontend takes it: 404")
    else:
        click.echo(f"Taken by {_title(taken)}")
        for answer in taken.tests:
            click.echo(f"  {answer.element:<40} matches: {answer.observed}")
        if not taken.tests:
            click.echo("  it has no rule and takes every request")
        if taken.redirect:
            click.echo("  answers with a redirect to the same path with its trailing slash changed")
        elif not explanation.sent:
            click.echo("  its modifiers do not fit this path: 404")
        else:
            click.echo(f"  sent on as {explanation.sent} to backend `{taken.backend}`:")
            for name, server in explanation.servers.items():
                click.echo(f"    {name}: {server.url} (weight {server.weight})")
            if not explanation.servers:
                click.echo("    it has no server: 503")
    lower = [candidate for candidate in explanation.after if candidate.takes]
    if lower:
        click.echo("\nWould match too, but comes later in the order:")
        for candidate in lower:
            click.echo(f"  {_title(candidate)}: {_elements(candidate.tests)}")
    others = [c for c in (*explanation.before, *explanation.after) if not c.takes]
    if others:
        click.echo("\nDo not match:")
        shown = others if everything else sorted(others, key=lambda c: len(c.reasons))[:SHOWN]
        for candidate in shown:
            reason = candidate.reasons[0]
            click.echo(f"  {_title(candidate)}: {reason.element}, but it has {reason.observed}")
        if len(shown) < len(others):
            click.echo(f"  and {len(others) - len(shown)} more (--all)")


def _title(candidate: Candidate) -> str:
    return f"`{candidate.name}` ({candidate.provider}, priority {candidate.priority})"


def _elements(tests: Iterable[ElementVerdict]) -> str:
    return ";".join(answer.element for answer in tests) or "takes every request"


def _entry_point(name: str | None, settings: StaticConfiguration) -> str:
    known = settings.entry_points
    if name is None:
        return next((each for each in settings.default_entry_points if each in known), "http")
    if name not in known:
        nearest = nearest_name(name, known)
        hint = f" Did you mean `{nearest}`?" if nearest else f" Expected one of {', '.join(known)}."
        raise click.UsageError(f"No entry point is named `{name}`.{hint}")
    return name
