"""TLS entry points with real clients: certificates by name, versions, client certificates, bad
input."""

from __future__ import annotations

import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.backend import Answer, Backend, echoed, plain_answer
from tests.support.certificates import Authority, Pair, authority
from tests.support.deadline import wait_until
from tests.support.http_client import RawConnection, build_request
from tests.support.proxy_process import ProxyProcess, single_backend
from tests.support.tls_client import (
    connect,
    curl,
    offered,
    open_connection,
    raw_server_name,
    s_client,
    tls_options,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.backend import LoopThread

BIG = b"0123456789abcdef" * 65536
GENERATED = "TRAEFIK DEFAULT CERT"
READ_TIMEOUT = 0.8
"""Bound of a handshake in the tests that wait for it, seconds."""

LATE = 10.0
"""By how much that may be exceeded on a busy machine, seconds."""


@pytest.fixture(scope="module")
def stranger() -> Authority:
    return Authority("somebody else's authority")


@pytest.fixture(scope="module")
def second() -> Authority:
    return Authority("second authority")


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    script = {
        "/big": Answer((plain_answer(BIG),)),
        "/close": Answer((b"HTTP/1.0 200 OK\r\n\r\nall",), "close"),
    }
    made = Backend(loop_thread, script=script)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def first_pair() -> Pair:
    return authority().issue("snitest.com")


@pytest.fixture(scope="module")
def proxy(backend: Backend, first_pair: Pair, second: Authority) -> Iterator[ProxyProcess]:
    """Return a proxy with one entry point for each way of using TLS."""
    issue = authority().issue
    pairs = [
        first_pair,
        issue("snitest.org"),
        issue("*.wild.test"),
        issue("www.wild.test"),
        issue("*.WWW.UPPER.TEST"),
        issue("*.*.deep.test"),
        issue("127.0.0.1", common="local address"),
        issue("snitest.com", common="second of the same name"),
        issue(common="only.common.test"),
    ]
    default = issue("default.test")
    broken = {"certFile": pairs[0].certificate, "keyFile": pairs[1].key}
    files = {"files": [authority().pem, second.pem]}
    optional = {"files": [authority().pem], "optional": True}
    entry_points = {
        "https": tls_options(*pairs),
        "default": tls_options(pairs[1], defaultCertificate=default.option()),
        "generated": {"tls": {}},
        "bad": {"tls": {"certificates": [broken]}},
        "badfirst": {"tls": {"certificates": [broken, pairs[1].option()]}},
        "strict": tls_options(pairs[1], sniStrict=True),
        "mutual": tls_options(first_pair, clientCA=files),
        "optional": tls_options(first_pair, clientCA=optional),
        "old": tls_options(first_pair, minVersion="VersionTLS10"),
        "new": tls_options(first_pair, minVersion="VersionTLS13"),
        "suites": tls_options(first_pair, cipherSuites=["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]),
        "plain": {},
    }
    routes = single_backend(backend.url, {"all": "PathPrefix:/"}, passHostHeader=True)
    with ProxyProcess(routes, entry_points=entry_points) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(backend: Backend, first_pair: Pair) -> Iterator[ProxyProcess]:
    """Return a proxy that waits for a handshake no longer than READ_TIMEOUT."""
    routes = single_backend(backend.url, {"all": "PathPrefix:/"})
    static = {"respondingTimeouts": {"readTimeout": f"{READ_TIMEOUT * 1000:.0f}ms"}}
    entry_points = {"https": tls_options(first_pair)}
    with ProxyProcess(routes, entry_points=entry_points, static=static) as running:
        yield running


@pytest.mark.parametrize(
    ("entry_point", "name", "common"),
    [
        ("https", "snitest.com", "snitest.com"),
        ("https", "SNITEST.com", "snitest.com"),
        ("https", "snitest.org", "snitest.org"),
        ("https", "other.test", "snitest.com"),
        ("https", "www.wild.test", "www.wild.test"),
        ("https", "sub.wild.test", "*.wild.test"),
        ("https", "a.sub.wild.test", "snitest.com"),
        ("https", "bar.www.upper.test", "*.WWW.UPPER.TEST"),
        ("https", "a.b.deep.test", "*.*.deep.test"),
        ("https", None, "local address"),
        ("https", "only.common.test", "only.common.test"),
        ("default", "other.test", "default.test"),
        ("default", None, "default.test"),
        ("default", "snitest.org", "snitest.org"),
        ("generated", "snitest.com", GENERATED),
        ("bad", "snitest.com", GENERATED),
        ("badfirst", "snitest.com", "snitest.org"),
        ("strict", "snitest.org", "snitest.org"),
    ],
)
def test_certificate_by_server_name(
    proxy: ProxyProcess, entry_point: str, name: str | None, common: str
) -> None:
    assert offered(proxy.ports[entry_point], name) == common


@pytest.mark.parametrize("name", ["snitest.org", "snitest.org.", "SNItest.ORG", "Snitest.Org."])
def test_spelling_of_a_server_name_does_not_count(proxy: ProxyProcess, name: str) -> None:
    assert raw_server_name(proxy.ports["https"], name) == "snitest.org"
    assert raw_server_name(proxy.ports["strict"], name) == "snitest.org"


@pytest.mark.parametrize("name", ["snitest.com", None, "org", "a.snitest.org"])
def test_strict_refuses_other_names(proxy: ProxyProcess, name: str | None) -> None:
    with pytest.raises(ssl.SSLError) as caught:
        connect(proxy.ports["strict"], name)
    assert caught.value.reason == "TLSV1_ALERT_INTERNAL_ERROR"


def test_bad_static_certificates_are_named(proxy: ProxyProcess) -> None:
    log = proxy.log()
    for entry_point in ("bad", "badfirst"):
        path = f"entryPoints.{entry_point}.tls.certificates.0.keyFile"
        assert f"{path}: is not the key of the certificate" in log
    assert "PRIVATE KEY" not in log


def test_curl_verifies_and_is_served(proxy: ProxyProcess) -> None:
    code, text = curl(proxy.ports["https"], "snitest.com", "--verbose")
    assert code == 0, text
    assert "SSL certificate verify ok" in text
    assert "ALPN: server accepted http/1.1" in text
    assert "< HTTP/1.1 200 OK" in text


def test_s_client_is_served(proxy: ProxyProcess) -> None:
    request = build_request("/", host="snitest.com", headers=(("Connection", "close"),))
    text = s_client(
        proxy.ports["https"],
        *("-servername", "snitest.com", "-CAfile", str(authority().path), "-ign_eof"),
        text=request,
    )
    assert "Verify return code: 0 (ok)" in text
    assert "HTTP/1.1 200 OK" in text
    assert "New, TLSv1.3" in text


def test_the_server_is_told_of_tls(proxy: ProxyProcess) -> None:
    with open_connection(proxy.ports["https"], "snitest.com") as client:
        seen = echoed(client.request(build_request("/", host="snitest.com")))
    assert seen.values("X-Forwarded-Proto") == [b"https"]
    assert seen.values("X-Forwarded-Port") == [b"443"]
    assert seen.values("X-Forwarded-For") == [b"127.0.0.1"]


def test_many_requests_on_one_connection(proxy: ProxyProcess) -> None:
    with open_connection(proxy.ports["https"], "snitest.com") as client:
        for number in range(20):
            answer = client.request(build_request(f"/{number}", host="snitest.com"))
            assert echoed(answer).target == b"/%d" % number


def test_pipelined_requests_are_answered_in_order(proxy: ProxyProcess) -> None:
    with open_connection(proxy.ports["https"], "snitest.com") as client:
        client.send(b"".join(build_request(f"/{number}", host="a") for number in range(10)))
        for number in range(10):
            assert echoed(client.read_response()).target == b"/%d" % number


def test_large_bodies_both_ways(proxy: ProxyProcess) -> None:
    with open_connection(proxy.ports["https"], "snitest.com") as client:
        seen = echoed(client.request(build_request("/", method="POST", host="a", body=BIG)))
        assert seen.body == BIG
        assert client.request(build_request("/big", host="a")).body == BIG
        chunks = tuple(BIG[at : at + 5000] for at in range(0, 100_000, 5000))
        seen = echoed(client.request(build_request("/", method="POST", host="a", chunks=chunks)))
        assert seen.body == BIG[:100_000]


def test_a_client_that_reads_slowly_gets_everything(proxy: ProxyProcess) -> None:
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.settimeout(20)
    plain.connect(("127.0.0.1", proxy.ports["https"]))
    context = authority().client_context()
    with RawConnection.over(context.wrap_socket(plain, server_hostname="snitest.com")) as client:
        client.send(build_request("/big", host="a"))
        head = client.read_head()
        assert head.status == 200
        body = b""
        while len(body) < len(BIG):
            body += client.read_exactly(min(60_000, len(BIG) - len(body)))
        assert body == BIG


def test_the_end_of_an_answer_without_length_is_said_in_tls(proxy: ProxyProcess) -> None:
    with connect(proxy.ports["https"], "snitest.com") as client:
        client.suppress_ragged_eofs = False
        client.sendall(build_request("/close", host="a"))
        received = b""
        # A connection cut off without a goodbye raises SSLEOFError here.
        while data := client.recv(65536):
            received += data
    assert received.endswith(b"all")


@pytest.mark.parametrize(
    ("entry_point", "version", "served"),
    [
        ("https", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("https", ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ("https", ssl.TLSVersion.TLSv1_1, None),
        ("old", ssl.TLSVersion.TLSv1_1, "TLSv1.1"),
        ("old", ssl.TLSVersion.TLSv1, "TLSv1"),
        ("old", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("new", ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("new", ssl.TLSVersion.TLSv1_2, None),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_versions(
    proxy: ProxyProcess, entry_point: str, version: ssl.TLSVersion, served: str | None
) -> None:
    context = authority().client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    try:
        with connect(proxy.ports[entry_point], "snitest.com", context=context) as connection:
            found = connection.version()
    except ssl.SSLError:
        found = None
    assert found == served


@pytest.mark.parametrize(
    ("cipher", "accepted"),
    [("ECDHE-ECDSA-AES256-GCM-SHA384", True), ("ECDHE-ECDSA-AES128-GCM-SHA256", False)],
)
def test_cipher_suites(proxy: ProxyProcess, cipher: str, accepted: bool) -> None:
    context = authority().client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(cipher)
    if accepted:
        with connect(proxy.ports["suites"], "snitest.com", context=context) as connection:
            used = connection.cipher()
        assert used is not None
        assert used[0] == cipher
    else:
        with pytest.raises(ssl.SSLError):
            connect(proxy.ports["suites"], "snitest.com", context=context)


def answered(port: int, context: ssl.SSLContext) -> int:
    """Return the status of a request; in TLS 1.3 a refused client only learns of it when it
    reads."""
    with open_connection(port, "snitest.com", context=context) as client:
        return client.request(build_request("/", host="a")).status


def test_a_client_certificate_is_asked_for(
    proxy: ProxyProcess, second: Authority, stranger: Authority
) -> None:
    port = proxy.ports["mutual"]
    for pair in (authority().issue("client one"), second.issue("client two")):
        assert answered(port, authority().client_context(pair)) == 200
    refused = (
        None,
        stranger.issue("a stranger"),
        authority().issue("late", expired=True),
        stranger.issue("snitest.com"),
    )
    for other in refused:
        with pytest.raises((ssl.SSLError, OSError)):
            answered(port, authority().client_context(other))


SORTS: dict[str, Callable[[], Pair]] = {
    "not valid yet": lambda: authority().issue("client", early=True),
    "for servers only": lambda: authority().issue(
        "client", purpose=ExtendedKeyUsageOID.SERVER_AUTH
    ),
    "signed by a namesake of the authority": lambda: Authority("kvproxy test authority").issue(
        "client"
    ),
    "signed by a client": lambda: authority().issue("other", signer=authority().issue("client")),
}


@pytest.mark.parametrize("entry_point", ["mutual", "optional"])
@pytest.mark.parametrize("sort", SORTS)
def test_client_certificates_that_prove_nothing(
    proxy: ProxyProcess, sort: str, entry_point: str
) -> None:
    port = proxy.ports[entry_point]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        answered(port, authority().client_context(SORTS[sort]()))
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH
    good = authority().issue("client", purpose=purpose)
    assert answered(port, authority().client_context(good)) == 200


@pytest.mark.parametrize("name", [None, "snitest.com", "SNITEST.com.", "other.test", "127.0.0.1"])
def test_no_server_name_opens_the_door(proxy: ProxyProcess, name: str | None) -> None:
    """Who must show a certificate is decided by the entry point alone (CVE-2019-20894,
    CVE-2022-23632, CVE-2026-48491)."""
    with (
        pytest.raises((ssl.SSLError, ConnectionError)),
        open_connection(proxy.ports["mutual"], name) as client,
    ):
        client.request(build_request("/", host="snitest.com"))
    pair = authority().issue("client")
    context = authority().client_context(pair)
    with open_connection(proxy.ports["mutual"], name, context=context) as client:
        assert client.request(build_request("/", host="snitest.com")).status == 200


def test_an_optional_client_certificate(proxy: ProxyProcess, stranger: Authority) -> None:
    port = proxy.ports["optional"]
    assert answered(port, authority().client_context()) == 200
    assert answered(port, authority().client_context(authority().issue("client"))) == 200
    with pytest.raises((ssl.SSLError, OSError)):
        answered(port, authority().client_context(authority().issue("late", expired=True)))
    with pytest.raises((ssl.SSLError, OSError)):
        answered(port, authority().client_context(stranger.issue("a stranger")))


def test_curl_with_a_client_certificate(proxy: ProxyProcess) -> None:
    bundle = authority().write(authority().issue("client"))
    code, text = curl(proxy.ports["mutual"], "snitest.com", "--cert", str(bundle))
    assert code == 0, text
    code, text = curl(proxy.ports["mutual"], "snitest.com")
    assert code != 0, text


# Bad input.


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "OPTIONS"])
def test_plain_http_on_a_tls_port(proxy: ProxyProcess, method: str) -> None:
    with RawConnection(proxy.ports["https"]) as client:
        client.send(build_request("/", method=method, host="a"))
        assert client.read_to_end() == (
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
        )


def client_hello(name: str = "snitest.com") -> bytes:
    """Return the first message of a real client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = authority().client_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def spoiled(hello: bytes, at: int) -> bytes:
    """Return a first message with one byte inverted."""
    return hello[:at] + bytes([hello[at] ^ 0xFF]) + hello[at + 1 :]


GARBAGE = {
    "zeros": bytes(2000),
    "text": b"CONNECT example.com:443 HTTP/1.1\r\n\r\n",
    "random": bytes(range(256)) * 40,
    "a record that is too long": b"\x16\x03\x01\xff\xff" + b"A" * 70_000,
    "an alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "application data": b"\x17\x03\x03\x00\x05hello",
    "a length that lies": spoiled(client_hello(), 7),
    "a session id that lies": spoiled(client_hello(), 43),
    "extensions that lie": spoiled(client_hello(), 140),
    "SSL 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + b"A" * 40,
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_the_connection(proxy: ProxyProcess, garbage: bytes) -> None:
    with RawConnection(proxy.ports["https"]) as client:
        client.send_if_open(garbage)
        answer = client.read_to_end()
    assert b"HTTP" not in answer
    assert offered(proxy.ports["https"], "snitest.com") == "snitest.com"


@pytest.mark.parametrize("length", [0, 1, 4, 5, 60, 200])
def test_a_handshake_that_stops_is_given_up(impatient: ProxyProcess, length: int) -> None:
    with RawConnection(impatient.ports["https"]) as client:
        client.send(client_hello()[:length])
        started = time.monotonic()
        client.assert_closed()
        assert time.monotonic() - started < READ_TIMEOUT + LATE


def test_a_handshake_that_trickles_is_given_up(impatient: ProxyProcess) -> None:
    hello = client_hello()
    started = time.monotonic()
    with RawConnection(impatient.ports["https"]) as client:
        for at in range(len(hello)):
            if not client.send_if_open(hello[at : at + 1]) or not client.silent_for(0.05):
                break
        assert time.monotonic() - started < READ_TIMEOUT + LATE
        assert client.read_to_end() == b""


def test_a_first_message_in_pieces_is_understood(proxy: ProxyProcess) -> None:
    """Even the name that chooses the certificate may come in two TCP segments and two records."""
    hello = client_hello("snitest.org")
    length = len(hello) - 5
    middle = hello.index(b"snitest.org") + 4 - 5
    records = b"".join(
        b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part
        for part in (hello[5 : 5 + middle], hello[5 + middle : 5 + length])
    )
    with RawConnection(proxy.ports["strict"]) as client:
        for at in range(0, len(records), 50):
            client.send(records[at : at + 50])
        # A server hello, not the alert of a name that is not found.
        assert client.read_exactly(6)[0] == 0x16


def test_silent_clients_do_not_keep_others_out(impatient: ProxyProcess) -> None:
    silent = [RawConnection(impatient.ports["https"]) for _ in range(200)]
    try:
        assert offered(impatient.ports["https"], "snitest.com") == "snitest.com"
        wait_until(
            lambda: not any(each.silent_for(0) for each in silent), "the silent to be let go"
        )
    finally:
        for each in silent:
            each.close()


def test_a_client_that_leaves_after_the_handshake(proxy: ProxyProcess) -> None:
    for _ in range(10):
        connect(proxy.ports["https"], "snitest.com").close()
    with connect(proxy.ports["https"], "snitest.com") as client:
        client.sendall(b"GET /")
    assert offered(proxy.ports["https"], "snitest.com") == "snitest.com"


def test_broken_records_end_the_connection(proxy: ProxyProcess) -> None:
    with connect(proxy.ports["https"], "snitest.com") as client:
        client.sendall(build_request("/", host="a")[:10])
        descriptor = client.detach()
    with socket.socket(fileno=descriptor) as plain:
        plain.sendall(b"\x17\x03\x03\x00\x20" + b"A" * 32)
        plain.settimeout(20)
        received = b""
        while data := plain.recv(65536):
            received += data
    assert b"HTTP" not in received


def test_renegotiation_is_refused(proxy: ProxyProcess) -> None:
    text = s_client(
        proxy.ports["https"], "-tls1_2", "-servername", "snitest.com", text=b"R\n", seconds=15
    )
    assert "RENEGOTIATING" in text
    assert "no renegotiation" in text


def test_data_before_the_handshake_is_done_is_not_taken(
    proxy: ProxyProcess, tmp_path: Path
) -> None:
    """Data of 0-RTT can be replayed by anybody (RFC 8446 section 8; CVE-2024-39321)."""
    port, session = proxy.ports["new"], tmp_path / "session"
    request = build_request("/", host="a")
    early = tmp_path / "early"
    early.write_bytes(request)
    name = ("-servername", "snitest.com")
    s_client(port, *name, "-sess_out", str(session), "-ign_eof", text=closing(request))
    told = s_client(port, *name, "-sess_in", str(session), "-early_data", str(early))
    assert "Reused, TLSv1.3" in told
    assert "Early data was not sent" in told, "the ticket allows it"


def closing(request: bytes) -> bytes:
    """Return a request after whose answer the connection ends."""
    return request[:-2] + b"Connection: close\r\n\r\n"


def test_odd_server_names(proxy: ProxyProcess) -> None:
    for name in ("x" * 63 + "." + "y" * 63 + ".test", ".".join("a" * 100), "a..b", "*.wild.test"):
        assert raw_server_name(proxy.ports["https"], name) in ("snitest.com", "*.wild.test")
    hello = client_hello().replace(b"snitest.com", b"snit\xe9st.com")
    with RawConnection(proxy.ports["https"]) as client:
        client.send(hello)
        client.read_to_end()
    assert offered(proxy.ports["https"], "snitest.com") == "snitest.com"
