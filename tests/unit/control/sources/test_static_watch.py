from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kvproxy.config.settings import load_settings
from kvproxy.config.startup import Start
from kvproxy.config.static_keys import StaticKeys, StorePlace
from kvproxy.control.sources.static_watch import StaticWatch
from kvproxy.model.problem import Problem
from kvproxy.model.static import StaticConfiguration
from kvproxy.model.static_providers import EtcdProvider

if TYPE_CHECKING:
    from collections.abc import Mapping

PLACE = StorePlace("etcd", EtcdProvider(), StaticConfiguration())
USED = {"workers": b"2", "loglevel": b"INFO"}


class Watched:
    def __init__(
        self,
        used: Mapping[str, bytes] | None,
        *,
        unanswered: bool = False,
        complaint: str = "",
    ) -> None:
        self.missed = 0
        self.numbers = 0
        keys = None if used is None else StaticKeys(PLACE, 1, used)
        start = Start(
            settings=load_settings([], environment={"HOME": str(Path("/nowhere"))}),
            origin="store",
            place=PLACE,
            keys=keys,
            complaints=(Problem(message=complaint),) if complaint else (),
            unanswered=unanswered,
        )
        self.watch = StaticWatch(start, self._miss)

    def _miss(self) -> None:
        self.missed += 1

    def look(self, values: Mapping[str, bytes]) -> list[str]:
        self.numbers += 1
        self.watch.look(self.numbers, lambda: values)
        return [str(problem) for problem in self.watch.problems]


def test_equal_keys_are_no_problem(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(USED)
    assert watched.look(USED) == []
    assert caplog.records == []


def test_what_differs_is_named_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watched = Watched(USED)
    changed = {"workers": b"3", "rootcas/0": b"x"}
    expected = [
        "kvproxy: static settings differ from those in use: loglevel, rootcas/0, workers; "
        "expected a restart or SIGUSR2 to use them"
    ]
    assert watched.look(changed) == expected
    assert watched.look(dict(changed)) == expected
    assert len(caplog.records) == 1
    assert watched.look(USED) == []
    assert "are those in use" in caplog.records[-1].message
    assert watched.missed == 0


def test_values_are_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(USED)
    found = watched.look({**USED, "consul/password": b"secret-one"})
    assert "consul/password" in found[0]
    assert "secret-one" not in found[0] + caplog.text


def test_many_keys_are_cut_short() -> None:
    watched = Watched({})
    (found,) = watched.look({f"rootcas/{number:02}": b"x" for number in range(20)})
    assert "rootcas/09, ...;" in found
    assert "rootcas/10" not in found


def test_what_was_looked_at_is_not_read_again() -> None:
    watched = Watched(USED)
    watched.look({})

    def never() -> Mapping[str, bytes]:
        raise AssertionError

    watched.watch.look(watched.numbers, never)


@pytest.mark.parametrize("used", [USED, None], ids=["last", "nothing"])
def test_a_start_without_an_answer_is_made_good_once(used: Mapping[str, bytes] | None) -> None:
    watched = Watched(used, unanswered=True)
    watched.look({"workers": b"9"})
    watched.look({"workers": b"8"})
    assert watched.missed == 1


def test_a_start_without_an_answer_that_was_right_stays() -> None:
    watched = Watched(USED, unanswered=True, complaint="the store does not answer")
    assert [problem.message for problem in watched.watch.problems] == ["the store does not answer"]
    assert watched.look(USED) == []
    watched.look({"workers": b"9"})
    assert watched.missed == 0


def test_without_a_store_there_is_nothing_to_compare() -> None:
    watch = StaticWatch(
        Start(settings=load_settings([], environment={}), origin="no store"), lambda: None
    )
    assert watch.store is None
    watch.look(1, lambda: {"workers": b"1"})
    assert watch.problems == ()
