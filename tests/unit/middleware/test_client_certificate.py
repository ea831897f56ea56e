"""What servers are told of client certificates (specification section 9.7, cases C01 to C07)."""

from __future__ import annotations

import datetime
from base64 import b64encode
from functools import cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote_plus

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kvproxy.middleware.client_certificate import REMEMBERED, PassClientCertificate, facts
from kvproxy.model.dynamic import CertificateInfos, NameSelection, PassTLSClientCert
from tests.unit.middleware.requests import Local, a_request, now

PEM_HEADER = b"x-forwarded-tls-client-cert"
INFOS_HEADER = b"x-forwarded-tls-client-cert-infos"
OIDS = {
    "DC": NameOID.DOMAIN_COMPONENT,
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "O": NameOID.ORGANIZATION_NAME,
    "SN": NameOID.SERIAL_NUMBER,
    "CN": NameOID.COMMON_NAME,
}
ALL_PARTS = NameSelection(
    country=True,
    province=True,
    locality=True,
    organization=True,
    common_name=True,
    serial_number=True,
    domain_component=True,
)
ALL = CertificateInfos(
    not_after=True, not_before=True, sans=True, subject=ALL_PARTS, issuer=ALL_PARTS
)
STARTS, ENDS = 1544094636, 1632568236
SIGNER = (
    *(("DC", "org"), ("DC", "cheese"), ("C", "FR"), ("C", "US"), ("ST", "Signing State")),
    *(("ST", "Signing State 2"), ("L", "TOULOUSE"), ("L", "LYON"), ("O", "Cheese")),
    *(("O", "Cheese 2"), ("CN", "Simple Signing CA"), ("CN", "Simple Signing CA 2")),
)
CHEESE = (("C", "FR"), ("ST", "Some-State"), ("O", "Cheese"))
ISSUER_TEXT = (
    'Issuer="DC=org,DC=cheese,C=FR,C=US,ST=Signing State,ST=Signing State 2,L=TOULOUSE,L=LYON,'
    'O=Cheese,O=Cheese 2,CN=Simple Signing CA 2"'
)


@cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def name(parts: tuple[tuple[str, str], ...]) -> x509.Name:
    return x509.Name([x509.NameAttribute(OIDS[label], value) for label, value in parts])


@cache
def certificate(
    subject: tuple[tuple[str, str], ...],
    *alternatives: x509.GeneralName,
    issuer: tuple[tuple[str, str], ...] = SIGNER,
) -> bytes:
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key().public_key())
        .serial_number(7)
        .not_valid_before(datetime.datetime.fromtimestamp(STARTS, datetime.UTC))
        .not_valid_after(datetime.datetime.fromtimestamp(ENDS, datetime.UTC))
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    signed = builder.sign(key(), hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def told(
    options: PassTLSClientCert, *certificates: bytes, secure: bool = True
) -> tuple[list[bytes] | None, list[bytes] | None]:
    """Return both headers after a client that has sent them itself passed."""
    sent = (
        ("X-Forwarded-Tls-Client-Cert", "x"),
        ("X-Forwarded-Tls-Client-Cert-Infos", "y"),
        ("X-Forwarded-Tls_Client-Cert", "z"),
    )
    client = Local(secure=secure, certificates=certificates)
    request = a_request(headers=sent, client=client)
    assert now(PassClientCertificate(options), request) is None
    assert b"x-forwarded-tls_client-cert" not in request.headers
    return request.headers.get(PEM_HEADER), request.headers.get(INFOS_HEADER)


@pytest.mark.parametrize(
    "options",
    [PassTLSClientCert(), PassTLSClientCert(pem=True), PassTLSClientCert(pem=True, infos=ALL)],
)
def test_c01_what_the_client_says_is_removed(options: PassTLSClientCert) -> None:
    assert told(options, secure=False) == (None, None)


def test_c02_one_and_two_certificates() -> None:
    first, second = certificate(CHEESE), certificate((("CN", "other"),))
    pem, infos = told(PassTLSClientCert(pem=True), first)
    assert infos is None
    assert pem is not None
    assert unquote_plus(pem[0].decode()) == b64encode(first).decode()
    assert not {b"+", b"/", b"=", b"\n"} & {pem[0][at : at + 1] for at in range(len(pem[0]))}
    pem, _ = told(PassTLSClientCert(pem=True), first, second)
    assert pem is not None
    parts = [unquote_plus(each) for each in pem[0].decode().split(",")]
    assert parts == [b64encode(each).decode() for each in (first, second)]


def infos_of(infos: CertificateInfos, *certificates: bytes) -> str:
    pem, told_infos = told(PassTLSClientCert(infos=infos), *certificates)
    assert pem is None
    assert told_infos is not None
    return unquote_plus(told_infos[0].decode())


def test_c03_everything() -> None:
    assert infos_of(ALL, certificate(CHEESE)) == (
        f'Subject="C=FR,ST=Some-State,O=Cheese",{ISSUER_TEXT},NB={STARTS},NA={ENDS},SAN='
    )


def test_c04_some() -> None:
    infos = CertificateInfos(
        not_after=True,
        sans=True,
        subject=NameSelection(organization=True),
        issuer=NameSelection(country=True),
    )
    assert infos_of(infos, certificate(CHEESE)) == (
        f'Subject="O=Cheese",Issuer="C=FR,C=US",NA={ENDS},SAN='
    )


def test_c05_alternative_names() -> None:
    der = certificate(
        CHEESE,
        x509.UniformResourceIdentifier("https://x"),
        x509.IPAddress(ip_address("10.0.0.1")),
        x509.DNSName("foo"),
        x509.RFC822Name("test@test.com"),
        x509.DNSName("bar"),
        x509.IPAddress(ip_address("10.0.0.2")),
    )
    assert facts(der, CertificateInfos(sans=True)) == (
        "SAN=foo,bar,test@test.com,10.0.0.1,10.0.0.2,https://x"
    )


def test_c06_two_certificates() -> None:
    infos = CertificateInfos(subject=NameSelection(organization=True))
    other = certificate((("O", "Other"),))
    assert infos_of(infos, certificate(CHEESE), other) == ('Subject="O=Cheese";Subject="O=Other"')


def test_c07_order_repeats_and_no_escape() -> None:
    subject = (
        *(("CN", "first"), ("O", "Cheese"), ("O", "Cheese 2"), ("C", "FR"), ("L", "Lyon")),
        *(("ST", "Some State"), ("SN", "41"), ("SN", "42"), ("DC", "org"), ("CN", "client, one")),
    )
    infos = CertificateInfos(subject=ALL_PARTS)
    assert infos_of(infos, certificate(subject)) == (
        'Subject="DC=org,C=FR,ST=Some State,L=Lyon,O=Cheese,O=Cheese 2,SN=42,CN=client, one"'
    )


def test_a_name_with_nothing_selected_is_left_out() -> None:
    infos = CertificateInfos(subject=NameSelection(), issuer=NameSelection(serial_number=True))
    assert infos_of(infos, certificate(CHEESE)) == ""


def test_headers_cannot_be_broken_out_of() -> None:
    der = certificate((("CN", 'a"\r\nX-Evil: 1'),))
    _, infos = told(PassTLSClientCert(infos=ALL), der)
    assert infos is not None
    assert b"\r" not in infos[0]
    assert b"\n" not in infos[0]


def test_what_cannot_be_read_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    assert told(PassTLSClientCert(infos=ALL), b"nonsense") == (None, None)
    assert "cannot be read" in caplog.text


def test_memory_is_bounded() -> None:
    middleware: Any = PassClientCertificate(PassTLSClientCert(pem=True))
    for number in range(REMEMBERED + 5):
        client = Local(certificates=(b"%d" % number,))
        middleware.request(a_request(client=client))
    assert len(middleware._remembered) == REMEMBERED
