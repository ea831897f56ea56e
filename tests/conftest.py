"""Fixtures and reports that every suite with a running proxy uses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from tests.support import proxy_process
from tests.support.backend import LoopThread

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


COLLECTED = pytest.StashKey[frozenset[str]]()
"""The ids of all tests of the files that this run was given, those left out by ``-m`` included."""

# How long an example takes says more about the machine than about what is tested.
settings.register_profile(
    "untimed", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process: they share proxies and servers.

    The acceptance suite of the stores shares one server for each kind of store, so its tests are
    kept together by that.
    """
    config.stash[COLLECTED] = frozenset(item.nodeid for item in items)
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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the names of what failed into the file that ``KVPROXY_FAILED_TESTS`` names, a line
    each: `scripts/test` runs them once more, alone."""
    names = os.environ.get("KVPROXY_FAILED_TESTS")
    if not names:
        return
    reports = [*terminalreporter.getreports("failed"), *terminalreporter.getreports("error")]
    failed = dict.fromkeys(_without_group(report.nodeid) for report in reports)
    Path(names).write_text("".join(f"{name}\n" for name in failed))


def _without_group(name: str) -> str:
    """Return the name of a test without the group that pytest-xdist has added to it."""
    return name.rpartition(f"@{name.partition('::')[0]}")[0] or name
