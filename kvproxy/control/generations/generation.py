"""A generation: everything that is served, as one immutable and named whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from msgspec import Struct, field

from kvproxy.model.messages import BackendEntry, CertificateEntry, EntryKey, FrontendEntry

Entry = TypeVar("Entry")

ChangeMap = dict[EntryKey, tuple[Entry | None, Entry | None]]
"""Entry key to (entry before, entry after); None stands for absent."""


class Changes(Struct, frozen=True):
    """What differs between two generations."""

    frontends: ChangeMap[FrontendEntry] = field(default_factory=dict)
    backends: ChangeMap[BackendEntry] = field(default_factory=dict)
    certificates: ChangeMap[CertificateEntry] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.frontends or self.backends or self.certificates)


class Generation(Struct, frozen=True, kw_only=True):
    """One whole configuration of all providers, as served.

    ``number`` grows by one with each generation and goes on growing over restarts (with a journal);
    ``digest`` names the content (`kvproxy.model.digest`); ``revisions`` is provider to the store's
    revision that was current when the generation was made; ``created_at``: ``time.time()``. Entries
    that did not change are the very objects of the generation before. ``changes`` is relative to
    generation ``base``. The maps are never modified.
    """

    number: int
    digest: str
    revisions: dict[str, str]
    frontends: Mapping[EntryKey, FrontendEntry]
    backends: Mapping[EntryKey, BackendEntry]
    certificates: Mapping[EntryKey, CertificateEntry] = field(default_factory=dict)
    created_at: float
    base: int
    changes: Changes


EMPTY = Generation(
    number=0,
    digest=f"{0:064x}",
    revisions={},
    frontends={},
    backends={},
    created_at=0.0,
    base=-1,
    changes=Changes(),
)
"""Generation 0: nothing is served."""
