"""TLS settings of store clients: files, PEM text, and everything that is neither."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

import pytest

from kvproxy.model.dynamic import ClientTLS
from kvproxy.provider import StoreError
from providers.client_tls import client_context
from tests.support.certificates import Authority, authority

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(scope="module")
def bundle() -> Path:
    return authority().bundle("client")


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Return the port of a server that asks for certificates of our authority."""
    context = authority().server_context("localhost")
    context.load_verify_locations(authority().path)
    context.verify_mode = ssl.CERT_REQUIRED

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]


async def greeting(port: int, settings: ClientTLS) -> bytes:
    context = client_context(settings, "store.tls")
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=context, server_hostname="localhost"
    )
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_files_and_text_do_the_same(port: int, bundle: Path) -> None:
    pem = bundle.read_text()
    for settings in (
        ClientTLS(ca=str(authority().path), cert=str(bundle), key=str(bundle)),
        ClientTLS(ca=authority().pem, cert=pem, key=pem),
        ClientTLS(ca=authority().pem, cert=str(bundle), key=pem),
        ClientTLS(insecure_skip_verify=True, cert=pem, key=pem),
    ):
        assert await greeting(port, settings) == b"hello"


async def test_another_authority_is_not_trusted(port: int, bundle: Path) -> None:
    for other in (Authority("another").pem, ""):
        settings = ClientTLS(ca=other, cert=str(bundle), key=str(bundle))
        with pytest.raises(ssl.SSLCertVerificationError):
            await greeting(port, settings)


def test_what_is_no_certificate_is_refused_by_name(bundle: Path, tmp_path: Path) -> None:
    pem = bundle.read_text()
    other = authority().bundle("other").read_text()
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    cases = [
        (ClientTLS(ca="/no/such/file"), "`store.tls.ca` is neither PEM text nor a file"),
        (ClientTLS(ca=str(tmp_path)), "`store.tls.ca` is neither PEM text nor a file"),
        (ClientTLS(ca=str(binary)), "`store.tls.ca` is neither PEM text nor a file"),
        (ClientTLS(ca=garbage), "`store.tls.ca` holds no certificate"),
        (ClientTLS(cert=pem), "`store.tls.key` is missing"),
        (ClientTLS(key=pem), "`store.tls.cert` is missing"),
        (ClientTLS(cert=pem, key=other), "`store.tls.cert` and `store.tls.key` are no certificate"),
        (ClientTLS(cert=garbage, key=pem), "are no certificate and its key"),
    ]
    for settings, message in cases:
        with pytest.raises(StoreError) as caught:
            client_context(settings, "store.tls")
        assert message in str(caught.value)
        assert "BEGIN" not in str(caught.value)
