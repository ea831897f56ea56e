"""Waiting until every node serves a revision of a store."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from kvproxy.cli.output import count, fail
from kvproxy.control.nodes.announcement import Announcement, decode_all, expect, nodes_prefix
from kvproxy.provider import Changes, StoreError, Tree

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from kvproxy.control.nodes.announcement import Expected
    from kvproxy.provider import Store

_LONGEST_PAUSE_SECONDS = 2.0


async def wait_for_all(store: Store, prefix: str, revision: int, least: int, seconds: float) -> str:
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
