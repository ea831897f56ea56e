"""What supervisor and workers say to each other, MessagePack over a unix socket.

A generation travels as a delta against the one before it: entries to set and names to remove.
Large deltas come in several ``Apply`` parts; the worker swaps when the one with ``last`` has been
compiled.
"""

from __future__ import annotations

from msgspec import Struct, field

from kvproxy.model.dynamic import Backend, Frontend
from kvproxy.model.latency import LATENCY_CELLS
from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.model.tls import ServedCertificate, ServedTLS

EntryKey = tuple[str, str]
"""(provider, name): entries of two providers never collide."""


class FrontendEntry(Struct, frozen=True, gc=False):
    """One frontend of one provider and the digest of its content."""

    provider: str
    name: str
    digest: bytes
    frontend: Frontend


class BackendEntry(Struct, frozen=True, gc=False):
    """One backend of one provider and the digest of its content."""

    provider: str
    name: str
    digest: bytes
    backend: Backend


class CertificateEntry(Struct, frozen=True, gc=False):
    """One certificate of one provider and the digest of its content."""

    provider: str
    name: str
    digest: bytes
    certificate: ServedCertificate


class Start(Struct, frozen=True, tag=True):
    """First message to a worker: who it is and the static configuration.

    ``tls`` by the name of the entry point; those that are not in it serve without TLS.
    ``ticket_secret``: see `TicketSecret`. The message
    comes with the descriptor of the memory that all ``slots`` workers share
    (`kvproxy.balance.shared_memory`); without one the worker shares with nobody.
    """

    slot: int
    settings: StaticConfiguration
    host_name: str
    tls: dict[str, ServedTLS] = field(default_factory=dict)
    ticket_secret: bytes = b""
    slots: int = 1


class EntryPoints(Struct, frozen=True, tag=True):
    """These are the entry points from now on; what is not among them any more is drained.

    ``number`` grows with each change; ``changed``: names that came, went or are otherwise than
    before. Sockets of addresses that an entry point has left are closed
    by the worker; those of new ones come with `Listen`. ``tls`` as in `Start`.
    """

    number: int
    entry_points: dict[str, EntryPoint]
    default_entry_points: tuple[str, ...]
    changed: list[str]
    tls: dict[str, ServedTLS] = field(default_factory=dict)


class TicketSecret(Struct, frozen=True, tag=True):
    """Encrypt TLS session tickets with keys made from this ``secret``, as every worker does."""

    secret: bytes


class ReopenFiles(Struct, frozen=True, tag=True):
    """Open the files of logs by their names again: they may have been moved away."""


class Listen(Struct, frozen=True, tag=True):
    """Serve this entry point on the ``sockets`` file descriptors that accompany the message.

    They are bound to ``address`` (as configured) and belong to ``slot``: the worker's own, or one
    whose worker is not there.
    """

    entry_point: str
    address: str
    sockets: int
    slot: int


class Release(Struct, frozen=True, tag=True):
    """Close the sockets of another ``slot``: it has a worker of its own again."""

    slot: int


class Apply(Struct, frozen=True, tag=True):
    """A part of the delta from generation ``base`` to ``generation``.

    ``base`` -1 replaces everything. ``digest`` is that of the whole resulting generation.
    """

    generation: int
    base: int
    digest: str
    frontends: list[FrontendEntry] = field(default_factory=list)
    backends: list[BackendEntry] = field(default_factory=list)
    certificates: list[CertificateEntry] = field(default_factory=list)
    removed_frontends: list[EntryKey] = field(default_factory=list)
    removed_backends: list[EntryKey] = field(default_factory=list)
    removed_certificates: list[EntryKey] = field(default_factory=list)
    last: bool = True


class HealthChange(Struct, frozen=True, tag=True):
    """Health checks (by `kvproxy.model.health.check_key`) that began to fail or to succeed.

    ``whole``: these are all that fail.
    """

    down: list[bytes] = field(default_factory=list)
    up: list[bytes] = field(default_factory=list)
    whole: bool = False


class Stop(Struct, frozen=True, tag=True):
    """Stop: go on accepting for ``accept_seconds``, then finish requests for ``grace_seconds``."""

    accept_seconds: float
    grace_seconds: float


class Ready(Struct, frozen=True, tag=True):
    """The worker serves its listeners (sent once, after the first generation is applied)."""

    slot: int
    pid: int


class Applied(Struct, frozen=True, tag=True):
    """Acknowledgement: new requests of this worker are served by this generation."""

    generation: int
    digest: str
    seconds: float
    problems: list[str] = field(default_factory=list)


class EntryPointsServed(Struct, frozen=True, tag=True):
    """Acknowledgement of `EntryPoints`; ``problems``: what could not be put into effect."""

    number: int
    problems: list[str] = field(default_factory=list)


class Refused(Struct, frozen=True, tag=True):
    """The delta could not be applied, the old generation goes on: a whole one must be sent."""

    generation: int
    reason: str


class Counters(Struct, frozen=True, kw_only=True):
    """Answers counted: by the first digit of their status (the last cell holds the rest), the
    seconds that they took in all, and how many took how long (`kvproxy.model.latency`).

    ``connections``: of clients, open now; only known of entry points. ``retries``: attempts at
    another server, because one could not be reached.
    """

    statuses: list[int] = field(default_factory=lambda: [0] * 6)
    seconds: float = 0.0
    latencies: list[int] = field(default_factory=lambda: [0] * LATENCY_CELLS)
    connections: int = 0
    retries: int = 0


class EntryPointCounters(Counters, frozen=True, kw_only=True):
    """Counts of one entry point, the proxy's own answers included."""

    name: str


class BackendCounters(Counters, frozen=True, kw_only=True):
    """Counts of the frontends of one backend, on all entry points."""

    provider: str
    name: str


class Statistics(Struct, frozen=True, tag=True):
    """Heart-beat of a worker, once a second: totals since its start.

    ``connections`` and ``statuses``: of all entry points.
    """

    connections: int
    requests: int
    statuses: list[int]
    entry_points: list[EntryPointCounters] = field(default_factory=list)
    backends: list[BackendCounters] = field(default_factory=list)


ToWorker = (
    Start
    | EntryPoints
    | TicketSecret
    | ReopenFiles
    | Listen
    | Release
    | Apply
    | HealthChange
    | Stop
)
FromWorker = Ready | Applied | EntryPointsServed | Refused | Statistics
