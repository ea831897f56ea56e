"""Many certificates of a store: the time of a start and of a replacement, and what that leaves."""

from __future__ import annotations

import asyncio
import datetime
import socket
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench import machine
from bench.load import client_context
from bench.scenarios import running
from bench.writer import StoreWriter
from kvproxy.provider import Transaction
from providers.embedded import EmbeddedStore


@dataclass
class CertificateTimes:
    """``start``: seconds from the start of the program to the first handshake with the last
    certificate, ``start_cpu``: those of all its processes; ``p50``, ``p99``: from a write to every
    worker's new certificate; worker memory after a few and after all replacements."""

    start: float
    start_cpu: float
    p50: float
    p99: float
    replacements: int
    memory_early: int
    memory_at_end: int


def certificate(name: str, key: ec.EllipticCurvePrivateKey, mark: str = "") -> tuple[bytes, bytes]:
    """Return a self-signed certificate for ``name`` and its key as PEM."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, mark or name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def offered(port: int, name: str) -> str:
    """Return the common name of the certificate for a server name."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        client_context().wrap_socket(plain, server_hostname=name) as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    subject = x509.load_der_x509_certificate(found).subject
    return str(subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def measure(count: int, replacements: int) -> CertificateTimes:
    """Start on ``count`` certificates and replace one again and again."""
    key = ec.generate_private_key(ec.SECP256R1())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        database = folder / "store.db"
        fill(database, count, key)
        port = machine.free_port()
        command = [sys.executable, "-m", "kvproxy", "run", "--workers=2", "--embedded"]
        command += [f"--entryPoints=Name:https Address:127.0.0.1:{port} TLS"]
        command += ["--defaultEntryPoints=https", f"--embedded.path={database}"]
        command += [f"--stateDir={folder / 'state'}", "--logLevel=WARN"]
        began = time.monotonic()
        with running(command, {}, folder / "out") as process, StoreWriter(database) as writer:
            last = f"h{count - 1}.example.com"
            wait_for(port, last, last)
            start = time.monotonic() - began
            tree = machine.process_tree(process.pid)
            start_cpu, workers = machine.cpu_seconds(tree), tree[1:]
            times = []
            early = 0
            for number in range(replacements):
                mark = f"replacement {number}"
                chain, _ = certificate("h0.example.com", key, mark)
                at = time.monotonic()
                writer.put("kvproxy/tls/c0/certificate/certfile", chain.decode())
                wait_for(port, "h0.example.com", mark)
                times.append(time.monotonic() - at)
                if number == replacements // 10:
                    early = machine.memory_bytes(workers)
            return CertificateTimes(
                start,
                start_cpu,
                statistics.median(times),
                sorted(times)[int(len(times) * 0.99)],
                replacements,
                early,
                machine.memory_bytes(workers),
            )


def fill(database: Path, count: int, key: ec.EllipticCurvePrivateKey) -> None:
    """Write ``count`` certificates into a store."""
    values: dict[str, bytes] = {}
    for number in range(count):
        chain, pem = certificate(f"h{number}.example.com", key)
        values[f"kvproxy/tls/c{number}/certificate/certfile"] = chain
        values[f"kvproxy/tls/c{number}/certificate/keyfile"] = pem
        values[f"kvproxy/tls/c{number}/entrypoints"] = b"https"

    async def write() -> None:
        store = EmbeddedStore(database)
        await store.write(Transaction(put=values))
        await store.close()

    asyncio.run(write())


def wait_for(port: int, name: str, common: str) -> None:
    """Wait until every one of some connections is offered the certificate."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if all(offered(port, name) == common for _ in range(4)):
                return
        except OSError:
            time.sleep(0.01)
    raise TimeoutError(f"no certificate `{common}` for {name}")
