"""Which server is next: rotation, health, draining, dynamic weights, affinity."""

from __future__ import annotations

import pytest

from kvproxy.balance.drr import DynamicRoundRobin
from kvproxy.balance.stickiness import Stickiness
from kvproxy.model.messages import HealthChange
from kvproxy.model.static import StaticConfiguration
from kvproxy.proxy.upstream.balancer import Affinity, Balancer, Member
from kvproxy.proxy.upstream.health import Health
from kvproxy.proxy.upstream.server import Server
from kvproxy.proxy.upstream.transport import TransportSettings
from tests.unit.middleware.requests import a_request

TRANSPORT = TransportSettings(StaticConfiguration(entry_points={}))
COOKIE = Stickiness(b"c", b"; Path=/")


def member(name: str, weight: int = 1, *, draining: bool = False, checked: bool = False) -> Member:
    url = f"http://{name}"
    check = name.encode() if checked else b""
    return Member(Server(url, TRANSPORT), url, weight, draining, check)


def order(balancer: Balancer, length: int) -> str:
    chosen = [balancer.next() for _ in range(length)]
    return "".join("-" if server is None else server.host for server in chosen)


def test_rotation() -> None:
    assert order(Balancer([member("a", 3), member("b")], Health()), 8) == "aaabaaab"


def test_a_server_that_goes_down_and_comes_back() -> None:
    health = Health()
    balancer = Balancer([member(name, checked=True) for name in "abc"], health)
    assert order(balancer, 4) == "abca"
    health.update(HealthChange(down=[b"b"]))
    assert order(balancer, 4) == "acac"
    health.update(HealthChange(up=[b"b"]))
    assert order(balancer, 3) == "abc"


def test_the_health_of_others_does_not_move_the_rotation() -> None:
    health = Health()
    balancer = Balancer([member(name, checked=True) for name in "abc"], health)
    assert order(balancer, 1) == "a"
    health.update(HealthChange(down=[b"x"]))
    assert order(balancer, 1) == "b"
    health.update(HealthChange(up=[b"x"]))
    assert order(balancer, 1) == "c"


def test_a_whole_change_names_everything_that_is_down() -> None:
    health = Health()
    balancer = Balancer([member(name, checked=True) for name in "ab"], health)
    health.update(HealthChange(down=[b"a"]))
    health.update(HealthChange(down=[b"b"], whole=True))
    assert order(balancer, 2) == "aa"


def test_a_new_balancer_knows_what_is_down() -> None:
    health = Health()
    health.update(HealthChange(down=[b"a"], whole=True))
    assert order(Balancer([member(name, checked=True) for name in "ab"], health), 2) == "bb"


STATUSES = {
    "none": ([], (), 503),
    "weight 0": ([member("a", 0)], (), 500),
    "all down": ([member("a", checked=True)], (b"a",), 503),
    "all draining": ([member("a", draining=True)], (), 503),
    "weight 0 beside down": ([member("a", 0), member("b", checked=True)], (b"b",), 500),
    "draining beside down": (
        [member("a", draining=True), member("b", checked=True)],
        (b"b",),
        503,
    ),
}


@pytest.mark.parametrize(("members", "down", "status"), STATUSES.values(), ids=STATUSES)
def test_no_server(members: list[Member], down: tuple[bytes, ...], status: int) -> None:
    health = Health()
    balancer = Balancer(members, health)
    health.update(HealthChange(down=list(down)))
    assert balancer.next() is None
    assert balancer.no_server_status == status


SINGLE = {
    "one": (([member("a")], False), True),
    "two": (([member("a"), member("b")], False), False),
    "none": (([], False), False),
    "weight 0": (([member("a", 0)], False), False),
    "draining": (([member("a", draining=True)], False), False),
    "checked": (([member("a", checked=True)], False), False),
    "dynamic": (([member("a")], True), False),
}


@pytest.mark.parametrize(("given", "single"), SINGLE.values(), ids=SINGLE)
def test_single(given: tuple[list[Member], bool], single: bool) -> None:
    members, dynamic = given
    balancer = Balancer(members, Health(), dynamic=dynamic)
    assert balancer.single is (members[0].server if single else None)


def test_dynamic_weights_follow_failures_and_ratings_outlive_a_change() -> None:
    bad, good = member("bad"), member("good")
    balancer = Balancer([bad, good], Health(), dynamic=True)
    assert isinstance(balancer.rotation, DynamicRoundRobin)
    rating = balancer.ratings[bad.server]
    balancer.answered(bad.server, 502)
    balancer.answered(good.server, 200)
    balancer.answered(member("stranger").server, 502)
    added = Balancer([bad, good, member("new")], Health(), dynamic=True, previous=balancer)
    assert added.ratings[bad.server] is rating
    assert len(added.ratings) == 3
    plain = Balancer([bad, good], Health())
    plain.answered(bad.server, 502)
    assert plain.ratings == {}


def with_cookie(value: str) -> tuple[tuple[str, str], ...]:
    return (("Cookie", f"other=1; c={value}"),)


def choose(affinity: Affinity, value: str | None, unreachable: Server | None = None) -> str:
    """Return the server chosen, with a star when the client is tied to it anew."""
    request = a_request(headers=() if value is None else with_cookie(value))
    server, lines = affinity.choose(request, unreachable)
    assert server is not None
    expected = b"Set-Cookie: c=http://%b; Path=/\r\n" % server.host.encode()
    assert lines in (b"", expected)
    return server.host + ("*" if lines else "")


def test_affinity() -> None:
    """Rows B10 to B12: a valid cookie decides and moves nothing; any other is replaced."""
    affinity = Affinity(Balancer([member("a"), member("b")], Health()), COOKIE)
    assert choose(affinity, None) == "a*"
    assert choose(affinity, "http://a") == "a"
    assert choose(affinity, '"http://a"') == "a"
    assert choose(affinity, "http://a") == "a"
    assert choose(affinity, None) == "b*"
    assert choose(affinity, "http://unknown") == "a*"
    assert choose(affinity, "junk") == "b*"


def test_affinity_and_health() -> None:
    """Rows B13 and B14."""
    health = Health()
    affinity = Affinity(Balancer([member(name, checked=True) for name in "ab"], health), COOKIE)
    health.update(HealthChange(down=[b"b"]))
    assert choose(affinity, "http://b") == "a*"
    health.update(HealthChange(up=[b"b"]))
    assert choose(affinity, "http://b") == "b"


def test_a_draining_server_keeps_those_tied_to_it() -> None:
    affinity = Affinity(Balancer([member("a", draining=True), member("b")], Health()), COOKIE)
    assert choose(affinity, "http://a") == "a"
    assert [choose(affinity, None) for _ in range(3)] == ["b*"] * 3


def test_a_retry_leaves_the_server_of_the_cookie() -> None:
    tied = member("a")
    affinity = Affinity(Balancer([tied, member("b")], Health()), COOKIE)
    assert order_of_retry(affinity, tied.server) == ["a", "b*", "b*"]


def order_of_retry(affinity: Affinity, unreachable: Server) -> list[str]:
    return [
        choose(affinity, "http://a"),
        choose(affinity, "http://a", unreachable),
        choose(affinity, "http://a", unreachable),
    ]


def test_a_retry_goes_to_another_server_where_there_is_one() -> None:
    heavy, light = member("a", 9), member("b")
    balancer = Balancer([heavy, light], Health())
    chosen = [balancer.another(heavy.server) for _ in range(12)]
    assert chosen == [light.server] * 12
    alone = Balancer([heavy], Health())
    assert alone.another(heavy.server) is heavy.server
    assert Balancer([], Health()).another(heavy.server) is None


def test_without_a_cookie_the_rotation_alone_chooses() -> None:
    affinity = Affinity(Balancer([member("a"), member("b")], Health(), dynamic=True), None)
    assert [choose(affinity, "http://a") for _ in range(3)] == ["a", "b", "a"]
