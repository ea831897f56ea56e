"""Case table 10.13: authentication, white lists, client certificates, on sockets.

Rows that need clients with other addresses have the addresses of this machine in the place of those
of the specification; the unit tests have its very addresses. C08 is in `test_tls`.
"""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import bcrypt
import pytest

from tests.conformance.cases import (
    NOT_FOUND,
    Answered,
    Ask,
    Case,
    Forwarded,
    frontend,
    parameters,
    text_reply,
)
from tests.support.backend import Answer, Backend, echoed, plain_answer
from tests.support.certificates import Authority, authority
from tests.support.deadline import wait_until
from tests.support.digest import digest_answer
from tests.support.http_client import RawConnection, build_request, fetch
from tests.support.proxy_process import ProxyProcess
from tests.support.tls_client import open_connection, tls_options, trusting
from tests.support.websocket import WebSocketServer, frame, handshake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conformance.cases import CaseTable, Outcome, Servers
    from tests.support.backend import LoopThread
    from tests.support.certificates import Pair
    from tests.support.http_client import Response

APR1 = "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"
SHA = "user:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="
MD5 = "user:$1$abcdefgh$irWbblnpmw.5z7wgBnprh0"
BCRYPT = "user:" + bcrypt.hashpw(b"test", bcrypt.gensalt(4)).decode()
DIGEST = "test:traefik:a2688e031edb4be6a3797f3882655c05"
CHALLENGE = {
    "Www-Authenticate": ('Basic realm="traefik"',),
    "Content-Type": ("text/plain",),
}
REFUSED = Answered(401, b"401 Unauthorized\n", CHALLENGE)
FORBIDDEN = text_reply(403, "Forbidden")
FAILED = Answered(500, b"", {"Content-Length": ("0",)})


def basic(name: str, password: str, scheme: str = "Basic") -> tuple[str, str]:
    return "Authorization", f"{scheme} " + b64encode(f"{name}:{password}".encode()).decode()


def auth_row(
    identity: str, auth: dict[str, Any], *exchanges: tuple[tuple[tuple[str, str], ...], Outcome]
) -> Case:
    """A frontend with authentication; each exchange: headers, and what becomes of them."""
    asked = tuple((Ask(headers=headers), outcome) for headers, outcome in exchanges)
    return Case(identity, {"all": frontend("PathPrefix:/", auth=auth)}, asked)


def basic_row(
    identity: str, user: str, sent: tuple[str, str], outcome: Outcome, **options: Any
) -> Case:
    field = {"headerField": options.pop("field")} if "field" in options else {}
    auth = {**field, "basic": {"users": [user], **options}}
    return auth_row(identity, auth, ((), REFUSED), ((sent,), outcome))


def forward_row(
    identity: str,
    path: str,
    outcome: Outcome,
    *sent: tuple[str, str],
    host: str = "foo.bar",
    target: str = "/path?q=1",
    **options: Any,
) -> Case:
    """A frontend that asks the server ``auth`` for ``path``."""
    forward = {"address": f"{{auth}}{path}", **options}
    return Case(
        identity,
        {"all": frontend("PathPrefix:/", auth={"forward": forward})},
        ((Ask(target, host=host, headers=sent), outcome),),
    )


RIGHT = basic("test", "test")
SPELLINGS = "X-User", "X_User", "x-USER", "x_user"
BASIC_ROWS = [
    basic_row("A02", "test:test", RIGHT, REFUSED),
    basic_row("A03", APR1, RIGHT, Forwarded()),
    basic_row(
        "A04", APR1, RIGHT, Forwarded(headers={"X-Webauth-User": ("test",)}), field="X-Webauth-User"
    ),
    basic_row("A05-on", APR1, RIGHT, Forwarded(headers={"Authorization": ()}), removeHeader=True),
    basic_row("A05-off", APR1, RIGHT, Forwarded(headers={"Authorization": (RIGHT[1],)})),
    basic_row("A06", SHA, basic("user", "test"), Forwarded()),
    basic_row("A07-bcrypt", BCRYPT, basic("user", "test"), Forwarded()),
    basic_row("A07-md5", MD5, basic("user", "test"), Forwarded()),
    basic_row("A08-scheme", SHA, basic("user", "test", "basic"), REFUSED),
    basic_row("A08-base64", SHA, ("Authorization", "Basic !!"), REFUSED),
    basic_row("A08-user", SHA, basic("other", "test"), REFUSED),
    basic_row("A08-password", SHA, basic("user", "wrong"), REFUSED),
    auth_row("A01", {"basic": {"users": ["test"]}}, ((), NOT_FOUND)),
    auth_row("A09", {"digest": {"users": ["test"]}}, ((), NOT_FOUND)),
    Case(
        "N08",
        {"all": frontend("PathPrefix:/", basicAuth=[""])},
        ((Ask(), NOT_FOUND),),
    ),
    Case(
        "9.3-both-apply",
        {"all": frontend("PathPrefix:/", basicAuth=[SHA], auth={"basic": {"users": [APR1]}})},
        (
            (Ask(headers=(basic("user", "test"),)), REFUSED),
            (Ask(headers=(RIGHT,)), REFUSED),
        ),
    ),
    Case(
        "5.1-unmatched-requests-are-authenticated",
        {},
        ((Ask(), REFUSED), (Ask(headers=(RIGHT,)), NOT_FOUND)),
        entry_point={"auth": {"basic": {"users": [APR1]}}},
    ),
    Case(
        "5.1-authentication-before-the-white-list",
        {},
        ((Ask(), REFUSED), (Ask(headers=(RIGHT,)), FORBIDDEN)),
        entry_point={
            "auth": {"basic": {"users": [APR1]}},
            "whiteList": {"sourceRange": ["10.0.0.1"]},
        },
    ),
    Case(
        "5.2-custom-headers-come-before-authentication",
        {
            "all": frontend(
                "PathPrefix:/",
                headers={"customRequestHeaders": {"Authorization": RIGHT[1]}},
                auth={"basic": {"users": [APR1]}},
            )
        },
        ((Ask(), Forwarded()),),
    ),
    *(
        Case(
            f"9.3-field-in-any-spelling{row}",
            {
                "all": frontend(
                    "PathPrefix:/", auth={"headerField": field, "basic": {"users": [APR1]}}
                )
            },
            (
                (
                    Ask(headers=(RIGHT, *((name, "root") for name in SPELLINGS))),
                    Forwarded(headers={"X-User": hyphen, "X_User": underscore}),
                ),
            ),
            difference="the reference sends the client's header too when its spelling differs",
        )
        for row, field, hyphen, underscore in (
            ("", "x-user", ("test",), ()),
            ("-underscore", "X_User", (), ("test",)),
        )
    ),
]
TOLD = "X-Auth-User", "X-Auth-Group"
HOP_BY_HOP = (
    *("Connection: X-Nominated", "Keep-Alive: x", "Proxy-Authenticate: x", "Proxy-Connection: x"),
    *("Te: x", "Upgrade: x", "X-Nominated: x"),
)


def told(**headers: str) -> Forwarded:
    return Forwarded(headers={name.replace("_", "-"): (value,) for name, value in headers.items()})


FORWARD_ROWS = [
    forward_row("A15", "/a15", Answered(403, b"Forbidden\n")),
    forward_row(
        "A16",
        "/a16",
        Forwarded(
            headers={
                "X-Auth-User": ("user@example.com",),
                "X-Auth-Group": ("group1", "group2"),
                "X-Auth-Secret": (),
                "X_Auth_Group": (),
            }
        ),
        ("X-Auth-Group", "admin_group"),
        ("X_Auth_Group", "admin_group"),
        authResponseHeaders=["X-Auth-User", "x-auth-group"],
    ),
    forward_row(
        "A17",
        "/a17",
        Answered(302, b"moved", {"Location": ("http://example.com/redirect-test",)}),
    ),
    forward_row(
        "A18",
        "/a18",
        Answered(
            403,
            b"no",
            {name.partition(":")[0]: () for name in HOP_BY_HOP},
        ),
    ),
    forward_row(
        "A19",
        "/a19",
        Answered(403, b"Forbidden\n", {"Set-Cookie": ("a=b",), "X-Foo": ("bar",)}),
    ),
    forward_row("A24-204", "/a24-204", Forwarded()),
    forward_row("A24-closes", "/a24-closes", FAILED),
    Case(
        "A24-unreachable",
        {"all": frontend("PathPrefix:/", auth={"forward": {"address": "{dead}/"}})},
        ((Ask(), FAILED),),
    ),
    forward_row("9.5-garbage", "/garbage", FAILED),
    forward_row("9.5-endless", "/endless", FAILED),
]
ECHO_ROWS = {
    "A20": ("X-Forwarded-Host", "fii.bir", "foo.bar"),
    "A22": ("X-Forwarded-Uri", "/forward?q=1", "/path?q=1"),
    "A23": ("X-Forwarded-Method", "OPTIONS", "GET"),
    "9.5-proto": ("X-Forwarded-Proto", "https", "http"),
    "9.5-port": ("X-Forwarded-Port", "9999", "80"),
    "9.5-prefix": ("X-Forwarded-Prefix", "/admin", None),
}
LIST_ROWS = [
    Case(
        identity,
        {"all": frontend("PathPrefix:/", whiteList=white_list)},
        ((Ask(headers=tuple(("X-Forwarded-For", each) for each in forwarded)), outcome),),
    )
    for identity, white_list, forwarded, outcome in (
        ("L01-in", {"sourceRange": ["127.0.0.1"]}, (), Forwarded()),
        ("L01-out", {"sourceRange": ["127.0.0.2"]}, (), FORBIDDEN),
        ("L02", {"sourceRange": ["20.20.20.20"]}, ("20.20.20.20",), FORBIDDEN),
        *(
            (identity, {"sourceRange": [listed], "useXForwardedFor": True}, lines, outcome)
            for identity, listed, lines, outcome in (
                ("L03", "30.30.30.30", ("30.30.30.30", "40.40.40.40"), Forwarded()),
                ("L04", "30.30.30.30", ("30.30.30.30",), Forwarded()),
                ("L04-other", "30.30.30.30", ("30.30.30.31", "40.40.40.40"), FORBIDDEN),
                ("L05", "1.2.3.4/24", ("10.2.3.1, 1.2.3.1",), Forwarded()),
                ("L06", "127.0.0.1/24", ("10.2.3.1, 10.2.3.2",), Forwarded()),
                ("L07", "1.2.3.4/24", ("10.2.3.1, 10.2.3.2",), FORBIDDEN),
                ("9.2-unreadable", "127.0.0.1/24", ("unknown",), FORBIDDEN),
            )
        ),
        ("L08", {"sourceRange": ["127.0.0.0/8"]}, ("foo",), Forwarded()),
        ("L15-refused", {"sourceRange": ["foo"]}, (), NOT_FOUND),
        ("L15-empty-text", {"sourceRange": [""]}, (), NOT_FOUND),
        ("L15-empty-list", {"sourceRange": []}, (), Forwarded()),
        ("L17-frontend", {"sourceRange": ["8.8.8.8"]}, (), FORBIDDEN),
    )
]
CASES = [
    *BASIC_ROWS,
    *FORWARD_ROWS,
    *LIST_ROWS,
    Case(
        "L17-entry-point",
        {"all": frontend("PathPrefix:/")},
        ((Ask(), FORBIDDEN),),
        entry_point={"whiteList": {"sourceRange": ["8.8.8.8"]}},
    ),
    Case(
        "L17-entry-point-deprecated",
        {"all": frontend("PathPrefix:/")},
        ((Ask(), FORBIDDEN),),
        entry_point={"whiteListSourceRange": ["8.8.8.8"]},
    ),
    Case(
        "9.2-untrusted-header",
        {
            "all": frontend(
                "PathPrefix:/",
                whiteList={"sourceRange": ["30.30.30.30"], "useXForwardedFor": True},
            )
        },
        ((Ask(headers=(("X-Forwarded-For", "30.30.30.30"),)), FORBIDDEN),),
        entry_point={"forwardedHeaders": {"trustedIPs": ["10.0.0.1"]}},
        difference="the reference takes the header from everybody",
    ),
    *(
        Case(
            f"C01-{number}",
            {"all": frontend("PathPrefix:/", passTLSClientCert=options)},
            (
                (
                    Ask(headers=(("X-Forwarded-Tls-Client-Cert", "x"),)),
                    Forwarded(
                        headers={
                            "X-Forwarded-Tls-Client-Cert": (),
                            "X-Forwarded-Tls-Client-Cert-Infos": (),
                        }
                    ),
                ),
            ),
        )
        for number, options in enumerate(({"pem": True}, {"infos": {"sans": True}}))
    ),
]


@pytest.fixture(scope="module", autouse=True)
def auth_server(servers: Servers) -> Backend:
    """Return the server that is asked by forward authentication."""
    server = servers["auth"]
    server.on("/a15", Answer((plain_answer(b"Forbidden\n", status="403 Forbidden"),)))
    said = (
        *("X-Auth-User: user@example.com", "X-Auth-Group: group1", "X-Auth-Group: group2"),
        "X-Auth-Secret: secret",
    )
    server.on("/a16", Answer((plain_answer(b"", *said),)))
    location = "Location: http://example.com/redirect-test"
    server.on("/a17", Answer((plain_answer(b"moved", location, status="302 Found"),)))
    server.on("/a18", Answer((plain_answer(b"no", *HOP_BY_HOP, status="403 Forbidden"),)))
    own = ("Set-Cookie: a=b", "X-Foo: bar")
    server.on("/a19", Answer((plain_answer(b"Forbidden\n", *own, status="403 Forbidden"),)))
    server.on("/a24-204", Answer((b"HTTP/1.1 204 No Content\r\n\r\n",)))
    server.on("/a24-closes", Answer((), after="close"))
    server.on("/garbage", Answer((b"garbage\r\n\r\n",), after="close"))
    server.on(
        "/endless", Answer((b"HTTP/1.1 403 Forbidden\r\n\r\n", *[b"x" * 65536] * 40), "close")
    )
    return server


@pytest.mark.parametrize("case", parameters(CASES))
def test_access(case: Case, table: CaseTable) -> None:
    table.run(case)


@pytest.fixture(scope="module")
def users_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the users of ``Host:users`` (row A14)."""
    path: Path = tmp_path_factory.mktemp("users") / "users"
    path.write_text(f"# people\n{APR1}\n\n{SHA}\n")
    return path


@pytest.fixture(scope="module")
def proxy(
    servers: Servers, auth_server: Backend, users_file: Path, loop_thread: LoopThread
) -> Iterator[ProxyProcess]:
    """Return a proxy with a host, or a path, for each of the stories below."""
    websockets = WebSocketServer(loop_thread)
    asked = {"address": f"{auth_server.url}/told"}
    trusting = {**asked, "trustForwardHeader": True}
    digest = {"digest": {"users": [DIGEST]}}
    users = {"basic": {"usersFile": str(users_file)}}

    def on(rule: str, **options: Any) -> dict[str, Any]:
        return frontend(rule, entryPoints=["http"], **options)

    routes = {
        "backends": {
            "echo": {"servers": {"one": {"url": servers["echo"].url}}},
            "ws": {"servers": {"one": {"url": websockets.url}}},
        },
        "frontends": {
            "trusting": on("PathPrefix:/trust", auth={"forward": trusting}),
            "strict": on("PathPrefixStrip:/strict", auth={"forward": asked}),
            "digest": on("Host:digest", auth=digest),
            "digest-strip": on("Host:strip;PathPrefixStrip:/s", auth=digest),
            "users": on("Host:users", auth=users),
            "listed": on("Host:listed", whiteList={"sourceRange": ["127.0.0.7"]}),
            "ws": on("Host:ws"),
            "ws-basic": on("Host:ws-basic", backend="ws", auth={"basic": {"users": [APR1]}}),
            "ws-forward": on(
                "Host:ws-forward",
                backend="ws",
                auth={"forward": asked},
                headers={"customResponseHeaders": {"X-Not-On-101": "x"}},
            ),
            "ws-refused": on(
                "Host:ws-refused",
                backend="ws",
                auth={"forward": {"address": f"{auth_server.url}/a15"}},
            ),
            "gone": on("Host:gone", auth={"forward": {"address": servers.addresses["dead"]}}),
            "field": on("Host:field", auth={"headerField": "X-User", "basic": {"users": [APR1]}}),
            "field-with-underscore": on(
                "Host:field-with-underscore",
                auth={"headerField": "X_User", "basic": {"users": [APR1]}},
            ),
            "copied": on(
                "Host:copied",
                auth={"forward": {**asked, "authResponseHeaders": ["X-User", "X-Group"]}},
            ),
        },
    }
    auth_server.on("/told", Answer((plain_answer(b""),)))
    points = {"http": {}, "guarded": {"auth": {"basic": {"users": [APR1]}}}}
    static = {"ping": {"entryPoint": "guarded"}}
    with ProxyProcess(routes, entry_points=points, static=static) as running:
        yield running
    websockets.stop()


def asked_of(server: Backend, proxy: ProxyProcess, target: str, **options: Any) -> Any:
    """Send a request and return what the authentication server was asked."""
    before = len(server.requests_for("/told"))
    answer = proxy.fetch(target, **options)
    assert answer.status == 200, answer.raw
    return server.wait_for("/told", before + 1)[before]


@pytest.mark.parametrize(("name", "sent", "otherwise"), ECHO_ROWS.values(), ids=ECHO_ROWS)
def test_what_the_authentication_server_is_told(
    proxy: ProxyProcess, auth_server: Backend, name: str, sent: str, otherwise: str | None
) -> None:
    headers = ((name, sent),)
    options: dict[str, Any] = {"host": "foo.bar", "headers": headers}
    trusted = asked_of(auth_server, proxy, "/trust/path?q=1", **options)
    assert trusted.values(name) == [sent.encode()]
    strict = asked_of(auth_server, proxy, "/strict/path?q=1", **options)
    assert strict.values(name) == ([] if otherwise is None else [otherwise.encode()])


def test_a21_without_a_host(proxy: ProxyProcess, auth_server: Backend) -> None:
    options: dict[str, Any] = {"host": None, "version": "HTTP/1.0"}
    sent = (("X-Forwarded-Host", "fii.bir"),)
    trusted = asked_of(auth_server, proxy, "/trust", headers=sent, **options)
    assert trusted.values("X-Forwarded-Host") == [b"fii.bir"]
    strict = asked_of(auth_server, proxy, "/strict", headers=sent, **options)
    assert strict.values("X-Forwarded-Host") == []


def test_9_5_the_request_for_authentication(proxy: ProxyProcess, auth_server: Backend) -> None:
    sent = (("Cookie", "a=b"), ("X-Any", "c"), ("Te", "trailers"), ("X_Forwarded_For", "10.0.0.1"))
    asked = asked_of(
        auth_server, proxy, "/strict/x", method="POST", body=b"body", headers=sent, host="h:81"
    )
    assert (asked.method, asked.body, asked.framing) == (b"GET", b"", "none")
    assert asked.value("Host") == auth_server.authority.encode()
    assert asked.value("Cookie") == b"a=b"
    assert asked.value("X-Any") == b"c"
    assert asked.value("X-Forwarded-For") == b"127.0.0.1"
    assert asked.value("X-Forwarded-Uri") == b"/x"
    assert asked.value("X-Forwarded-Port") == b"81"
    assert [name for name, _ in asked.headers if b"_" in name or name.lower() == b"te"] == []


def test_9_5_connection_cannot_remove_what_the_proxy_says(
    proxy: ProxyProcess, auth_server: Backend
) -> None:
    sent = (("Connection", "X-Forwarded-For, X-Forwarded-Uri, close"),)
    asked = asked_of(auth_server, proxy, "/strict/x", headers=sent)
    assert asked.value("X-Forwarded-For") == b"127.0.0.1"
    assert asked.value("X-Forwarded-Uri") == b"/x"


def test_digest(proxy: ProxyProcess) -> None:
    """Rows A10 to A13, and behind a modifier (specification section 11.2)."""

    def ask(value: str, target: str = "/x", host: str = "digest") -> Response:
        return proxy.fetch(target, host=host, headers=(("Authorization", value),))

    refused = ask(RIGHT[1])
    challenge = refused.value("Www-Authenticate")
    assert (refused.status, refused.body) == (401, b"401 Unauthorized\n"), "A10"
    assert challenge is not None
    assert challenge.startswith(b"Digest ")
    assert ask(digest_answer(challenge, "/x", 1)).status == 200, "A11"
    for wrong in (
        digest_answer(challenge, "/x", 1),
        digest_answer(challenge, "/other", 2),
        digest_answer(challenge, "/x", 2, "wrong"),
        digest_answer(challenge.replace(b'nonce="', b'nonce="A'), "/x", 2),
    ):
        assert ask(wrong).status == 401, f"A12 {wrong}"
    assert ask(digest_answer(challenge, "/x", 2)).status == 200, "A13"
    challenge = proxy.fetch("/s/x", host="strip").value("Www-Authenticate")
    assert challenge is not None
    assert ask(digest_answer(challenge, "/s/x", 1), "/s/x", "strip").status == 200


def test_a14_users_of_a_file_and_its_changes(proxy: ProxyProcess, users_file: Path) -> None:
    def status(name: str) -> int:
        return proxy.fetch(host="users", headers=(basic(name, "test"),)).status

    assert [status("test"), status("user"), status("third")] == [200, 200, 401]
    users_file.write_text(f"{SHA.replace('user', 'third')}\n")
    wait_until(lambda: status("third") == 200, "the new user")
    assert status("user") == 401
    users_file.write_text("broken\n")
    wait_until(lambda: (status("third"), "stay as they were" in proxy.log())[1], "a complaint")
    assert status("third") == 200


def test_a25_credentials_of_a_websocket_reach_the_server(
    proxy: ProxyProcess, servers: Servers
) -> None:
    servers["echo"].on("/a25", Answer((plain_answer(b"seen"),)))
    with proxy.connect() as client:
        client.send(handshake("/a25", host="ws", headers=(RIGHT,)))
        client.read_head()
    (asked,) = servers["echo"].requests_for("/a25")
    assert asked.value("Authorization") == RIGHT[1].encode()


@pytest.mark.parametrize(
    ("host", "headers", "status"),
    [
        ("ws-basic", (), 401),
        ("ws-basic", (RIGHT,), 101),
        ("ws-forward", (), 101),
        ("ws-refused", (), 403),
    ],
)
def test_a_websocket_is_authenticated_as_every_request(
    proxy: ProxyProcess, host: str, headers: tuple[tuple[str, str], ...], status: int
) -> None:
    with proxy.connect() as client:
        client.send(handshake("/echo", host=host, headers=headers))
        head = client.read_head()
        assert head.status == status
        if status == 101:
            assert head.values("X-Not-On-101") == []
            client.send(frame(1, b"hello", masked=True))
            assert client.read_exactly(7) == frame(1, b"hello")


def test_a26_ping_needs_no_credentials(proxy: ProxyProcess) -> None:
    assert proxy.fetch("/ping", entry_point="guarded").status == 200
    assert proxy.fetch("/", entry_point="guarded").status == 401


def test_l01_clients_of_another_address(proxy: ProxyProcess) -> None:
    listed = socket.create_connection(
        ("127.0.0.1", proxy.port), timeout=5, source_address=("127.0.0.7", 0)
    )
    with RawConnection.over(listed) as client:
        assert client.request(build_request(host="listed")).status == 200
    assert fetch(proxy.port, build_request(host="listed")).status == 403


@pytest.mark.parametrize("host", ["field", "field-with-underscore", "copied"])
@pytest.mark.parametrize("pieces", [1, 2], ids=["at-once", "later"])
def test_what_a_middleware_says_cannot_come_as_a_trailer(
    proxy: ProxyProcess, servers: Servers, host: str, pieces: int
) -> None:
    """A server may take trailers for headers (CVE-2026-88004)."""
    path = f"/trailers-{host}-{pieces}"
    head = build_request(path, host=host, method="POST", headers=(RIGHT,), chunks=(b"x",))
    trailers = b"X-User: root\r\nx_user: root\r\nX-Sum: 1\r\n\r\n"
    with proxy.connect() as client:
        client.send(head[:-2] if pieces == 2 else head[:-2] + trailers)
        if pieces == 2:
            client.silent_for(0.05)
            client.send(trailers)
        assert client.read_response().status == 200
    (seen,) = servers["echo"].wait_for(path)
    assert seen.trailers == ((b"X-Sum", b"1"),)
    assert seen.values("X-User") == ([b"test"] if host == "field" else [])


@pytest.mark.parametrize("token", ["X-User", "x-user", "X_User", "X-Group"])
def test_connection_cannot_remove_what_a_middleware_says(proxy: ProxyProcess, token: str) -> None:
    """(CVE-2021-32813, CVE-2024-45410, CVE-2026-29054)"""
    sent = (RIGHT, ("Connection", f"{token}, close"), ("X-Group", "admins"))
    seen = echoed(proxy.fetch(host="field", headers=sent))
    assert seen.values("X-User") == [b"test"]


def test_no_secret_stands_in_the_log(proxy: ProxyProcess) -> None:
    """Not even at the level DEBUG (CVE-2022-23469)."""
    for host in ("field", "digest", "users", "copied"):
        proxy.fetch(host=host, headers=(RIGHT, ("Cookie", "session=1234567")))
    proxy.fetch(host="gone", headers=(RIGHT,))
    wait_until(lambda: "no answer to forward authentication" in proxy.log(), "the failure")
    log = proxy.log()
    for secret in (RIGHT[1].split()[1], "1234567", APR1.split("$")[3], DIGEST.split(":")[2]):
        assert secret not in log


@pytest.fixture(scope="module")
def client_certificates(servers: Servers) -> Iterator[ProxyProcess]:
    """Return a proxy that asks clients for certificates and tells the server of them."""
    names = {"commonName": True}
    infos = {"subject": names, "issuer": names, "sans": True}
    routes = {
        "backends": {"echo": {"servers": {"one": {"url": servers["echo"].url}}}},
        "frontends": {
            "pem": frontend("Host:pem", passTLSClientCert={"pem": True}),
            "infos": frontend("Host:infos", passTLSClientCert={"infos": infos}),
        },
    }
    pair = authority().issue("server.test")
    files = [authority().pem]
    points = {
        "required": tls_options(pair, clientCA={"files": files}),
        "optional": tls_options(pair, clientCA={"files": files, "optional": True}),
    }
    with ProxyProcess(routes, entry_points=points) as running:
        yield running


def seen_by_server(proxy: ProxyProcess, entry_point: str, host: str, **options: Any) -> Any:
    sent = (("X-Forwarded-Tls-Client-Cert", "x"), ("X-Forwarded-Tls-Client-Cert-Infos", "x"))
    with open_connection(proxy.ports[entry_point], "server.test", **options) as connection:
        return echoed(connection.request(build_request(host=host, headers=sent)))


def showing(pair: Pair) -> ssl.SSLContext:
    """Return the settings of a client that sends this certificate and no authority's."""
    context = trusting()
    context.load_cert_chain(authority().write(pair))
    return context


def pem_body(pem: str) -> str:
    return "".join(pem.strip().splitlines()[1:-1])


def test_c02_the_certificate_reaches_the_server(client_certificates: ProxyProcess) -> None:
    pair = authority().issue("client.test")
    seen = seen_by_server(client_certificates, "required", "pem", context=showing(pair))
    (value,) = seen.values("X-Forwarded-Tls-Client-Cert")
    assert unquote_plus(value.decode()) == pem_body(pair.certificate)
    assert seen.values("X-Forwarded-Tls-Client-Cert-Infos") == []


def test_c02_two_certificates_reach_the_server(client_certificates: ProxyProcess) -> None:
    """A client that knows the authority sends it too."""
    pair = authority().issue("client.test")
    context = authority().client_context(pair)
    seen = seen_by_server(client_certificates, "required", "pem", context=context)
    (value,) = seen.values("X-Forwarded-Tls-Client-Cert")
    sent = [unquote_plus(each) for each in value.decode().split(",")]
    assert sent == [pem_body(pair.certificate), pem_body(authority().pem)]


def test_c03_facts_reach_the_server(client_certificates: ProxyProcess) -> None:
    context = showing(authority().issue("client.test"))
    seen = seen_by_server(client_certificates, "optional", "infos", context=context)
    (value,) = seen.values("X-Forwarded-Tls-Client-Cert-Infos")
    assert unquote_plus(value.decode()) == (
        'Subject="CN=client.test",Issuer="CN=kvproxy test authority",SAN=client.test'
    )


def test_c09_no_certificate_where_it_is_optional(client_certificates: ProxyProcess) -> None:
    for host in ("pem", "infos"):
        seen = seen_by_server(client_certificates, "optional", host)
        assert seen.values("X-Forwarded-Tls-Client-Cert") == []
        assert seen.values("X-Forwarded-Tls-Client-Cert-Infos") == []


def test_9_5_tls_towards_the_authentication_server(
    servers: Servers, loop_thread: LoopThread
) -> None:
    """The authority is the only one trusted; a client certificate can be shown."""
    own = authority().issue("proxy.test")
    stranger = Authority("nobody trusts this one")
    server = Backend(loop_thread, "tls-auth", tls=authority().server_context("127.0.0.1"))
    trusted = {"ca": authority().pem, "cert": own.certificate, "key": own.key}
    settings = {
        "trusted": trusted,
        "other": {**trusted, "ca": stranger.pem},
        "none": {"cert": own.certificate, "key": own.key},
        "skip": {"insecureSkipVerify": True},
        "files": {
            "ca": str(authority().path),
            "cert": str(authority().write(own)),
            "key": str(authority().write(own)),
        },
        "half": {"ca": authority().pem, "cert": own.certificate},
    }
    routes = {
        "backends": {"echo": {"servers": {"one": {"url": servers["echo"].url}}}},
        "frontends": {
            name: frontend(
                f"Host:{name}", auth={"forward": {"address": f"{server.url}/", "tls": tls}}
            )
            for name, tls in settings.items()
        },
    }
    with ProxyProcess(routes) as proxy:
        statuses = {name: proxy.fetch(host=name).status for name in settings}
    server.stop()
    assert statuses == {
        "trusted": 200,
        "other": 500,
        "none": 500,
        "skip": 200,
        "files": 200,
        "half": 404,
    }


def test_9_7_the_entry_points_certificate_is_shown_to_servers(loop_thread: LoopThread) -> None:
    """Deprecated ``passTLSCert``; servers with and without it are asked on connections apart."""
    own = authority().issue("proxy.test")
    clients = Authority("whom the entry point believes")
    context = clients.server_context("127.0.0.1")
    context.load_verify_locations(authority().path)
    context.verify_mode = ssl.CERT_REQUIRED
    server = Backend(loop_thread, "mutual", tls=context)
    entry_points = {
        "https": tls_options(own, clientCA={"files": [clients.pem], "optional": True}),
        "http": {},
    }

    def on(entry_point: str, rule: str, **options: Any) -> dict[str, Any]:
        return frontend(rule, backend="mutual", entryPoints=[entry_point], **options)

    routes = {
        "backends": {"mutual": {"servers": {"one": {"url": server.url}}}},
        "frontends": {
            "shows": on("https", "Host:shows", passTLSCert=True),
            "hides": on("https", "Host:hides"),
            "plain": on("http", "Host:plain", passTLSCert=True),
        },
    }
    static = {"rootCAs": [clients.pem]}
    with ProxyProcess(routes, entry_points=entry_points, static=static) as proxy:

        def status(host: str) -> int:
            with open_connection(proxy.ports["https"], "proxy.test") as connection:
                return connection.request(build_request(host=host)).status

        assert [status("shows"), status("shows")] == [200, 200]
        assert len(server.connections) == 1
        assert status("hides") in (500, 502)
        assert proxy.fetch(host="plain", entry_point="http").status == 404
        assert "the entry point `http` has no TLS" in proxy.log()
        frontends = {name: routes["frontends"][name] for name in ("hides", "plain")}
        proxy.apply({**routes, "frontends": frontends})
        wait_until(lambda: server.connections[0].ended == "closed", "the end of the connection")
    server.stop()
