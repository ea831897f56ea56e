"""Certificates and keys as configured: read, checked, and made ready for workers.

What is bad is found here, before a worker is told: a worker only ever gets pairs that fit.
"""

from __future__ import annotations

import datetime
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtensionOID, NameOID

from kvproxy.control.validation.certificate_error import CertificateError
from kvproxy.model.problem import Problem
from kvproxy.model.tls import ServedCertificate, ServedTLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvproxy.model.dynamic import Certificate
    from kvproxy.model.static import EntryPointTLS

DEFAULT_NAME = "TRAEFIK DEFAULT CERT"
"""Common name of the generated certificate: that of Traefik 1.7, by which tools know it."""

DEFAULT_DAYS = 365

LEAST_RSA_BITS = 2048
LEAST_CURVE_BITS = 224
"""What OpenSSL accepts at the security level of Python's ssl."""

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)


def load_pair(
    certificate: Certificate,
    now: datetime.datetime,
    *,
    entry_points: tuple[str, ...] = (),
) -> ServedCertificate:
    """Read and check a certificate and its key, files or PEM text.

    Raises `CertificateError` when one of them cannot be read or parsed, when they do not belong
    together, when the certificate has expired at ``now``, or when TLS would not accept it.
    """
    chain_text = read_text(certificate.cert_file, "certFile")
    key_text = read_text(certificate.key_file, "keyFile")
    blocks = _CERTIFICATE.findall(chain_text)
    if not blocks:
        raise CertificateError("certFile", "holds no certificate", "PEM text or the path of a file")
    chain = []
    try:
        chain = [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
        leaf_key = chain[0].public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError("certFile", f"cannot be parsed: {_reason(error)}") from None
    key_block, key = _load_key(key_text)
    if key.public_key() != leaf_key:
        raise CertificateError("keyFile", "is not the key of the certificate")
    leaf = chain[0]
    if leaf.not_valid_after_utc < now:
        ended = leaf.not_valid_after_utc.strftime("%Y-%m-%d %H:%M:%S UTC")
        raise CertificateError("certFile", f"has expired on {ended}")
    _refuse_weak(chain)
    names = certificate_names(leaf)
    if not names:
        raise CertificateError("certFile", "names no host", "a common name or alternative names")
    return ServedCertificate(
        entry_points=entry_points, names=names, chain="\n".join(blocks) + "\n", key=key_block + "\n"
    )


def read_text(value: str, option: str) -> str:
    """Return PEM text: ``value`` itself, or the content of the file that it names."""
    if not value.strip():
        raise CertificateError(option, "is missing", "PEM text or the path of a file")
    if "-----BEGIN" in value:
        return value
    if "\n" in value.strip() or len(value) > 4096:
        raise CertificateError(option, "is no PEM text", "PEM text or the path of a file")
    path = value.strip()
    try:
        return Path(path).read_bytes().decode("ascii", "replace")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CertificateError(option, f"`{path}` cannot be read: {reason}") from None


def certificate_names(leaf: x509.Certificate) -> tuple[str, ...]:
    """Return what a certificate is for, in lower case: common name, DNS names, addresses.

    As in Traefik 1.7 the common name counts beside the alternative names (specification
    section 1.5).
    """
    try:
        common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError:
        common = []
    names = [str(attribute.value) for attribute in common[-1:]]
    try:
        extension = leaf.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_ALTERNATIVE_NAME)
        alternatives = extension.value
        assert isinstance(alternatives, x509.SubjectAlternativeName)
        names += sorted(alternatives.get_values_for_type(x509.DNSName))
        names += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    except (x509.ExtensionNotFound, ValueError):
        pass
    return tuple(dict.fromkeys(name.lower() for name in names if name))


def _load_key(
    text: str,
) -> tuple[
    str,
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey,
]:
    found = _KEY.search(text)
    if found is None:
        raise CertificateError("keyFile", "holds no private key", "PEM text or the path of a file")
    if "ENCRYPTED" in found[0]:
        raise CertificateError("keyFile", "is encrypted", "a key without a pass phrase")
    try:
        # Whether the primes are primes takes 40 ms; that the key fits the certificate is checked.
        key = serialization.load_pem_private_key(
            found[0].encode(), None, unsafe_skip_rsa_key_validation=True
        )
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The reasons of the library may hold parts of the key.
        raise CertificateError("keyFile", "cannot be parsed") from None
    if isinstance(
        key,
        rsa.RSAPrivateKey
        | ec.EllipticCurvePrivateKey
        | ed25519.Ed25519PrivateKey
        | ed448.Ed448PrivateKey,
    ):
        return found[0], key
    raise CertificateError(
        "keyFile", "is of a kind that TLS does not use", "an RSA, EC or Ed25519 key"
    )


def _refuse_weak(chain: Sequence[x509.Certificate]) -> None:
    """Raise `CertificateError` for what OpenSSL would not load at its security level."""
    for certificate in chain:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and key.key_size < LEAST_RSA_BITS:
            raise CertificateError(
                "certFile",
                f"has an RSA key of {key.key_size} bits",
                f"{LEAST_RSA_BITS} bits or more",
            )
        if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < LEAST_CURVE_BITS:
            raise CertificateError(
                "certFile",
                f"has an EC key of {key.key_size} bits",
                f"{LEAST_CURVE_BITS} bits or more",
            )
        own = certificate.issuer == certificate.subject
        if not own and isinstance(certificate.signature_hash_algorithm, hashes.SHA1 | hashes.MD5):
            raise CertificateError(
                "certFile",
                f"is signed with {certificate.signature_hash_algorithm.name.upper()}",
                "SHA-256 or better",
            )


def _reason(error: Exception) -> str:
    text = str(error).split("\n", 1)[0]
    return text[:200] or type(error).__name__


def generate_default(now: datetime.datetime) -> ServedCertificate:
    """Make the self-signed certificate that is offered where none is configured."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, DEFAULT_NAME)])
    host = f"{secrets.token_hex(16)}.kvproxy.default"
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DEFAULT_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return ServedCertificate(
        names=(host,),
        chain=certificate.public_bytes(serialization.Encoding.PEM).decode(),
        key=key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


def resolve_tls(
    name: str,
    options: EntryPointTLS,
    generated: ServedCertificate,
    now: datetime.datetime,
    good: dict[str, ServedCertificate] | None = None,
) -> tuple[ServedTLS, tuple[Problem, ...]]:
    """Read everything that the ``tls`` section of entry point ``name`` names.

    ``good``: option path to the certificate that was good before, brought up to date here. A
    certificate that cannot be used is named by a problem; the one before goes on, or it is left
    out, as in Traefik 1.7. ``generated`` is offered where none is left. Raises `CertificateError`
    when the authorities of client certificates cannot be used: without them the entry point would
    be open.
    """
    problems: list[Problem] = []
    before = good or {}
    known: dict[str, ServedCertificate] = {}

    def load(certificate: Certificate, path: str) -> ServedCertificate | None:
        loaded = before.get(path)
        try:
            loaded = load_pair(certificate, now)
        except CertificateError as error:
            problems.append(
                Problem(
                    message=error.message,
                    path=f"entryPoints.{name}.tls.{path}.{error.option}",
                    expected=error.expected,
                )
            )
        if loaded is not None:
            known[path] = loaded
        return loaded

    loaded = [
        load(each, f"certificates.{number}") for number, each in enumerate(options.certificates)
    ]
    certificates = tuple(each for each in loaded if each is not None)
    default = None
    if options.default_certificate is not None:
        default = load(options.default_certificate, "defaultCertificate")
    if default is None:
        default = certificates[0] if certificates else generated
    client = options.client_ca
    files = options.client_ca_files or (client.files if client is not None else ())
    optional = client is not None and client.optional and not options.client_ca_files
    if client is not None and not files:
        raise CertificateError("clientCA.files", "names no authority", "files or PEM texts")
    served = ServedTLS(
        default=default,
        certificates=certificates,
        min_version=options.min_version,
        cipher_suites=options.cipher_suites,
        client_authorities=tuple(_authorities(each) for each in files),
        client_optional=optional,
        sni_strict=options.sni_strict,
    )
    if good is not None:
        good.clear()
        good.update(known)
    return served, tuple(problems)


def _authorities(value: str) -> str:
    """Read the certificates of authorities; returns them as PEM text."""
    option = "clientCA.files"
    blocks = _CERTIFICATE.findall(read_text(value, option))
    if not blocks:
        raise CertificateError(option, "holds no certificate", "PEM text or the path of a file")
    try:
        for block in blocks:
            x509.load_pem_x509_certificate(block.encode())
    except ValueError as error:
        raise CertificateError(option, f"cannot be parsed: {_reason(error)}") from None
    return "\n".join(blocks) + "\n"
