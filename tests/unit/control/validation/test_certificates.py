from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from kvproxy.control.validation.certificates import (
    DEFAULT_NAME,
    CertificateError,
    certificate_names,
    generate_default,
    load_pair,
    resolve_tls,
)
from kvproxy.model.dynamic import Certificate
from kvproxy.model.static import ClientCA, EntryPointTLS
from kvproxy.model.tls import ServedCertificate
from tests.support.certificates import Authority, Pair, authority

NOW = datetime.datetime.now(datetime.UTC)
GENERATED = generate_default(NOW)
GOOD = authority().issue("example.com", "*.Example.com", "192.0.2.1")
OTHER = authority().issue("other.test")


def option(pair: Pair) -> Certificate:
    return Certificate(cert_file=pair.certificate, key_file=pair.key)


def pem(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | dsa.DSAPrivateKey, **kind: object
) -> str:
    form = kind.get("form", serialization.PrivateFormat.PKCS8)
    how = kind.get("how", serialization.NoEncryption())
    return key.private_bytes(serialization.Encoding.PEM, form, how).decode()  # type: ignore[arg-type]


def test_a_good_pair() -> None:
    loaded = load_pair(option(GOOD), NOW, entry_points=("https",))
    assert loaded.names == ("example.com", "*.example.com", "192.0.2.1")
    assert loaded.chain.strip() == GOOD.certificate.strip()
    assert loaded.key.strip() == GOOD.key.strip()
    assert loaded.entry_points == ("https",)
    assert "PRIVATE KEY" not in repr(loaded)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("Some words before.\n" + GOOD.certificate)
    (tmp_path / "k").write_text(GOOD.key)
    named = Certificate(cert_file=str(tmp_path / "c"), key_file=str(tmp_path / "k"))
    assert load_pair(named, NOW) == load_pair(option(GOOD), NOW)


def test_one_file_for_both_and_a_chain(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(GOOD.key + GOOD.certificate + authority().pem)
    loaded = load_pair(Certificate(cert_file=str(both), key_file=str(both)), NOW)
    assert loaded.chain.count("BEGIN CERTIFICATE") == 2
    assert "PRIVATE KEY" not in loaded.chain


def test_the_parameters_that_openssl_writes_before_a_key() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pair = authority().issue("a.test", key=key)
    text = pem(key, form=serialization.PrivateFormat.TraditionalOpenSSL)
    text = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + text
    loaded = load_pair(Certificate(cert_file=pair.certificate, key_file=text), NOW)
    assert loaded.key.startswith("-----BEGIN EC PRIVATE KEY-----")


def weak_rsa() -> Pair:
    return authority().issue("a.test", key=rsa.generate_private_key(65537, 1024))


def encrypted() -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    how = serialization.BestAvailableEncryption(b"secret")
    return Pair(authority().issue("a.test", key=key).certificate, pem(key, how=how))


def dsa_key() -> Pair:
    return Pair(GOOD.certificate, pem(dsa.generate_private_key(2048)))


def spoiled(text: str) -> str:
    lines = text.strip().split("\n")
    return "\n".join([lines[0], "AAAA" + lines[1][4:], *lines[2:]]) + "\n"


BAD = {
    "nothing": (Pair("", ""), "certFile: is missing"),
    "no key": (Pair(GOOD.certificate, " "), "keyFile: is missing"),
    "missing file": (Pair("/nowhere/c.pem", GOOD.key), "certFile: `/nowhere/c.pem` cannot be read"),
    "a directory": (Pair("/", GOOD.key), "certFile: `/` cannot be read"),
    "no PEM": (Pair("hello\nworld", GOOD.key), "certFile: is no PEM text"),
    "a path with NUL": (Pair("a\0b", GOOD.key), "certFile: `a\0b` cannot be read"),
    "a key as certificate": (Pair(GOOD.key, GOOD.key), "certFile: holds no certificate"),
    "a certificate as key": (
        Pair(GOOD.certificate, GOOD.certificate),
        "keyFile: holds no private key",
    ),
    "spoiled certificate": (
        Pair(spoiled(GOOD.certificate), GOOD.key),
        "certFile: cannot be parsed",
    ),
    "spoiled key": (Pair(GOOD.certificate, spoiled(GOOD.key)), "keyFile: cannot be parsed"),
    "truncated certificate": (
        Pair(GOOD.certificate[:-40], GOOD.key),
        "certFile: holds no certificate",
    ),
    "another key": (
        Pair(GOOD.certificate, OTHER.key),
        "keyFile: is not the key of the certificate",
    ),
    "expired": (authority().issue("a.test", expired=True), "certFile: has expired on 2"),
    "encrypted key": (encrypted(), "keyFile: is encrypted; expected a key without a pass phrase"),
    "a key that TLS does not use": (dsa_key(), "keyFile: is of a kind that TLS does not use"),
    "weak key": (weak_rsa(), "certFile: has an RSA key of 1024 bits; expected 2048 bits or more"),
    "no names": (authority().issue(common=""), "certFile: names no host"),
}


@pytest.mark.parametrize(("pair", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_pair_is_named_without_its_secrets(pair: Pair, message: str) -> None:
    with pytest.raises(CertificateError) as caught:
        load_pair(option(pair), NOW)
    assert str(caught.value).startswith(message)
    body = pair.key.strip().split("\n")[1:2]
    assert not body or body[0] not in str(caught.value)


def test_a_signature_with_sha1_is_refused(tmp_path: Path) -> None:
    """Python's libraries make no such certificate any more; openssl does."""
    (tmp_path / "ca.pem").write_text(authority().pem)
    (tmp_path / "authority.key").write_text(authority().key)
    for command in (
        "openssl req -newkey rsa:2048 -nodes -subj /CN=a.test -keyout a.key -out a.csr",
        "openssl x509 -req -sha1 -in a.csr -CA ca.pem -CAkey authority.key -out a.pem",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    named = Certificate(cert_file=str(tmp_path / "a.pem"), key_file=str(tmp_path / "a.key"))
    with pytest.raises(CertificateError, match="is signed with SHA1; expected SHA-256 or better"):
        load_pair(named, NOW)


def test_names_of_a_certificate() -> None:
    pair = authority().issue("b.test", "a.test", "::1", common="Common Name")
    leaf = x509.load_pem_x509_certificate(pair.certificate.encode())
    assert certificate_names(leaf) == ("common name", "a.test", "b.test", "::1")


def test_the_generated_certificate_is_good_and_known_by_its_name() -> None:
    leaf = x509.load_pem_x509_certificate(GENERATED.chain.encode())
    assert leaf.subject.rfc4514_string() == f"CN={DEFAULT_NAME}"
    again = Certificate(cert_file=GENERATED.chain, key_file=GENERATED.key)
    assert load_pair(again, NOW).chain == GENERATED.chain


def test_the_default_certificate() -> None:
    good, other = load_pair(option(GOOD), NOW), load_pair(option(OTHER), NOW)
    bad = Certificate(cert_file=GOOD.certificate, key_file=OTHER.key)
    path = "entryPoints.e.tls"
    rows = [
        (EntryPointTLS(), GENERATED, []),
        (EntryPointTLS(certificates=(option(GOOD), option(OTHER))), good, []),
        (
            EntryPointTLS(certificates=(option(GOOD),), default_certificate=option(OTHER)),
            other,
            [],
        ),
        (
            EntryPointTLS(certificates=(bad, option(OTHER))),
            other,
            [f"{path}.certificates.0.keyFile"],
        ),
        (
            EntryPointTLS(certificates=(option(GOOD),), default_certificate=bad),
            good,
            [f"{path}.defaultCertificate.keyFile"],
        ),
        (EntryPointTLS(certificates=(bad,)), GENERATED, [f"{path}.certificates.0.keyFile"]),
    ]
    for options, expected, paths in rows:
        served, problems = resolve_tls("e", options, GENERATED, NOW)
        assert served.default == expected
        assert [problem.path for problem in problems] == paths


def test_authorities_of_clients() -> None:
    second = Authority("second")
    files = (authority().pem, str(second.path))
    served, _ = resolve_tls("e", EntryPointTLS(client_ca=ClientCA(files=files)), GENERATED, NOW)
    assert [text.strip() for text in served.client_authorities] == [
        authority().pem.strip(),
        second.pem.strip(),
    ]
    assert not served.client_optional
    both = EntryPointTLS(
        client_ca=ClientCA(files=files, optional=True), client_ca_files=(second.pem,)
    )
    served, _ = resolve_tls("e", both, GENERATED, NOW)
    assert len(served.client_authorities) == 1
    assert not served.client_optional, "the deprecated list does not know the option"


@pytest.mark.parametrize(
    ("client_ca", "message"),
    [
        (ClientCA(), "names no authority"),
        (ClientCA(optional=True), "names no authority"),
        (ClientCA(files=("/nowhere.pem",)), "cannot be read"),
        (ClientCA(files=(GOOD.key,)), "holds no certificate"),
        (ClientCA(files=(spoiled(GOOD.certificate),)), "cannot be parsed"),
    ],
)
def test_authorities_that_cannot_be_used_leave_nothing_open(
    client_ca: ClientCA, message: str
) -> None:
    options = EntryPointTLS(client_ca=client_ca)
    with pytest.raises(CertificateError, match=rf"^clientCA\.files: .*{message}"):
        resolve_tls("e", options, GENERATED, NOW)


def test_a_static_certificate_that_turns_bad_keeps_its_previous_version() -> None:
    good: dict[str, ServedCertificate] = {}
    options = EntryPointTLS(certificates=(option(GOOD),), default_certificate=option(OTHER))
    before, _ = resolve_tls("e", options, GENERATED, NOW, good)
    bad = Certificate(cert_file=GOOD.certificate, key_file=OTHER.key)
    spoilt = EntryPointTLS(certificates=(bad,), default_certificate=bad)
    after, problems = resolve_tls("e", spoilt, GENERATED, NOW, good)
    assert after == before
    assert len(problems) == 2
    after, problems = resolve_tls("e", EntryPointTLS(), GENERATED, NOW, good)
    assert (after.default, problems, good) == (GENERATED, (), {})
