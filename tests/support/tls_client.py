"""TLS clients: Python's ssl, and what it tells of the server's certificate."""

from __future__ import annotations

import socket
import ssl
import subprocess
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from tests.support.certificates import Pair, authority
from tests.support.http_client import RawConnection

if TYPE_CHECKING:
    from collections.abc import Iterable


def trusting() -> ssl.SSLContext:
    """Return the settings of a client that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(
    port: int,
    name: str | None,
    *,
    context: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
    seconds: float = 20.0,
) -> ssl.SSLSocket:
    """Return a TLS connection to ``port``, which sent the server name ``name``.

    Takes any certificate unless there is a ``context``. Raises ssl.SSLError or OSError.
    """
    plain = socket.create_connection(("127.0.0.1", port), timeout=seconds)
    context = context or trusting()
    try:
        return context.wrap_socket(plain, server_hostname=name, session=session)
    except BaseException:
        plain.close()
        raise


def open_connection(port: int, name: str | None, **options: object) -> RawConnection:
    """Return a connection for requests; see `connect`."""
    return RawConnection.over(connect(port, name, **options))  # type: ignore[arg-type]


def common_name(certificate: bytes | None) -> str:
    """Return the common name of a certificate in DER."""
    assert certificate is not None, "no certificate"
    found = x509.load_der_x509_certificate(certificate).subject
    return str(found.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def offered(port: int, name: str | None, **options: object) -> str:
    """Return the common name of the certificate that ``port`` offers for a server name."""
    with connect(port, name, **options) as connection:  # type: ignore[arg-type]
        return common_name(connection.getpeercert(binary_form=True))


def raw_server_name(port: int, name: str) -> str:
    """Return the common name offered to a client that sends ``name`` exactly as it is spelled.

    Python's own client does not send every spelling; `openssl s_client` does.
    """
    done = s_client(port, "-servername", name)
    assert "-----BEGIN CERTIFICATE-----" in done, done
    block = done[done.index("-----BEGIN") : done.index("-----END CERTIFICATE-----")]
    pem = (block + "-----END CERTIFICATE-----\n").encode()
    found = x509.load_pem_x509_certificate(pem).subject
    return str(found.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def s_client(port: int, *arguments: str, text: bytes = b"", seconds: float = 20.0) -> str:
    """Run ``openssl s_client`` against ``port`` with ``text`` as its input; returns its output."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *arguments]
    done = subprocess.run(
        command,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    return done.stdout.decode("latin-1")


def curl(port: int, host: str, *arguments: str, seconds: float = 20.0) -> tuple[int, str]:
    """Run curl for ``https://HOST/`` on ``port``, trusting the tests' authority.

    Returns its exit code and all that it printed.
    """
    command = ["curl", "--silent", "--show-error", "--cacert", str(authority().path)]
    command += ["--resolve", f"{host}:{port}:127.0.0.1", "--http1.1", *arguments]
    done = subprocess.run(
        [*command, f"https://{host}:{port}/"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout.decode("latin-1")


def tls_options(*pairs: Pair, **options: object) -> dict[str, object]:
    """Return the options of an entry point with TLS and these certificates."""
    certificates: Iterable[dict[str, str]] = [pair.option() for pair in pairs]
    return {"tls": {"certificates": list(certificates), **options}}
