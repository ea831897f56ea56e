"""``kvproxy nodes``."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click
import msgspec

from kvproxy.cli.output import age, count, output_option, print_json, show_problems, table
from kvproxy.cli.settings import SettingsCommand
from kvproxy.cli.stores import store_option, with_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvproxy.control.nodes.announcement import Announcement, Expected
    from kvproxy.provider import Store


@click.command("nodes", cls=SettingsCommand)
@store_option
@output_option
def command(store: str | None, output: str) -> None:
    """List the running proxies on a store and what they serve.

    Each says what all of its workers serve: the revision of the store, the number and the digest
    of its generation, since when, and how many problems `kvproxy status` shows on it. A node is in
    step when it serves what the store holds now. One that died is gone within 22 seconds.

    Nodes with the same digest serve the same, down to the last option.

    \b
    Examples:
      kvproxy nodes
      kvproxy nodes --store etcd --etcd.endpoint=10.0.0.1:2379
      kvproxy nodes --output json
    """
    # Imported when used: it costs more than all of help.
    from kvproxy.control.nodes.announcement import (  # noqa: PLC0415
        decode_all,
        expect,
        nodes_prefix,
    )

    async def read(opened: Store, prefix: str) -> tuple[Mapping[str, bytes], Expected]:
        found = await opened.read(nodes_prefix(prefix)) if nodes_prefix(prefix) else None
        return (found.values if found else {}), await expect(opened, prefix, None)

    values, expected = with_store(store, read)
    found, problems = decode_all(values)
    show_problems(problems)
    nodes = list(found.values())
    if output == "json":
        listed = [_document(node, expected) for node in nodes]
        print_json({"revision": expected.revision, "nodes": listed})
    else:
        _show(nodes, expected)


def _document(node: Announcement, expected: Expected) -> dict[str, object]:
    document: dict[str, object] = msgspec.to_builtins(node)
    return {**document, "inStep": expected.served_by(node)}


def _show(nodes: list[Announcement], expected: Expected) -> None:
    click.echo(f"{count(len(nodes), 'node')}, the store is at revision {expected.revision}")
    now = time.time()
    if nodes:
        header = ("node", "revision", "generation", "digest", "for", "problems", "in step")
        table(header, (_row(node, expected, now) for node in nodes))


def _row(node: Announcement, expected: Expected, now: float) -> tuple[object, ...]:
    return (
        node.node,
        node.revision,
        node.generation,
        node.digest[:12],
        age(now - node.since),
        node.problems,
        "yes" if expected.served_by(node) else "NO",
    )
