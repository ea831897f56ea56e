"""The cases of h2spec against the sans-IO server."""

from __future__ import annotations

import pytest

from tests.conformance.http2_cases import CASES, WITHOUT_HANDSHAKE, Step
from tests.support.http2_frames import Goaway
from tests.unit.http.http2_service import Service


@pytest.mark.parametrize(("name", "steps"), CASES.items(), ids=CASES.keys())
def test_case(name: str, steps: list[Step]) -> None:
    service = Service(handshake=name not in WITHOUT_HANDSHAKE)
    for step in steps:
        if isinstance(step, bytes):
            service.send(step)
        else:
            service.expect(step)
    fails = any(isinstance(step, Goaway) for step in steps)
    assert service.connection.closed == fails
    assert (service.failure is not None) == fails


@pytest.mark.parametrize(("name", "steps"), CASES.items(), ids=CASES.keys())
def test_case_byte_by_byte(name: str, steps: list[Step]) -> None:
    service = Service(handshake=name not in WITHOUT_HANDSHAKE)
    for step in steps:
        if not isinstance(step, bytes):
            service.expect(step)
        elif len(step) < 2000:
            for byte in step:
                service.send(bytes((byte,)))
        else:
            for start in range(0, len(step), 1000):
                service.send(step[start : start + 1000])


def test_the_list_is_complete() -> None:
    groups = [name.partition("/")[0] for name in CASES]
    counts = {group: groups.count(group) for group in groups}
    assert counts == {"http2": 95, "generic": 44, "hpack": 8}
