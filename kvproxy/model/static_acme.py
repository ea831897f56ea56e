"""The static configuration of certificates by ACME, and of clusters."""

from __future__ import annotations

from typing import Annotated

from msgspec import field

from kvproxy.model.kinds import Duration, Section, about


class AcmeDomain(Section, frozen=True, rename="camel", kw_only=True):
    """The names of one certificate."""

    main: Annotated[str, about("first name")] = ""
    sans: Annotated[tuple[str, ...], about("further names")] = ()


class HTTPChallenge(Section, frozen=True, rename="camel", kw_only=True):
    """Proof over HTTP."""

    entry_point: Annotated[str, about("entry point that answers")] = ""


class TLSChallenge(Section, frozen=True, rename="camel", kw_only=True):
    """Proof by TLS-ALPN; has no options."""


class DNSChallenge(Section, frozen=True, rename="camel", kw_only=True):
    """Proof by DNS."""

    provider: Annotated[str, about("DNS provider")] = ""
    delay_before_check: Annotated[Duration, about("wait before the check")] = 0.0
    resolvers: Annotated[tuple[str, ...], about("DNS servers that are asked")] = ()
    disable_propagation_check: Annotated[bool, about("do not wait for propagation")] = False


class Acme(Section, frozen=True, rename="camel", kw_only=True):
    """Certificates from an ACME authority."""

    email: Annotated[str, about("address of the account")] = ""
    storage: Annotated[str, about("file, or key in a cluster, of account and certificates")] = ""
    storage_file: Annotated[str, about("deprecated: `acme.storage`", flag=False)] = ""
    entry_point: Annotated[str, about("entry point with TLS that offers the certificates")] = ""
    ca_server: Annotated[str, about("directory of the authority")] = field(
        default="https://acme-v02.api.letsencrypt.org/directory", name="caServer"
    )
    key_type: Annotated[str, about("`EC256`, `EC384`, `RSA2048`, `RSA4096` or `RSA8192`")] = (
        "RSA4096"
    )
    on_host_rule: Annotated[bool, about("one certificate for each frontend with a host")] = False
    on_demand: Annotated[bool, about("deprecated: certificates during the handshake")] = False
    acme_logging: Annotated[bool, about("log the ACME client")] = False
    preferred_chain: Annotated[str, about("chain that is preferred")] = ""
    override_certificates: Annotated[bool, about("overwrite the stored account")] = False
    domains: Annotated[
        tuple[AcmeDomain, ...],
        about("certificates asked for at start; one flag each", separators=",;"),
    ] = ()
    http_challenge: Annotated[HTTPChallenge, about("prove over HTTP")] | None = None
    tls_challenge: Annotated[TLSChallenge, about("prove by TLS-ALPN")] | None = None
    dns_challenge: Annotated[DNSChallenge, about("prove by DNS")] | None = None
    dns_provider: Annotated[str, about("deprecated: `acme.dnsChallenge.provider`")] = ""
    delay_dont_check_dns: Annotated[
        Duration, about("deprecated: `acme.dnsChallenge.delayBeforeCheck`")
    ] = field(default=0.0, name="delayDontCheckDNS")


class ClusterStore(Section, frozen=True, rename="camel", kw_only=True):
    """Where the cluster keeps its data."""

    prefix: Annotated[
        str, about("prefix of the keys", default="that of the provider", flag=False)
    ] = ""


class Cluster(Section, frozen=True, rename="camel", kw_only=True):
    """Several processes that act as one."""

    node: Annotated[str, about("name of this process", default="random", flag=False)] = ""
    store: Annotated[ClusterStore, about("store of the cluster", flag=False)] | None = None
