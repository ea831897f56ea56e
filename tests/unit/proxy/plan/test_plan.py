"""The step from one generation to the next: what changes, and above all what does not."""

from __future__ import annotations

import asyncio
import gc
from itertools import pairwise
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvproxy.model.dynamic import CircuitBreaker, LoadBalancer, MaxConn, Rate, RateLimit
from kvproxy.model.messages import Apply, BackendEntry, FrontendEntry
from kvproxy.model.static import Ping, Retry
from kvproxy.proxy.plan.internal import InternalPaths
from kvproxy.proxy.plan.plan import UnknownBaseError
from kvproxy.proxy.request.chain import Chain
from kvproxy.proxy.upstream.balancer import Member
from kvproxy.proxy.upstream.http1 import UpstreamConnection
from kvproxy.routing.index import RouteIndex
from kvproxy.routing.request import RequestView
from tests.unit.middleware.requests import a_request
from tests.unit.proxy.wires import FakeTransport, Wires
from tests.unit.proxy.worlds import World, backend, frontend, generation_digest, whole

HOSTS = ("a.test", "b.test", "A.test", "a.test:80", "a.test.", "[::1]:80", "c.test")
RULES = (
    *("Host:a.test", "Host:A.TEST,b.test", "Host:a.test;Path:/x", "Host:a.test:80", "Path:/x"),
    *("Host:b.test;AddPrefix:/v1", "HostRegexp:{s}.test", "Host:[fe80:1]:80", "Host:a.test."),
    "Host:c.test;PathPrefixStrip:/x",
)
URLS = ("http://s1", "http://s2", "http://s2/path", "https://s1", "http://s3:8080")

backends = st.builds(
    backend,
    st.sampled_from(("b0", "b1", "b2")),
    st.dictionaries(st.sampled_from(URLS), st.integers(0, 2), max_size=3),
)
frontends = st.builds(
    frontend,
    st.sampled_from([f"f{number}" for number in range(6)]),
    st.sampled_from(RULES),
    st.sampled_from(("b0", "b1", "b2", "missing")),
    priority=st.sampled_from((0, 0, 5, 30)),
    pass_host_header=st.booleans(),
    entry_points=st.sampled_from(((), ("http", "other"), ("other",), ("unknown",))),
)
States = dict[tuple[type, str], FrontendEntry | BackendEntry]
states = st.lists(st.one_of(frontends, frontends, backends), max_size=10).map(
    lambda entries: {(type(entry), entry.name): entry for entry in entries}
)


def delta(generation: int, old: States, new: States) -> list[Apply]:
    """Return the change from one state to another in several parts."""
    changed = [entry for key, entry in new.items() if old.get(key) != entry]
    gone = [key for key in old if key not in new]
    base = generation - 1
    parts = [whole(generation, entry, base=base) for entry in changed]
    last = Apply(
        generation,
        base,
        "",
        removed_frontends=[("p", name) for kind, name in gone if kind is FrontendEntry],
        removed_backends=[("p", name) for kind, name in gone if kind is BackendEntry],
    )
    return [*parts, last]


def members(chain: Chain) -> tuple[Member, ...]:
    return chain.balancer.members


def described(world: World) -> list[object]:
    """Return everything by which two plans could be told apart, in values."""
    answers: list[object] = [world.plan.digest]
    for name in world.listeners:
        for host in HOSTS:
            for path in ("/", "/x", "/x/y"):
                chain = world.chain(host, path, name)
                answers.append(
                    chain
                    and (
                        *(chain.name, chain.pass_host, chain.priority, chain.attempts),
                        *(chain.direct, chain.no_server_status),
                        [(each.server.identity, each.weight) for each in members(chain)],
                        chain.single and chain.single.identity,
                    )
                )
    answers.append(sorted((server.identity, server.users) for server in world.plan.servers))
    answers.append(
        sorted((key, sorted(users)) for key, users in world.plan._users.items() if users)
    )
    sharing: dict[int, set[tuple[str, str]]] = {}
    for name in world.listeners:
        for host in HOSTS:
            chain = world.chain(host, "/", name)
            if chain is not None:
                sharing.setdefault(id(chain.balancer), set()).add((name, chain.name))
    answers.append(sorted(map(sorted, sharing.values())))
    return answers


def direct_is_true(world: World) -> None:
    """Hold the direct table against the index."""
    for listener in world.listeners.values():
        for host, chain in listener.direct.items():
            assert chain.direct
            if chain.priority > listener.floating_priority:
                for path in (b"/", b"/x", b"/x/y"):
                    head = b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (path, host)
                    found = listener.index.find(RequestView(b"GET", host, path, b"", head))
                    assert found is not None, host
                    assert found.payload is chain
                    assert not found.redirect


@settings(max_examples=150)
@given(st.lists(states, min_size=1, max_size=5))
def test_many_small_steps_end_where_one_large_step_ends(sequence: list[States]) -> None:
    async def run() -> None:
        stepwise = World()
        old: States = {}
        for generation, new in enumerate(sequence, start=1):
            await stepwise.apply(*delta(generation, old, new))
            direct_is_true(stepwise)
            assert stepwise.plan.generation == generation
            assert stepwise.plan.digest == generation_digest(new.values())
            old = new
        at_once = World()
        await at_once.apply(whole(1, *old.values()))
        direct_is_true(at_once)
        assert described(stepwise) == described(at_once)

    asyncio.run(run())


@settings(max_examples=60)
@given(states, states)
def test_a_whole_generation_over_another_leaves_nothing_of_it(old: States, new: States) -> None:
    async def run() -> None:
        world, fresh = World(), World()
        await world.apply(whole(1, *old.values()))
        await world.apply(whole(2, *new.values()))
        await fresh.apply(whole(1, *new.values()))
        direct_is_true(world)
        assert described(world) == described(fresh)

    asyncio.run(run())


def test_port_in_a_rule_is_no_direct_way() -> None:
    """A configured name with a port never matches (specification section 2.3), not even as sent."""

    async def run() -> None:
        world = World()
        await world.apply(whole(1, backend("b", {"http://s": 1}), frontend("f", "Host:a:80", "b")))
        listener = world.listeners["http"]
        chain = listener.direct.get(b"a:80")
        assert world.chain("a:80") is None
        assert chain is None or chain.priority <= listener.floating_priority

    asyncio.run(run())


async def two_frontends(**options: Any) -> tuple[World, Any, Any]:
    world = World()
    await world.apply(
        whole(
            1,
            backend("b", {"http://s1": 1, "http://s2": 1}),
            frontend("one", "Host:one", "b"),
            frontend("two", "Host:two", "b", **options),
        )
    )
    return world, world.chain("one"), world.chain("two")


async def test_equal_settings_share_one_rotation() -> None:
    """Row B06."""
    _, one, two = await two_frontends()
    assert one.balancer is two.balancer
    assert [one.next_server(), two.next_server()] == [each.server for each in members(one)]


@pytest.mark.parametrize("options", [{"pass_host_header": True}, {"priority": 7}], ids=str)
async def test_different_settings_have_their_own_rotation(options: dict[str, Any]) -> None:
    """Row B07."""
    _, one, two = await two_frontends(**options)
    assert one.balancer is not two.balancer
    assert one.next_server() is two.next_server()


async def test_entry_points_and_providers_have_their_own_rotation() -> None:
    world = World()
    both = ("http", "other")
    servers = {"http://s1": 1, "http://s2": 1}
    await world.apply(
        whole(
            1,
            backend("b", servers),
            backend("b", servers, "q"),
            frontend("f", "Host:one", "b", entry_points=both),
            frontend("f", "Host:two", "b", "q", entry_points=both),
        )
    )
    balancers = {
        id(world.chain(host, entry_point=name).balancer) for host in ("one", "two") for name in both
    }
    assert len(balancers) == 4
    assert members(world.chain("one")) == members(world.chain("two"))


async def test_what_did_not_change_keeps_its_very_objects() -> None:
    world, one, two = await two_frontends()
    one.next_server()
    one.count(2, 0.5)
    server = members(one)[0].server
    idle = UpstreamConnection(server)
    FakeTransport(Wires(), idle, 1000)
    server.idle.append(idle)
    rule = world.plan.frontends["p", "one"].rule
    counters = world.plan.backends["p", "b"].counters
    await world.apply(
        whole(
            2,
            backend("new", {"http://s1": 1}),
            frontend("new", "Host:new", "new"),
            frontend("two", "Host:two;Path:/only", "b"),
            base=1,
        )
    )
    assert world.chain("one") is one
    assert world.chain("one").balancer is one.balancer
    assert world.plan.frontends["p", "one"].rule is rule
    assert world.plan.backends["p", "b"].counters is counters
    assert one.counters is counters["http"]
    assert members(world.chain("new"))[0].server is server
    assert server.users == 2
    assert server.idle == [idle]
    changed = world.chain("two", "/only")
    assert changed is not two
    assert changed.balancer is one.balancer
    assert changed.next_server() is members(one)[1].server


async def test_a_whole_generation_with_equal_entries_changes_no_object() -> None:
    world, one, _ = await two_frontends()
    entries = [plan.entry for plan in world.plan.frontends.values()]
    await world.apply(whole(7, *entries, world.plan.backends["p", "b"].entry))
    assert world.chain("one") is one
    assert world.plan.generation == 7


SAME_ROTATION = [
    ({"http://s1": 1, "http://s2": 1}, True),
    ({"http://s2": 1, "http://s1": 1}, True),
    ({"http://s1": 2, "http://s2": 1}, False),
    ({"http://s1": 1}, False),
    ({"http://s1": 1, "http://s2": 1, "http://s3": 1}, False),
]


@pytest.mark.parametrize(("servers", "kept"), SAME_ROTATION, ids=str)
async def test_rotation_is_reset_only_by_servers_and_weights(
    servers: dict[str, int], kept: bool
) -> None:
    world, one, _ = await two_frontends()
    counters = one.counters
    one.next_server()
    changed = backend("b", servers, max_conn=MaxConn(amount=5, extractor_func="client.ip"))
    await world.apply(whole(2, changed, base=1))
    now = world.chain("one")
    assert now is not one
    assert (now.balancer is one.balancer) is kept
    assert now.balancer is world.chain("two").balancer
    assert now.counters is counters


async def test_a_hundred_changes_elsewhere_move_nothing() -> None:
    """The measured sequence of a rotation, a breaker, used tokens and dynamic weights go on."""
    world = World()
    rate = RateLimit(
        extractor_func="request.host", rate_set={"r": Rate(period=3600.0, average=1, burst=101)}
    )
    await world.apply(
        whole(
            1,
            backend("wrr", {"http://a": 3, "http://b": 1}),
            backend(
                "drr",
                {"http://a": 1, "http://b": 1},
                load_balancer=LoadBalancer(method="drr"),
                circuit_breaker=CircuitBreaker(expression="NetworkErrorRatio() > 0.5"),
            ),
            frontend("wrr", "Host:wrr", "wrr"),
            frontend("drr", "Host:drr", "drr", rate_limit=rate),
        )
    )
    chain = world.chain("drr")
    ratings = chain.balancer.ratings
    ((_, record),) = chain.stages.steps
    record(a_request(), 502, 0.0)
    sequence = []
    for number in range(100):
        sequence.append(world.chain("wrr").next_server().host)
        entries: list[FrontendEntry | BackendEntry] = [
            backend("other", {f"http://{number}": 1}),
            frontend(f"other-{number % 7}", f"Host:other;Path:/{number}", "other"),
        ]
        await world.apply(whole(2 + number, *entries, base=1 + number))
        assert world.chain("drr") is chain
        ((take, _),) = world.chain("drr").limits.steps
        assert take(a_request()) is None
    assert "".join(sequence) == "aaab" * 25
    assert chain.balancer.ratings is ratings
    # Even a chain made anew, because its own backend changed, goes on with its shared state.
    changed = backend(
        "drr",
        {"http://a": 1, "http://b": 1, "http://c": 1},
        load_balancer=LoadBalancer(method="drr"),
        circuit_breaker=CircuitBreaker(expression="NetworkErrorRatio() > 0.5"),
    )
    await world.apply(whole(102, changed, base=101))
    fresh = world.chain("drr")
    assert fresh is not chain
    assert ratings.items() <= fresh.balancer.ratings.items()
    ((allow, _),) = fresh.stages.steps
    assert allow(a_request()).status == 503
    ((take, _),) = fresh.limits.steps
    assert take(a_request()) is None
    assert take(a_request()).status == 429


async def test_removed_servers_lose_their_idle_connections() -> None:
    world, one, _ = await two_frontends()
    transports = []
    for server, *_ in members(one):
        idle = UpstreamConnection(server)
        transports.append(FakeTransport(Wires(), idle, 1000))
        server.idle.append(idle)
    gone, stays = [each.server for each in members(one)]
    await world.apply(whole(2, backend("b", {stays_url(stays): 1}), base=1))
    assert gone.idle == []
    assert len(stays.idle) == 1
    assert [transport.closing for transport in transports] == [True, False]
    assert list(world.plan.servers) == [stays]
    late = UpstreamConnection(gone)
    transport = FakeTransport(Wires(), late, 1000)
    gone.release(late)
    assert transport.closing
    assert gone.idle == []


def stays_url(server: Any) -> str:
    return f"{server.scheme}://{server.host}"


@pytest.mark.parametrize("base", [0, 2, 5, -2])
async def test_a_wrong_base_changes_nothing(base: int) -> None:
    world, one, two = await two_frontends()
    before = described(world)
    indexes = [listener.index for listener in world.listeners.values()]
    with pytest.raises(UnknownBaseError):
        await world.apply(whole(3, frontend("one", "Host:other", "b"), base=base))
    assert described(world) == before
    assert [listener.index for listener in world.listeners.values()] == indexes
    assert world.chain("one") is one
    assert world.chain("two") is two
    assert world.plan.generation == 1


async def test_a_backend_may_come_after_its_frontend_and_leave_before_it() -> None:
    world = World()
    problems = await world.apply(whole(1, frontend("f", "Host:a", "b")))
    assert problems == ["frontend f: no backend b"]
    assert world.chain("a") is None
    assert await world.apply(whole(2, backend("b", {"http://s": 1}), base=1)) == []
    assert world.chain("a").name == "f"
    problems = await world.apply(Apply(3, 2, "", removed_backends=[("p", "b")]))
    assert problems == ["frontend f: no backend b"]
    assert world.chain("a") is None
    assert list(world.plan.servers) == []


async def test_a_rule_that_cannot_be_parsed_is_reported_and_heals() -> None:
    world = World()
    good = frontend("f", "Host:a", "b")
    bad = frontend("f", "Hosts:a", "b")
    servers = backend("b", {"http://s": 1})
    assert await world.apply(whole(1, servers, good)) == []
    for generation in (2, 3):
        problems = await world.apply(whole(generation, servers, bad))
        assert world.chain("a") is None
        assert world.plan.digest == generation_digest([servers, bad])
    assert len(problems) == 0, "an unchanged entry is not compiled again"
    assert await world.apply(whole(4, good, base=3)) == []
    assert world.chain("a").name == "f"
    assert world.plan.digest == generation_digest([servers, good])


WEIGHTS = [
    ({}, False, 503, None),
    ({"http://s": 0}, False, 500, "s"),
    ({"http://s": 0}, True, 500, None),
    ({"http://s": 3}, True, 500, "s"),
    ({"http://s": 1, "http://t": 1}, False, 500, None),
]


@pytest.mark.parametrize(("servers", "zero", "status", "single"), WEIGHTS, ids=str)
async def test_servers_and_weights(
    servers: dict[str, int], zero: bool, status: int, single: str | None
) -> None:
    world = World(allow_min_weight_zero=zero)
    await world.apply(whole(1, backend("b", servers), frontend("f", "Host:a", "b")))
    chain = world.chain("a")
    assert chain.no_server_status == status
    assert (chain.single and chain.single.host) == single
    if not single and len(servers) < 2:
        assert chain.next_server() is None


RETRIES = [(None, 2, 1), (Retry(), 2, 2), (Retry(attempts=3), 2, 3), (Retry(), 0, 1)]


@pytest.mark.parametrize(("retry", "servers", "attempts"), RETRIES, ids=str)
async def test_attempts(retry: Retry | None, servers: int, attempts: int) -> None:
    world = World(retry=retry)
    urls = {f"http://s{number}": 1 for number in range(servers)}
    await world.apply(whole(1, backend("b", urls), frontend("f", "Host:a", "b")))
    assert world.chain("a").attempts == attempts


async def test_own_paths_leave_no_direct_way() -> None:
    world = World(ping=Ping(entry_point="http"))
    listener = world.listeners["http"]
    listener.internal = InternalPaths(ping=lambda: (200, b"OK"))
    await world.apply(whole(1, backend("b", {"http://s": 1}), frontend("f", "Host:a", "b")))
    assert all(chain.priority <= listener.floating_priority for chain in listener.direct.values())


@pytest.mark.serial
async def test_large_changes_give_way_to_requests() -> None:
    """The most work between two turns of the loop stays far below a second."""
    world = World()
    entries: list[FrontendEntry | BackendEntry] = []
    for number in range(5000):
        entries.append(backend(f"b{number}", {f"http://10.0.{number // 250}.{number % 250}": 1}))
        entries.append(frontend(f"f{number}", f"Host:h{number}.test", f"b{number}"))
    turns: list[float] = []

    async def count_turns() -> None:
        while True:
            turns.append(process_time())
            await asyncio.sleep(0)

    for message in (whole(1, *entries), whole(2, entries[0], base=1), whole(3)):
        turns.clear()
        gc.collect()
        counting = asyncio.create_task(count_turns())
        await asyncio.sleep(0)
        began = process_time()
        await world.apply(message)
        seconds = process_time() - began
        await asyncio.sleep(0)
        counting.cancel()
        gaps = sorted(later - earlier for earlier, later in pairwise(turns))
        if len(message.frontends) > 1000:
            assert len(turns) > 50
        assert gaps[-1] < 0.25, f"of {seconds:.3f} s, longest gaps {gaps[-3:]}"
    assert world.chain("h1.test") is None


@pytest.mark.serial
async def test_a_change_costs_the_same_among_few_and_many_backends() -> None:
    costs = []
    for count in (100, 20_000):
        world = World()
        await world.apply(
            whole(
                1,
                *(backend(f"b{number}", {f"http://s{number}": 1}) for number in range(count)),
                *(frontend(f"f{number}", "Host:a.test", "b0") for number in range(10)),
            )
        )
        gc.collect()
        tries = []
        for number in range(20):
            change = frontend("f0", "Host:a.test", f"b{number % 2}")
            began = process_time()
            await world.apply(whole(number + 2, change, base=number + 1))
            tries.append(process_time() - began)
        costs.append(min(tries))
    assert costs[1] < 4 * costs[0], costs


def test_empty_index_has_no_direct_way() -> None:
    world = World()
    assert isinstance(world.listeners["http"].index, RouteIndex)
    assert world.listeners["http"].direct == {}
    assert world.chain("a") is None
