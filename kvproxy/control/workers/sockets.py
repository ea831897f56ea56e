"""The listening sockets: one per worker slot and address, bound by the supervisor and kept.

The slots share an address by SO_REUSEPORT. The supervisor holds a descriptor of
each for its whole life, so what waits in a dead worker's queue is accepted by its successor.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.model.listening import split_addresses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from kvproxy.model.static import EntryPoint

BACKLOG = 4096
"""Connections that may wait per socket (the kernel caps it at net.core.somaxconn)."""

SlotSockets = list[list[socket.socket]]
"""Slot to the sockets that its worker serves, of one address."""

Place = tuple[str, str]
"""Entry point and one of its addresses, as configured."""

WELL_KNOWN = {"http": 80, "https": 443}
"""Names of ports that are understood where the machine has no list of them (/etc/services)."""

_LISTEN_STATE = "0A"


class BindError(Exception):
    """An entry point cannot listen; the message names it, its address and the reason."""


def parse_address(address: str) -> tuple[str, int]:
    """Split ``:80``, ``host:80`` or ``[::1]:80`` into host (empty: every address) and port.

    Raises ValueError with what is wrong.
    """
    host, colon, port_text = address.rpartition(":")
    if not colon:
        raise ValueError("the port is missing; expected host:port or :port")
    if host.startswith("["):
        if not host.endswith("]"):
            raise ValueError("the bracket is not closed; expected [address]:port")
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address must stand in brackets; expected [address]:port")
    if port_text.isascii() and port_text.isdigit() and int(port_text) <= 65535:
        return host, int(port_text)
    if port_text in WELL_KNOWN:
        return host, WELL_KNOWN[port_text]
    try:
        return host, socket.getservbyname(port_text, "tcp")
    except OSError:
        raise ValueError(f"`{port_text}` is no port; expected 0 to 65535") from None


def places_of(entry_points: Mapping[str, EntryPoint]) -> list[Place]:
    """Return every address of every entry point."""
    return [
        (name, address)
        for name, entry_point in entry_points.items()
        for address in split_addresses(entry_point.address)
    ]


def bind_all(
    entry_points: Mapping[str, EntryPoint],
    slots: int,
    inherited: Mapping[Place, Sequence[socket.socket]] | None = None,
    orphans: Iterable[int] = (),
) -> dict[Place, SlotSockets]:
    """Return the listening sockets of every entry point.

    ``inherited``: those of the supervisor that hands over; they are used where the address is still
    the same, each by some slot, and slots beyond get new ones. ``orphans``: worker processes that
    may listen there already. Raises `BindError`, with nothing left bound.
    """
    bound: dict[Place, SlotSockets] = {}
    try:
        for place in places_of(entry_points):
            bound[place] = bind(place, slots, (inherited or {}).get(place, ()), orphans)
    except BindError:
        close_all(bound)
        raise
    return bound


def bind(
    place: Place,
    slots: int,
    kept: Sequence[socket.socket] = (),
    orphans: Iterable[int] = (),
) -> SlotSockets:
    """Return the listening sockets of one address, those that are ``kept`` among them.

    See `bind_all`. Raises `BindError`, with nothing left bound.
    """
    bound = [list(kept[slot::slots]) for slot in range(slots)]
    try:
        _fill(place, bound, kept[0] if kept else None, list(orphans))
    except BindError:
        close_all({place: bound})
        raise
    return bound


def close_all(sockets: Mapping[Place, SlotSockets]) -> None:
    """Close this process's descriptors; workers keep theirs."""
    for slots in sockets.values():
        for held in slots:
            for each in held:
                each.close()


def _fill(
    place: Place,
    slots: SlotSockets,
    pattern: socket.socket | None,
    ignored: Sequence[int],
) -> None:
    """Give every slot that has no socket one; ``pattern`` is a bound one to stand beside."""
    name, address = place
    try:
        if pattern is None:
            family, target = _resolve(address)
            if target[1]:
                _refuse_strangers(family, target, ignored)
            pattern = _listen(family, target)
            slots[0].append(pattern)
        for held in slots:
            if not held:
                held.append(_listen(pattern.family, pattern.getsockname()))
    except ValueError as error:
        raise BindError(f"entry point `{name}`: bad address `{address}`: {error}") from error
    except OSError as error:
        raise BindError(
            f"entry point `{name}` cannot listen on `{address}`: {error.strerror or error}"
        ) from error


def _resolve(address: str) -> tuple[int, tuple[str, int]]:
    host, port = parse_address(address)
    if not host:
        # As in Go: no host means every address of both families, by one socket where possible.
        return (socket.AF_INET6, ("::", port)) if _has_ipv6() else (socket.AF_INET, ("", port))
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name with addresses of both families means the IPv4 one, as in Go.
    family, _, _, _, target = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    return family, target  # type: ignore[return-value]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _listen(family: int, target: tuple[str, int]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            only = target[0] not in ("::", "")
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        listening.bind(target)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def _refuse_strangers(family: int, target: tuple[str, int], ignored: Sequence[int]) -> None:
    """Raise OSError when another program listens on ``target``.

    SO_REUSEPORT lets every process of the same user listen on the same address: without this check
    a second proxy would silently take a share of the first one's connections.
    """
    wildcard = not any(socket.inet_pton(family, target[0].partition("%")[0] or "0.0.0.0"))
    inodes = set()
    for table, size in (("/proc/net/tcp", 8), ("/proc/net/tcp6", 32)):
        for local, port, inode in _listening(table):
            same = len(local) == size and local == _kernel_form(family, target[0])
            if port == target[1] and (same or (wildcard and not local.strip("0"))):
                inodes.add(inode)
    for pid in ignored:
        inodes -= _socket_inodes(pid)
    if inodes:
        raise OSError("the address is in use by another program")


def _kernel_form(family: int, host: str) -> str:
    packed = socket.inet_pton(family, host.partition("%")[0] or "0.0.0.0")
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _listening(table: str) -> Iterable[tuple[str, int, str]]:
    """Yield (address, port, inode) of the listening sockets, which the kernel names first."""
    try:
        with Path(table).open() as lines:
            next(lines, None)
            for line in lines:
                fields = line.split()
                if fields[3] != _LISTEN_STATE:
                    return
                local, _, port = fields[1].partition(":")
                yield local, int(port, 16), fields[9]
    except FileNotFoundError:
        return


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            link = str(entry.readlink())
            if link.startswith("socket:["):
                found.add(link[8:-1])
    except OSError:
        return found
    return found
