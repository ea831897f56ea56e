"""``kvproxy wait``."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

import click

from kvproxy.cli.output import count, fail
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store
from kvproxy.cli.supervisor_client import ask
from kvproxy.control.nodes.announcement import Announcement, decode_all, expect, nodes_prefix
from kvproxy.provider import Changes, StoreError, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kvproxy.control.nodes.announcement import Expected
    from kvproxy.provider import Store

NOT_IN_TIME = 124
"""Exit code when the time was over, as of timeout(1)."""

_LONGEST_PAUSE_SECONDS = 2.0
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
    missing = with_store(
        store, lambda opened, prefix: _wait(opened, prefix, number, least, timeout)
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


async def _wait(store: Store, prefix: str, revision: int, least: int, seconds: float) -> str:
    """Wait until every node serves a revision; returns nothing, or who does not after all."""
    place = nodes_prefix(prefix)
    if not place:
        fail("nodes cannot announce themselves beside a configuration that is the whole store")
    missing = "the store has not answered"
    try:
        async with asyncio.timeout(seconds):
            expected = await expect(store, prefix, revision)
            async with aclosing(_held(store, place)) as changes:
                async for values in changes:
                    nodes, _ = decode_all(values)
                    missing = _missing(list(nodes.values()), expected, least)
                    if not missing:
                        break
    except TimeoutError:
        return missing
    return ""


def _missing(nodes: list[Announcement], expected: Expected, least: int) -> str:
    late = [node for node in nodes if not expected.served_by(node)]
    if late:
        each = ", ".join(f"`{node.node}` serves {node.revision}" for node in late[:5])
        more = f" and {len(late) - 5} more" if len(late) > 5 else ""
        return f"{each}{more}"
    if len(nodes) < least:
        return f"{count(len(nodes), 'node')} of at least {least} announce themselves"
    return ""


async def _held(store: Store, prefix: str) -> AsyncGenerator[dict[str, bytes], None]:
    """Yield what is below ``prefix``, now and after each change, for ever.

    Raises `StoreError` only at first: a store that fails later may come back.
    """
    errors = 0
    tree = await store.read(prefix)
    while True:
        held = dict(tree.values)
        yield held
        try:
            events = cast("AsyncGenerator[Changes | Tree, None]", store.watch(prefix, tree.version))
            async with aclosing(events):
                async for event in events:
                    errors = 0
                    _apply(held, event)
                    yield held
        except StoreError:
            errors += 1
        tree = await _read_again(store, prefix, errors)


async def _read_again(store: Store, prefix: str, errors: int) -> Tree:
    while True:
        try:
            pause = min(_LONGEST_PAUSE_SECONDS, 0.02 * 2 ** min(errors, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))
            return await store.read(prefix)
        except StoreError:
            errors += 1


def _apply(held: dict[str, bytes], event: Changes | Tree) -> None:
    if isinstance(event, Tree):
        held.clear()
    for key, value in event.values.items():
        if value is None:
            held.pop(key, None)
        else:
            held[key] = value
