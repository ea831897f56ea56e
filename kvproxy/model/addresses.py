"""IP addresses and networks as they stand in the configuration, and what is in them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

_MAPPED = ip_network("::ffff:0:0/96")


def parse_address(text: str) -> Address:
    """Return the address that ``text`` spells; raises ValueError.

    A zone (``%eth0``) is left out, and an IPv4-mapped IPv6 address is the IPv4 address: two
    spellings of one client must not be two clients.
    """
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def parse_network(text: str) -> Network:
    """Return the network that ``text`` (an address, or address/length) spells; raises ValueError.

    Bits behind the length are allowed and not looked at; IPv4-mapped networks are IPv4 networks.
    """
    _, slash, length = text.partition("/")
    if slash and not (length.isascii() and length.isdigit()):
        raise ValueError(f"`{text}` has no length behind the slash")
    network = ip_network(text, strict=False)
    if network.version == 6 and network.prefixlen >= 96 and network.subnet_of(_MAPPED):  # type: ignore[arg-type]
        mapped = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((mapped, network.prefixlen - 96))
    return network


class AddressRanges:
    """Tells whether an address is in one of many networks, in a few look-ups however many."""

    __slots__ = ("_prefixes",)

    def __init__(self, texts: Iterable[str]) -> None:
        """``texts``: addresses and networks (CIDR). Raises ValueError."""
        prefixes: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for text in texts:
            network = parse_network(text)
            shift = network.max_prefixlen - network.prefixlen
            of_length = prefixes[network.version].setdefault(shift, set())
            of_length.add(int(network.network_address) >> shift)
        self._prefixes = prefixes

    def __contains__(self, address: Address) -> bool:
        """Whether ``address`` (see `parse_address`) is in one of the networks."""
        number = int(address)
        return any(
            number >> shift in prefixes
            for shift, prefixes in self._prefixes[address.version].items()
        )

    def __bool__(self) -> bool:
        """Whether there is any network."""
        return any(self._prefixes.values())
