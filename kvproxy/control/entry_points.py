"""The entry points of a supervisor: settings, certificates and sockets, and how they change."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING

from msgspec import Struct

from kvproxy.control.validation.certificate_error import CertificateError
from kvproxy.control.workers import sockets
from kvproxy.model.listening import split_addresses
from kvproxy.model.problem import Problem

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Mapping, Sequence

    from kvproxy.control.workers.sockets import Place, SlotSockets
    from kvproxy.model.static import EntryPoint
    from kvproxy.model.tls import ServedCertificate, ServedTLS


class EntryPoints:
    """What is listened on, and how.

    ``settings`` and ``tls`` by entry point, ``tls`` for those that have it; ``problems`` is what is
    wrong with them now.
    """

    def __init__(self, slots: int) -> None:
        """``slots``: how many workers share each address."""
        self.settings: dict[str, EntryPoint] = {}
        self.tls: dict[str, ServedTLS] = {}
        self.sockets: dict[Place, SlotSockets] = {}
        self.problems: tuple[Problem, ...] = ()
        self._slots = slots
        self._generated: ServedCertificate | None = None
        self._good: dict[str, dict[str, ServedCertificate]] = {}

    def open(
        self,
        wanted: Mapping[str, EntryPoint],
        inherited: Mapping[Place, Sequence[socket.socket]] | None = None,
        orphans: Iterable[int] = (),
    ) -> None:
        """Read all certificates and bind all addresses, or nothing.

        ``inherited`` and ``orphans`` as for `sockets.bind_all`. Raises `CertificateError` or
        `sockets.BindError`.
        """
        problems: list[Problem] = []
        for name, entry_point in wanted.items():
            if entry_point.tls is not None:
                self.tls[name] = self._resolve(name, entry_point, problems)
        self.sockets = sockets.bind_all(wanted, self._slots, inherited, orphans)
        self.settings = dict(wanted)
        self.problems = tuple(problems)

    def change(self, wanted: Mapping[str, EntryPoint]) -> Change:
        """Take other entry points, each by itself: one that cannot be had stays as it was.

        The sockets of addresses that are left are closed here; workers have copies.
        """
        planned = _Planned(self, wanted)
        after = planned.settings
        gone = {place: held for place, held in self.sockets.items() if place not in planned.sockets}
        kept = {id(each) for held in planned.sockets.values() for slot in held for each in slot}
        sockets.close_all(
            {
                place: [[each for each in slot if id(each) not in kept] for slot in held]
                for place, held in gone.items()
            }
        )
        change = Change(
            changed=frozenset(
                name
                for name in self.settings.keys() | after.keys()
                if self.settings.get(name) != after.get(name)
                or self.tls.get(name) != planned.tls.get(name)
            ),
            opened=tuple(place for place in planned.sockets if place not in self.sockets),
            closed=tuple(gone),
            problems=tuple(planned.problems),
        )
        for name in self._good.keys() - planned.tls.keys():
            del self._good[name]
        self.settings, self.tls = after, planned.tls
        self.sockets = planned.sockets
        self.problems = change.problems
        return change

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Where each entry point listens, as bound."""
        found: dict[str, set[str]] = {name: set() for name in self.settings}
        for (name, _), held in self.sockets.items():
            found[name] |= {_address_text(each) for slot in held for each in slot}
        return {name: sorted(addresses) for name, addresses in found.items()}

    @property
    def files(self) -> set[str]:
        """The files that certificates, keys and authorities come from."""
        named: set[str] = set()
        for entry_point in self.settings.values():
            tls = entry_point.tls
            if tls is not None:
                pairs = [*tls.certificates, *filter(None, [tls.default_certificate])]
                named.update(part for pair in pairs for part in (pair.cert_file, pair.key_file))
                named.update(tls.client_ca_files)
                named.update(() if tls.client_ca is None else tls.client_ca.files)
        return {text.strip() for text in named if text.strip() and "-----BEGIN" not in text}

    def _resolve(self, name: str, entry_point: EntryPoint, problems: list[Problem]) -> ServedTLS:
        # Imported when used: it takes a tenth of a start, and not everybody has TLS.
        from kvproxy.control.validation.certificates import generate_default, resolve_tls  # noqa: PLC0415

        assert entry_point.tls is not None
        if self._generated is None:
            self._generated = generate_default(_now())
        try:
            good = self._good.setdefault(name, {})
            served, found = resolve_tls(name, entry_point.tls, self._generated, _now(), good)
        except CertificateError as error:
            path = f"entryPoints.{name}.tls.{error.option}"
            raise CertificateError(path, error.message, error.expected) from None
        problems += found
        return served


class Change(Struct, frozen=True, kw_only=True):
    """What `EntryPoints.change` did.

    ``changed``: names that came, went or are otherwise than before. ``opened`` and ``closed``:
    addresses. ``problems``: what could not be had.
    """

    changed: frozenset[str]
    opened: tuple[Place, ...]
    closed: tuple[Place, ...]
    problems: tuple[Problem, ...]


class _Planned:
    """Entry points as they are going to be."""

    def __init__(self, present: EntryPoints, wanted: Mapping[str, EntryPoint]) -> None:
        """Bind what is new; whatever fails falls back on what ``present`` has."""
        self.settings: dict[str, EntryPoint] = {}
        self.tls: dict[str, ServedTLS] = {}
        self.sockets: dict[Place, SlotSockets] = {}
        self.problems: list[Problem] = []
        self._present = present
        stays = {place for place in present.sockets if place in sockets.places_of(wanted)}
        # Sockets of addresses that their entry point leaves; another one may take them over.
        self._free = {
            place[1]: held for place, held in present.sockets.items() if place not in stays
        }
        # Those that stay as they are come first: nobody else gets their addresses.
        for name, entry_point in sorted(
            wanted.items(), key=lambda each: present.settings.get(each[0]) != each[1]
        ):
            self._take(name, entry_point)
        self.settings = {name: self.settings[name] for name in wanted if name in self.settings}

    def _take(self, name: str, entry_point: EntryPoint) -> None:
        found: list[Problem] = []
        bound: dict[Place, SlotSockets] = {}
        new: dict[Place, SlotSockets] = {}
        try:
            if entry_point.tls is not None:
                tls = self._present._resolve(name, entry_point, found)
            for address in split_addresses(entry_point.address):
                place = (name, address)
                held = self._present.sockets.get(place) or self._free.pop(address, None)
                if held is None:
                    held = new[place] = sockets.bind(place, self._present._slots)
                bound[place] = held
        except (CertificateError, sockets.BindError) as error:
            sockets.close_all(new)
            self._keep(name, str(error))
            return
        self.problems += found
        self.settings[name] = entry_point
        self.sockets.update(bound)
        if entry_point.tls is not None:
            self.tls[name] = tls

    def _keep(self, name: str, reason: str) -> None:
        """Leave an entry point as it was, if its addresses are still to be had."""
        before = self._present.settings.get(name)
        held = {place: each for place, each in self._present.sockets.items() if place[0] == name}
        taken = {id(each) for each in self.sockets.values()}
        serves = before is not None and not any(id(each) in taken for each in held.values())
        outcome = "it goes on as it was" if serves else "it does not serve"
        self.problems.append(Problem(message=f"{reason}: {outcome}", path=f"entryPoints.{name}"))
        if serves and before is not None:
            self.settings[name] = before
            self.sockets.update(held)
            for _, address in held:
                self._free.pop(address, None)
            if name in self._present.tls:
                self.tls[name] = self._present.tls[name]


def _now() -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time.time(), datetime.UTC)


def _address_text(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
