from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from kvproxy.control.workers import sockets
from kvproxy.control.workers.sockets import BindError, bind_all, close_all, parse_address
from kvproxy.model.static import EntryPoint

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def opened() -> Iterator[list[dict[sockets.Place, sockets.SlotSockets]]]:
    held: list[dict[sockets.Place, sockets.SlotSockets]] = []
    yield held
    for each in held:
        close_all(each)


Opened = list[dict[sockets.Place, sockets.SlotSockets]]


def by_name(places: dict[sockets.Place, sockets.SlotSockets]) -> dict[str, sockets.SlotSockets]:
    return {name: held for (name, _), held in places.items()}


def entry_points(**addresses: str) -> dict[str, EntryPoint]:
    return {name: EntryPoint(address=address) for name, address in addresses.items()}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (":80", ("", 80)),
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:443", ("::1", 443)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
        (":http", ("", 80)),
        (":https", ("", 443)),
    ],
)
def test_address(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "port is missing"),
        ("80", "port is missing"),
        ("::1:80", "brackets"),
        ("[::1:80", "bracket is not closed"),
        ("host:65536", "no port"),
        ("host:-1", "no port"),
        ("host:x y", "no port"),
        ("host:", "no port"),
        ("host:\u0663", "no port"),
    ],
)
def test_bad_address(address: str, reason: str) -> None:
    with pytest.raises(BindError, match=reason) as raised:
        bind_all(entry_points(web=address), 1)
    assert "`web`" in str(raised.value)


def test_slots_share_the_port_that_the_first_one_got(opened: Opened) -> None:
    places = bind_all(entry_points(web="127.0.0.1:0", other="127.0.0.1:0"), 3)
    opened.append(places)
    bound = by_name(places)
    for name in ("web", "other"):
        assert [len(held) for held in bound[name]] == [1, 1, 1]
        assert len({held[0].getsockname() for held in bound[name]}) == 1
    assert bound["web"][0][0].getsockname() != bound["other"][0][0].getsockname()


def test_every_slot_gets_connections(opened: Opened) -> None:
    places = bind_all(entry_points(web="127.0.0.1:0"), 2)
    opened.append(places)
    bound = by_name(places)
    target = bound["web"][0][0].getsockname()
    clients = [socket.create_connection(target, timeout=5) for _ in range(64)]
    accepted = [0, 0]
    for slot, held in enumerate(bound["web"]):
        try:
            while True:
                held[0].accept()[0].close()
                accepted[slot] += 1
        except BlockingIOError:
            pass
    for client in clients:
        client.close()
    assert sum(accepted) == 64
    assert all(accepted)


@pytest.mark.parametrize("address", [":0", "[::]:0"])
def test_no_host_means_both_families(opened: Opened, address: str) -> None:
    places = bind_all(entry_points(web=address), 1)
    opened.append(places)
    bound = by_name(places)
    port = bound["web"][0][0].getsockname()[1]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=5).close()


def test_an_ipv6_address_is_not_an_ipv4_one(opened: Opened) -> None:
    places = bind_all(entry_points(web="[::1]:0"), 1)
    opened.append(places)
    bound = by_name(places)
    port = bound["web"][0][0].getsockname()[1]
    socket.create_connection(("::1", port), timeout=5).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize("shares", [False, True], ids=["exclusive", "with-reuseport"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", ""], ids=["ipv4", "ipv6", "every"])
def test_an_address_in_use_is_named(host: str, shares: bool) -> None:
    family = socket.AF_INET if host == "127.0.0.1" else socket.AF_INET6
    with socket.socket(family) as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
        stranger.bind((host, 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        with pytest.raises(BindError) as raised:
            bind_all(entry_points(free="127.0.0.1:0", web=address), 2)
    assert str(raised.value).startswith(f"entry point `web` cannot listen on `{address}`: ")
    assert "in use" in str(raised.value)


def test_after_a_failure_nothing_stays_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        taken = stranger.getsockname()[1]
        with pytest.raises(BindError):
            bind_all(entry_points(a=f"127.0.0.1:{free}", b=f"127.0.0.1:{taken}"), 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free), timeout=5)


def test_a_bound_socket_that_does_not_listen_is_no_stranger(opened: Opened) -> None:
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        opened.append(bind_all(entry_points(web=f"127.0.0.1:{port}"), 1))
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


@pytest.mark.parametrize(
    ("before", "after", "from_inherited"),
    [
        pytest.param(2, 2, [1, 1], id="same-number"),
        pytest.param(4, 2, [2, 2], id="fewer-slots"),
        pytest.param(3, 2, [2, 1], id="fewer-slots-odd"),
        pytest.param(1, 3, [1, 0, 0], id="more-slots"),
    ],
)
def test_inherited_sockets_are_all_served(
    opened: Opened, before: int, after: int, from_inherited: list[int]
) -> None:
    settings = entry_points(web="127.0.0.1:0")
    old = bind_all(settings, before)
    opened.append(old)
    place = ("web", "127.0.0.1:0")
    given = [each for held in old[place] for each in held]
    new = bind_all(settings, after, {place: given})
    opened.append(new)
    assert all(new[place]), "a slot without a socket"
    assert [sum(each in given for each in held) for held in new[place]] == from_inherited
    assert sum(from_inherited) == before
    names = {each.getsockname() for held in new[place] for each in held}
    assert names == {given[0].getsockname()}


def test_a_changed_address_is_bound_anew(opened: Opened) -> None:
    old = bind_all(entry_points(web="127.0.0.1:0"), 1)
    opened.append(old)
    place = ("web", "127.0.0.1:0")
    new = bind_all(entry_points(web="[::1]:0"), 1, {place: old[place][0]})
    opened.append(new)
    assert new["web", "[::1]:0"][0][0].family == socket.AF_INET6


def test_an_entry_point_with_several_addresses(opened: Opened) -> None:
    bound = bind_all(entry_points(web="127.0.0.1:0, [::1]:0"), 2)
    opened.append(bound)
    assert list(bound) == [("web", "127.0.0.1:0"), ("web", "[::1]:0")]
    for held in bound.values():
        assert [len(slot) for slot in held] == [1, 1]
        socket.create_connection(held[0][0].getsockname()[:2], timeout=5).close()
