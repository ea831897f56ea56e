"""TLS of entry points: the names of versions and cipher suites, and what workers are told."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from kvproxy.model.kinds import Section, about

VERSIONS = {
    "VersionTLS10": "TLSv1",
    "VersionTLS11": "TLSv1_1",
    "VersionTLS12": "TLSv1_2",
    "VersionTLS13": "TLSv1_3",
}
"""Values of ``minVersion`` to the names in `ssl.TLSVersion`."""

LEAST_VERSION = "VersionTLS12"
"""What an entry point without ``minVersion`` accepts at least (TLS 1.0 in Traefik 1.7)."""

CIPHER_SUITES = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""Suites that can be chosen, Go's names to OpenSSL's."""

FIXED_SUITES = frozenset(
    {
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_FALLBACK_SCSV",
    }
)
"""Names of the language that choose nothing: TLS 1.3 always offers all of its suites, as in Go."""

BROKEN_SUITES = frozenset(
    {
        "TLS_RSA_WITH_RC4_128_SHA",
        "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
        "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
        "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    }
)
"""Suites of the language that OpenSSL does not offer any more."""

KNOWN_SUITES = frozenset(CIPHER_SUITES) | FIXED_SUITES | BROKEN_SUITES


class ServedCertificate(Section, frozen=True, rename="camel", kw_only=True):
    """A certificate that was found good, with its key, as workers load it."""

    entry_points: Annotated[tuple[str, ...], about("entry points that offer it")] = ()
    names: Annotated[tuple[str, ...], about("lower-case DNS names and addresses it is for")] = ()
    chain: Annotated[str, about("the certificate and its intermediates as PEM text")]
    key: Annotated[str, about("its key as PEM text", secret=True)]


class ServedTLS(Struct, frozen=True, kw_only=True):
    """TLS of one entry point, files read and found good.

    ``min_version`` and ``cipher_suites`` as configured. ``client_authorities``: PEM texts; none
    means that no client certificate is asked for. ``default`` is offered where no name fits.
    """

    default: ServedCertificate
    certificates: tuple[ServedCertificate, ...] = ()
    min_version: str = ""
    cipher_suites: tuple[str, ...] = ()
    client_authorities: tuple[str, ...] = ()
    client_optional: bool = False
    sni_strict: bool = False
