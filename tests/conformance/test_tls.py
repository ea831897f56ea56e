"""TLS: rows X16, N05, N09, K05, C08, C09 of the case tables and the HTTPS suite of the reference
(specification of the static side, section 12.5)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect as websocket

from tests.support.backend import Backend
from tests.support.certificates import Authority, authority
from tests.support.deadline import wait_until
from tests.support.http_client import RawConnection, build_request
from tests.support.proxy_process import ProxyProcess
from tests.support.tls_client import common_name, connect, open_connection, tls_options, trusting
from tests.support.websocket import WebSocketServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

GENERATED = "TRAEFIK DEFAULT CERT"
COM, ORG = (authority().issue(f"snitest.{end}") for end in ("com", "org"))
EXACT = authority().issue("www.snitest.com")
WILDCARD = authority().issue("*.snitest.com")
UPPER = authority().issue("*.WWW.SNITEST.COM")
FIRST, SECOND, THIRD = (Authority(f"authority {number}") for number in (1, 2, 3))


class Stage:
    """The proxy that the rows share, with two servers that can be told apart."""

    def __init__(self, loop_thread: LoopThread) -> None:
        self.com, self.org = (Backend(loop_thread, name) for name in ("204", "205"))
        self.echo = WebSocketServer(loop_thread)
        both = {"files": [FIRST.pem + SECOND.pem]}
        entry_points: dict[str, dict[str, Any]] = {
            "sni": tls_options(COM, ORG),
            "strict": tls_options(COM, sniStrict=True),
            "default": tls_options(ORG, defaultCertificate=COM.option()),
            "overlap": tls_options(WILDCARD, EXACT),
            "overlap-dynamic": {"tls": {}},
            "upper": tls_options(UPPER),
            "upper-dynamic": {"tls": {}},
            "authorities": tls_options(COM, clientCA=both),
            "files": tls_options(COM, clientCA={"files": [str(FIRST.path), str(SECOND.path)]}),
            "optional": tls_options(COM, clientCA={"files": [FIRST.pem], "optional": True}),
            "plain": {},
            "dynamic": {"tls": {}},
        }
        self.proxy = ProxyProcess(self.routes(), entry_points=entry_points)
        # So that the certificate without entry points goes to one of them alone.
        text = self.proxy.configuration_path.read_text()
        before = next(line for line in text.splitlines() if line.startswith("defaultEntryPoints"))
        text = text.replace(before, 'defaultEntryPoints = ["plain", "dynamic"]')
        self.proxy.configuration_path.write_text(text)
        self.proxy.start()

    def routes(self, *certificates: dict[str, Any], frontends: bool = True) -> dict[str, Any]:
        points = list(self.proxy.entry_points) if hasattr(self, "proxy") else None
        fixed = [
            {"entryPoints": ["overlap-dynamic"], "certificate": pair.option()}
            for pair in (WILDCARD, EXACT)
        ]
        fixed.append({"entryPoints": ["upper-dynamic"], "certificate": UPPER.option()})
        described = {
            "com": {"backend": "204", "routes": {"r": {"rule": "Host:snitest.com"}}},
            "org": {"backend": "205", "routes": {"r": {"rule": "Host:snitest.org"}}},
            "echo": {"backend": "echo", "routes": {"r": {"rule": "Host:echo.test"}}},
            "any": {
                "backend": "204",
                "routes": {"r": {"rule": "HostRegexp:{subdomain:[a-z1-9-]+}.www.snitest.com"}},
            },
        }
        for frontend in described.values():
            frontend["entryPoints"] = points or [
                *("sni", "strict", "default", "overlap", "overlap-dynamic", "upper"),
                *("upper-dynamic", "authorities", "files", "optional", "plain", "dynamic"),
            ]
        backends = {
            "204": {"servers": {"one": {"url": self.com.url}}},
            "205": {"servers": {"one": {"url": self.org.url}}},
            "echo": {"servers": {"one": {"url": self.echo.url}}},
        }
        return {
            "frontends": described if frontends else {},
            "backends": backends if frontends else {},
            "tls": [*certificates, *fixed],
        }

    def seen(self, entry_point: str, name: str | None, host: str = "") -> tuple[str, int, str]:
        """Return the common name of the certificate, the status and the server that answered."""
        context = authority().client_context(protocols=("h2", "http/1.1"))
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["http/1.1"])
        with open_connection(self.proxy.ports[entry_point], name, context=context) as client:
            assert isinstance(client.socket, ssl.SSLSocket)
            found = common_name(client.socket.getpeercert(binary_form=True))
            answer = client.request(build_request("/", host=host or name or "snitest.com"))
        return found, answer.status, (answer.value("X-Server") or b"").decode()

    def stop(self) -> None:
        self.proxy.stop()
        for each in (self.com, self.org, self.echo):
            each.stop()


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    made = Stage(loop_thread)
    yield made
    made.stop()


ROWS: list[tuple[str, str, str | None, str, tuple[str, int, str]]] = [
    # identity, entry point, server name, Host, (certificate, status, server)
    ("X16", "upper", "bar.www.snitest.com", "", ("*.WWW.SNITEST.COM", 200, "204")),
    (
        "TestWithSNIDynamicCaseInsensitive",
        *("upper-dynamic", "bar.www.snitest.com", "", ("*.WWW.SNITEST.COM", 200, "204")),
    ),
    ("TestWithSNIConfigRoute-com", "sni", "snitest.com", "", ("snitest.com", 200, "204")),
    ("TestWithSNIConfigRoute-org", "sni", "snitest.org", "", ("snitest.org", 200, "205")),
    ("TestWithDefaultCertificate", "default", "snitest.net", "", ("snitest.com", 404, "")),
    ("TestWithDefaultCertificateNoSNI", "default", None, "", ("snitest.com", 200, "204")),
    (
        "TestWithOverlappingStaticCertificate-exact",
        *("overlap", "www.snitest.com", "", ("www.snitest.com", 404, "")),
    ),
    (
        "TestWithOverlappingStaticCertificate-wildcard",
        *("overlap", "foo.snitest.com", "", ("*.snitest.com", 404, "")),
    ),
    (
        "TestWithOverlappingDynamicCertificate-exact",
        *("overlap-dynamic", "www.snitest.com", "", ("www.snitest.com", 404, "")),
    ),
    (
        "TestWithOverlappingDynamicCertificate-wildcard",
        *("overlap-dynamic", "foo.snitest.com", "", ("*.snitest.com", 404, "")),
    ),
]


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0]) for row in ROWS])
def test_server_name(
    stage: Stage, row: tuple[str, str, str | None, str, tuple[str, int, str]]
) -> None:
    _, entry_point, name, host, outcome = row
    assert stage.seen(entry_point, name, host) == outcome


def test_with_sni_strict_not_matched_request(stage: Stage) -> None:
    for name in ("snitest.org", None):
        with pytest.raises(ssl.SSLError):
            connect(stage.proxy.ports["strict"], name)


def accepted(stage: Stage, entry_point: str, context: ssl.SSLContext) -> bool:
    """Tell whether a client gets an answer."""
    port = stage.proxy.ports[entry_point]
    try:
        with open_connection(port, "snitest.com", context=context) as client:
            return client.request(build_request("/", host="snitest.com")).status == 200
    except (ssl.SSLError, ConnectionError, AssertionError):
        return False


@pytest.mark.parametrize("entry_point", ["authorities", "files"])
def test_c08_client_certificates(stage: Stage, entry_point: str) -> None:
    asked = {
        who: authority().client_context(None if who is None else who.issue("client"))
        for who in (None, FIRST, SECOND, THIRD)
    }
    outcomes = [accepted(stage, entry_point, context) for context in asked.values()]
    assert outcomes == [False, True, True, False]


def test_c09_an_optional_client_certificate(stage: Stage) -> None:
    assert accepted(stage, "optional", authority().client_context())
    assert accepted(stage, "optional", authority().client_context(FIRST.issue("client")))


def test_n05_a_dynamic_certificate_is_replaced(stage: Stage) -> None:
    """TestWithSNIDynamicConfigRouteWithChange and ...WithTlsConfigurationDeletion."""
    proxy = stage.proxy
    broken = {"entryPoints": ["dynamic"], "certificate": {**COM.option(), "keyFile": ORG.key}}
    org = {"entryPoints": ["dynamic"], "certificate": ORG.option()}
    com = {"entryPoints": ["dynamic"], "certificate": COM.option()}
    proxy.apply(stage.routes(broken, org))
    assert stage.seen("dynamic", "snitest.com") == (GENERATED, 200, "204")
    assert stage.seen("dynamic", "snitest.org") == ("snitest.org", 200, "205")
    proxy._write_routes(stage.routes(com, frontends=False))
    # Routes that vanish all at once are held until a second read says the same.
    wait_until(
        lambda: stage.seen("dynamic", "snitest.com") == ("snitest.com", 404, ""), "the change", 15
    )
    assert stage.seen("dynamic", "snitest.org") == (GENERATED, 404, "")
    proxy.apply(stage.routes(), 15)
    assert stage.seen("dynamic", "snitest.com") == (GENERATED, 200, "204")


def test_n09_a_certificate_without_entry_points(stage: Stage) -> None:
    """Of the default entry points it goes to those with TLS."""
    stage.proxy.apply(stage.routes({"certificate": ORG.option()}))
    assert stage.seen("dynamic", "snitest.org")[0] == "snitest.org"
    assert stage.seen("upper-dynamic", "snitest.org")[0] == GENERATED
    assert (
        RawConnection(stage.proxy.ports["plain"])
        .request(build_request("/", host="snitest.org"))
        .status
        == 200
    )
    assert stage.proxy.ask("status")["quarantined"] == []
    stage.proxy.apply(stage.routes())


def test_k05_websocket_over_tls(stage: Stage) -> None:
    connected = RawConnection(stage.proxy.ports["sni"]).socket
    with websocket(
        "wss://echo.test/", sock=connected, proxy=None, ssl=trusting(), open_timeout=5
    ) as client:
        client.send("OK")
        assert client.recv(timeout=5) == "OK"
        client.send(b"x" * 300_000)
        assert client.recv(timeout=5) == b"x" * 300_000
