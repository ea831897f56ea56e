"""``kvproxy wait``."""

from __future__ import annotations

import re
import sys

import click

from kvproxy.cli.output import fail
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.cli.supervisor_client import ask

NOT_IN_TIME = 124
"""Exit code when the time was over, as of timeout(1)."""

_REVISION = re.compile(r"(?:revision\"?:?\s*)?(\d+)")


@click.command("wait", cls=SettingsCommand)
@click.option(
    "--revision",
    metavar="R",
    required=True,
    help="Revision of the store; `-` takes it from standard input, as `kvproxy kv put` prints it.",
)
@click.option("--all", "everybody", is_flag=True, help="Wait for every node, not only this one.")
@click.option(
    "--nodes",
    "least",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="With --all: wait until there are at least so many nodes.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=10.0,
    show_default=True,
    help="Longest wait in seconds.",
)
@store_option
def command(revision: str, everybody: bool, least: int, timeout: float, store: str | None) -> None:
    """Wait until a revision of a store is served.

    Without --all: by every worker of the proxy on this machine, which is found by its state
    directory (--stateDir). With --all: by every worker of every node that announces itself in the
    store (`kvproxy nodes` lists them).

    A later revision is as good, and so is an earlier one when nothing has changed since. Exit code
    0: it is served; 124: not in time; 1: the proxy or the store does not answer.

    \b
    Examples:
      kvproxy wait --revision 17
      kvproxy wait --revision 17 --all --timeout 30
      kvproxy kv put kvproxy/frontends/web/backend green | kvproxy wait --revision - --all
    """
    number = _number(sys.stdin.read() if revision == "-" else revision)
    if not everybody:
        if least > 1:
            raise click.UsageError("--nodes needs --all.")
        # The supervisor's own time-out has to come first, it says what was waited for.
        named = {} if store is None else {"provider": store}
        wanted = {"revision": str(number), "timeout": timeout, **named}
        ask("wait", timeout + 5, not_in_time=NOT_IN_TIME, **wanted)
        return
    # Imported when used: it costs more than all of help.
    from kvproxy.cli.waiting import wait_for_all  # noqa: PLC0415

    missing = with_store(
        store, lambda opened, prefix: wait_for_all(opened, prefix, number, least, timeout)
    )
    if missing:
        fail(f"revision {number} is not served within {timeout:g} s: {missing}", code=NOT_IN_TIME)


def _number(text: str) -> int:
    found = _REVISION.search(text) if "revision" in text else re.fullmatch(r"(\d+)", text.strip())
    if found is None:
        raise click.BadParameter(
            f"`{text.strip()[:80]}`; expected a number, or `-` to read it from standard input",
            param_hint="--revision",
        )
    return int(found[1])
