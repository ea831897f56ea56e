"""The certificates of providers in a worker: the step from one generation to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvproxy.proxy.tls.entry_point import rank_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping

    from kvproxy.model.messages import Apply, CertificateEntry, EntryKey
    from kvproxy.model.tls import ServedCertificate
    from kvproxy.proxy.downstream.listener import Listener
    from kvproxy.proxy.tls.server_names import ServerNames


class CertificateStep:
    """One change of the certificates, prepared beside those that are offered now."""

    def __init__(
        self,
        held: dict[EntryKey, CertificateEntry],
        listeners: Mapping[str, Listener],
        parts: Iterable[Apply],
    ) -> None:
        """``held``: what there is, changed by `swap`; ``listeners`` by entry point."""
        parts = list(parts)
        self._held = held
        self._listeners = listeners
        self._new = {
            (each.provider, each.name): each for part in parts for each in part.certificates
        }
        self._removed = {key for part in parts for key in part.removed_certificates}
        if parts[0].base == -1:
            self._removed |= held.keys() - self._new.keys()
        self._names: dict[str, ServerNames[ServedCertificate]] = {}

    async def compile(self, give_way: Callable[[], Awaitable[None]]) -> None:
        """List the certificates of each entry point by name; ``give_way`` lets requests go on."""
        for key in [*self._removed, *self._new]:
            old, new = self._held.get(key), self._new.get(key)
            if old is not None and new is not None and old.digest == new.digest:
                del self._new[key]
                continue
            for names in self._lists_of(() if old is None else old.certificate.entry_points):
                names.remove(rank_of(key))
            if new is not None:
                for names in self._lists_of(new.certificate.entry_points):
                    names.put(rank_of(key), new.certificate, new.certificate.names)
            await give_way()

    async def list_again(
        self, entry_points: Collection[str], give_way: Callable[[], Awaitable[None]]
    ) -> None:
        """List the certificates that are offered on these entry points, which may be new."""
        for key, entry in self._held.items():
            offered = set(entry.certificate.entry_points).intersection(entry_points)
            for names in self._lists_of(offered):
                names.put(rank_of(key), entry.certificate, entry.certificate.names)
            await give_way()

    def swap(self, added: list[bytes], removed: list[bytes]) -> None:
        """Offer what was prepared; the digests of entries that came and went are added to both."""
        gone = [self._held.pop(key) for key in [*self._removed, *self._new] if key in self._held]
        self._held.update(self._new)
        removed += [entry.digest for entry in gone]
        added += [entry.digest for entry in self._new.values()]
        for name, names in self._names.items():
            tls = self._listeners[name].tls
            if tls is not None:
                tls.install(names, [entry.certificate for entry in gone])

    def _lists_of(self, entry_points: Iterable[str]) -> Iterator[ServerNames[ServedCertificate]]:
        """Yield the lists, which may be changed, of those of the entry points that have TLS."""
        for point in entry_points:
            listener = self._listeners.get(point)
            if listener is not None and listener.tls is not None:
                if point not in self._names:
                    self._names[point] = listener.tls.names.copy()
                yield self._names[point]
