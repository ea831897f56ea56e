"""The static configuration: what is read once at start.

Names and defaults are those of Traefik 1.7; what kvproxy adds or sets differently says so.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from kvproxy.model.dynamic import Auth, Certificate, Redirect, WhiteList
from kvproxy.model.kinds import Duration, Section, about
from kvproxy.model.static_acme import Acme, Cluster
from kvproxy.model.static_observability import (
    AccessLog,
    Api,
    Metrics,
    Tracing,
    TraefikLog,
    Web,
)
from kvproxy.model.static_providers import (
    BoltdbProvider,
    ConsulCatalogProvider,
    ConsulProvider,
    DockerProvider,
    DynamodbProvider,
    EcsProvider,
    EmbeddedProvider,
    EtcdProvider,
    EurekaProvider,
    FileProvider,
    KubernetesProvider,
    MarathonProvider,
    MesosProvider,
    RancherProvider,
    RestProvider,
    ServiceFabricProvider,
    ZookeeperProvider,
)

__all__ = [
    "EmbeddedProvider",
    "EntryPoint",
    "FileProvider",
    "ForwardedHeaders",
    "ForwardingTimeouts",
    "LifeCycle",
    "Ping",
    "RespondingTimeouts",
    "Retry",
    "StaticConfiguration",
]


class ForwardedHeaders(Section, frozen=True, rename="camel", kw_only=True):
    """Whose ``X-Forwarded-*`` headers are believed; the absent section means everybody's."""

    insecure: Annotated[
        bool, about("everybody's; true when the section is absent, false when it is present")
    ] = False
    trusted_ips: Annotated[
        tuple[str, ...], about("addresses or networks (CIDR) whose headers are believed")
    ] = field(default=(), name="trustedIPs")


class ProxyProtocol(Section, frozen=True, rename="camel", kw_only=True):
    """The PROXY protocol, versions 1 and 2: a load balancer announces the address of the client."""

    insecure: Annotated[bool, about("believe every peer")] = False
    trusted_ips: Annotated[tuple[str, ...], about("addresses or networks that are believed")] = (
        field(default=(), name="trustedIPs")
    )


class ClientCA(Section, frozen=True, rename="camel", kw_only=True):
    """Client certificates."""

    files: Annotated[tuple[str, ...], about("authorities: files or PEM text")] = ()
    optional: Annotated[bool, about("verify only certificates that are presented")] = False


class EntryPointTLS(Section, frozen=True, rename="camel", kw_only=True):
    """TLS of an entry point; an empty section is enough."""

    min_version: Annotated[
        str, about("`VersionTLS10`, `VersionTLS11`, `VersionTLS12` or `VersionTLS13`")
    ] = ""
    cipher_suites: Annotated[tuple[str, ...], about("suites that are allowed")] = ()
    certificates: Annotated[tuple[Certificate, ...], about("certificates")] = ()
    default_certificate: (
        Annotated[Certificate, about("offered when no certificate fits")] | None
    ) = None
    client_ca: Annotated[ClientCA, about("client certificates")] | None = field(
        default=None, name="clientCA"
    )
    client_ca_files: Annotated[tuple[str, ...], about("deprecated: `clientCA.files`")] = field(
        default=(), name="clientCAFiles"
    )
    sni_strict: Annotated[bool, about("refuse clients whose name no certificate fits")] = False


class EntryPoint(Section, frozen=True, rename="camel", kw_only=True):
    """A listening address and its options."""

    address: Annotated[
        str, about("`host:port` or `:port`; several with commas between them (kvproxy only)")
    ]
    compress: Annotated[bool, about("compress answers with gzip")] = False
    white_list_source_range: Annotated[
        tuple[str, ...], about("deprecated: `whiteList.sourceRange`")
    ] = ()
    white_list: Annotated[WhiteList, about("addresses that may use it")] | None = None
    redirect: Annotated[Redirect, about("redirect everything")] | None = None
    auth: Annotated[Auth, about("authentication")] | None = None
    proxy_protocol: Annotated[ProxyProtocol, about("PROXY protocol, versions 1 and 2")] | None = (
        None
    )
    forwarded_headers: (
        Annotated[ForwardedHeaders, about("whose `X-Forwarded-*` headers are believed")] | None
    ) = None
    tls: Annotated[EntryPointTLS, about("serve TLS")] | None = None


class LifeCycle(Section, frozen=True, rename="camel", kw_only=True):
    """How the process stops; seconds."""

    request_accept_grace_timeout: Annotated[
        Duration, about("after SIGTERM, go on accepting for this long; ping answers 503")
    ] = 0.0
    grace_time_out: Annotated[
        Duration, about("time for requests in progress after the listeners are closed")
    ] = 10.0


class RespondingTimeouts(Section, frozen=True, rename="camel", kw_only=True):
    """Deadlines towards clients; seconds, 0 = the built-in bound."""

    read_timeout: Annotated[
        Duration, about("reading a request with its body; 0 = the built-in bound")
    ] = 0.0
    write_timeout: Annotated[Duration, about("writing an answer; 0 = the built-in bound")] = 0.0
    idle_timeout: Annotated[Duration, about("idle keep-alive connection of a client")] = 180.0


class Http2(Section, frozen=True, rename="camel", kw_only=True):
    """What one HTTP/2 connection of a client may ask for."""

    max_concurrent_streams: Annotated[
        int, about("requests in progress on a connection", least=1, most=100_000)
    ] = 128
    max_connection_bytes: Annotated[
        int,
        about(
            "bytes of answers that wait for the client; the stream that needs more is reset",
            least=65_536,
        ),
    ] = 16_777_216


class ForwardingTimeouts(Section, frozen=True, rename="camel", kw_only=True):
    """Deadlines towards servers; seconds, 0 = none."""

    dial_timeout: Annotated[Duration, about("connecting to a server; then 504")] = 30.0
    response_header_timeout: Annotated[
        Duration, about("waiting for the head of an answer; then 504; 0 = the built-in bound")
    ] = 0.0


class HealthCheckDefaults(Section, frozen=True, rename="camel", kw_only=True):
    """Defaults of the active checks of servers."""

    interval: Annotated[Duration, about("time between checks")] = 30.0


class HostResolver(Section, frozen=True, rename="camel", kw_only=True):
    """Follows CNAME records of the host that is asked for."""

    cname_flattening: Annotated[bool, about("match `Host` rules with the final name too")] = field(
        default=False, name="cnameFlattening"
    )
    resolv_config: Annotated[str, about("file that names the DNS servers")] = "/etc/resolv.conf"
    resolv_depth: Annotated[int, about("longest chain of CNAME records")] = 5


class Retry(Section, frozen=True, rename="camel", kw_only=True):
    """Try again when no server could be asked; 0 attempts = the number of servers."""

    attempts: Annotated[
        int, about("tries in total; 0 = the number of servers of the backend", least=0)
    ] = 0


class Ping(Section, frozen=True, rename="camel", kw_only=True):
    """``GET /ping`` on an entry point."""

    entry_point: Annotated[str, about("entry point that answers")] = "traefik"


class StaticConfiguration(Section, frozen=True, rename="camel", kw_only=True):
    """The whole static configuration, fix-ups applied."""

    config_file: Annotated[
        str, about("configuration file, or a directory with kvproxy.toml or traefik.toml")
    ] = ""
    debug: Annotated[bool, about("log level DEBUG when `logLevel` is not given")] = False
    log_level: Annotated[str, about("`DEBUG`, `INFO`, `WARN`, `ERROR`, `FATAL` or `PANIC`")] = (
        "INFO"
    )
    check_new_version: Annotated[bool, about("look for new versions")] = True
    send_anonymous_usage: Annotated[bool, about("send usage data")] = False
    grace_time_out: Annotated[Duration, about("deprecated: `lifeCycle.graceTimeOut`")] = 0.0
    idle_timeout: Annotated[Duration, about("deprecated: `respondingTimeouts.idleTimeout`")] = 0.0
    access_logs_file: Annotated[str, about("deprecated: `accessLog.filePath`")] = ""
    traefik_logs_file: Annotated[str, about("deprecated: `traefikLog.filePath`")] = ""
    entry_points: Annotated[
        dict[str, EntryPoint],
        about("listening addresses by name", default="`http` on `:80`"),
    ] = field(default_factory=dict)
    default_entry_points: Annotated[
        tuple[str, ...], about("entry points of frontends that name none")
    ] = ("http",)
    constraints: Annotated[
        tuple[str, ...], about("such as `tag==api`; added to those of every provider")
    ] = ()
    workers: Annotated[
        int, about("worker processes; 0 = one for each core (kvproxy only)", least=0, most=1024)
    ] = 0
    state_dir: Annotated[
        str,
        about(
            "directory of the embedded store and of the last known good configuration "
            "(kvproxy only)",
            default="chosen by the user's rights",
        ),
    ] = ""
    announce: Annotated[
        bool,
        about("say in the store what this node serves, for `kvproxy nodes` (kvproxy only)"),
    ] = True
    node_name: Annotated[
        str,
        about(
            "name of this node beside others on the same store (kvproxy only)",
            default="the host's name and a word of its own",
        ),
    ] = ""
    pid_file: Annotated[
        str, about("file that gets the process id of the supervisor (kvproxy only)")
    ] = ""
    mass_deletion_guard: Annotated[
        int,
        about(
            "a revision that removes more than this percentage of a provider's frontends waits "
            "for a second read that says the same; 0 = off (kvproxy only)",
            least=0,
            most=100,
        ),
    ] = 50
    providers_throttle_duration: Annotated[
        Duration,
        about("shortest time between two configurations of one provider (2s in Traefik 1.7)"),
    ] = 0.0
    max_idle_conns_per_host: Annotated[
        int, about("idle connections kept to each server", least=0)
    ] = 200
    insecure_skip_verify: Annotated[bool, about("do not verify certificates of servers")] = False
    root_cas: Annotated[
        tuple[str, ...], about("authorities of servers instead of the system's: files or PEM text")
    ] = field(default=(), name="rootCAs")
    allow_min_weight_zero: Annotated[
        bool, about("a server of weight 0 gets no requests, instead of acting as weight 1")
    ] = False
    keep_trailing_slash: Annotated[
        bool, about("a path that differs by a trailing slash is another path, not a redirect")
    ] = False
    allow_unsafe_paths: Annotated[
        bool,
        about(
            "forward encoded separators and dot segments as Traefik 1.7 does, instead of "
            "answering 400 (kvproxy only)"
        ),
    ] = False
    max_header_bytes: Annotated[
        int,
        about("longest head of a request; then 431 (kvproxy only)", least=1024, most=1048576),
    ] = 65536
    max_headers: Annotated[
        int, about("most headers of a request; then 431 (kvproxy only)", least=8, most=256)
    ] = 128
    life_cycle: Annotated[LifeCycle, about("how the process stops")] = field(
        default_factory=LifeCycle
    )
    responding_timeouts: Annotated[RespondingTimeouts, about("deadlines towards clients")] = field(
        default_factory=RespondingTimeouts
    )
    http2: Annotated[Http2, about("limits of HTTP/2 clients (kvproxy only)")] = field(
        default_factory=Http2
    )
    forwarding_timeouts: Annotated[ForwardingTimeouts, about("deadlines towards servers")] = field(
        default_factory=ForwardingTimeouts
    )
    health_check: Annotated[HealthCheckDefaults, about("defaults of active checks")] = field(
        default_factory=HealthCheckDefaults, name="healthcheck"
    )
    host_resolver: Annotated[HostResolver, about("follow CNAME records")] | None = None
    retry: Annotated[Retry, about("try another server when one cannot be reached")] | None = None
    ping: Annotated[Ping, about("answer `/ping`")] | None = None
    api: Annotated[Api, about("API and dashboard")] | None = None
    web: Annotated[Web, about("deprecated: API, ping and metrics on one address")] | None = None
    metrics: Annotated[Metrics, about("metrics")] | None = None
    tracing: Annotated[Tracing, about("traces")] | None = None
    traefik_log: Annotated[TraefikLog, about("log of the program")] | None = None
    access_log: Annotated[AccessLog, about("log of requests")] | None = None
    acme: Annotated[Acme, about("certificates by ACME")] | None = None
    cluster: Annotated[Cluster, about("several processes that act as one")] | None = None
    file: Annotated[FileProvider, about("routes from TOML files")] | None = None
    embedded: Annotated[EmbeddedProvider, about("routes from the embedded store")] | None = None
    rest: Annotated[RestProvider, about("routes put over HTTP")] | None = None
    consul: Annotated[ConsulProvider, about("routes from Consul")] | None = None
    etcd: Annotated[EtcdProvider, about("routes from etcd")] | None = None
    zookeeper: Annotated[ZookeeperProvider, about("routes from ZooKeeper")] | None = None
    boltdb: Annotated[BoltdbProvider, about("routes from a BoltDB file")] | None = None
    docker: Annotated[DockerProvider, about("routes from containers")] | None = None
    consul_catalog: (
        Annotated[ConsulCatalogProvider, about("routes from Consul's services")] | None
    ) = None
    marathon: Annotated[MarathonProvider, about("routes from Marathon")] | None = None
    mesos: Annotated[MesosProvider, about("routes from Mesos")] | None = None
    ecs: Annotated[EcsProvider, about("routes from Amazon ECS")] | None = None
    dynamodb: Annotated[DynamodbProvider, about("routes from Amazon DynamoDB")] | None = None
    rancher: Annotated[RancherProvider, about("routes from Rancher")] | None = None
    eureka: Annotated[EurekaProvider, about("routes from Eureka")] | None = None
    kubernetes: Annotated[KubernetesProvider, about("routes from Kubernetes")] | None = None
    service_fabric: Annotated[ServiceFabricProvider, about("routes from Service Fabric")] | None = (
        None
    )
