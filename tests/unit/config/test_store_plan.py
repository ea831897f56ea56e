from __future__ import annotations

import pytest

from kvproxy.config.store_plan import Edit, plan_dynamic, plan_static

Keys = dict[str, str]
# held, wanted, put, deleted, stale (deleted too with prune)
Row = tuple[str, Keys, Keys, Keys, list[str], list[str]]

STATIC: list[Row] = [
    ("new", {}, {"loglevel": "DEBUG"}, {"loglevel": "DEBUG"}, [], []),
    ("equal", {"loglevel": "DEBUG"}, {"loglevel": "DEBUG"}, {}, [], []),
    ("other value", {"loglevel": "INFO"}, {"loglevel": "DEBUG"}, {"loglevel": "DEBUG"}, [], []),
    ("empty values are values", {}, {"metrics": ""}, {"metrics": ""}, [], []),
    ("another spelling would win", {"logLevel": "INFO"}, {"loglevel": "DEBUG"},
     {"loglevel": "DEBUG"}, ["logLevel"], []),
    ("a section that is gone", {"retry/attempts": "3"}, {"loglevel": "DEBUG"},
     {"loglevel": "DEBUG"}, [], ["retry/attempts"]),
    ("rest of a longer list", {"constraints/0": "a", "constraints/1": "b"},
     {"constraints/0": "a", "loglevel": "X"}, {"loglevel": "X"}, ["constraints/1"], []),
    ("list that is empty now", {"constraints/0": "a"}, {"loglevel": "X"}, {"loglevel": "X"},
     ["constraints/0"], []),
    ("list by commas", {"constraints": "a,b"}, {"constraints/0": "a"}, {"constraints/0": "a"},
     ["constraints"], []),
    ("list of a section that is gone",
     {"metrics/prometheus/buckets/0": "1"}, {"loglevel": "X"}, {"loglevel": "X"}, [],
     ["metrics/prometheus/buckets/0"]),
    ("sections of a list",
     {"acme/domains/0/main": "a", "acme/domains/1/main": "b", "acme/domains/1/sans/0": "c"},
     {"acme/domains/0/main": "a", "acme/email": "e"}, {"acme/email": "e"},
     ["acme/domains/1/main", "acme/domains/1/sans/0"], []),
    ("names chosen by the user keep their case", {"entrypoints/HTTP/address": ":1"},
     {"entrypoints/http/address": ":1"}, {"entrypoints/http/address": ":1"}, [],
     ["entrypoints/HTTP/address"]),
    ("option in another case of a chosen name", {"entrypoints/HTTP/Address": ":2"},
     {"entrypoints/HTTP/address": ":1"}, {"entrypoints/HTTP/address": ":1"},
     ["entrypoints/HTTP/Address"], []),
    ("unknown option of ours", {"api/nosuch": "1"}, {"api/debug": "true"}, {"api/debug": "true"},
     [], ["api/nosuch"]),
    ("markers of Traefik are left", {"api/": "", "ping/": ""}, {"api/debug": "true"},
     {"api/debug": "true"}, [], []),
]  # fmt: skip

DYNAMIC: list[Row] = [
    ("an entry is replaced as a whole",
     {"frontends/w/backend": "a", "frontends/w/priority": "3"}, {"frontends/w/backend": "b"},
     {"frontends/w/backend": "b"}, ["frontends/w/priority"], []),
    ("other entries stay", {"frontends/v/backend": "a", "backends/w/servers/s/url": "u"},
     {"frontends/w/backend": "a"}, {"frontends/w/backend": "a"}, [],
     ["backends/w/servers/s/url", "frontends/v/backend"]),
    ("another spelling of the section", {"Frontends/w/priority": "3"},
     {"frontends/w/backend": "a"}, {"frontends/w/backend": "a"}, ["Frontends/w/priority"], []),
    ("entry names keep their case", {"frontends/W/backend": "a"}, {"frontends/w/backend": "a"},
     {"frontends/w/backend": "a"}, [], ["frontends/W/backend"]),
    ("nothing is wanted", {"frontends/w/backend": "a"}, {}, {}, [], ["frontends/w/backend"]),
]  # fmt: skip


def check(row: Row, plan: object, prune: bool) -> None:
    _, held, wanted, put, deleted, stale = row
    assert callable(plan)
    found, left = plan(
        {key: value.encode() for key, value in held.items()},
        {key: value.encode() for key, value in wanted.items()},
        prune=prune,
    )
    gone = sorted([*deleted, *stale] if prune else deleted)
    before = {key: held[key].encode() if key in held else None for key in (*put, *gone)}
    expected = Edit({key: value.encode() for key, value in put.items()}, tuple(gone), before)
    assert (found, left) == (expected, sorted(stale))
    assert bool(found) is bool(put or gone)


@pytest.mark.parametrize("prune", [False, True], ids=["keep", "prune"])
@pytest.mark.parametrize("row", STATIC, ids=[row[0] for row in STATIC])
def test_static(row: Row, prune: bool) -> None:
    check(row, plan_static, prune)


@pytest.mark.parametrize("prune", [False, True], ids=["keep", "prune"])
@pytest.mark.parametrize("row", DYNAMIC, ids=[row[0] for row in DYNAMIC])
def test_dynamic(row: Row, prune: bool) -> None:
    check(row, plan_dynamic, prune)
