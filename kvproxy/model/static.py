"""The static configuration: what is read once at start."""

from __future__ import annotations

from msgspec import Struct, field


class ForwardedHeaders(Struct, frozen=True, rename="camel", kw_only=True):
    """Whose ``X-Forwarded-*`` headers are believed; the absent section means everybody's."""

    insecure: bool = False
    trusted_ips: tuple[str, ...] = field(default=(), name="trustedIPs")


class EntryPoint(Struct, frozen=True, rename="camel", kw_only=True):
    """A listening address and its options."""

    address: str
    forwarded_headers: ForwardedHeaders | None = None


class LifeCycle(Struct, frozen=True, rename="camel", kw_only=True):
    """How the process stops; seconds."""

    request_accept_grace_timeout: float = 0.0
    grace_time_out: float = 10.0


class RespondingTimeouts(Struct, frozen=True, rename="camel", kw_only=True):
    """Deadlines towards clients; seconds, 0 = the built-in bound."""

    read_timeout: float = 0.0
    write_timeout: float = 0.0
    idle_timeout: float = 180.0


class ForwardingTimeouts(Struct, frozen=True, rename="camel", kw_only=True):
    """Deadlines towards servers; seconds, 0 = none."""

    dial_timeout: float = 30.0
    response_header_timeout: float = 0.0


class Retry(Struct, frozen=True, rename="camel", kw_only=True):
    """Try again when no server could be asked; 0 attempts = the number of servers."""

    attempts: int = 0


class Ping(Struct, frozen=True, rename="camel", kw_only=True):
    """``GET /ping`` on an entry point."""

    entry_point: str = "traefik"


class FileProvider(Struct, frozen=True, rename="camel", kw_only=True):
    """Routes from TOML files."""

    filename: str = ""
    directory: str = ""
    watch: bool = True


class EmbeddedProvider(Struct, frozen=True, rename="camel", kw_only=True):
    """Routes from the embedded store."""

    path: str = ""
    prefix: str = "kvproxy"
    watch: bool = True


class StaticConfiguration(Struct, frozen=True, rename="camel", kw_only=True):
    """The whole static configuration, fix-ups applied."""

    entry_points: dict[str, EntryPoint] = field(default_factory=dict)
    default_entry_points: tuple[str, ...] = ("http",)
    workers: int = 0
    state_dir: str = ""
    log_level: str = "INFO"
    providers_throttle_duration: float = 0.0
    mass_deletion_guard: int = 50
    max_idle_conns_per_host: int = 200
    insecure_skip_verify: bool = False
    root_cas: tuple[str, ...] = field(default=(), name="rootCAs")
    allow_min_weight_zero: bool = False
    keep_trailing_slash: bool = False
    allow_unsafe_paths: bool = False
    max_header_bytes: int = 65536
    max_headers: int = 128
    life_cycle: LifeCycle = field(default_factory=LifeCycle)
    responding_timeouts: RespondingTimeouts = field(default_factory=RespondingTimeouts)
    forwarding_timeouts: ForwardingTimeouts = field(default_factory=ForwardingTimeouts)
    retry: Retry | None = None
    ping: Ping | None = None
    file: FileProvider | None = None
    embedded: EmbeddedProvider | None = None
