"""TLS and credentials: who has them gets in, who lost them loses nothing, errors show no secret."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from kvproxy.control.sources.store_source import Pace
from kvproxy.provider import StoreError, Transaction
from tests.stores.conftest import load
from tests.stores.following import ProxyView, frontend, retried, within

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from kvproxy.provider import Store
    from tests.stores.harness import SecuredStore, StoreHarness

    OpenStore = Callable[[str], Store]

RECOVERY_SECONDS = 30.0
QUICK = Pace(probe=0.3, patience=2.0, first_pause=0.02, longest_pause=0.5)


@pytest.fixture(scope="module")
def secured_stores(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[object]:
    """Return a function that gives the one server of its kind: they take long to start."""
    made: dict[type[SecuredStore], SecuredStore] = {}

    def get(kind: type[SecuredStore]) -> SecuredStore:
        if kind not in made:
            made[kind] = kind(tmp_path_factory.mktemp("secured"))
        return made[kind]

    yield get
    for each in made.values():
        asyncio.run(each.close())


@pytest.fixture
async def secured(
    harness: StoreHarness, secured_stores: Callable[[type[SecuredStore]], SecuredStore]
) -> SecuredStore:
    if harness.secured is None:
        pytest.skip(f"{harness.kind} knows no credentials, or is tested elsewhere")
    return secured_stores(harness.secured)


@pytest.fixture
async def open_secured(secured: SecuredStore) -> AsyncIterator[OpenStore]:
    stores: list[Store] = []

    def make(address: str = secured.address) -> Store:
        stores.append(load(secured.open_store)(address))
        return stores[-1]

    await retried(lambda: make().write(Transaction(delete_prefixes=("t",))))
    yield make
    for store in stores:
        await store.close()


async def test_credentials_open_everything(open_secured: Callable[[], Store]) -> None:
    store = open_secured()
    start = await store.read("t")
    version = await store.write(Transaction(put={"t/a": b"1"}))
    assert await store.probe() >= version
    async with aclosing(store.watch("t", start.version)) as watch:
        assert (await within(anext(watch))).values == {"t/a": b"1"}
        await store.announce("t/b", b"2")
        assert (await within(anext(watch))).values == {"t/b": b"2"}


async def test_without_credentials_everything_is_refused_by_name(
    secured: SecuredStore, open_secured: OpenStore
) -> None:
    good = open_secured(secured.address)
    await good.write(Transaction(put={"t/a": b"1"}))
    tree = await good.read("t")
    for name, (address, pattern) in secured.refused.items():
        store = open_secured(address)
        for ask in (
            lambda store=store: store.read("t"),
            lambda store=store: store.probe(),
            lambda store=store: store.write(Transaction(put={"t/a": b"2"})),
            lambda store=store: anext(store.watch("t", tree.version)),
            lambda store=store: store.announce("t/b", b"1"),
        ):
            with pytest.raises(StoreError, match=pattern) as caught:
                await within(ask())
            shown = f"{caught.value} {caught.value.__cause__}"
            assert not [secret for secret in secured.secrets if secret in shown], name
    assert (await good.read("t")).values == {"t/a": b"1"}


async def test_a_lost_permission_is_no_deletion(
    secured: SecuredStore, open_secured: Callable[[], Store]
) -> None:
    writer = open_secured()
    await writer.write(Transaction(put={**frontend("one", "one"), **frontend("two", "two")}))
    view = ProxyView(open_secured(), QUICK)
    try:
        await view.until(lambda view: len(view.rules) == 2)
        await secured.revoke()
        await view.until(lambda view: bool(view.failures), RECOVERY_SECONDS)
        # Whoever starts anew in this state must not find an empty store either.
        with pytest.raises(StoreError, match="permission"):
            await within(open_secured().read("t"))
        assert len(view.rules) == 2
        assert view.snapshots == 1
        await secured.grant()
        await retried(lambda: writer.write(Transaction(put=frontend("two", "new"))))
        await view.until(lambda view: view.rules.get("two") == "Host:new", RECOVERY_SECONDS)
        assert len(view.rules) == 2
    finally:
        await view.close()
        await secured.grant()


async def test_credentials_hold_over_a_restart(
    secured: SecuredStore, open_secured: Callable[[], Store]
) -> None:
    writer = open_secured()
    await writer.write(Transaction(put=frontend("web", "old")))
    view = ProxyView(open_secured(), QUICK)
    try:
        await view.until(lambda view: view.rules == {"web": "Host:old"})
        await secured.restart()
        await retried(lambda: writer.write(Transaction(put=frontend("web", "new"))))
        await view.until(lambda view: view.rules == {"web": "Host:new"}, RECOVERY_SECONDS)
    finally:
        await view.close()
