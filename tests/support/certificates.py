"""Certificates made for one run of the tests: an authority of our own and servers that it names."""

from __future__ import annotations

import atexit
import datetime
import ipaddress
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

HOUR = datetime.timedelta(hours=1)

_numbers = count()


@dataclass(frozen=True)
class Pair:
    """A certificate and its key as PEM texts."""

    certificate: str
    key: str

    def option(self) -> dict[str, str]:
        """Return the pair as it stands in a configuration."""
        return {"certFile": self.certificate, "keyFile": self.key}


class Authority:
    """A certificate authority: ``pem`` is its certificate as text, ``path`` the same in a file,
    ``key`` its key as text."""

    def __init__(self, name: str) -> None:
        """Make a key and a self-signed certificate."""
        self.directory = Path(tempfile.mkdtemp(prefix="kvproxy-certificates-"))
        atexit.register(shutil.rmtree, self.directory, ignore_errors=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=None)
        usage = x509.KeyUsage(
            digital_signature=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=True,
            crl_sign=True,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(constraints, critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        self.key = self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()
        self.path = self.directory / "authority.pem"
        self.path.write_text(self.pem)

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        *,
        late: datetime.timedelta = datetime.timedelta(0),
        signer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None = None,
    ) -> x509.CertificateBuilder:
        name, signing_key = signer or (self._name, self._key)
        now = datetime.datetime.now(datetime.UTC) + late
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 2 * HOUR)
            .not_valid_after(now + 24 * HOUR)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
                critical=False,
            )
        )

    def issue(
        self,
        *names: str,
        common: str | None = None,
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
        expired: bool = False,
        early: bool = False,
        algorithm: hashes.HashAlgorithm | None = None,
        purpose: x509.ObjectIdentifier | None = None,
        signer: Pair | None = None,
    ) -> Pair:
        """Return a certificate for ``names`` (DNS names or addresses) with its key.

        ``common``: its common name, the first of the names unless given, none when empty.
        ``early``: it is not valid yet. Servers and clients may use it unless a ``purpose`` is
        given. ``signer``: who signs in the place of the authority, with its own certificate behind
        the new one.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        common = names[0] if common is None else common
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)] if common else [])
        late = -25 * HOUR if expired else 25 * HOUR if early else 0 * HOUR
        signs, chain = (self._name, self._key), ""
        if signer is not None:
            chain = signer.certificate
            signing_key = serialization.load_pem_private_key(signer.key.encode(), None)
            assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
            signs = x509.load_pem_x509_certificate(chain.encode()).subject, signing_key
        builder = self._builder(subject, key.public_key(), late=late, signer=signs)
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        if purpose:
            builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        certificate = builder.sign(signs[1], algorithm or hashes.SHA256())
        return Pair(
            certificate.public_bytes(serialization.Encoding.PEM).decode() + chain,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
        )

    def bundle(self, *names: str) -> Path:
        """Return a file with a new key and its certificate for ``names`` (or addresses)."""
        return self.write(self.issue(*names))

    def server_context(self, *names: str, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
        """Return the TLS settings of a server with a certificate for ``names`` (or addresses).

        ``protocols`` are offered by ALPN.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.bundle(*names))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def client_context(
        self, certificate: Pair | None = None, protocols: tuple[str, ...] = ("http/1.1",)
    ) -> ssl.SSLContext:
        """Return the TLS settings of a client that trusts this authority alone.

        It does not compare the name of the server, and has ``certificate`` to show.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(self.path)
        context.set_alpn_protocols(list(protocols))
        if certificate is not None:
            context.load_cert_chain(self.write(certificate))
        return context

    def write(self, pair: Pair) -> Path:
        """Write key and certificate into one file."""
        path = self.directory / f"{next(_numbers)}.pem"
        path.write_text(pair.key + pair.certificate)
        return path


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


@cache
def authority() -> Authority:
    """Return the authority of this run."""
    return Authority("kvproxy test authority")
