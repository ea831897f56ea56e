from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from kvproxy.control.generations.journal import GoodProvider
from kvproxy.control.pipeline.quarantine import ProviderEntries
from kvproxy.control.validation.validator import Validator
from kvproxy.model.dynamic import Backend, Configuration, Frontend
from kvproxy.model.problem import Problem
from tests.unit.control.entries import (
    BAD_RULE,
    BAD_URL,
    SETTINGS,
    backend,
    configuration,
    frontend,
)


class Step:
    """One provider whose snapshots are applied one after the other."""

    def __init__(self) -> None:
        self.entries = ProviderEntries("file", Validator(SETTINGS))
        self.now = 0.0

    def say(
        self,
        frontends: dict[str, Frontend] | None = None,
        backends: dict[str, Backend] | None = None,
        problems: tuple[Problem, ...] = (),
    ) -> tuple[set[str], set[str]]:
        return self.say_snapshot(configuration(frontends, backends), problems)

    def say_snapshot(
        self, said: Configuration, problems: tuple[Problem, ...]
    ) -> tuple[set[str], set[str]]:
        """Apply a snapshot; return which served frontends and backends changed."""
        self.now += 1
        difference = self.entries.compare(said, problems)
        served = self.entries.apply(difference, self.now)
        return set(served.frontends), set(served.backends)

    def served(self) -> dict[str, str]:
        return {
            name: f"{entry.frontend.routes['main'].rule} {entry.frontend.backend}"
            for name, entry in self.entries.frontends.items()
        }

    def urls(self) -> dict[str, str]:
        return {
            name: entry.backend.servers["server"].url
            for name, entry in self.entries.backends.items()
        }

    def quarantined(self) -> dict[tuple[str, str], tuple[float, bool]]:
        return {
            (entry.section, entry.name): (entry.since, entry.serving)
            for entry in self.entries.quarantined()
        }


def undecodable(section: str, name: str, message: str = "wrong type") -> Problem:
    return Problem(message=message, entry=(section, name))


OLD, NEW, FINAL = "Host:old", "Host:new", "Host:final"
ONE, TWO = "http://one", "http://two"


def test_a_refused_frontend_goes_on_as_it_was_until_it_is_good() -> None:
    step = Step()
    step.say({"web": frontend(rule=OLD)}, {"one": backend(ONE)})
    assert step.say({"web": frontend(rule=BAD_RULE)}, {"one": backend(ONE)}) == (set(), set())
    assert step.served() == {"web": f"{OLD} one"}
    assert step.quarantined() == {("frontends", "web"): (2.0, True)}
    step.say({"web": frontend(rule="Path")}, {"one": backend(ONE)})
    assert step.quarantined() == {("frontends", "web"): (2.0, True)}
    assert step.say({"web": frontend(rule=NEW)}, {"one": backend(ONE)}) == ({"web"}, set())
    assert step.served() == {"web": f"{NEW} one"}
    assert step.quarantined() == {}
    assert list(step.entries.problems) == []


def test_a_refused_frontend_that_was_never_good_is_not_served() -> None:
    step = Step()
    step.say({"web": frontend(rule=BAD_RULE), "other": frontend(rule=OLD)}, {"one": backend(ONE)})
    assert step.served() == {"other": f"{OLD} one"}
    assert step.quarantined() == {("frontends", "web"): (1.0, False)}


def test_a_deleted_frontend_goes_even_from_quarantine() -> None:
    step = Step()
    step.say({"web": frontend(rule=OLD)}, {"one": backend(ONE)})
    step.say({"web": frontend(rule=BAD_RULE)}, {"one": backend(ONE)})
    assert step.say({}, {"one": backend(ONE)}) == ({"web"}, set())
    assert step.served() == {}
    assert step.quarantined() == {}
    assert list(step.entries.problems) == []


def test_a_refused_backend_goes_on_as_it_was() -> None:
    step = Step()
    step.say({"web": frontend(rule=OLD)}, {"one": backend(ONE)})
    step.say({"web": frontend(rule=NEW)}, {"one": backend(BAD_URL)})
    assert step.served() == {"web": f"{NEW} one"}
    assert step.urls() == {"one": ONE}
    assert step.quarantined() == {("backends", "one"): (2.0, True)}
    step.say({"web": frontend(rule=NEW)}, {"one": backend(TWO)})
    assert step.urls() == {"one": TWO}
    assert step.quarantined() == {}


def test_a_frontend_whose_backend_is_deleted_goes_on_with_it() -> None:
    step = Step()
    step.say({"web": frontend(rule=OLD)}, {"one": backend(ONE)})
    assert step.say({"web": frontend(rule=NEW)}, {}) == (set(), set())
    assert step.served() == {"web": f"{OLD} one"}
    assert step.urls() == {"one": ONE}
    (refused,) = step.entries.quarantined()
    (problem,) = refused.problems
    assert (problem.path, problem.message) == (
        "frontends.web.backend",
        "its backend `one` does not exist",
    )
    assert step.say({"web": frontend(rule=NEW)}, {"one": backend(TWO)}) == ({"web"}, {"one"})
    assert step.served() == {"web": f"{NEW} one"}
    assert step.urls() == {"one": TWO}


def test_a_kept_backend_goes_with_the_last_frontend_that_needs_it() -> None:
    step = Step()
    both = {"a": frontend(rule=OLD), "b": frontend(rule=OLD)}
    step.say(both, {"one": backend(ONE)})
    step.say(both, {})
    assert step.say({"a": both["a"]}, {}) == ({"b"}, set())
    assert step.say({}, {}) == ({"a"}, {"one"})
    assert step.urls() == {}


def test_a_kept_backend_serves_no_other_frontend() -> None:
    step = Step()
    web = frontend(rule=OLD)
    step.say({"web": web}, {"one": backend(ONE)})
    step.say({"web": web, "late": frontend(rule=NEW)}, {})
    assert step.served() == {"web": f"{OLD} one"}
    assert step.quarantined() == {
        ("frontends", "web"): (2.0, True),
        ("frontends", "late"): (2.0, False),
    }


def test_a_frontend_that_moves_to_a_missing_backend_stays_where_it_was() -> None:
    step = Step()
    step.say({"web": frontend("one", OLD)}, {"one": backend(ONE)})
    step.say({"web": frontend("tow", NEW)}, {"two": backend(TWO)})
    assert step.served() == {"web": f"{OLD} one"}
    assert step.urls() == {"one": ONE, "two": TWO}
    (refused,) = step.entries.quarantined()
    assert refused.problems[0].nearest == "two"
    step.say({"web": frontend("tow", NEW)}, {"two": backend(TWO), "tow": backend(TWO)})
    assert step.served() == {"web": f"{NEW} tow"}
    assert step.urls() == {"two": TWO, "tow": TWO}


def test_a_frontend_of_a_backend_that_was_never_good_says_so() -> None:
    step = Step()
    web = {"web": frontend(rule=OLD)}
    step.say(web, {"one": backend(BAD_URL)})
    assert step.served() == {}
    messages = {str(problem) for entry in step.entries.quarantined() for problem in entry.problems}
    assert any("its backend `one` is refused" in message for message in messages)
    step.say(web, {})
    messages = {str(problem) for entry in step.entries.quarantined() for problem in entry.problems}
    assert any("its backend `one` does not exist" in message for message in messages)
    step.say(web, {"one": backend(ONE)})
    assert step.served() == {"web": f"{OLD} one"}
    assert list(step.entries.problems) == []


def test_a_refused_backend_that_was_kept_is_used_again_by_all() -> None:
    step = Step()
    web = {"web": frontend(rule=OLD)}
    step.say(web, {"one": backend(ONE)})
    step.say(web, {})
    step.say(web, {"one": backend(BAD_URL)})
    assert step.quarantined() == {("backends", "one"): (3.0, True)}
    assert step.urls() == {"one": ONE}


def test_what_could_not_be_decoded_is_refused_and_not_deleted() -> None:
    step = Step()
    step.say({"web": frontend(rule=OLD)}, {"one": backend(ONE)})
    step.say({}, {}, (undecodable("frontends", "web"), undecodable("backends", "one")))
    assert step.served() == {"web": f"{OLD} one"}
    assert step.urls() == {"one": ONE}
    assert step.quarantined() == {
        ("frontends", "web"): (2.0, True),
        ("backends", "one"): (2.0, True),
    }
    step.say({}, {}, (undecodable("frontends", "web", "another reason"),))
    (refused,) = step.entries.quarantined()
    assert refused.problems == (undecodable("frontends", "web", "another reason"),)
    assert step.urls() == {"one": ONE}
    step.say({}, {})
    assert step.served() == {}
    assert step.urls() == {}


def test_the_same_object_after_a_failure_to_decode_is_served_again() -> None:
    step = Step()
    web, one = frontend(rule=OLD), backend(ONE)
    step.say({"web": web}, {"one": one})
    step.say({}, {"one": one}, (undecodable("frontends", "web"),))
    step.say({"web": web}, {"one": one})
    assert step.quarantined() == {}
    assert step.served() == {"web": f"{OLD} one"}


def test_who_asked_for_access_control_is_not_served_without() -> None:
    step = Step()
    one = {"one": backend(ONE)}
    step.say({"web": frontend(rule=OLD), "other": frontend(rule=OLD)}, one)
    closed = frontend(rule=OLD, basic_auth=("user:hash:too-much",))
    assert step.say({"web": closed, "other": frontend(rule=OLD)}, one) == ({"web"}, set())
    assert step.served() == {"other": f"{OLD} one"}
    assert step.quarantined() == {("frontends", "web"): (2.0, False)}
    step.say({"web": frontend(rule=BAD_RULE), "other": frontend(rule=OLD)}, one)
    assert step.served() == {"other": f"{OLD} one"}
    step.say({"web": frontend(rule=NEW), "other": frontend(rule=OLD)}, one)
    assert step.served() == {"web": f"{NEW} one", "other": f"{OLD} one"}


def test_unchanged_entries_stay_the_very_objects() -> None:
    step = Step()
    step.say({"a": frontend(rule=OLD), "b": frontend(rule=OLD)}, {"one": backend(ONE)})
    before = dict(step.entries.frontends), dict(step.entries.backends)
    # Everything is read again: other objects, equal content.
    assert step.say({"a": frontend(rule=OLD), "b": frontend(rule=NEW)}, {"one": backend(ONE)}) == (
        {"b"},
        set(),
    )
    assert step.entries.frontends["a"] is before[0]["a"]
    assert step.entries.backends["one"] is before[1]["one"]


def test_a_change_and_its_reversal_through_quarantine_is_no_change() -> None:
    step = Step()
    step.say({"web": frontend(rule=OLD)}, {"one": backend(ONE)})
    entry = step.entries.frontends["web"]
    step.say({"web": frontend(rule=BAD_RULE)}, {"one": backend(ONE)})
    assert step.say({"web": frontend(rule=OLD)}, {"one": backend(ONE)}) == (set(), set())
    assert step.entries.frontends["web"] is entry


def test_warnings_of_the_source_are_kept_while_it_gives_them() -> None:
    step = Step()
    warning = Problem(message="unknown option", where="routes.toml:3", fatal=False)
    step.say({}, {}, (warning,))
    assert [notice.problem for notice in step.entries.problems] == [warning]
    step.say({}, {}, ())
    assert list(step.entries.problems) == []


def test_only_what_changed_is_judged() -> None:
    judged: list[str] = []

    class Counting(Validator):
        def attach(self, name, frontend):  # type: ignore[no-untyped-def]
            judged.append(name)
            return super().attach(name, frontend)

        def backend(self, provider, name, backend):  # type: ignore[no-untyped-def]
            judged.append(name)
            return super().backend(provider, name, backend)

    entries = ProviderEntries("file", Counting(SETTINGS))
    frontends = {f"f{number}": frontend(rule=OLD) for number in range(50)}
    backends = {"one": backend(ONE), "two": backend(TWO)}
    entries.apply(entries.compare(configuration(frontends, backends), ()), 1.0)
    assert len(judged) == 52
    judged.clear()
    changed = {**frontends, "f7": frontend(rule=NEW)}
    entries.apply(entries.compare(configuration(changed, backends), ()), 2.0)
    assert judged == ["f7"]
    judged.clear()
    entries.apply(entries.compare(configuration(changed, {**backends, "one": backend(TWO)}), ()), 3)
    assert judged == ["one"]


# A plain model: no memory but what was served, everything judged anew in each step.


class Said(Struct, frozen=True):
    """One snapshot in small: name to what is said of it."""

    frontends: dict[str, tuple[str, str]]
    """Kind (good, bad, closed, undecodable) and backend."""
    backends: dict[str, str]
    """Kind: a URL, bad, undecodable."""


_FRONTENDS = st.dictionaries(
    st.sampled_from(["f0", "f1", "f2", "f3"]),
    st.tuples(
        st.sampled_from([OLD, NEW, FINAL, "bad", "closed", "undecodable"]),
        st.sampled_from(["b0", "b1", "b2"]),
    ),
)
_BACKENDS = st.dictionaries(
    st.sampled_from(["b0", "b1", "b2"]), st.sampled_from([ONE, TWO, "bad", "undecodable"])
)
_STEPS = st.lists(st.builds(Said, _FRONTENDS, _BACKENDS), min_size=1, max_size=8)


def snapshot_of(said: Said) -> tuple[Configuration, tuple[Problem, ...]]:
    problems = [
        undecodable("frontends", name)
        for name, (kind, _) in said.frontends.items()
        if kind == "undecodable"
    ] + [
        undecodable("backends", name)
        for name, kind in said.backends.items()
        if kind == "undecodable"
    ]
    frontends = {}
    for name, (kind, target) in said.frontends.items():
        if kind == "closed":
            frontends[name] = frontend(target, OLD, basic_auth=("user:hash:too-much",))
        elif kind != "undecodable":
            frontends[name] = frontend(target, BAD_RULE if kind == "bad" else kind)
    backends = {
        name: backend(BAD_URL if kind == "bad" else kind)
        for name, kind in said.backends.items()
        if kind != "undecodable"
    }
    return configuration(frontends, backends), tuple(problems)


Pairs = tuple[dict[str, tuple[str, str]], dict[str, str]]


def expected(before: Pairs, said: Said) -> Pairs:
    frontends_before, backends_before = before
    usable = {}
    for name, kind in said.backends.items():
        if kind in (ONE, TWO):
            usable[name] = kind
        elif name in backends_before:
            usable[name] = backends_before[name]
    frontends = {}
    for name, (kind, target) in said.frontends.items():
        if kind in (OLD, NEW, FINAL) and target in usable:
            frontends[name] = (kind, target)
        elif kind != "closed" and name in frontends_before:
            frontends[name] = frontends_before[name]
    kept = {
        target: backends_before[target] for _, target in frontends.values() if target not in usable
    }
    return frontends, usable | kept


@given(_STEPS, st.integers(0, 8))
def test_equals_the_plain_model(steps: list[Said], restart_before: int) -> None:
    step = Step()
    pairs: Pairs = ({}, {})
    for number, said in enumerate(steps):
        if number == restart_before:
            served = step.entries
            step = Step()
            step.entries.restore(
                GoodProvider(
                    "file",
                    "1",
                    0.0,
                    tuple(served.frontends.values()),
                    tuple(served.backends.values()),
                )
            )
        held = dict(step.entries.frontends), dict(step.entries.backends)
        changed_frontends, changed_backends = step.say_snapshot(*snapshot_of(said))
        pairs = expected(pairs, said)
        entries = step.entries
        assert {
            name: (entry.frontend.routes["main"].rule, entry.frontend.backend)
            for name, entry in entries.frontends.items()
        } == pairs[0]
        assert step.urls() == pairs[1]
        for before, after, changed in (
            (held[0], entries.frontends, changed_frontends),
            (held[1], entries.backends, changed_backends),
        ):
            names = before.keys() | after.keys()
            assert changed == {name for name in names if before.get(name) is not after.get(name)}
        refused = {(entry.section, entry.name): entry for entry in entries.quarantined()}
        good = {
            ("frontends", name)
            for name, (kind, target) in said.frontends.items()
            if pairs[0].get(name) == (kind, target) and target in said.backends
        }
        assert good.isdisjoint(refused)
        assert all(entry.problems for entry in refused.values())
        fatal = {notice.problem.entry for notice in entries.problems if notice.problem.fatal}
        assert fatal == set(refused)
