"""From what the supervisor says of TLS to contexts of OpenSSL."""

from __future__ import annotations

import contextlib
import os
import ssl
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.model.tls import CIPHER_SUITES, FIXED_SUITES, LEAST_VERSION, VERSIONS
from kvproxy.proxy.tls.openssl import name_client_authorities

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvproxy.model.tls import ServedCertificate, ServedTLS

TICKETS = 1
"""Session tickets for each full handshake (as Go; OpenSSL's own default is 2)."""

OLD_VERSIONS = ("VersionTLS10", "VersionTLS11")

DEFAULT_CIPHERS = (
    "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:RSA+AESGCM:RSA+AES:!aNULL:!eNULL:!PSK:!AESCCM"
)
"""Suites below TLS 1.3 where the entry point names none: those that Go offers."""


def build_context(
    tls: ServedTLS, certificate: ServedCertificate, protocols: Sequence[str]
) -> ssl.SSLContext:
    """Return the context of an entry point's connections that offer ``certificate``.

    OpenSSL takes some settings from the context that a connection began with and some from the one
    that its server name led to, so both are made alike. ``protocols``: for ALPN. Raises
    ssl.SSLError when OpenSSL does not accept the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not tls.min_version:
        # As in Go, where the client's order counts unless `minVersion` is set.
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = TICKETS
    _choose_versions(context, tls)
    context.set_alpn_protocols(list(protocols))
    if tls.client_authorities:
        authorities = "\n".join(tls.client_authorities)
        context.load_verify_locations(cadata=authorities)
        with _in_memory(authorities) as path:
            name_client_authorities(context, path)
        context.verify_mode = ssl.CERT_OPTIONAL if tls.client_optional else ssl.CERT_REQUIRED
    load_certificate(context, certificate)
    return context


def _choose_versions(context: ssl.SSLContext, tls: ServedTLS) -> None:
    named = [CIPHER_SUITES[name] for name in tls.cipher_suites if name in CIPHER_SUITES]
    version = tls.min_version or LEAST_VERSION
    if tls.cipher_suites and not named and FIXED_SUITES.intersection(tls.cipher_suites):
        version = "VersionTLS13"
    ciphers = ":".join(named) or DEFAULT_CIPHERS
    if version in OLD_VERSIONS:
        # These versions sign with SHA-1, which OpenSSL 3 only does at this level.
        ciphers += ":@SECLEVEL=0"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion[VERSIONS[version]]
    context.set_ciphers(ciphers)


def load_certificate(context: ssl.SSLContext, certificate: ServedCertificate) -> None:
    """Load a certificate from memory: Python only takes files, and a key must not be in one."""
    with _in_memory(f"{certificate.key}\n{certificate.chain}") as path:
        context.load_cert_chain(path, password=_no_password)


@contextlib.contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """Yield the path of a file that exists in memory alone."""
    descriptor = os.memfd_create("kvproxy", os.MFD_CLOEXEC)
    try:
        path = f"/proc/self/fd/{descriptor}"
        Path(path).write_text(text)
        yield path
    finally:
        os.close(descriptor)


def _no_password() -> bytes:
    """Give OpenSSL no chance to ask the terminal."""
    return b""
