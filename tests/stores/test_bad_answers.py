"""Answers that were spoilt on their way: something between a real server and its client breaks what
stands for bytes in JSON."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

import pytest

from kvproxy.control.sources.store_source import Pace
from kvproxy.provider import StoreError, Transaction
from tests.stores.following import ProxyView, frontend, within
from tests.support.relay import Relay
from tests.support.stores import ProxyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from kvproxy.provider import Store
    from tests.support.backend import LoopThread

QUICK = Pace(probe=0.3, patience=1.0, first_pause=0.02, longest_pause=0.5)
RECOVERY_SECONDS = 30.0


@pytest.fixture(scope="module", params=["etcd", "consul"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ProxyStore]:
    made = ProxyStore(request.param, tmp_path_factory.mktemp("store") / request.param)
    yield made
    made.close()


@pytest.fixture
def relay(served: ProxyStore, loop_thread: LoopThread) -> Iterator[Relay]:
    assert served.server is not None
    made = Relay(loop_thread, served.server.port)
    yield made
    made.close()


@pytest.fixture
async def writer(served: ProxyStore) -> AsyncIterator[Store]:
    """A client that asks the server itself."""
    made = served.open()
    await within(made.write(Transaction(delete_prefixes=("t",))))
    yield made
    await made.close()


def spoil(relay: Relay, value: bytes) -> None:
    """Let the next answer that holds ``value`` be no base64 there."""
    good = b64encode(value)
    relay.spoil(good, b"!" * len(good))


def is_named(message: str, served: ProxyStore, relay: Relay) -> bool:
    """Tell whether a message says what is wrong, where, and on whose word."""
    said = (served.kind, relay.endpoint, "`t/frontends/web/routes/main/rule`", "base64")
    return all(each in message for each in said)


async def test_a_read_with_broken_base64_is_an_error_that_names_the_key(
    served: ProxyStore, relay: Relay, writer: Store
) -> None:
    await writer.write(Transaction(put=frontend("web", "one.example.com")))
    store = served.open(relay.endpoint)
    spoil(relay, b"Host:one.example.com")
    with pytest.raises(StoreError) as caught:
        await within(store.read("t"))
    assert relay.spoilt
    assert is_named(str(caught.value), served, relay)
    tree = await within(store.read("t"))
    assert tree.values == frontend("web", "one.example.com")
    await store.close()


async def test_a_change_with_broken_base64_is_named_and_asked_for_again(
    served: ProxyStore, relay: Relay, writer: Store
) -> None:
    await writer.write(
        Transaction(put={**frontend("web", "old.example.com"), **frontend("kept", "kept.test")})
    )
    view = ProxyView(served.open(relay.endpoint), QUICK)
    try:
        await view.until(lambda view: view.rules.get("web") == "Host:old.example.com")
        spoil(relay, b"Host:new.example.com")
        await writer.write(Transaction(put=frontend("web", "new.example.com")))
        await view.until(
            lambda view: view.rules.get("web") == "Host:new.example.com", RECOVERY_SECONDS
        )
        assert relay.spoilt
        assert view.rules == {"web": "Host:new.example.com", "kept": "Host:kept.test"}
        # Nothing was ever applied but what was there before, and what came when asked again.
        before = {"web": "Host:old.example.com", "kept": "Host:kept.test"}
        assert all(each in (before, view.rules) for each in view.history), view.history
        assert is_named(view.failures[0], served, relay)
    finally:
        await view.close()
