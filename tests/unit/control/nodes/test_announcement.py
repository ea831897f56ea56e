from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvproxy.control.nodes.announcement import (
    Announcement,
    Expected,
    decode_all,
    encode,
    expect,
    node_key,
    nodes_prefix,
)
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def announcement(revision: int, keys: int = 3) -> Announcement:
    return Announcement(
        node="a",
        pid=1,
        version="1",
        revision=revision,
        keys=keys,
        generation=1,
        digest="d",
        problems=0,
        since=1.0,
    )


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EmbeddedStore]:
    made = EmbeddedStore(tmp_path / "store.db")
    yield made
    await made.close()


async def put(store: EmbeddedStore, **values: bytes) -> int:
    return await store.write(
        Transaction(put={key.replace("__", "/"): value for key, value in values.items()})
    )


@pytest.mark.parametrize(
    ("prefix", "place"),
    [("kvproxy", "kvproxy-nodes"), ("/traefik/", "traefik-nodes"), ("a/b", "a/b-nodes"), ("/", "")],
)
def test_the_place_is_beside_the_configuration(prefix: str, place: str) -> None:
    assert nodes_prefix(prefix) == place


def test_what_is_written_is_read_and_the_rest_is_named() -> None:
    key = node_key("kvproxy", "one")
    values = {key: encode(announcement(5)), "kvproxy-nodes/a": b"{}", "kvproxy-nodes/b": b"\xff"}
    found, problems = decode_all(values)
    assert found == {key: announcement(5)}
    assert [problem.where for problem in problems] == ["kvproxy-nodes/a", "kvproxy-nodes/b"]
    assert not any(problem.fatal for problem in problems)


CASES = {
    "that-revision": (Expected(revision=7), announcement(7), True),
    "a-later-revision": (Expected(revision=7), announcement(9), True),
    "an-earlier-revision": (Expected(revision=7), announcement(6), False),
    "nothing-written-since": (Expected(revision=7, changed=5, keys=3), announcement(5), True),
    "something-written-since": (Expected(revision=7, changed=6, keys=3), announcement(5), False),
    "something-deleted-since": (Expected(revision=7, changed=5, keys=2), announcement(5), False),
    "nothing-there": (Expected(revision=7, changed=0, keys=0), announcement(0, keys=0), True),
}


@pytest.mark.parametrize(("expected", "node", "served"), CASES.values(), ids=CASES)
def test_who_serves_a_revision(expected: Expected, node: Announcement, served: bool) -> None:
    assert expected.served_by(node) is served


async def test_a_write_elsewhere_asks_nothing_of_a_node(store: EmbeddedStore) -> None:
    node = announcement(await put(store, t__a=b"1", t__b=b"2", t__c=b"3"))
    elsewhere = await put(store, u=b"1")
    assert (await expect(store, "t", elsewhere)).served_by(node)
    assert (await expect(store, "t", None)).served_by(node)
    changed = await put(store, t__a=b"2")
    assert not (await expect(store, "t", changed)).served_by(node)
    assert not (await expect(store, "t", elsewhere)).served_by(announcement(node.revision - 1))


async def test_a_deletion_counts_though_no_key_shows_it(store: EmbeddedStore) -> None:
    node = announcement(await put(store, t__a=b"1", t__b=b"2", t__c=b"3"))
    deleted = await store.write(Transaction(delete=("t/b",)))
    assert not (await expect(store, "t", deleted)).served_by(node)
    assert (await expect(store, "t", deleted)).served_by(announcement(deleted, keys=2))


async def test_nothing_is_concluded_about_a_revision_to_come(store: EmbeddedStore) -> None:
    node = announcement(await put(store, t__a=b"1", t__b=b"2", t__c=b"3"))
    assert not (await expect(store, "t", node.revision + 1)).served_by(node)


async def test_the_tree_that_the_alias_names_is_what_counts(store: EmbeddedStore) -> None:
    await put(store, blue__a=b"1", blue__b=b"2", t__alias=b"/blue/", t__ignored=b"3")
    node = announcement(await store.probe(), keys=2)
    beside = await put(store, t__ignored=b"4")
    assert (await expect(store, "t", beside)).served_by(node)
    inside = await put(store, blue__a=b"2")
    assert not (await expect(store, "t", inside)).served_by(node)
