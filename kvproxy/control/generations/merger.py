"""Many providers, one generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from kvproxy.control.generations.generation import EMPTY, Changes, Generation
from kvproxy.model.digest import add_digests, digest_text
from kvproxy.model.sharded import ShardedMap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kvproxy.control.generations.generation import ChangeMap
    from kvproxy.control.pipeline.quarantine import Served
    from kvproxy.model.messages import (
        BackendEntry,
        CertificateEntry,
        EntryKey,
        FrontendEntry,
    )

Entry = TypeVar("Entry", "FrontendEntry", "BackendEntry", "CertificateEntry")


class Merger:
    """Makes the next generation from what changed of the providers' served entries."""

    def __init__(self, next_number: int) -> None:
        """Start with generation 0; the first that is made gets ``next_number``."""
        self.generation = EMPTY
        self._next_number = next_number
        self._sum = 0

    def merge(
        self,
        served: Mapping[str, Served],
        revisions: dict[str, str],
        created_at: float,
        known_as: tuple[int, str] | None = None,
    ) -> Generation | None:
        """Return the new generation, or None when nothing changed.

        ``served``: by provider, what changed of it; ``revisions``: of all providers, now;
        ``known_as``: number and digest of an earlier generation whose number is used again when the
        content is the same. Costs what changed.
        """
        before = self.generation
        frontends, frontend_changes = _apply(
            before.frontends, {name: changes.frontends for name, changes in served.items()}
        )
        backends, backend_changes = _apply(
            before.backends, {name: changes.backends for name, changes in served.items()}
        )
        certificates, certificate_changes = _apply(
            before.certificates,
            {name: changes.certificates for name, changes in served.items()},
        )
        changes = Changes(frontend_changes, backend_changes, certificate_changes)
        if not changes:
            return None
        pairs = [
            *frontend_changes.values(),
            *backend_changes.values(),
            *certificate_changes.values(),
        ]
        self._sum = add_digests(
            self._sum,
            [new.digest for _, new in pairs if new is not None],
            [old.digest for old, _ in pairs if old is not None],
        )
        digest = digest_text(self._sum)
        if known_as is not None and known_as[1] == digest:
            number = known_as[0]
        else:
            number = self._next_number
            self._next_number += 1
        self.generation = Generation(
            number=number,
            digest=digest,
            revisions=dict(revisions),
            frontends=frontends,
            backends=backends,
            certificates=certificates,
            created_at=created_at,
            base=before.number,
            changes=changes,
        )
        return self.generation


def _apply(
    entries: Mapping[EntryKey, Entry], served: Mapping[str, Mapping[str, Entry | None]]
) -> tuple[Mapping[EntryKey, Entry], ChangeMap[Entry]]:
    now = {
        (provider, name): entry
        for provider, entries_now in served.items()
        for name, entry in entries_now.items()
    }
    if not now:
        return entries, {}
    changes = {key: (entries.get(key), entry) for key, entry in now.items()}
    return ShardedMap.of(entries).changed(now), changes
