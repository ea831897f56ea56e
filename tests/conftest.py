"""Fixtures and reports that every suite with a running proxy uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import proxy_process
from tests.support.backend import LoopThread

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process: they share proxies and servers.

    The acceptance suite of the stores shares one server for each kind of store, so its tests are
    kept together by that.
    """
    for item in items:
        group = item.nodeid.partition("::")[0]
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        if "harness" in parameters:
            group += f"-{parameters['harness'].kind}"
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def loop_thread() -> Iterator[LoopThread]:
    """Return the event loop on which the scripted servers run."""
    thread = LoopThread()
    yield thread
    thread.stop()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the end of each running proxy's log to the report of a failed test."""
    report = yield
    if report.failed:
        for proxy in proxy_process.running:
            report.sections.append((f"log of {proxy.directory}", proxy.log_tail()))
    return report
