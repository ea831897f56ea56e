"""``kvproxy status``."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from kvproxy.cli.output import age, count, output_option, print_json, table
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.supervisor_client import ask
from kvproxy.control.administration.status import Status


@click.command("status", cls=SettingsCommand)
@click.option(
    "--wait",
    metavar="GENERATION|PROVIDER=REVISION",
    help="First wait until every worker serves this generation, or this revision of a provider.",
)
@click.option(
    "--timeout", type=float, default=10.0, show_default=True, help="Longest wait in seconds."
)
@output_option
def command(wait: str | None, timeout: float, output: str) -> None:
    """Show what a running proxy on this machine serves.

    The proxy is found by its state directory (--stateDir, or the configuration file's). Shown are
    the generation and whether every worker serves it, the workers, where each provider stands,
    entries in quarantine with their reasons, and everything else that is wrong.

    Exit code 1 when no proxy answers, or when what --wait asks for did not come in time.

    \b
    Examples:
      kvproxy status --stateDir=/var/lib/kvproxy
      kvproxy status --output json
      kvproxy status --wait 12
      kvproxy status --wait embedded=5 --timeout 30
    """
    if wait is None:
        answer = ask("status", timeout)
    else:
        # The supervisor's own time-out has to come first, it says what was waited for.
        answer = ask("wait", timeout + 5, timeout=timeout, **_wanted(wait))
    if output == "json":
        print_json(answer)
    else:
        show(msgspec.convert(answer, Status))


def show(status: Status) -> None:
    """Print a status for people."""
    now = time.time()
    click.echo(f"kvproxy {status.version}, {status.state}, up {age(now - status.started_at)}")
    for name, addresses in status.entry_points.items():
        click.echo(f"  entry point {name}: {', '.join(addresses)}")
    generation = status.generation
    if generation is None:
        click.echo("\nNo generation yet: no provider has said anything")
    else:
        click.echo(
            f"\nGeneration {generation.number}, {_live(generation.live)}, "
            f"made {age(now - generation.created_at)} ago"
        )
        click.echo(f"  digest {generation.digest}")
        click.echo(f"  {count(generation.frontends, 'frontend')}, ", nl=False)
        click.echo(count(generation.backends, "backend"), nl=not generation.certificates)
        if generation.certificates:
            click.echo(f", {count(generation.certificates, 'certificate')}")
    click.echo("\nWorkers")
    table(
        ("slot", "pid", "serves", "connections", "requests", "restarts"),
        (
            (
                each.slot,
                each.pid,
                f"generation {each.generation}" if each.generation >= 0 else "nothing yet",
                each.connections,
                each.requests,
                each.restarts,
            )
            for each in status.workers
        ),
    )
    click.echo("\nProviders")
    for provider in status.providers:
        facts = [f"revision {provider.revision}"] if provider.revision else []
        facts += [count(provider.frontends, "frontend"), count(provider.backends, "backend")]
        if provider.certificates:
            facts.append(count(provider.certificates, "certificate"))
        if provider.fresh_at:
            facts.append(f"proven {age(now - provider.fresh_at)} ago")
        if provider.stale:
            facts.append("STALE: from the journal")
        if provider.failed_since is not None:
            facts.append(f"FAILING for {age(now - provider.failed_since)}")
        click.echo(f"  {provider.provider}: {', '.join(facts)}")
        held = provider.held
        if held is not None:
            click.echo(
                f"    HELD: revision {held.revision} would remove {held.removes} of "
                f"{held.serving} frontends; `kvproxy confirm {provider.provider}` applies it"
            )
    if not status.providers:
        click.echo("  none has said anything")
    if status.servers_down:
        click.echo("\nServers down")
        for server in status.servers_down:
            click.echo(f"  {server.server} for {age(now - server.since)}: {server.reason}")
    if status.breakers:
        click.echo("\nCircuit breakers")
        for each in status.breakers:
            click.echo(
                f"  {each.state}: backend `{each.backend}` of {each.provider} for frontend "
                f"`{each.frontend}` on {each.entry_point} ({count(each.trips, 'trip')})"
            )
    if status.quarantined:
        click.echo("\nIn quarantine")
        for entry in status.quarantined:
            serving = "its previous version goes on" if entry.serving else "not served"
            click.echo(
                f"  {entry.section} `{entry.name}` of {entry.provider}, {serving}, "
                f"for {age(now - entry.since)}"
            )
            for reason in entry.reasons:
                click.echo(f"    {reason}")
    reasons = {reason for entry in status.quarantined for reason in entry.reasons}
    others = [problem for problem in status.problems if problem.text not in reasons]
    if others:
        click.echo("\nProblems")
        for problem in others:
            kind = "Error" if problem.fatal else "Warning"
            click.echo(f"  {kind} ({problem.provider}): {problem.text}")


def _live(live: bool) -> str:
    return "served by every worker" if live else "NOT YET served by every worker"


def _wanted(wait: str) -> dict[str, Any]:
    if wait.isdigit():
        return {"generation": int(wait)}
    provider, equals, revision = wait.partition("=")
    if not equals or not provider or not revision:
        raise click.BadParameter(
            f"`{wait}`; expected a generation such as 12, or a revision such as embedded=5",
            param_hint="--wait",
        )
    return {"provider": provider, "revision": revision}
