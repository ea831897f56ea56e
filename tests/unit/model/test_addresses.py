"""Addresses, networks, and what is in them (specification cases L09 to L16)."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.model.addresses import AddressRanges, parse_address, parse_network

RANGES = {
    "L09": (
        "1.2.3.4/24",
        ("1.2.3.1", "1.2.3.32", "1.2.3.156", "1.2.3.255"),
        ("1.2.16.1", "1.2.32.1", "127.0.0.1", "8.8.8.8"),
    ),
    "L10": ("8.8.8.8", ("8.8.8.8",), ("8.8.8.7", "8.8.8.9")),
    "L10-length": ("8.8.8.8/32", ("8.8.8.8",), ("8.8.8.7", "8.8.8.9")),
    "L11": ("8.8.8.8/8", ("8.255.255.255",), ("4.8.8.8",)),
    "L12": (
        "2a03:4000:6:d080::/64",
        ("2a03:4000:6:d080:dead:beef:ffff:ffff",),
        ("2a03:4000:7:d080::1",),
    ),
    "L13": ("2a03:4000:6:d080::42/128", ("2a03:4000:6:d080::42",), ("2a03:4000:6:d080::43",)),
    "L14": ("fe80::/16", ("fe80:aa00:00bb:4232:ff00:eeee:00ff:1111",), ("4242::1",)),
    "mapped-address": ("10.0.0.0/8", ("::ffff:10.1.1.1",), ("::ffff:11.1.1.1",)),
    "mapped-network": ("::ffff:10.0.0.0/104", ("10.1.1.1",), ("11.1.1.1", "::1")),
    "everything": ("0.0.0.0/0", ("1.2.3.4",), ("::1",)),
    "zone": ("fe80::1", ("fe80::1%eth0",), ("fe80::2%eth0",)),
}


@pytest.mark.parametrize(("text", "inside", "outside"), RANGES.values(), ids=RANGES)
def test_ranges(text: str, inside: tuple[str, ...], outside: tuple[str, ...]) -> None:
    ranges = AddressRanges([text])
    assert [each for each in inside if parse_address(each) not in ranges] == []
    assert [each for each in outside if parse_address(each) in ranges] == []


@pytest.mark.parametrize(
    "text",
    [
        "foo",
        "",
        "1.2.3.4/",
        "1.2.3.4/33",
        "1.2.3.4/255.255.255.0",
        "1.2.3/24",
        "::1/129",
        "1.2.3.4/-1",
    ],
)
def test_bad_networks(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        AddressRanges(["10.0.0.0/8", text])


@pytest.mark.parametrize("text", ["foo", "10.0.0.350", "fe:::80", "", "1.2.3.4/8", "010.0.0.1"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_address(text)


def test_an_empty_list_holds_nothing() -> None:
    assert not AddressRanges(())
    assert parse_address("1.2.3.4") not in AddressRanges(())


numbers4 = st.integers(0, 2**32 - 1)
numbers6 = st.integers(0, 2**128 - 1)
networks = st.lists(
    st.one_of(
        st.tuples(numbers4, st.integers(0, 32)).map(lambda p: f"{ip_address(p[0])}/{p[1]}"),
        st.tuples(numbers6.filter(lambda n: n >= 2**32), st.integers(0, 95)).map(
            lambda p: f"{ip_address(p[0])}/{p[1]}"
        ),
    ),
    max_size=8,
)


@given(networks, st.one_of(numbers4, numbers6).map(ip_address))
def test_it_agrees_with_looking_at_each_network(texts: list[str], address: object) -> None:
    parsed = parse_address(str(address))
    slow = any(parsed in ip_network(text, strict=False) for text in texts)
    assert (parsed in AddressRanges(texts)) is slow
    assert all(parse_network(text) == ip_network(text, strict=False) for text in texts)
