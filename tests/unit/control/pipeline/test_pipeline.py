from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from kvproxy.control.pipeline.guard import CONFIRM_SECONDS
from kvproxy.control.pipeline.pipeline import Pipeline
from kvproxy.model.digest import add_digests, digest_text
from kvproxy.model.problem import Problem
from kvproxy.provider import Failure, Snapshot, Unchanged
from tests.unit.control.entries import (
    BAD_RULE,
    SETTINGS,
    ManualClock,
    backend,
    frontend,
    many,
    rules,
    snapshot,
)

WEB = {"web": frontend()}
ONE = {"one": backend()}


def pipeline(throttle: float = 0.0, guard: int = 50) -> tuple[Pipeline, ManualClock]:
    clock = ManualClock()
    settings = replace(SETTINGS, providers_throttle_duration=throttle, mass_deletion_guard=guard)
    return Pipeline(settings, None, clock), clock


def test_a_first_snapshot_is_the_first_generation() -> None:
    line, clock = pipeline()
    assert line.generation.number == 0
    outcome = line.offer(snapshot(WEB, ONE, revision="77"))
    generation = outcome.generation
    assert generation is line.generation
    assert generation is not None
    assert (generation.number, generation.base) == (1, 0)
    assert generation.revisions == {"file": "77"}
    assert generation.created_at == clock.time()
    assert rules(generation) == {("file", "web"): "Host:example.com -> http://10.0.0.1:80"}
    assert generation.frontends["file", "web"].frontend.entry_points == ("http",)
    assert (outcome.found, outcome.resolved, outcome.wake_at) == ((), (), None)


# Five configurations 10 ms apart, throttle 30 ms: two applied in 50 ms, one more later, the last
# one not lost.
@pytest.mark.parametrize("case", ["N01"])
def test_throttle(case: str) -> None:
    line, clock = pipeline(throttle=0.030)
    start = clock.now
    applied = []
    wake_at = None
    for millisecond in range(0, 200, 10):
        clock.now = start + millisecond / 1000
        outcomes = []
        if wake_at is not None and clock.now >= wake_at:
            outcomes.append(line.tick())
        if millisecond < 50:
            number = millisecond // 10
            outcomes.append(line.offer(snapshot({"web": frontend(rule=f"Host:v{number}")}, ONE)))
        for outcome in outcomes:
            wake_at = outcome.wake_at
            if outcome.generation is not None:
                (rule,) = rules(outcome.generation).values()
                applied.append((millisecond, rule.split()[0]))
    assert applied == [(0, "Host:v0"), (30, "Host:v2"), (60, "Host:v4")], case
    assert wake_at is None


@pytest.mark.parametrize("case", ["N02"])
def test_an_empty_configuration_at_first_is_no_generation(case: str) -> None:
    line, _ = pipeline()
    assert line.offer(snapshot()).generation is None, case
    assert line.generation.number == 0
    assert not line.providers()[0].stale


@pytest.mark.parametrize("case", ["N02"])
def test_an_empty_configuration_later_is_not_applied_at_once(case: str) -> None:
    line, clock = pipeline()
    line.offer(many(3))
    outcome = line.offer(snapshot(revision="2"))
    assert outcome.generation is None, case
    assert len(line.generation.frontends) == 3
    assert outcome.wake_at == clock.monotonic() + CONFIRM_SECONDS


@pytest.mark.parametrize("case", ["N03"])
def test_the_same_configuration_twice_is_applied_once(case: str) -> None:
    line, _ = pipeline()
    first = snapshot(WEB, ONE)
    assert line.offer(first).generation is not None
    assert line.offer(first).generation is None
    # The same content, read anew.
    again = snapshot({"web": frontend()}, {"one": backend()}, revision="2")
    assert line.offer(again).generation is None, case
    assert line.generation.number == 1
    assert line.providers()[0].revision == "2"


@pytest.mark.parametrize("case", ["N04"])
def test_two_providers_are_both_applied(case: str) -> None:
    line, _ = pipeline()
    line.offer(snapshot(WEB, ONE, provider="file", revision="a"))
    other = {"one": backend("http://other")}
    line.offer(snapshot(WEB, other, provider="etcd", revision="b"))
    assert rules(line.generation) == {
        ("file", "web"): "Host:example.com -> http://10.0.0.1:80",
        ("etcd", "web"): "Host:example.com -> http://other",
    }, case
    assert line.generation.revisions == {"file": "a", "etcd": "b"}


def unchanged(revision: str) -> Unchanged:
    return Unchanged(provider="file", revision=revision, read_at=5.0, keys=7)


def test_what_did_not_change_gets_a_new_revision() -> None:
    line, _ = pipeline()
    line.offer(snapshot(WEB, ONE, revision="1"))
    assert line.offer(unchanged("4")).generation is None
    (status,) = line.providers()
    assert (status.revision, status.read_at, status.keys) == ("4", 5.0, 7)
    assert line.generation.revisions == {"file": "1"}


def test_what_waits_for_the_throttle_gets_the_new_revision_too() -> None:
    line, clock = pipeline(throttle=2.0)
    line.offer(snapshot(WEB, ONE, revision="1"))
    line.offer(snapshot({"web": frontend(rule="Host:new")}, ONE, revision="2"))
    assert line.offer(unchanged("3")).generation is None
    assert line.providers()[0].revision == "1"
    clock.now += 2.0
    assert line.tick().generation is not None
    assert line.providers()[0].revision == "3"


def test_what_is_held_gets_the_new_revision_and_what_is_served_keeps_its_own() -> None:
    line, _ = pipeline()
    line.offer(many(20, revision="1"))
    assert line.offer(snapshot(revision="2")).generation is None
    line.offer(unchanged("3"))
    assert line.providers()[0].revision == "1"
    assert line.confirm("file").generation is not None
    assert line.providers()[0].revision == "3"


def test_nothing_is_known_of_a_provider_that_has_not_spoken() -> None:
    line, _ = pipeline()
    assert line.offer(unchanged("3")).generation is None
    assert line.providers()[0].revision == ""


def test_a_frontend_cannot_use_the_backend_of_another_provider() -> None:
    line, _ = pipeline()
    line.offer(snapshot({}, ONE, provider="file"))
    line.offer(snapshot(WEB, {}, provider="etcd"))
    assert line.generation.frontends == {}
    assert [entry.provider for entry in line.quarantined()] == ["etcd"]


@pytest.mark.parametrize("case", ["N08"])
def test_a_frontend_with_an_empty_user_is_left_out(case: str) -> None:
    line, _ = pipeline()
    line.offer(snapshot({"web": frontend(basic_auth=("",)), "other": frontend()}, ONE))
    assert set(rules(line.generation)) == {("file", "other")}, case


@pytest.mark.parametrize("case", ["N10"])
def test_one_broken_frontend_leaves_the_others_working(case: str) -> None:
    line, _ = pipeline()
    outcome = line.offer(
        snapshot({"bad": frontend(rule=BAD_RULE), "good": frontend(), "fine": frontend()}, ONE)
    )
    assert set(rules(line.generation)) == {("file", "good"), ("file", "fine")}, case
    (notice,) = outcome.found
    assert notice.provider == "file"
    assert notice.problem.entry == ("frontends", "bad")
    assert notice.problem.nearest == "Host"


def test_different_providers_do_not_throttle_each_other() -> None:
    line, clock = pipeline(throttle=2.0)
    assert line.offer(snapshot(WEB, ONE, provider="file")).generation is not None
    assert line.offer(snapshot(WEB, ONE, provider="etcd")).generation is not None
    clock.now += 1.0
    changed = {"web": frontend(rule="Host:new")}
    for provider in ("file", "etcd"):
        outcome = line.offer(snapshot(changed, ONE, provider=provider))
        assert outcome.generation is None
    assert all(status.waits_for_throttle for status in line.providers())
    assert outcome.wake_at == clock.now + 1.0
    clock.now += 1.0
    outcome = line.tick()
    assert outcome.generation is line.generation
    assert set(rules(line.generation).values()) == {"Host:new -> http://10.0.0.1:80"}
    assert outcome.wake_at is None


def test_deleting_single_routes_is_immediate_down_to_the_last() -> None:
    line, _ = pipeline()
    for count in range(30, -1, -1):
        outcome = line.offer(many(count))
        assert outcome.generation is not None
        assert len(line.generation.frontends) == count
    assert line.generation.backends == {}


def test_a_mass_deletion_waits_for_a_second_read_and_is_then_applied() -> None:
    line, clock = pipeline()
    line.offer(many(100, revision="1"))
    outcome = line.offer(many(10, revision="2"))
    assert outcome.generation is None
    assert outcome.confirm == ()
    (notice,) = outcome.found
    assert "90 of 100" in notice.problem.message
    assert not notice.problem.fatal
    (status,) = line.providers()
    assert status.held is not None
    assert (status.held.removes, status.held.serving, status.held.revision) == (90, 100, "2")
    assert status.revision == "1"
    assert outcome.wake_at is not None
    clock.now = outcome.wake_at
    outcome = line.tick()
    assert outcome.confirm == ("file",)
    assert outcome.generation is None
    outcome = line.offer(many(10, revision="2"))
    assert outcome.generation is not None
    assert len(outcome.generation.frontends) == 10
    assert outcome.resolved == (notice,)
    assert line.providers()[0].held is None
    assert outcome.wake_at is None


def test_an_empty_store_that_stays_empty_is_applied_in_the_end() -> None:
    line, clock = pipeline()
    line.offer(many(5))
    line.offer(snapshot())
    clock.now += CONFIRM_SECONDS
    assert line.tick().confirm == ("file",)
    outcome = line.offer(snapshot())
    assert outcome.generation is not None
    assert outcome.generation.frontends == {}
    assert outcome.generation.digest == "0" * 64


def test_routes_that_come_back_are_never_gone() -> None:
    line, clock = pipeline()
    line.offer(many(100))
    line.offer(snapshot())
    clock.now += CONFIRM_SECONDS
    line.tick()
    outcome = line.offer(many(100))
    assert outcome.generation is None
    assert len(outcome.resolved) == 1
    assert line.generation.number == 1
    assert line.providers()[0].held is None


def test_a_source_that_fails_while_asked_again_changes_nothing() -> None:
    line, clock = pipeline()
    line.offer(many(100))
    line.offer(snapshot())
    clock.now += CONFIRM_SECONDS
    line.tick()
    failure = Problem(message="connection refused")
    outcome = line.offer(Failure(provider="file", problems=(failure,), failed_at=clock.time()))
    assert outcome.generation is None
    assert len(line.generation.frontends) == 100
    assert outcome.wake_at is not None
    clock.now = outcome.wake_at
    assert line.tick().confirm == ("file",)


def test_an_operator_confirms_what_is_held() -> None:
    line, _ = pipeline()
    line.offer(many(100))
    line.offer(snapshot())
    assert line.confirm("etcd").generation is None
    outcome = line.confirm("file")
    assert outcome.generation is not None
    assert outcome.generation.frontends == {}
    assert line.confirm("file").generation is None


def test_the_guard_can_be_turned_off() -> None:
    line, _ = pipeline(guard=0)
    line.offer(many(100))
    outcome = line.offer(snapshot())
    assert outcome.generation is not None
    assert outcome.generation.frontends == {}


def test_entries_that_cannot_be_decoded_are_no_deletion() -> None:
    line, _ = pipeline()
    line.offer(many(100))
    problems = tuple(
        Problem(message="wrong type", entry=("frontends", f"f{number}")) for number in range(100)
    )
    outcome = line.offer(snapshot({}, ONE, problems=problems))
    assert outcome.generation is None
    assert len(line.generation.frontends) == 100
    assert len(line.quarantined()) == 100
    assert line.providers()[0].held is None


def test_a_failure_is_told_and_goes_with_the_next_snapshot() -> None:
    line, clock = pipeline()
    line.offer(snapshot(WEB, ONE))
    problem = Problem(message="connection refused")
    failure = Failure(provider="file", problems=(problem,), failed_at=123.0)
    outcome = line.offer(failure)
    assert [notice.problem for notice in outcome.found] == [problem]
    clock.now += 1
    assert line.offer(failure).found == ()
    assert line.providers()[0].failed_since == 123.0
    assert [notice.problem for notice in line.problems()] == [problem]
    outcome = line.offer(snapshot(WEB, ONE))
    assert [notice.problem for notice in outcome.resolved] == [problem]
    assert line.providers()[0].failed_since is None
    assert line.problems() == []


def test_a_provider_that_has_only_failed_is_no_part_of_a_generation() -> None:
    line, _ = pipeline()
    line.offer(Failure(provider="etcd", problems=(), failed_at=1.0))
    line.offer(snapshot(WEB, ONE))
    assert line.generation.revisions == {"file": "1"}


def test_unchanged_entries_are_the_very_objects_in_the_next_generation() -> None:
    line, _ = pipeline()
    frontends = {"a": frontend(), "b": frontend()}
    before = line.offer(snapshot(frontends, ONE)).generation
    after = line.offer(snapshot({**frontends, "b": frontend(rule="Host:b")}, ONE)).generation
    assert before is not None
    assert after is not None
    assert after.frontends["file", "a"] is before.frontends["file", "a"]
    assert after.backends is before.backends
    assert set(after.changes.frontends) == {("file", "b")}


_SNAPSHOTS = st.lists(
    st.tuples(
        st.sampled_from(["file", "etcd"]),
        st.dictionaries(
            st.sampled_from(["f0", "f1", "f2"]),
            st.tuples(
                st.sampled_from(["Host:a", "Host:b", BAD_RULE]), st.sampled_from(["b0", "b1"])
            ),
        ),
        st.dictionaries(
            st.sampled_from(["b0", "b1"]), st.sampled_from(["http://a", "http://b", "bad"])
        ),
        st.floats(0.0, 3.0),
    ),
    max_size=10,
)


@given(_SNAPSHOTS, st.sampled_from([0.0, 1.0]))
def test_what_is_served_is_always_whole_and_named_by_its_digest(
    events: list[tuple[str, dict[str, tuple[str, str]], dict[str, str], float]], throttle: float
) -> None:
    line, clock = pipeline(throttle=throttle)
    last: dict[str, Snapshot] = {}
    for provider, frontends, backends, pause in events:
        event = snapshot(
            {name: frontend(target, rule) for name, (rule, target) in frontends.items()},
            {name: backend(url) for name, url in backends.items()},
            provider=provider,
        )
        last[provider] = event
        outcome = line.offer(event)
        check(line)
        while outcome.wake_at is not None and outcome.wake_at <= clock.now + pause:
            clock.now = outcome.wake_at
            outcome = line.tick()
            check(line)
            for name in outcome.confirm:
                outcome = line.offer(last[name])
                check(line)
        clock.now += pause
    # Whatever waited is applied or asked for in the end: the newest word of each provider holds.
    for _ in range(20):
        clock.now += 100.0
        for name in line.tick().confirm:
            line.offer(last[name])
    check(line)
    for name, event in last.items():
        served = {key[1] for key in line.generation.frontends if key[0] == name}
        assert served <= event.configuration.frontends.keys()
        good = {
            frontend_name
            for frontend_name, content in event.configuration.frontends.items()
            if content.routes["main"].rule != BAD_RULE
            and (target := event.configuration.backends.get(content.backend)) is not None
            and target.servers["server"].url != "bad"
        }
        assert good <= served


def check(line: Pipeline) -> None:
    generation = line.generation
    for (provider, _), entry in generation.frontends.items():
        assert (provider, entry.frontend.backend) in generation.backends
    digests = [entry.digest for entry in generation.frontends.values()]
    digests += [entry.digest for entry in generation.backends.values()]
    assert generation.digest == digest_text(add_digests(0, digests))
