"""Case table 10.12 (errors, time-outs, retry) with sections 8.5 and 8.6."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.proxy.clock import Clock
from kvproxy.proxy.downstream.listener import Listener
from kvproxy.proxy.request.chain import Chain
from kvproxy.routing.index import Found, RouteIndex
from tests.conformance.cases import (
    NOT_FOUND,
    Answered,
    Ask,
    Case,
    CutShort,
    Forwarded,
    frontend,
    parameters,
    text_reply,
)
from tests.support.backend import Answer, Backend, Greeter, InTurn, UnansweringPort, plain_answer
from tests.support.certificates import Authority, authority
from tests.support.http_client import build_request, fetch
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kvproxy.routing.request import RequestView
    from tests.conformance.cases import CaseTable, Outcome, Servers
    from tests.support.backend import Behaviour, LoopThread

BAD_GATEWAY = text_reply(502, "Bad Gateway")
GATEWAY_TIMEOUT = text_reply(504, "Gateway Timeout")
SERVER_ERROR = text_reply(500, "Internal Server Error")
UNAVAILABLE = text_reply(503, "Service Unavailable")
STRANGER = Authority("an authority that nobody trusts")


def row(
    identity: str,
    outcome: Outcome,
    *,
    url: str = "{echo}",
    target: str = "/",
    method: str = "GET",
    body: bytes = b"",
    behaviour: Behaviour | None = None,
    server: str = "",
    static: Mapping[str, Any] | None = None,
    difference: str = "",
) -> Case:
    """A frontend for every path to one server, one request, one outcome."""
    return Case(
        identity,
        {"all": frontend("PathPrefix:/", backend="one")},
        ((Ask(target, method=method, body=body), outcome),),
        {"one": {"servers": {"a": {"url": url}}}},
        {f"{server}:{target}" if server else target: behaviour} if behaviour else {},
        static or {},
        difference=difference,
    )


def retry_row(
    identity: str, attempts: int, urls: tuple[str, ...], outcome: Outcome, ask: Ask | None = None
) -> Case:
    """Servers in turn, ``retry.attempts`` set."""
    servers = {f"{number}": {"url": url} for number, url in enumerate(urls)}
    return Case(
        identity,
        {"all": frontend("PathPrefix:/", backend="many")},
        ((ask or Ask("/retry"), outcome),),
        {"many": {"servers": servers}},
        static={"retry": {"attempts": attempts}},
    )


def page_row(
    identity: str,
    statuses: tuple[str, ...],
    status: int,
    outcome: Outcome,
    method: str = "GET",
    *,
    query: str = "",
    backend: str = "pages",
    pages: str = "{pages}",
    options: Mapping[str, Any] | None = None,
) -> Case:
    """A server that answers ``status`` (0: is not there), and pages of another for ``statuses``."""
    path = f"/{identity}"
    script = {path: Answer((plain_answer(b"own" * (status != 304), status=f"{status} Own"),))}
    return Case(
        identity,
        {
            "all": frontend(
                "PathPrefix:/",
                backend="one",
                errors={"page": {"status": list(statuses), "backend": backend, "query": query}},
                **(options or {}),
            )
        },
        ((Ask(path, method=method), outcome),),
        {
            "one": {"servers": {"a": {"url": "{echo}" if status else "{dead}"}}},
            "pages": {"servers": {"a": {"url": pages}} if pages else {}},
        },
        script if status else {},
    )


LIVE, DEAD = "{echo}", "{dead}"
BOTH_RANGES = ("500-501", "503-599")

CASES = [
    row("E01", BAD_GATEWAY, url=DEAD),
    row("E02", BAD_GATEWAY, url="http://127.0.0.1:8989474"),
    row("E03", BAD_GATEWAY, url="http://no-such-host.invalid"),
    row(
        "E04",
        GATEWAY_TIMEOUT,
        url="{unanswering}",
        static={"forwardingTimeouts": {"dialTimeout": "300ms"}},
    ),
    row(
        "E05",
        GATEWAY_TIMEOUT,
        target="/e05",
        behaviour=Answer((1.0, plain_answer())),
        static={"forwardingTimeouts": {"responseHeaderTimeout": "300ms"}},
    ),
    row("E06-closes", BAD_GATEWAY, target="/e06c", behaviour=Answer(after="close")),
    row("E06-resets", BAD_GATEWAY, target="/e06r", behaviour=Answer(after="reset")),
    row(
        "E06-closes-in-its-head",
        BAD_GATEWAY,
        target="/e06h",
        behaviour=Answer((b"HTTP/1.1 200 OK\r\nContent-Le",), "close"),
    ),
    row("E07", SERVER_ERROR, target="/e07", behaviour=Answer((b"garbage\r\n\r\n",), "close")),
    row("E08", SERVER_ERROR, url="ftp://127.0.0.1:21"),
    row("E09", SERVER_ERROR, url="{tls}"),
    row("E10-text", Forwarded(), url="{tls}", static={"rootCAs": [authority().pem]}),
    row("E10-file", Forwarded(), url="{tls}", static={"rootCAs": [str(authority().path)]}),
    row("E11", Forwarded(), url="{tls}", static={"insecureSkipVerify": True}),
    row(
        "8.5-wrong-name",
        SERVER_ERROR,
        url="{tls-other-name}",
        static={"rootCAs": [str(authority().path)]},
    ),
    row(
        "8.5-unknown-authority-beside-root-cas",
        SERVER_ERROR,
        url="{tls-stranger}",
        static={"rootCAs": [str(authority().path)]},
    ),
    row("8.5-plain-http-where-tls-is-expected", SERVER_ERROR, url="{plain-as-tls}"),
    row("8.5-scheme-ws-without-upgrade", SERVER_ERROR, url="ws://127.0.0.1:1"),
    Case(
        "8.5-no-server",
        {"all": frontend("PathPrefix:/", backend="none")},
        ((Ask(), UNAVAILABLE),),
        {"none": {"servers": {}}},
    ),
    Case(
        "8.5-stale-connection-get",
        {"all": frontend("PathPrefix:/", backend="one")},
        ((Ask("/stale"), Answered(200, b"ok")),) * 3,
        {"one": {"servers": {"a": {"url": "{stale-get}"}}}},
        {"stale-get:/stale": InTurn((Answer((plain_answer(),)), Answer(after="close")))},
    ),
    Case(
        "8.5-stale-connection-post",
        {"all": frontend("PathPrefix:/", backend="one")},
        (
            (Ask("/stale", method="POST", body=b"x"), Answered(200, b"ok")),
            (Ask("/stale", method="POST", body=b"x"), BAD_GATEWAY),
        ),
        {"one": {"servers": {"a": {"url": "{stale-post}"}}}},
        {"stale-post:/stale": InTurn((Answer((plain_answer(),)), Answer(after="close")))},
    ),
    *(
        page_row(f"E14-{status}", BOTH_RANGES, status, Answered(status, b"own"))
        for status in (200, 206)
    ),
    page_row("E14-304", BOTH_RANGES, 304, Answered(304, b"")),
    page_row("E15", BOTH_RANGES, 500, Answered(500, b"page of /")),
    page_row("E16", BOTH_RANGES, 502, Answered(502, b"own")),
    page_row("E17-one", ("503",), 503, Answered(503, b"page of /503"), query="/{status}"),
    page_row("E17-range", ("503-503",), 503, Answered(503, b"page of /503"), query="{status}"),
    page_row("E18", ("500-502", "503-599"), 0, Answered(502, b"page of /")),
    page_row("E18-hole", BOTH_RANGES, 0, BAD_GATEWAY),
    page_row("E19", ("200-500", "502"), 200, Answered(200, b"page of /")),
    page_row("E19-inside", ("200-500", "205"), 205, Answered(205, b"page of /")),
    page_row("E19-refused", ("200-500", "aaa"), 500, NOT_FOUND),
    page_row("E19-none", (), 500, Answered(500, b"own")),
    page_row("E20-range", ("200-299",), 200, Answered(200, b"page of /")),
    page_row("E20-not-one", ("200",), 201, Answered(201, b"own")),
    page_row("E20-between", ("200-299", "500-599"), 400, Answered(400, b"own")),
    page_row(
        "9.8-own-answers",
        ("401",),
        200,
        Answered(401, b"page of /401", {"Www-Authenticate": ()}),
        query="/{status}",
        options={"basicAuth": ["test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"]},
    ),
    page_row("9.8-unknown-backend", ("500",), 500, Answered(500, b"own"), backend="nowhere"),
    page_row("9.8-own-backend", ("500",), 500, Answered(500, b"own"), backend="one"),
    page_row("9.8-pages-are-down", ("500",), 500, SERVER_ERROR, pages="{dead}"),
    page_row("9.8-no-page-server", ("500",), 500, SERVER_ERROR, pages=""),
    page_row("9.8-head", ("500",), 500, Answered(500, b"", {"Content-Length": ("9",)}), "HEAD"),
    row(
        "E21",
        CutShort(200, b"5\r\nhello\r\n"),
        target="/e21",
        behaviour=Answer(
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",), "close"
        ),
        difference="the reference ends the answer well-formed; the client must see that it is cut",
    ),
    row(
        "E22",
        CutShort(200, b"abc"),
        target="/e22",
        behaviour=Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",), "close"),
    ),
    retry_row("E13-live-1", 1, (LIVE,), Forwarded()),
    retry_row("E13-dead-live-1", 1, (DEAD, LIVE), BAD_GATEWAY),
    retry_row("E13-dead-live-2", 2, (DEAD, LIVE), Forwarded()),
    retry_row("E13-dead-dead-live-3", 3, (DEAD, f"{DEAD}/2", LIVE), Forwarded()),
    retry_row("E13-dead-dead-dead-live-3", 3, (DEAD, f"{DEAD}/2", f"{DEAD}/3", LIVE), BAD_GATEWAY),
    retry_row("E13-none-3", 3, (), UNAVAILABLE),
    retry_row("8.6-attempts-0-is-number-of-servers", 0, (DEAD, f"{DEAD}/2", LIVE), Forwarded()),
    retry_row("8.6-unsupported-scheme-is-retried", 2, ("ftp://127.0.0.1:21", LIVE), Forwarded()),
    retry_row("8.6-tls-failure-is-retried", 2, ("{plain-as-tls}", LIVE), Forwarded()),
    retry_row(
        "8.6-body-is-sent-whole",
        2,
        (DEAD, LIVE),
        Forwarded(),
        Ask("/retry", method="POST", body=b"x" * 100_000),
    ),
    Case(
        "8.6-not-after-the-request-was-sent",
        {"all": frontend("PathPrefix:/", backend="many")},
        ((Ask("/not-again"), BAD_GATEWAY), (Ask("/not-again"), Forwarded(server="echo"))),
        {"many": {"servers": {"1": {"url": "{resets}"}, "2": {"url": LIVE}}}},
        {"resets:/not-again": Answer(after="reset")},
        {"retry": {"attempts": 3}},
    ),
    Case(
        "8.6-off-by-default",
        {"all": frontend("PathPrefix:/", backend="many")},
        ((Ask("/off"), BAD_GATEWAY), (Ask("/off"), Forwarded())),
        {"many": {"servers": {"1": {"url": DEAD}, "2": {"url": LIVE}}}},
    ),
    Case("B02-no-frontend", {}, ((Ask(), Answered(404, b"404 page not found\n")),)),
]


@pytest.fixture(scope="module", autouse=True)
def special_servers(servers: Servers, loop_thread: LoopThread) -> Iterator[None]:
    """Make the servers with TLS and the one that does not even accept."""
    unanswering = UnansweringPort()
    trusted = authority().server_context("127.0.0.1", "localhost")
    servers.add("tls", Backend(loop_thread, "tls", tls=trusted))
    other_name = authority().server_context("other.test")
    servers.add("tls-other-name", Backend(loop_thread, "tls-other-name", tls=other_name))
    stranger = STRANGER.server_context("127.0.0.1")
    servers.add("tls-stranger", Backend(loop_thread, "tls-stranger", tls=stranger))
    for path in ("/", "/503", "/401"):
        body = b"page of " + path.encode()
        servers["pages"].on(path, Answer((plain_answer(body, status="404 Page"),)))
    servers.addresses["unanswering"] = f"http://127.0.0.1:{unanswering.port}"
    greeter = Greeter(loop_thread, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    servers.addresses["plain-as-tls"] = f"https://127.0.0.1:{greeter.port}"
    yield
    greeter.stop()
    unanswering.close()


class BrokenIndex(RouteIndex[Chain]):
    """Routes of which every look-up fails: what no request can provoke from outside."""

    def __init__(self) -> None:
        """Hold nothing."""

    def find(self, request: RequestView) -> Found[Chain] | None:
        raise RuntimeError("a fault in the proxy itself")


async def test_e12_fault_in_the_proxy_is_500(caplog: pytest.LogCaptureFixture) -> None:
    """One request is answered 500 and its connection closed; the listener goes on."""
    settings = StaticConfiguration(entry_points={"http": EntryPoint(address="127.0.0.1:0")})
    entry_point = settings.entry_points["http"]
    listener = Listener("http", entry_point, settings, clock=Clock(), server_name=b"here")
    listener.index = BrokenIndex()
    listening = socket.create_server(("127.0.0.1", 0))
    await listener.serve(listening, 0)
    port = listening.getsockname()[1]
    for _ in range(2):
        answer = await asyncio.to_thread(fetch, port, build_request())
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        assert answer.values("Connection") == [b"close"]
    await listener.stop_accepting()
    assert "a fault in the proxy itself" in caplog.text


@pytest.mark.parametrize("case", parameters(CASES))
def test_errors(case: Case, table: CaseTable) -> None:
    table.run(case)


def test_9_8_what_the_page_server_is_told(servers: Servers, loop_thread: LoopThread) -> None:
    """Not who asked (CVE-2026-41181), but where the request was going to."""
    pages = Backend(loop_thread, "pages")
    pages.on("/p", Answer((plain_answer(b"page"),)))
    servers["echo"].on("/told", Answer((plain_answer(b"own", status="500 Own"),)))
    routes = {
        "backends": {
            "one": {"servers": {"a": {"url": servers["echo"].url}}},
            "pages": {"servers": {"a": {"url": pages.url}}},
        },
        "frontends": {
            "all": frontend(
                "PathPrefix:/",
                backend="one",
                errors={"page": {"status": ["500"], "backend": "pages", "query": "/p"}},
            )
        },
    }
    sent = (
        *(("Authorization", "Basic dGVzdDp0ZXN0"), ("Cookie", "session=1"), ("X-Other", "kept")),
        ("If-None-Match", '"x"'),
    )
    with ProxyProcess(routes) as proxy:
        answer = proxy.fetch("/told", host="a.test", method="POST", headers=sent, body=b"x" * 99)
    assert (answer.status, answer.reason, answer.body) == (500, b"Internal Server Error", b"page")
    (asked,) = pages.requests
    assert (asked.method, asked.target, asked.body) == (b"GET", b"/p", b"")
    assert asked.value("Host") == pages.authority.encode()
    assert asked.value("X-Forwarded-Host") == b"a.test"
    assert asked.value("X-Other") == b"kept"
    for name in ("Authorization", "Cookie", "If-None-Match", "Content-Length"):
        assert asked.values(name) == [], name
    pages.stop()


def test_dial_timeout_is_kept(table: CaseTable) -> None:
    case = next(case for case in CASES if case.identity == "E04")
    started = time.monotonic()
    table.run(case)
    assert 0.25 < time.monotonic() - started < 10


@pytest.mark.parametrize("pass_host", [False, True])
def test_the_name_in_the_url_is_asked_for_by_sni(loop_thread: LoopThread, pass_host: bool) -> None:
    """The server's own name, whatever ``Host`` the client sends (section 7.10)."""
    names: list[str | None] = []
    context = authority().server_context("localhost")
    context.sni_callback = lambda connection, name, held: names.append(name)
    server = Backend(loop_thread, "sni", tls=context)
    url = f"https://localhost:{server.port}"
    routes = single_backend(url, {"all": "PathPrefix:/"}, passHostHeader=pass_host)
    with ProxyProcess(routes, static={"rootCAs": [authority().pem]}) as proxy:
        answer = proxy.fetch(host="client.test")
    server.stop()
    assert answer.status == 200
    host = b"client.test" if pass_host else f"localhost:{server.port}".encode()
    assert b"\r\nHost: " + host + b"\r\n" in answer.body
    assert set(names) == {"localhost"}
