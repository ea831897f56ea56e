"""The dynamic configuration: frontends, backends and TLS certificates of one provider.

Names are those of Traefik 1.7 in camel case (TOML, JSON); they are matched without regard to case.
Types, defaults and effects: docs/reference; durations are seconds as float.
"""

from __future__ import annotations

from msgspec import Struct, field

from kvproxy.model.kinds import Duration, UnitDuration


class Server(Struct, frozen=True, rename="camel", kw_only=True):
    """One server of a backend. A path in ``url`` is part of its identity and never sent."""

    url: str
    weight: int = 1
    tags: tuple[str, ...] = ()


class Stickiness(Struct, frozen=True, rename="camel", kw_only=True):
    """Session affinity by cookie; its presence turns it on."""

    cookie_name: str = ""
    secure: bool = False
    http_only: bool = False
    same_site: str = ""


class LoadBalancer(Struct, frozen=True, rename="camel", kw_only=True):
    """How the next server is chosen."""

    method: str = "wrr"
    sticky: bool = False
    stickiness: Stickiness | None = None


class CircuitBreaker(Struct, frozen=True, rename="camel", kw_only=True):
    """Stops asking a failing backend while ``expression`` holds."""

    expression: str = ""


class MaxConn(Struct, frozen=True, rename="camel", kw_only=True):
    """Limit of requests in progress by key."""

    amount: int = 0
    extractor_func: str = ""


class HealthCheck(Struct, frozen=True, rename="camel", kw_only=True):
    """Active check of the servers; an empty path means none."""

    path: str = ""
    scheme: str = ""
    port: int = 0
    interval: UnitDuration | None = None
    timeout: UnitDuration | None = None
    hostname: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class Buffering(Struct, frozen=True, rename="camel", kw_only=True):
    """Reads requests and responses completely before passing them on; sizes in bytes."""

    max_request_body_bytes: int = 0
    mem_request_body_bytes: int = 0
    max_response_body_bytes: int = 0
    mem_response_body_bytes: int = 0
    retry_expression: str = ""


class ResponseForwarding(Struct, frozen=True, rename="camel", kw_only=True):
    """When partial responses are flushed to the client."""

    flush_interval: Duration | None = None


class Backend(Struct, frozen=True, rename="camel", kw_only=True):
    """A named set of servers and how they are used."""

    servers: dict[str, Server] = field(default_factory=dict)
    load_balancer: LoadBalancer | None = None
    circuit_breaker: CircuitBreaker | None = None
    max_conn: MaxConn | None = None
    health_check: HealthCheck | None = None
    buffering: Buffering | None = None
    response_forwarding: ResponseForwarding | None = None


class Route(Struct, frozen=True, rename="camel", kw_only=True):
    """One rule of a frontend; all routes of a frontend must match."""

    rule: str = ""


class WhiteList(Struct, frozen=True, rename="camel", kw_only=True):
    """Addresses that may use a frontend or an entry point."""

    source_range: tuple[str, ...] = ()
    use_x_forwarded_for: bool = field(default=False, name="useXForwardedFor")


class NameSelection(Struct, frozen=True, rename="camel", kw_only=True):
    """Which parts of a certificate's subject or issuer are passed to the server."""

    country: bool = False
    province: bool = False
    locality: bool = False
    organization: bool = False
    common_name: bool = False
    serial_number: bool = False
    domain_component: bool = False


class CertificateInfos(Struct, frozen=True, rename="camel", kw_only=True):
    """Which facts of a client certificate are passed to the server."""

    not_after: bool = False
    not_before: bool = False
    sans: bool = False
    subject: NameSelection | None = None
    issuer: NameSelection | None = None


class PassTLSClientCert(Struct, frozen=True, rename="camel", kw_only=True):
    """How a client certificate is passed to the server."""

    pem: bool = False
    infos: CertificateInfos | None = None


class ClientTLS(Struct, frozen=True, rename="camel", kw_only=True):
    """TLS settings towards a server: files or PEM text."""

    ca: str = ""
    ca_optional: bool = False
    cert: str = ""
    key: str = ""
    insecure_skip_verify: bool = False


class BasicAuth(Struct, frozen=True, rename="camel", kw_only=True):
    """Users as ``name:hash``."""

    users: tuple[str, ...] = ()
    users_file: str = ""
    remove_header: bool = False


class DigestAuth(Struct, frozen=True, rename="camel", kw_only=True):
    """Users as ``name:realm:HA1``."""

    users: tuple[str, ...] = ()
    users_file: str = ""
    remove_header: bool = False


class ForwardAuth(Struct, frozen=True, rename="camel", kw_only=True):
    """Asks another server whether a request may pass."""

    address: str = ""
    trust_forward_header: bool = False
    auth_response_headers: tuple[str, ...] = ()
    tls: ClientTLS | None = None


class Auth(Struct, frozen=True, rename="camel", kw_only=True):
    """Authentication; the first of basic, digest, forward that is set is used."""

    header_field: str = ""
    basic: BasicAuth | None = None
    digest: DigestAuth | None = None
    forward: ForwardAuth | None = None


class ErrorPage(Struct, frozen=True, rename="camel", kw_only=True):
    """Replaces answers of certain statuses by those of another backend."""

    status: tuple[str, ...] = ()
    backend: str = ""
    query: str = ""


class Rate(Struct, frozen=True, rename="camel", kw_only=True):
    """``average`` requests in ``period`` seconds, ``burst`` at once."""

    period: Duration = 0.0
    average: int = 0
    burst: int = 0


class RateLimit(Struct, frozen=True, rename="camel", kw_only=True):
    """Limits the rate of requests by key."""

    extractor_func: str = ""
    rate_set: dict[str, Rate] = field(default_factory=dict, name="rateset")


class Redirect(Struct, frozen=True, rename="camel", kw_only=True):
    """Answers with a redirect instead of proxying."""

    entry_point: str = ""
    regex: str = ""
    replacement: str = ""
    permanent: bool = False


class Headers(Struct, frozen=True, rename="camel", kw_only=True):
    """Custom and security headers."""

    custom_request_headers: dict[str, str] = field(default_factory=dict)
    custom_response_headers: dict[str, str] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    hosts_proxy_headers: tuple[str, ...] = ()
    ssl_redirect: bool = field(default=False, name="sslRedirect")
    ssl_temporary_redirect: bool = False
    ssl_host: str = ""
    ssl_force_host: bool = False
    ssl_proxy_headers: dict[str, str] = field(default_factory=dict)
    sts_seconds: int = 0
    sts_include_subdomains: bool = False
    sts_preload: bool = False
    force_sts_header: bool = field(default=False, name="forceSTSHeader")
    frame_deny: bool = False
    custom_frame_options_value: str = ""
    content_type_nosniff: bool = False
    browser_xss_filter: bool = field(default=False, name="browserXSSFilter")
    custom_browser_xss_value: str = field(default="", name="customBrowserXSSValue")
    content_security_policy: str = ""
    public_key: str = ""
    referrer_policy: str = ""
    is_development: bool = False


class Frontend(Struct, frozen=True, rename="camel", kw_only=True):
    """Routes and per-frontend options, pointing to one backend of the same provider."""

    backend: str
    routes: dict[str, Route] = field(default_factory=dict)
    entry_points: tuple[str, ...] = ()
    priority: int = 0
    pass_host_header: bool = False
    pass_tls_cert: bool = field(default=False, name="passTLSCert")
    pass_tls_client_cert: PassTLSClientCert | None = field(default=None, name="passTLSClientCert")
    white_list: WhiteList | None = None
    whitelist_source_range: tuple[str, ...] = ()
    basic_auth: tuple[str, ...] = ()
    auth: Auth | None = None
    headers: Headers | None = None
    errors: dict[str, ErrorPage] = field(default_factory=dict)
    rate_limit: RateLimit | None = field(default=None, name="ratelimit")
    redirect: Redirect | None = None


class Certificate(Struct, frozen=True, rename="camel", kw_only=True):
    """A certificate and its key: files or PEM text."""

    cert_file: str = ""
    key_file: str = ""


class TLSCertificate(Struct, frozen=True, rename="camel", kw_only=True):
    """A certificate offered on entry points."""

    entry_points: tuple[str, ...] = ()
    certificate: Certificate


class Configuration(Struct, frozen=True, rename="camel", kw_only=True):
    """All that one provider says. ``tls`` is by the provider's own name (key or list position)."""

    frontends: dict[str, Frontend] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    tls: dict[str, TLSCertificate] = field(default_factory=dict)
