"""The dynamic configuration: frontends, backends and TLS certificates of one provider.

Names are those of Traefik 1.7 in camel case (TOML, JSON); they are matched without regard to case.
Types, defaults and effects: docs/reference; durations are seconds as float.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import field

from kvproxy.model.kinds import Duration, Section, UnitDuration, about


class Server(Section, frozen=True, rename="camel", kw_only=True):
    """One server of a backend. A path in ``url`` is part of its identity and never sent."""

    url: Annotated[
        str,
        about("`scheme://host[:port]`, scheme http, https, h2c, ws or wss; a path is never sent"),
    ]
    weight: Annotated[
        int,
        about(
            "share of the requests; 0 acts as 1 unless `allowMinWeightZero` is set; when not "
            "given 1 in a key-value store, else 0"
        ),
    ] = 1
    drain: Annotated[
        bool,
        about(
            "take no new clients: only requests tied to the server by a cookie still go there "
            "(not in Traefik 1.7)"
        ),
    ] = False
    tags: Annotated[tuple[str, ...], about("matched by provider constraints only")] = ()


class Stickiness(Section, frozen=True, rename="camel", kw_only=True):
    """Session affinity by cookie; its presence turns it on."""

    cookie_name: Annotated[
        str, about("name of the cookie; derived from the backend when empty")
    ] = ""
    secure: Annotated[bool, about("adds `Secure` to the cookie")] = False
    http_only: Annotated[bool, about("adds `HttpOnly` to the cookie")] = False
    same_site: Annotated[str, about("`none`, `lax` or `strict`; anything else adds nothing")] = ""


class LoadBalancer(Section, frozen=True, rename="camel", kw_only=True):
    """How the next server is chosen."""

    method: Annotated[
        str, about("`wrr` (weighted round robin) or `drr` (dynamic); unknown values act as wrr")
    ] = "wrr"
    sticky: Annotated[bool, about("deprecated: stickiness with cookie `_TRAEFIK_BACKEND`")] = False
    stickiness: (
        Annotated[Stickiness, about("session affinity by cookie; its presence turns it on")] | None
    ) = None


class CircuitBreaker(Section, frozen=True, rename="camel", kw_only=True):
    """Stops asking a failing backend while ``expression`` holds."""

    expression: Annotated[
        str, about("trips while it holds, such as `NetworkErrorRatio() > 0.5`")
    ] = ""


class MaxConn(Section, frozen=True, rename="camel", kw_only=True):
    """Limit of requests in progress by key."""

    amount: Annotated[int, about("requests in progress at once for one key; 0 = no limit")] = 0
    extractor_func: Annotated[
        str,
        about(
            "the key: `client.ip`, `request.host` or `request.header.NAME`; when not given "
            "request.host in a key-value store, else none"
        ),
    ] = ""


class HealthCheck(Section, frozen=True, rename="camel", kw_only=True):
    """Active check of the servers; an empty path means none."""

    path: Annotated[str, about("path that is asked; empty = no check")] = ""
    scheme: Annotated[str, about("http or https instead of the scheme of the server")] = ""
    port: Annotated[
        int, about("port instead of the port of the server; 0 = that of the server")
    ] = 0
    interval: (
        Annotated[
            UnitDuration,
            about("time between checks; the static `healthcheck.interval` when not given"),
        ]
        | None
    ) = None
    timeout: Annotated[UnitDuration, about("longest time for an answer")] | None = None
    hostname: Annotated[str, about("`Host` header of the check")] = ""
    headers: Annotated[dict[str, str], about("further headers of the check")] = field(
        default_factory=dict
    )


class Buffering(Section, frozen=True, rename="camel", kw_only=True):
    """Reads requests and responses completely before passing them on; sizes in bytes."""

    max_request_body_bytes: Annotated[
        int, about("larger requests are answered 413; 0 = no limit")
    ] = 0
    mem_request_body_bytes: Annotated[int, about("part of a request kept in memory; 0 = 1 MiB")] = 0
    max_response_body_bytes: Annotated[int, about("larger answers become 500; 0 = no limit")] = 0
    mem_response_body_bytes: Annotated[int, about("part of an answer kept in memory")] = 0
    retry_expression: Annotated[
        str, about("ask again while it holds, such as `IsNetworkError() && Attempts() <= 2`")
    ] = ""


class ResponseForwarding(Section, frozen=True, rename="camel", kw_only=True):
    """When partial responses are flushed to the client."""

    flush_interval: (
        Annotated[Duration, about("longest time that part of an answer is held back")] | None
    ) = None


class Backend(Section, frozen=True, rename="camel", kw_only=True):
    """A named set of servers and how they are used."""

    servers: Annotated[dict[str, Server], about("servers by name")] = field(default_factory=dict)
    load_balancer: Annotated[LoadBalancer, about("how the next server is chosen")] | None = None
    circuit_breaker: Annotated[CircuitBreaker, about("stops asking a failing backend")] | None = (
        None
    )
    max_conn: Annotated[MaxConn, about("limit of requests in progress")] | None = None
    health_check: Annotated[HealthCheck, about("active check of the servers")] | None = None
    buffering: (
        Annotated[Buffering, about("reads requests and answers completely before passing them on")]
        | None
    ) = None
    response_forwarding: (
        Annotated[ResponseForwarding, about("when partial answers are flushed")] | None
    ) = None


class Route(Section, frozen=True, rename="camel", kw_only=True):
    """One rule of a frontend; all routes of a frontend must match."""

    rule: Annotated[
        str, about("matchers and modifiers, such as `Host:example.com;PathPrefix:/api`")
    ] = ""


class WhiteList(Section, frozen=True, rename="camel", kw_only=True):
    """Addresses that may use a frontend or an entry point."""

    source_range: Annotated[
        tuple[str, ...], about("addresses or networks (CIDR) that may pass; empty = everybody")
    ] = ()
    use_x_forwarded_for: Annotated[
        bool, about("judge the addresses of `X-Forwarded-For` before the address of the peer")
    ] = field(default=False, name="useXForwardedFor")


class NameSelection(Section, frozen=True, rename="camel", kw_only=True):
    """Which parts of a certificate's subject or issuer are passed to the server."""

    country: Annotated[bool, about("pass `C`")] = False
    province: Annotated[bool, about("pass `ST`")] = False
    locality: Annotated[bool, about("pass `L`")] = False
    organization: Annotated[bool, about("pass `O`")] = False
    common_name: Annotated[bool, about("pass `CN`")] = False
    serial_number: Annotated[bool, about("pass `SN`")] = False
    domain_component: Annotated[bool, about("pass `DC`")] = False


class CertificateInfos(Section, frozen=True, rename="camel", kw_only=True):
    """Which facts of a client certificate are passed to the server."""

    not_after: Annotated[bool, about("pass the end of validity")] = False
    not_before: Annotated[bool, about("pass the start of validity")] = False
    sans: Annotated[bool, about("pass the alternative names")] = False
    subject: Annotated[NameSelection, about("parts of the subject that are passed")] | None = None
    issuer: Annotated[NameSelection, about("parts of the issuer that are passed")] | None = None


class PassTLSClientCert(Section, frozen=True, rename="camel", kw_only=True):
    """How a client certificate is passed to the server."""

    pem: Annotated[bool, about("pass the certificate in `X-Forwarded-Tls-Client-Cert`")] = False
    infos: (
        Annotated[CertificateInfos, about("facts passed in `X-Forwarded-Tls-Client-Cert-Infos`")]
        | None
    ) = None


class ClientTLS(Section, frozen=True, rename="camel", kw_only=True):
    """TLS settings towards a server: files or PEM text."""

    ca: Annotated[str, about("authorities that are trusted: file or PEM text")] = ""
    ca_optional: Annotated[bool, about("no effect for a client")] = False
    cert: Annotated[str, about("own certificate: file or PEM text")] = ""
    key: Annotated[str, about("key of the certificate: file or PEM text", content=True)] = ""
    insecure_skip_verify: Annotated[
        bool, about("do not verify the certificate of the other side")
    ] = False


class BasicAuth(Section, frozen=True, rename="camel", kw_only=True):
    """Users as ``name:hash``."""

    users: Annotated[tuple[str, ...], about("users as `name:hash`", secret=True)] = ()
    users_file: Annotated[str, about("file of users, one a line")] = ""
    remove_header: Annotated[bool, about("do not forward `Authorization`")] = False


class DigestAuth(Section, frozen=True, rename="camel", kw_only=True):
    """Users as ``name:realm:HA1``."""

    users: Annotated[tuple[str, ...], about("users as `name:realm:HA1`", secret=True)] = ()
    users_file: Annotated[str, about("file of users, one a line")] = ""
    remove_header: Annotated[bool, about("do not forward `Authorization`")] = False


class ForwardAuth(Section, frozen=True, rename="camel", kw_only=True):
    """Asks another server whether a request may pass."""

    address: Annotated[str, about("URL that decides")] = ""
    trust_forward_header: Annotated[
        bool, about("pass on the `X-Forwarded-*` headers of the client")
    ] = False
    auth_response_headers: Annotated[
        tuple[str, ...], about("headers of the answer that are copied to the request")
    ] = ()
    tls: Annotated[ClientTLS, about("TLS towards the deciding server")] | None = None


class Auth(Section, frozen=True, rename="camel", kw_only=True):
    """Authentication; the first of basic, digest, forward that is set is used."""

    header_field: Annotated[str, about("header that tells the server the name of the user")] = ""
    basic: Annotated[BasicAuth, about("user name and password")] | None = None
    digest: Annotated[DigestAuth, about("digest access authentication")] | None = None
    forward: Annotated[ForwardAuth, about("another server decides")] | None = None


class ErrorPage(Section, frozen=True, rename="camel", kw_only=True):
    """Replaces answers of certain statuses by those of another backend."""

    status: Annotated[tuple[str, ...], about("statuses or ranges, such as `404`, `500-599`")] = ()
    backend: Annotated[str, about("backend that is asked for the page")] = ""
    query: Annotated[str, about("path that is asked; `{status}` is replaced")] = ""


class Rate(Section, frozen=True, rename="camel", kw_only=True):
    """``average`` requests in ``period`` seconds, ``burst`` at once."""

    period: Annotated[Duration, about("length of the window")] = 0.0
    average: Annotated[int, about("requests in the window")] = 0
    burst: Annotated[int, about("requests at once")] = 0


class RateLimit(Section, frozen=True, rename="camel", kw_only=True):
    """Limits the rate of requests by key."""

    extractor_func: Annotated[
        str, about("the key: `client.ip`, `request.host` or `request.header.NAME`")
    ] = ""
    rate_set: Annotated[dict[str, Rate], about("limits by name; all must hold")] = field(
        default_factory=dict, name="rateset"
    )


class Redirect(Section, frozen=True, rename="camel", kw_only=True):
    """Answers with a redirect instead of proxying."""

    entry_point: Annotated[str, about("entry point to redirect to; wins over regex")] = ""
    regex: Annotated[str, about("regular expression on the URL")] = ""
    replacement: Annotated[str, about("new URL, with `$1` or `${name}`")] = ""
    permanent: Annotated[bool, about("301 or 308 instead of 302 or 307")] = False


class Headers(Section, frozen=True, rename="camel", kw_only=True):
    """Custom and security headers."""

    custom_request_headers: Annotated[
        dict[str, str], about("set on requests; an empty value removes the header")
    ] = field(default_factory=dict)
    custom_response_headers: Annotated[
        dict[str, str], about("set on answers; an empty value removes the header")
    ] = field(default_factory=dict)
    allowed_hosts: Annotated[tuple[str, ...], about("hosts that may be asked; empty = all")] = ()
    hosts_proxy_headers: Annotated[
        tuple[str, ...], about("headers that may hold the host that was asked")
    ] = ()
    ssl_redirect: Annotated[bool, about("redirect http to https")] = field(
        default=False, name="sslRedirect"
    )
    ssl_temporary_redirect: Annotated[bool, about("redirect temporarily")] = False
    ssl_host: Annotated[str, about("host of the redirect")] = ""
    ssl_force_host: Annotated[bool, about("redirect to `sslHost` also from https")] = False
    ssl_proxy_headers: Annotated[dict[str, str], about("headers and values that mean https")] = (
        field(default_factory=dict)
    )
    sts_seconds: Annotated[int, about("max-age of `Strict-Transport-Security`; 0 = no header")] = 0
    sts_include_subdomains: Annotated[bool, about("adds includeSubdomains")] = False
    sts_preload: Annotated[bool, about("adds preload")] = False
    force_sts_header: Annotated[bool, about("send `Strict-Transport-Security` also over http")] = (
        field(default=False, name="forceSTSHeader")
    )
    frame_deny: Annotated[bool, about("`X-Frame-Options: DENY`")] = False
    custom_frame_options_value: Annotated[str, about("value of `X-Frame-Options`")] = ""
    content_type_nosniff: Annotated[bool, about("`X-Content-Type-Options: nosniff`")] = False
    browser_xss_filter: Annotated[bool, about("`X-XSS-Protection: 1; mode=block`")] = field(
        default=False, name="browserXSSFilter"
    )
    custom_browser_xss_value: Annotated[str, about("value of `X-XSS-Protection`")] = field(
        default="", name="customBrowserXSSValue"
    )
    content_security_policy: Annotated[str, about("value of `Content-Security-Policy`")] = ""
    public_key: Annotated[str, about("value of `Public-Key-Pins`")] = ""
    referrer_policy: Annotated[str, about("value of `Referrer-Policy`")] = ""
    is_development: Annotated[bool, about("turn the security headers off")] = False


class Frontend(Section, frozen=True, rename="camel", kw_only=True):
    """Routes and per-frontend options, pointing to one backend of the same provider."""

    backend: Annotated[str, about("name of a backend of the same provider")]
    routes: Annotated[
        dict[str, Route], about("rules by name; all must match; none matches everything")
    ] = field(default_factory=dict)
    entry_points: Annotated[
        tuple[str, ...],
        about("entry points that it is attached to", default="static `defaultEntryPoints`"),
    ] = ()
    priority: Annotated[int, about("above 0: replaces the length of the rules as priority")] = 0
    pass_host_header: Annotated[
        bool,
        about(
            "send the `Host` of the client to the server; true when not given in a key-value store"
        ),
    ] = False
    pass_tls_cert: Annotated[bool, about("deprecated: pass the client certificate")] = field(
        default=False, name="passTLSCert"
    )
    pass_tls_client_cert: (
        Annotated[PassTLSClientCert, about("pass the client certificate or facts of it")] | None
    ) = field(default=None, name="passTLSClientCert")
    white_list: Annotated[WhiteList, about("addresses that may use the frontend")] | None = None
    whitelist_source_range: Annotated[
        tuple[str, ...], about("deprecated: `whiteList.sourceRange`")
    ] = ()
    basic_auth: Annotated[
        tuple[str, ...], about("deprecated: `auth.basic.users`", secret=True)
    ] = ()
    auth: Annotated[Auth, about("authentication")] | None = None
    headers: Annotated[Headers, about("custom and security headers")] | None = None
    errors: Annotated[dict[str, ErrorPage], about("error pages by name")] = field(
        default_factory=dict
    )
    rate_limit: Annotated[RateLimit, about("limits of the rate of requests")] | None = field(
        default=None, name="ratelimit"
    )
    redirect: Annotated[Redirect, about("redirect instead of proxying")] | None = None


class Certificate(Section, frozen=True, rename="camel", kw_only=True):
    """A certificate and its key: files or PEM text."""

    cert_file: Annotated[str, about("certificate: file or PEM text")] = ""
    key_file: Annotated[str, about("key: file or PEM text", content=True)] = ""


class TLSCertificate(Section, frozen=True, rename="camel", kw_only=True):
    """A certificate offered on entry points."""

    entry_points: Annotated[
        tuple[str, ...], about("entry points that offer it", default="static `defaultEntryPoints`")
    ] = ()
    certificate: Annotated[Certificate, about("the certificate")]


class Configuration(Section, frozen=True, rename="camel", kw_only=True):
    """All that one provider says. ``tls`` is by the provider's own name (key or list position)."""

    frontends: Annotated[Mapping[str, Frontend], about("frontends by name")] = field(
        default_factory=dict
    )
    backends: Annotated[Mapping[str, Backend], about("backends by name")] = field(
        default_factory=dict
    )
    tls: Annotated[
        Mapping[str, TLSCertificate],
        about("certificates: a list in TOML, by name in a key-value store"),
    ] = field(default_factory=dict)
