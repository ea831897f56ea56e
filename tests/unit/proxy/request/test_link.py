"""What stands between two ends and has nothing to do passes everything on."""

from __future__ import annotations

from typing import Any

import pytest

from kvproxy.http.answer import text_answer
from kvproxy.proxy.request.link import Link


class End:
    """Either end; remembers what it is told."""

    decodes = True
    sending = True
    writable = False
    clock = "a clock"
    server = "a server"

    def __init__(self) -> None:
        self.flags = 5
        self.told: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.told.append((name, *arguments)) or name


UPWARDS = [
    ("send_request", b"x"),
    ("pause_reading",),
    ("resume_reading",),
    ("time_out",),
]
DOWNWARDS = [
    ("routed", "a chain"),
    ("host_line", "a server"),
    ("answer", text_answer(404)),
    ("response_informational", b"x", 103),
    ("response_head", b"x", 200, 1, 2, b"y", False),
    ("response_data", b"x"),
    ("response_trailers", b"x"),
    ("response_ended",),
    ("response_failed", 502, "why"),
    ("switched", b"x"),
    ("server_writable", True),
]


@pytest.mark.parametrize("call", UPWARDS, ids=lambda call: call[0])
def test_upwards(call: tuple[Any, ...]) -> None:
    down, up = End(), End()
    link = Link(down)  # type: ignore[arg-type]
    getattr(link, call[0])(*call[1:])
    assert up.told == []
    link.connected(up)
    before = list(up.told)
    getattr(link, call[0])(*call[1:])
    assert up.told == [*before, call]


def test_a_pause_holds_for_the_next_upstream() -> None:
    link, first, second, third = Link(End()), End(), End(), End()  # type: ignore[arg-type]
    link.pause_reading()
    link.connected(first)  # type: ignore[arg-type]
    link.connected(second)  # type: ignore[arg-type]
    link.resume_reading()
    link.connected(third)  # type: ignore[arg-type]
    assert first.told == [("pause_reading",)]
    assert second.told == [("pause_reading",), ("resume_reading",)]
    assert third.told == []


@pytest.mark.parametrize("call", DOWNWARDS, ids=lambda call: call[0])
def test_downwards(call: tuple[Any, ...]) -> None:
    down = End()
    getattr(Link(down), call[0])(*call[1:])  # type: ignore[arg-type]
    assert down.told == [call]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_an_end_reaches_the_upstream_once(end: str) -> None:
    link, up = Link(End()), End()  # type: ignore[arg-type]
    link.connected(up)  # type: ignore[arg-type]
    getattr(link, end)()
    getattr(link, end)()
    assert up.told == [(end,)]


def test_facts_are_those_of_the_ends() -> None:
    down, up = End(), End()
    link: Any = Link(down)  # type: ignore[arg-type]
    assert link.server is None
    assert link.writable
    link.connected(up)
    assert (link.server, link.writable) == ("a server", False)
    assert (link.decodes, link.sending, link.clock, link.flags) == (True, True, "a clock", 5)
    link.flags = 7
    assert down.flags == 7
