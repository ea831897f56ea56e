"""The proxies and servers that the rows of a table share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.cases import CaseTable, Servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread


@pytest.fixture(scope="session")
def servers(loop_thread: LoopThread) -> Iterator[Servers]:
    """Return the scripted servers of all tables."""
    made = Servers(loop_thread)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest, servers: Servers) -> Iterator[CaseTable]:
    """Return the running set-ups of the module's ``CASES``."""
    running = CaseTable(request.module.CASES, servers)
    yield running
    running.stop()
