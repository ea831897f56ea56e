"""Middlewares in a worker: what cannot be put into effect is closed, not open."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from kvproxy.http.answer import text_answer
from kvproxy.model.dynamic import Auth, BasicAuth, ForwardAuth, Redirect
from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.proxy.clock import Clock
from kvproxy.proxy.plan.workshop import Workshop
from kvproxy.proxy.request.stages import Stages
from kvproxy.proxy.upstream.transport import TransportSettings
from tests.unit.middleware.requests import a_request
from tests.unit.proxy.worlds import World, backend, frontend, whole

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CLOSED = text_answer(503)


@cache
def transport() -> TransportSettings:
    return TransportSettings(StaticConfiguration())


def workshop(**options: Any) -> Workshop:
    points = {"http": EntryPoint(address=":80", **options)}
    return Workshop(StaticConfiguration(entry_points=points), transport(), Clock())


async def test_a_frontend_whose_users_have_gone_answers_503(tmp_path: Path) -> None:
    """(CVE-2026-54762: a secret that cannot be resolved must not open the route.)"""
    world = World()
    gone = Auth(basic=BasicAuth(users_file=str(tmp_path / "gone")))
    problems = await world.apply(
        whole(1, backend("b", {"http://s": 1}), frontend("f", "Host:a", "b", auth=gone))
    )
    (problem,) = problems
    assert problem.startswith("frontend f is closed: auth.basic: ")
    chain = world.chain("a")
    assert not chain.direct
    ((ask, _),) = chain.stages.steps
    assert ask(a_request()) == CLOSED


def test_an_entry_point_that_cannot_be_guarded_answers_503(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = workshop(redirect=Redirect(entry_point="nowhere"))
    ((ask, _),) = Stages(made.entry_point("http")).steps
    assert ask is not None
    assert ask(a_request()) == CLOSED
    assert "entryPoint=http is closed: redirect.entryPoint" in caplog.text


def test_servers_that_are_asked_are_known_while_they_are_used() -> None:
    made = workshop(auth=Auth(forward=ForwardAuth(address="http://127.0.0.1:9/x")))
    held = made.entry_point("http")
    assert [server.port for server in made.servers] == [9]
    assert made.entry_point("http") == held
    assert len(list(made.servers)) == 1
    del held
    assert list(made.servers) == []


def test_what_a_change_of_entry_points_does_not_touch_is_kept() -> None:
    points = {
        "http": EntryPoint(address=":80", redirect=Redirect(entry_point="https")),
        "https": EntryPoint(address=":443", auth=Auth(basic=BasicAuth())),
    }
    made = Workshop(StaticConfiguration(entry_points=points), transport(), Clock())
    redirect, auth = made.entry_point("http"), made.entry_point("https")
    made.use({**points, "https": EntryPoint(address=":8443", auth=Auth(basic=BasicAuth()))})
    assert made.entry_point("https")[0] is auth[0]
    assert made.entry_point("http")[0] is not redirect[0]
    made.use({"http": EntryPoint(address=":80")})
    assert made.entry_point("http") == ()
