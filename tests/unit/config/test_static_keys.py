from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvproxy.config.static_keys import (
    STORES,
    StaticKeys,
    StorePlace,
    ask,
    connection_options,
    is_static,
    static_values,
)
from kvproxy.model.schema import Report
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import EmbeddedProvider, EtcdProvider
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore

if TYPE_CHECKING:
    from pathlib import Path


def embedded(path: Path, prefix: str = "kvproxy") -> StorePlace:
    section = EmbeddedProvider(path=str(path), prefix=prefix)
    return StorePlace("embedded", section, StaticConfiguration(embedded=section))


async def write(path: Path, **values: str) -> None:
    store = EmbeddedStore(path)
    put = {key.replace("__", "/"): value.encode() for key, value in values.items()}
    await store.write(Transaction(put=put))
    await store.close()


async def test_only_static_keys_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await write(
        path,
        kvproxy__loglevel="DEBUG",
        kvproxy__EntryPoints__http__address=":81",
        kvproxy__frontends__web__backend="web",
        kvproxy__alias="kvproxy_configurations/1",
        kvproxy__leader="node",
        elsewhere__loglevel="ERROR",
    )
    answer = await ask(embedded(path), 5.0)
    assert answer.problem is None
    assert answer.keys is not None
    assert answer.keys.values == {"loglevel": b"DEBUG", "EntryPoints/http/address": b":81"}
    assert (answer.keys.version, answer.empty, answer.notes) == (1, False, ())


async def test_a_missing_file_is_empty_and_not_made(tmp_path: Path) -> None:
    answer = await ask(embedded(tmp_path / "store.db"), 5.0)
    assert answer.empty
    assert answer.keys is not None
    assert answer.keys.values == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("prefix", ["kvproxy", "/kvproxy", "", "traefik/other"])
async def test_keys_of_traefik_are_pointed_at(tmp_path: Path, prefix: str) -> None:
    path = tmp_path / "store.db"
    await write(path, traefik__loglevel="DEBUG")
    answer = await ask(embedded(path, prefix), 5.0)
    if not prefix:
        assert answer.notes == ()
        return
    (note,) = answer.notes
    slash = "/" if prefix.startswith("/") else ""
    assert f"there are no keys below `{prefix}`" in note.message
    assert note.expected == f"--embedded.prefix={slash}traefik to use them"
    assert not note.fatal


async def test_an_empty_store_points_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await write(path, other="x")
    answer = await ask(embedded(path), 5.0)
    assert (answer.empty, answer.notes) == (True, ())
    assert (await ask(embedded(path, "traefik"), 5.0)).notes == ()


async def test_a_store_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"no database" * 100)
    answer = await ask(embedded(path), 5.0, persist=False)
    assert answer.keys is None
    assert answer.problem is not None
    assert str(answer.problem).startswith(f"embedded: {path}: ")
    assert "not an embedded store" in answer.problem.message


async def test_it_is_asked_again_until_the_time_is_over(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.mkdir()
    answer = await ask(embedded(path), 0.12)
    assert answer.problem is not None
    assert "not a regular file" in answer.problem.message


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("loglevel", True),
        ("LogLevel", True),
        ("/entrypoints/http/address", True),
        ("healthcheck/interval", True),
        ("frontends/web/backend", False),
        ("backends", False),
        ("tls/0/certificate", False),
        ("alias", False),
        ("leader", False),
        ("", False),
        ("loglevels", False),
    ],
)
def test_is_static(key: str, expected: bool) -> None:
    assert is_static(key) is expected


def test_the_account_of_traefik_is_no_setting() -> None:
    values = {
        "traefik/acme/storage": b"/traefik/acme/account",
        "traefik/acme/account/object": b"\x1f\x8b\x00",
        "traefik/acme/account/lock": b"",
        "traefik/acme/email": b"a@example.com",
    }
    assert static_values(values, "traefik") == {
        "acme/storage": b"/traefik/acme/account",
        "acme/email": b"a@example.com",
    }


def test_a_value_that_is_not_text_is_named_by_its_key() -> None:
    place = StorePlace("etcd", EtcdProvider(), StaticConfiguration())
    keys = StaticKeys(place, 1, {"LogLevel": b"\xff", "workers": b"2"})
    report = Report(keys.where)
    assert keys.document(report) == {"workers": "2"}
    (problem,) = report.problems
    assert str(problem) == (
        "kvproxy/LogLevel: LogLevel: the value is not UTF-8; expected text encoded as UTF-8"
    )


@pytest.mark.parametrize("store", STORES)
def test_how_a_store_is_reached(store: str) -> None:
    options = connection_options(store)
    assert "prefix" in options
    assert ("path" if store == "embedded" else "endpoint") in options
    assert not options & {"watch", "filename", "constraints", "trace"}
