"""Case table 10.14: headers of answers, compression, streaming."""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import Answered, Ask, Case, Forwarded, frontend, parameters
from tests.support.backend import Answer, Gate, plain_answer
from tests.support.http_client import RawConnection, build_request, fetch
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.cases import CaseTable, Outcome, Servers
    from tests.support.backend import Behaviour
    from tests.support.http_client import Response

GZIP = (("Accept-Encoding", "gzip"),)
COMPRESS = {"compress": True}
TEXT = b"all work and no play makes jack a dull boy\n"
LONG, SHORT = (TEXT * 12)[:512], (TEXT * 12)[:511]


def row(
    identity: str,
    outcome: Outcome,
    *answer_headers: str,
    headers: Mapping[str, Any] | None = None,
    sent: tuple[tuple[str, str], ...] = (),
) -> Case:
    """One server that answers with some headers, one frontend with header options."""
    path = f"/{identity}"
    options = {"headers": headers} if headers else {}
    script: dict[str, Behaviour] = {}
    if answer_headers:
        script[path] = Answer((plain_answer(b"ok", *answer_headers),))
    ask = Ask(path, headers=sent)
    return Case(
        identity, {"all": frontend("PathPrefix:/", **options)}, ((ask, outcome),), {}, script
    )


def seen(**headers: str | None) -> Answered:
    named = {
        name.replace("_", "-"): () if value is None else (value,) for name, value in headers.items()
    }
    return Answered(200, b"ok", named)


FROM_SERVER = ("X-Default: powpow", "Referrer-Policy: same-origin")
CASES = [
    row("D01", seen(X_Default="powpow", Referrer_Policy="same-origin"), *FROM_SERVER),
    row(
        "D02",
        seen(X_Default="powpow", Referrer_Policy="no-referrer"),
        *FROM_SERVER,
        headers={"referrerPolicy": "no-referrer"},
    ),
    row(
        "D03",
        seen(Referrer_Policy="powpow"),
        *FROM_SERVER,
        headers={
            "referrerPolicy": "no-referrer",
            "customResponseHeaders": {"Referrer-Policy": "powpow"},
        },
    ),
    row(
        "D04-set",
        Forwarded(headers={"X-Custom": ("test_request",)}),
        headers={"customRequestHeaders": {"X-Custom": "test_request"}},
        sent=(("x-custom", "theirs"),),
    ),
    row(
        "D04-removed",
        Forwarded(headers={"X-Custom": ()}),
        headers={"customRequestHeaders": {"X-Custom": ""}},
        sent=(("x-custom", "theirs"),),
    ),
    row(
        "D05",
        seen(X_Default=None, Referrer_Policy="same-origin"),
        *FROM_SERVER,
        headers={"customResponseHeaders": {"X-Default": ""}},
    ),
    row(
        "6.1-host-has-no-effect",
        Forwarded(headers={"Host": ("{echo}",)}),
        headers={"customRequestHeaders": {"Host": "evil.test"}},
    ),
    row(
        "6.1-names-are-canonical",
        Forwarded(headers={"X-Lower": ("a",)}),
        headers={"customRequestHeaders": {"x-lower": "a"}},
    ),
    row(
        "6.1-real-ip-survives",
        Forwarded(headers={"X-Real-Ip": ("9.9.9.9",)}),
        headers={"customRequestHeaders": {"X-Real-Ip": "9.9.9.9"}},
    ),
    row(
        "6.2-all",
        seen(
            X_Frame_Options="DENY",
            X_Content_Type_Options="nosniff",
            X_Xss_Protection="1; mode=block",
            Strict_Transport_Security="max-age=42; includeSubDomains; preload",
            Content_Security_Policy="default-src 'self'",
        ),
        "X-Frame-Options: ALLOWALL",
        headers={
            "frameDeny": True,
            "contentTypeNosniff": True,
            "browserXSSFilter": True,
            "stsSeconds": 42,
            "stsIncludeSubdomains": True,
            "stsPreload": True,
            "forceSTSHeader": True,
            "contentSecurityPolicy": "default-src 'self'",
        },
    ),
    Case(
        "5.2-own-answers-carry-none",
        {"all": frontend("PathPrefix:/", backend="none", headers={"frameDeny": True})},
        ((Ask(), Answered(503, None, {"X-Frame-Options": ()})),),
        {"none": {"servers": {}}},
    ),
    Case(
        "6.2-ssl-redirect",
        {"all": frontend("PathPrefixStrip:/s", headers={"sslRedirect": True})},
        (
            (Ask("/s/x?q=1", host="h"), Answered(301, None, {"Location": ("https://h/x?q=1",)})),
            (
                Ask("/s/x", host="h:8080", method="POST"),
                Answered(301, b"", {"Location": ("https://h:8080/x",)}),
            ),
        ),
    ),
    Case(
        "6.2-allowed-hosts",
        {
            "all": frontend(
                "PathPrefix:/",
                headers={"allowedHosts": ["good.host"], "hostsProxyHeaders": ["X-FH"]},
            )
        },
        (
            (Ask(headers=(("X-FH", "GOOD.host"),)), Forwarded()),
            (
                Ask(host="good.host", headers=(("X-FH", "bad"),)),
                Answered(500, b"Bad Host\n", {"X-Content-Type-Options": ("nosniff",)}),
            ),
            (Ask(host="good.host:80"), Answered(500, b"Bad Host\n")),
        ),
    ),
    Case(
        "D13",
        {"all": frontend("PathPrefix:/")},
        ((Ask("/D13"), Answered(200, b"ok")),),
        script={
            "/D13": Answer(
                (
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Said\r\n\r\n",
                    b"2\r\nok\r\n0\r\nX-Said: 1\r\nX-Unsaid: 2\r\n\r\n",
                )
            )
        },
    ),
    Case(
        "D14",
        {"all": frontend("PathPrefix:/")},
        ((Ask("/D14"), Answered(200, b"coded", {"Content-Encoding": ("gzip",)})),),
        script={"/D14": Answer((plain_answer(b"coded", "Content-Encoding: gzip"),))},
        difference="the reference asks for gzip by itself and decodes; kvproxy passes what comes",
    ),
    Case(
        "D15",
        {"all": frontend("PathPrefix:/")},
        ((Ask("/D15"), Answered(200, b"<html>hi</html>", {"Content-Type": ()})),),
        script={"/D15": Answer((plain_answer(b"<html>hi</html>"),))},
        difference="the reference guesses a type; kvproxy adds none",
    ),
    Case(
        "compressing",
        {"all": frontend("PathPrefix:/")},
        script={
            "/long": Answer((plain_answer(LONG),)),
            "/short": Answer((plain_answer(SHORT),)),
            "/encoded": Answer(
                (plain_answer(LONG, "Content-Encoding: gzip", status="201 Created"),)
            ),
            "/chunked": Answer(
                (
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    b"200\r\n" + LONG + b"\r\n",
                    b"0\r\nX-Sum: 1\r\n\r\n",
                )
            ),
            "/close": Answer((b"HTTP/1.1 200 OK\r\n\r\n", LONG * 3), "close"),
            "/unauthorised": Answer(
                (plain_answer(LONG, "Content-Encoding: br", status="401 Unauthorized"),)
            ),
            "/not-modified": Answer((b"HTTP/1.1 304 Not Modified\r\nEtag: x\r\n\r\n",)),
            "/cut": Answer(
                (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n" + LONG + b"\r\n",),
                "close",
            ),
        },
        entry_point=COMPRESS,
    ),
    Case("compressing-nothing", entry_point=COMPRESS),
]
COMPRESSING, NOTHING = CASES[-2:]


@pytest.mark.parametrize("case", parameters(CASES[:-2]))
def test_answers(case: Case, table: CaseTable) -> None:
    table.run(case)


def test_d13_trailers(table: CaseTable) -> None:
    case = next(case for case in CASES if case.identity == "D13")
    answer = fetch(table.port_of(case), build_request("/D13", host="case.test"))
    assert answer.trailers == ((b"X-Said", b"1"), (b"X-Unsaid", b"2"))


@pytest.fixture(scope="module")
def compressing(table: CaseTable) -> int:
    """Return the port of an entry point that compresses."""
    return table.port_of(COMPRESSING)


def ask(port: int, path: str, *sent: tuple[str, str], **options: Any) -> Response:
    return fetch(port, build_request(path, host="case.test", headers=sent, **options))


UNCOMPRESSED = {
    "D07": ("/short", GZIP, SHORT),
    "D08": ("/encoded", GZIP, LONG),
    "D09-nothing-sent": ("/long", (), LONG),
    "D09-zero": ("/long", (("Accept-Encoding", "gzip;q=0"),), LONG),
    "D11": ("/unauthorised", GZIP, LONG),
}


@pytest.mark.parametrize(("path", "sent", "body"), UNCOMPRESSED.values(), ids=UNCOMPRESSED)
def test_what_is_not_compressed(
    compressing: int, path: str, sent: tuple[tuple[str, str], ...], body: bytes
) -> None:
    answer = ask(compressing, path, *sent)
    assert answer.body == body
    assert answer.values("Vary") == [b"Accept-Encoding"]
    assert answer.framing == "length"


@pytest.mark.parametrize("path", ["/long", "/chunked", "/close"])
def test_d06_what_is_compressed(compressing: int, path: str) -> None:
    answer = ask(compressing, path, *GZIP)
    assert answer.value("Content-Encoding") == b"gzip"
    assert answer.values("Vary") == [b"Accept-Encoding"]
    assert answer.framing == "chunked"
    assert gzip.decompress(answer.body) == (LONG * 3 if path == "/close" else LONG)
    assert len(answer.body) < 200
    assert answer.trailers == (((b"X-Sum", b"1"),) if path == "/chunked" else ())


def test_d10_grpc(compressing: int) -> None:
    answer = ask(compressing, "/long", ("Content-Type", "application/grpc"), *GZIP)
    assert (answer.body, answer.values("Vary")) == (LONG, [])


def test_answers_without_a_body(compressing: int) -> None:
    answer = ask(compressing, "/not-modified", *GZIP)
    assert (answer.status, answer.framing) == (304, "none")
    assert answer.values("Content-Encoding") == []
    answer = ask(compressing, "/long", *GZIP, method="HEAD")
    assert (answer.value("Content-Length"), answer.values("Content-Encoding")) == (b"512", [])


def test_http_1_0_gets_no_coding_of_transfer(compressing: int) -> None:
    answer = ask(compressing, "/chunked", *GZIP, version="HTTP/1.0")
    assert (answer.body, answer.framing) == (LONG, "close")


def test_a_cut_answer_stays_cut(compressing: int) -> None:
    with RawConnection(compressing) as client:
        client.send(build_request("/cut", host="case.test", headers=GZIP))
        assert client.read_head().status == 200
        assert not client.read_to_end().endswith(b"0\r\n\r\n")


def test_a_not_found_says_that_it_depends_on_the_coding(table: CaseTable) -> None:
    """Answers of the router pass the compression too (specification section 5.1)."""
    answer = ask(table.port_of(NOTHING), "/", *GZIP)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")
    assert answer.values("Vary") == [b"Accept-Encoding"]


def test_a_connection_serves_one_compressed_answer_after_the_other(compressing: int) -> None:
    with RawConnection(compressing) as client:
        for path in ("/long", "/chunked", "/short", "/long"):
            answer = client.request(build_request(path, host="case.test", headers=GZIP))
            coded = answer.value("Content-Encoding") == b"gzip"
            assert (gzip.decompress(answer.body) if coded else answer.body) == (
                SHORT if path == "/short" else LONG
            )


@pytest.mark.parametrize("entry_point", [{}, COMPRESS], ids=["D12", "D12-compressed"])
def test_events_come_at_once(servers: Servers, entry_point: dict[str, Any]) -> None:
    gates = [Gate(), Gate()]
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    events = [b"data: one\n\n", b"data: two\n\n"]
    parts = [
        part
        for event, gate in zip(events, gates, strict=True)
        for part in (b"%x\r\n%b\r\n" % (len(event), event), gate)
    ]
    servers["echo"].on("/events", Answer((head, *parts, b"0\r\n\r\n")))
    routes = single_backend(servers["echo"].url, {"all": "PathPrefix:/"})
    with (
        ProxyProcess(routes, entry_points={"http": entry_point}) as proxy,
        proxy.connect() as client,
    ):
        client.send(build_request("/events", headers=GZIP))
        answer = client.read_head()
        decoder = zlib.decompressobj(31) if entry_point else None
        assert (answer.value("Content-Encoding") == b"gzip") is bool(entry_point)
        for event, gate in zip(events, gates, strict=True):
            size = int(client.read_until(b"\r\n"), 16)
            chunk = client.read_exactly(size + 2)[:-2]
            assert (decoder.decompress(chunk) if decoder else chunk) == event
            gate.open()
