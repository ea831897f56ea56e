"""Fixtures and reports that every suite with a running proxy uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import proxy_process
from tests.support.backend import LoopThread

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


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
