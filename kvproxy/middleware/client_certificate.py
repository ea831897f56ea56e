"""Tells the server which certificate the client showed (specification section 9.7)."""

from __future__ import annotations

import logging
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from cryptography import x509
from cryptography.x509.oid import NameOID

from kvproxy.middleware.contract import Middleware

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kvproxy.middleware.contract import Outcome, Request
    from kvproxy.model.dynamic import CertificateInfos, NameSelection, PassTLSClientCert

logger = logging.getLogger("kvproxy.middleware")

PEM_HEADER = b"x-forwarded-tls-client-cert"
INFOS_HEADER = b"x-forwarded-tls-client-cert-infos"

REMEMBERED = 256
"""Chains of certificates whose header values are remembered."""

_REPEATED = (
    ("domain_component", "DC", NameOID.DOMAIN_COMPONENT),
    ("country", "C", NameOID.COUNTRY_NAME),
    ("province", "ST", NameOID.STATE_OR_PROVINCE_NAME),
    ("locality", "L", NameOID.LOCALITY_NAME),
    ("organization", "O", NameOID.ORGANIZATION_NAME),
)
_SINGLE = (
    ("serial_number", "SN", NameOID.SERIAL_NUMBER),
    ("common_name", "CN", NameOID.COMMON_NAME),
)

Values = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""Of the header with the certificates, and of that with the facts; empty: the header is absent."""


class PassClientCertificate(Middleware):
    """Writes the headers; what the client sent under these names never passes."""

    __slots__ = ("_options", "_remembered")

    def __init__(self, options: PassTLSClientCert) -> None:
        """``options``: which of the headers, and what is in the second one."""
        self._options = options
        self._remembered: dict[Sequence[bytes], Values] = {}

    def request(self, request: Request) -> Outcome:
        """Set the headers, or remove them when there is no certificate."""
        certificates = request.client.certificates()
        pem, infos = self._values(certificates) if certificates else ((), ())
        request.set(PEM_HEADER, *pem)
        request.set(INFOS_HEADER, *infos)
        return None

    def _values(self, certificates: Sequence[bytes]) -> Values:
        known = self._remembered.get(certificates)
        if known is None:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            known = self._remembered[certificates] = self._work_out(certificates)
        return known

    def _work_out(self, certificates: Sequence[bytes]) -> Values:
        pem: tuple[bytes, ...] = ()
        infos: tuple[bytes, ...] = ()
        if self._options.pem:
            escaped = [quote_plus(b64encode(each)) for each in certificates]
            pem = (",".join(escaped).encode(),)
        if self._options.infos is not None:
            try:
                text = ";".join([facts(each, self._options.infos) for each in certificates])
                infos = (quote_plus(text).encode(),)
            except ValueError as error:
                logger.error("a client's certificate cannot be read: %s", error)
        return pem, infos


def facts(der: bytes, selected: CertificateInfos) -> str:
    """Return the selected facts of a certificate as servers are told them; raises ValueError."""
    certificate = x509.load_der_x509_certificate(der)
    parts = []
    for label, name, selection in (
        ("Subject", certificate.subject, selected.subject),
        ("Issuer", certificate.issuer, selected.issuer),
    ):
        if selection is not None and (text := ",".join(_name_parts(name, selection))):
            parts.append(f'{label}="{text}"')
    if selected.not_before:
        parts.append(f"NB={int(certificate.not_valid_before_utc.timestamp())}")
    if selected.not_after:
        parts.append(f"NA={int(certificate.not_valid_after_utc.timestamp())}")
    if selected.sans:
        parts.append("SAN=" + ",".join(_alternative_names(certificate)))
    return ",".join(parts)


def _name_parts(name: x509.Name, selection: NameSelection) -> Iterator[str]:
    for option, label, identifier in _REPEATED:
        if getattr(selection, option):
            for attribute in name.get_attributes_for_oid(identifier):
                yield f"{label}={_text(attribute.value)}"
    for option, label, identifier in _SINGLE:
        if getattr(selection, option) and (found := name.get_attributes_for_oid(identifier)):
            yield f"{label}={_text(found[-1].value)}"


def _alternative_names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return
    names = extension.value
    yield from names.get_values_for_type(x509.DNSName)
    yield from names.get_values_for_type(x509.RFC822Name)
    yield from map(str, names.get_values_for_type(x509.IPAddress))
    yield from names.get_values_for_type(x509.UniformResourceIdentifier)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
