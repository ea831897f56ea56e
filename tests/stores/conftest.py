"""Fixtures of the acceptance suite: one test run for each kind of store."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from tests.stores.writers import WriterProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from kvproxy.provider import Store
    from tests.stores.harness import StoreHarness

_OUR_STORES = ",".join(
    (
        "tests.stores.embedded:EmbeddedHarness",
        "tests.stores.etcd:EtcdHarness",
        "tests.stores.consul:ConsulHarness",
        "tests.stores.zookeeper:ZookeeperHarness",
        "tests.stores.boltdb:BoltdbHarness",
    )
)


def load(name: str) -> Any:
    """Return what ``module:attribute`` names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _harnesses() -> list[Any]:
    names = os.environ.get("KVPROXY_STORE_HARNESS", _OUR_STORES)
    return [load(name.strip()) for name in names.split(",")]


@pytest.fixture(params=_harnesses(), ids=lambda harness: harness.kind)
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StoreHarness]:
    made: StoreHarness = request.param(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def open_store(harness: StoreHarness) -> AsyncIterator[Callable[[], Store]]:
    """Return a function that makes one more client of the store."""
    stores: list[Store] = []

    def make() -> Store:
        stores.append(load(harness.open_store)(harness.address))
        return stores[-1]

    yield make
    for store in stores:
        await store.close()


@pytest.fixture
async def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


@pytest.fixture
def start_writer(harness: StoreHarness) -> Iterator[Callable[..., WriterProcess]]:
    """Return a function that runs a job of `tests.stores.writers` in another process."""
    started: list[WriterProcess] = []

    def start(job: str, *arguments: str) -> WriterProcess:
        started.append(WriterProcess(harness, job, *arguments))
        return started[-1]

    yield start
    for writer in started:
        writer.kill()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests did less than they should because the store or the machine was slow."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "note":
                terminalreporter.write_line(f"NOTE {value}")
