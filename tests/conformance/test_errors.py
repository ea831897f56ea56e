"""Case table 10.12 (errors, time-outs, retry) with sections 8.5 and 8.6."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.model.static import EntryPoint, StaticConfiguration
from kvproxy.proxy.chain import Chain
from kvproxy.proxy.clock import Clock
from kvproxy.proxy.listener import Listener
from kvproxy.routing.index import Found, RouteIndex
from tests.conformance.cases import (
    Answered,
    Ask,
    Case,
    CutShort,
    Forwarded,
    frontend,
    parameters,
    text_reply,
    waits_for,
)
from tests.support.backend import Answer, Backend, Greeter, InTurn, UnansweringPort, plain_answer
from tests.support.certificates import Authority, authority
from tests.support.http_client import build_request, fetch

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


LIVE, DEAD = "{echo}", "{dead}"
ERROR_PAGES = "custom error pages"

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
    *waits_for(ERROR_PAGES, *(f"E{number}" for number in range(14, 21))),
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
    servers.addresses["unanswering"] = f"http://127.0.0.1:{unanswering.port}"
    greeter = Greeter(loop_thread, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    servers.addresses["plain-as-tls"] = f"https://127.0.0.1:{greeter.port}"
    yield
    greeter.stop()
    unanswering.release()


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


def test_dial_timeout_is_kept(table: CaseTable) -> None:
    case = next(case for case in CASES if case.identity == "E04")
    started = time.monotonic()
    table.run(case)
    assert 0.25 < time.monotonic() - started < 1.5
