"""TLS of an entry point, in memory: sessions, their keys, what is kept and what is let go."""

from __future__ import annotations

import datetime
import gc
import ssl
import weakref

import pytest
from msgspec.structs import replace

from kvproxy.control.validation.certificates import generate_default, load_pair
from kvproxy.model.dynamic import Certificate
from kvproxy.model.tls import ServedCertificate, ServedTLS
from kvproxy.proxy.tls import context as tls_context
from kvproxy.proxy.tls import entry_point as tls_module
from kvproxy.proxy.tls import openssl
from kvproxy.proxy.tls.entry_point import EntryPointTLS, rank_of
from kvproxy.proxy.tls.ticket_keys import ticket_keys
from tests.support.certificates import authority
from tests.support.tls_client import common_name, trusting

NOW = datetime.datetime.now(datetime.UTC)
DEFAULT = generate_default(NOW)
TLS = ServedTLS(default=DEFAULT)
SECRET = bytes(32)
PROTOCOLS = ("http/1.1",)


def served(name: str) -> ServedCertificate:
    pair = authority().issue(name)
    return load_pair(Certificate(cert_file=pair.certificate, key_file=pair.key), NOW)


def entry_point(tls: ServedTLS = TLS, name: str = "https", secret: bytes = SECRET) -> EntryPointTLS:
    return EntryPointTLS(name, tls, PROTOCOLS, secret)


class Meeting:
    """One connection between a client and an entry point, without sockets."""

    def __init__(
        self,
        point: EntryPointTLS,
        client: ssl.SSLContext,
        session: ssl.SSLSession | None = None,
        name: str | None = "a.test",
    ) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.server = point.begin(to_server, to_client)
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name, session=session)
        for _ in range(2):
            with_patience(self.client.do_handshake)
            with_patience(lambda: point.handshake(self.server, lambda: "192.0.2.7"))
        self.client.write(b"question")
        assert self.server.read() == b"question"
        self.server.write(b"answer")
        assert self.client.read() == b"answer"

    @property
    def resumed(self) -> bool:
        return bool(self.client.session_reused)

    @property
    def certificate(self) -> str:
        return common_name(self.client.getpeercert(binary_form=True))


def with_patience(step: object) -> None:
    try:
        step()  # type: ignore[operator]
    except ssl.SSLWantReadError:
        return


def ticket(point: EntryPointTLS, client: ssl.SSLContext) -> ssl.SSLSession:
    session = Meeting(point, client).client.session
    assert session is not None
    return session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed_by_another_worker(version: ssl.TLSVersion) -> None:
    client = trusting()
    client.maximum_version = version
    session = ticket(entry_point(), client)
    assert Meeting(entry_point(), client, session).resumed
    assert not Meeting(entry_point(secret=b"another node" * 3), client, session).resumed
    assert not Meeting(entry_point(secret=b""), client, session).resumed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_other_keys_cost_a_full_handshake(version: ssl.TLSVersion) -> None:
    client, point = trusting(), entry_point()
    client.maximum_version = version
    session = ticket(point, client)
    assert Meeting(point, client, session).resumed
    point.set_ticket_secret(b"x" * 32)
    again = Meeting(point, client, session)
    assert not again.resumed
    assert again.client.session is not None
    assert Meeting(point, client, again.client.session).resumed


def test_certificates_may_change_under_a_session() -> None:
    client, point = trusting(), entry_point()
    session = ticket(point, client)
    offer(point, one=served("a.test"))
    assert Meeting(point, client, session).resumed
    point.configure(replace(TLS, default=served("other.test")))
    assert Meeting(point, client, session).resumed


def test_what_is_asked_of_clients_decides_the_keys() -> None:
    """A ticket must never open an entry point that asks for more than the one that gave it."""
    asked = [
        ("https", TLS),
        ("other", TLS),
        ("https", replace(TLS, min_version="VersionTLS13")),
        ("https", replace(TLS, cipher_suites=("TLS_RSA_WITH_AES_128_CBC_SHA",))),
        ("https", replace(TLS, client_authorities=("a",))),
        ("https", replace(TLS, client_authorities=("a",), client_optional=True)),
        ("https", replace(TLS, client_authorities=("b",))),
        ("https", replace(TLS, sni_strict=True)),
    ]
    keys = [ticket_keys(SECRET, name, tls) for name, tls in asked]
    assert len({key[:16] for key in keys}) == len(keys)
    assert len({key[16:] for key in keys}) == len(keys)
    assert all(len(key) == openssl.TICKET_KEY_BYTES for key in keys)
    assert ticket_keys(SECRET, "https", TLS) == keys[0]
    assert ticket_keys(bytes(31) + b"1", "https", TLS) != keys[0]


def test_a_ticket_does_not_stand_for_a_client_certificate() -> None:
    asking = replace(TLS, client_authorities=(authority().pem,))
    client = trusting()
    session = ticket(entry_point(), client)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        Meeting(entry_point(asking), client, session)
    # An entry point that begins to ask does not believe its own earlier tickets either.
    point = entry_point()
    session = ticket(point, client)
    point.configure(asking)
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        Meeting(point, client, session)


def test_a_session_with_a_client_certificate_is_resumed() -> None:
    asking = replace(TLS, client_authorities=(authority().pem,))
    client = trusting()
    client.load_cert_chain(authority().write(authority().issue("client")))
    session = ticket(entry_point(asking), client)
    again = Meeting(entry_point(asking), client, session)
    assert again.resumed
    assert common_name(again.server.getpeercert(binary_form=True)) == "client"


def test_clients_are_told_the_authorities() -> None:
    """So that one with a certificate of somebody else sends none, rather than a wrong one."""
    asking = replace(TLS, client_authorities=(authority().pem,), client_optional=True)
    point = entry_point(asking)
    offer(point, one=served("a.test"))
    for name in ("a.test", "elsewhere.test"):
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trusting()
        # Up to TLS 1.2 the question, and the names in it, can be read on the wire.
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        asks = client.wrap_bio(to_client, to_server, server_hostname=name)
        answers = point.begin(to_server, to_client)
        with_patience(asks.do_handshake)
        with_patience(lambda: point.handshake(answers, str))  # noqa: B023
        assert b"kvproxy test authority" in to_client.read().partition(b"\x0d\x00")[2]


def offer(point: EntryPointTLS, **certificates: ServedCertificate) -> None:
    names = point.names.copy()
    gone = []
    for name, certificate in certificates.items():
        replaced = names.put(rank_of(("file", name)), certificate, certificate.names)
        gone += [] if replaced is None else [replaced]
    point.install(names, gone)


def test_contexts_are_made_when_asked_for_and_let_go_when_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[weakref.ref[ssl.SSLContext]] = []

    def counted(*arguments: object) -> ssl.SSLContext:
        context = tls_context.build_context(*arguments)  # type: ignore[arg-type]
        made.append(weakref.ref(context))
        return context

    monkeypatch.setattr(tls_module, "build_context", counted)
    point, client = entry_point(), trusting()
    offer(point, one=served("a.test"), two=served("b.test"))
    assert len(made) == 1
    for _ in range(3):
        assert Meeting(point, client, name="a.test").certificate == "a.test"
    assert len(made) == 2
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            offer(point, one=served("a.test"))
            assert Meeting(point, client, name="a.test").certificate == "a.test"
        assert [reference() is not None for reference in made] == [True, *[False] * 5, True]
        point.configure(TLS)
        assert [reference() is not None for reference in made] == [*[False] * 7, True]
    finally:
        gc.enable()


def test_no_more_contexts_are_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_module, "KEPT_CONTEXTS", 2)
    point, client = entry_point(), trusting()
    names = ["a.test", "b.test", "c.test"]
    offer(point, **{name[0]: served(name) for name in names})
    for name in [*names, *names, "a.test"]:
        assert Meeting(point, client, name=name).certificate == name
    assert len(point._contexts) == 2


def test_a_certificate_that_openssl_refuses_ends_the_handshake_alone() -> None:
    point, client = entry_point(), trusting()
    bad = replace(served("bad.test"), key=served("other.test").key)
    offer(point, one=bad, two=served("a.test"))
    with pytest.raises(ssl.SSLError):
        Meeting(point, client, name="bad.test")
    assert Meeting(point, client, name="a.test").certificate == "a.test"


def test_the_address_is_the_name_of_those_who_send_none() -> None:
    point, client = entry_point(), trusting()
    offer(point, one=served("192.0.2.7"))
    assert Meeting(point, client, name=None).certificate == "192.0.2.7"


def test_without_the_known_layout_nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    openssl._library.cache_clear()
    monkeypatch.setattr(openssl, "_KNOWN_PYTHONS", ((2, 7), (3, 0)))
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert not openssl.set_ticket_keys(context, bytes(80))
        assert not openssl.name_client_authorities(context, str(authority().path))
        client, point = trusting(), entry_point()
        assert Meeting(point, client, ticket(point, client)).resumed, "with the worker's own keys"
    finally:
        monkeypatch.undo()
        openssl._library.cache_clear()
