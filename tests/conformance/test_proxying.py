"""Section 8 of the reference: request line, headers of both directions, Expect, transport settings.

The rows have no ids there; here each is named after its section and what it is about.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import (
    COMPATIBLE,
    Answered,
    Ask,
    Case,
    Forwarded,
    frontend,
    parameters,
    text_reply,
)
from tests.support.backend import Answer, Gate, echoed, plain_answer
from tests.support.http_client import RawConnection, build_request, fetch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.conformance.cases import CaseTable, Outcome
    from tests.support.backend import Behaviour

BAD_REQUEST = text_reply(400, "Bad Request")
GONE: tuple[str, ...] = ()


def row(
    identity: str,
    ask: Ask,
    outcome: Outcome,
    *,
    url: str = "{echo}",
    behaviour: Behaviour | None = None,
    static: Mapping[str, Any] | None = None,
    difference: str = "",
    **options: Any,
) -> Case:
    """A frontend for every request to one server, one request, one outcome."""
    path = ask.target if isinstance(ask.target, str) else ask.target.decode("latin-1")
    return Case(
        identity,
        {"all": frontend("PathPrefix:/", backend="one", **options)},
        ((ask, outcome),),
        {"one": {"servers": {"a": {"url": url}}}},
        {path.partition("?")[0]: behaviour} if behaviour else {},
        static or {},
        difference=difference,
    )


def target_row(
    identity: str, target: str | bytes, uri: str | None, *, compatible: bool = False
) -> Case:
    """What a request target becomes; with ``compatible``, only under the named switch."""
    static = COMPATIBLE if compatible else {}
    return row(f"8.1-{identity}", Ask(target), Forwarded(uri), static=static)


def refused_row(identity: str, target: str) -> Case:
    """The default for targets that have more than one meaning."""
    return row(
        f"8.1-{identity}-by-default",
        Ask(target),
        BAD_REQUEST,
        difference="encoded separators and dot segments are refused unless allowUnsafePaths is set",
    )


def header_row(
    identity: str,
    sent: tuple[tuple[str, str], ...],
    seen: Mapping[str, tuple[str, ...]],
    **options: Any,
) -> Case:
    """What becomes of request headers."""
    return row(f"8.2-{identity}", Ask("/", headers=sent), Forwarded(headers=seen), **options)


def answer_row(
    identity: str,
    answer: bytes,
    outcome: Answered,
    *,
    after: Any = "keep",
    ask: Ask | None = None,
    difference: str = "",
) -> Case:
    """What becomes of a server's answer."""
    ask = ask or Ask(f"/answer-{identity}")
    behaviour = Answer((answer,), after)
    return row(f"8.4-{identity}", ask, outcome, behaviour=behaviour, difference=difference)


AS_SENT = "header lines pass as the server wrote them: nothing is guessed, nothing re-spelled"

CASES = [
    *(
        row(f"8.1-method-{method}", Ask("/", method=method), Forwarded())
        for method in (
            "POST",
            "PUT",
            "PATCH",
            "DELETE",
            "OPTIONS",
            "TRACE",
            "PROPFIND",
            "get",
            "X-Y",
        )
    ),
    row("8.1-method-HEAD", Ask("/", method="HEAD"), Answered(200, b"")),
    target_row("percent-encoding-kept", "/%66oo/%c3%a9?%66", None),
    target_row("pipe", "/a|b", "/a%7Cb"),
    target_row("angle", "/a<b>", "/a%3Cb%3E"),
    target_row("raw-byte", b"/caf\xe9", "/caf%E9"),
    target_row("quote-and-caret", '/a"b^c`{}', "/a%22b%5Ec%60%7B%7D"),
    target_row("fragment", "/a#f", "/a%23f", compatible=True),
    refused_row("fragment", "/a#f"),
    target_row("query-invalid-escape", "/?x=%zz", None),
    target_row("query-semicolon", "/?a;b", None),
    target_row("query-byte-for-byte", '/?q=|<>"^`{}%2f..//\\', None),
    row(
        "8.1-query-raw-byte",
        Ask(b"/?q=\xe9"),
        Forwarded("/?q=%E9"),
        difference="the reference passes raw bytes on, which no URI may hold (RFC 3986)",
    ),
    target_row("lone-question-mark", "/a?", "/a"),
    target_row("double-question-mark", "/a??", None),
    target_row("double-slash", "//a", None),
    target_row("dot-segments", "/a/../b", None, compatible=True),
    refused_row("dot-segments", "/a/../b"),
    refused_row("encoded-dot-segments", "/a/%2e%2e/b"),
    refused_row("mixed-dot-segments", "/a/.%2E/b"),
    refused_row("single-dot-segment", "/a/./b"),
    refused_row("trailing-dot-segment", "/a/.."),
    refused_row("encoded-slash", "/a%2Fb"),
    refused_row("encoded-backslash", "/a%5Cb"),
    refused_row("raw-backslash", "/a\\b"),
    refused_row("encoded-nul", "/a%00b"),
    refused_row("encoded-semicolon", "/a%3Bb"),
    refused_row("encoded-question-mark", "/a%3Fb"),
    refused_row("encoded-fragment", "/a%23b"),
    target_row("encoded-slash", "/a%2Fb%2f", None, compatible=True),
    target_row("encoded-semicolon", "/a%3Bb", None, compatible=True),
    target_row("encoded-question-mark", "/a%3Fb", None, compatible=True),
    target_row("encoded-dot-segments", "/a/%2e%2e/b", None, compatible=True),
    row("8.1-bad-escape", Ask("/%zz"), BAD_REQUEST),
    row("8.1-short-escape", Ask("/%4"), BAD_REQUEST),
    row("8.1-server-path-unused", Ask("/a?b"), Forwarded(), url="{echo}/base/path?query=1"),
    target_row("absolute-form", "http://case.test/x?y=1", "/x?y=1"),
    target_row("absolute-form-empty-path", "http://case.test?y=1", "/?y=1"),
    row(
        "8.1-absolute-form-host-wins",
        Ask("http://inner.test:81/", host="outer.test"),
        Forwarded("/", {"Host": ("inner.test:81",), "X-Forwarded-Host": ("inner.test:81",)}),
        passHostHeader=True,
    ),
    header_row("host-of-the-server", (), {"Host": ("{echo}",)}),
    header_row("host-of-the-client", (), {"Host": ("case.test",)}, passHostHeader=True),
    header_row(
        "connection-names-others",
        (("connection", "x-one, X-TWO"), ("X-One", "1"), ("x-two", "2"), ("X-Three", "3")),
        {"X-One": GONE, "X-Two": GONE, "Connection": GONE, "X-Three": ("3",)},
    ),
    header_row(
        "connection-in-several-lines",
        (
            ("Connection", "X-One"),
            ("Connection", "keep-alive,X-Two"),
            ("X-One", "1"),
            ("X-Two", "2"),
        ),
        {"X-One": GONE, "X-Two": GONE, "Connection": GONE},
    ),
    header_row(
        "upgrade-other-than-websocket",
        (("Connection", "Upgrade"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAMAAABkAAQ")),
        {"Connection": GONE, "Upgrade": GONE},
        difference="the reference tunnels any protocol; kvproxy only WebSocket",
    ),
    header_row("user-agent-passes", (("User-Agent", "curl/8"),), {"User-Agent": ("curl/8",)}),
    header_row(
        "user-agent-absent",
        (),
        {"User-Agent": GONE},
        difference="the reference's library adds its own name; kvproxy adds nothing",
    ),
    header_row(
        "accept-encoding-passes", (("Accept-Encoding", "br"),), {"Accept-Encoding": ("br",)}
    ),
    header_row(
        "accept-encoding-absent",
        (),
        {"Accept-Encoding": GONE},
        difference="the reference asks for gzip and decompresses; kvproxy passes the body as it is",
    ),
    header_row("via-not-added", (), {"Via": GONE}),
    header_row(
        "repeated-headers",
        (("X-A", "1"), ("X-B", "2"), ("X-A", "3")),
        {"X-A": ("1", "3"), "X-B": ("2",)},
    ),
    header_row("names-keep-their-value", (("X-V", "  a b\t c  "),), {"X-V": ("a b\t c",)}),
    header_row("obs-text", (("X-V", "caf\xe9"),), {"X-V": ("caf\xe9",)}),
    row(
        "8.2-content-length",
        Ask("/", method="POST", body=b"12345"),
        Forwarded(headers={"Content-Length": ("5",), "Transfer-Encoding": GONE}),
    ),
    row(
        "8.2-body-of-get",
        Ask("/", body=b"12345"),
        Forwarded(headers={"Content-Length": ("5",)}),
    ),
    answer_row(
        "hop-by-hop",
        plain_answer(
            b"ok",
            "Connection: keep-alive, X-Hop",
            "X-Hop: 1",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: x",
            "Proxy-Authenticate: Basic",
            "Te: x",
            "Upgrade: h2c",
            "X-Stays: 1",
        ),
        Answered(
            200,
            b"ok",
            {
                "Connection": GONE,
                "X-Hop": GONE,
                "Keep-Alive": GONE,
                "Proxy-Connection": GONE,
                "Proxy-Authenticate": GONE,
                "Te": GONE,
                "Upgrade": GONE,
                "X-Stays": ("1",),
            },
        ),
    ),
    answer_row(
        "server-via-date-pass",
        plain_answer(b"ok", "Server: s/1", "Via: 1.1 x", "Date: Mon, 01 Jan 2024 00:00:00 GMT"),
        Answered(
            200,
            b"ok",
            {
                "Server": ("s/1",),
                "Via": ("1.1 x",),
                "Date": ("Mon, 01 Jan 2024 00:00:00 GMT",),
            },
        ),
    ),
    answer_row(
        "content-type-not-guessed",
        plain_answer(b"<html>hi</html>"),
        Answered(200, b"<html>hi</html>", {"Content-Type": GONE}),
        difference=AS_SENT,
    ),
    answer_row(
        "names-as-sent",
        plain_answer(b"", "X-lower-case: 1", "X-Twice: a", "X-Twice: b"),
        Answered(200, b"", {"X-Lower-Case": ("1",), "X-Twice": ("a", "b")}),
    ),
    answer_row("204", b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", Answered(204, b"")),
    answer_row(
        "304",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\nEtag: x\r\n\r\n",
        Answered(304, b"", {"Content-Length": ("7",), "Etag": ("x",)}),
    ),
    answer_row(
        "close-delimited",
        b"HTTP/1.0 200 OK\r\nX-A: 1\r\n\r\n" + b"z" * 100_000,
        Answered(200, b"z" * 100_000, {"Connection": ("close",), "X-A": ("1",)}),
        after="close",
    ),
    answer_row(
        "chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
        Answered(200, b"hello!", {"Transfer-Encoding": ("chunked",), "Content-Length": GONE}),
    ),
    answer_row(
        "head-keeps-length",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n",
        Answered(200, b"", {"Content-Length": ("50",)}),
        ask=Ask("/answer-head", method="HEAD"),
    ),
    answer_row(
        "equal-lengths-become-one",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        Answered(200, b"ok", {"Content-Length": ("2",)}),
    ),
    *(
        answer_row(
            f"malformed-{name}", answer, text_reply(500, "Internal Server Error"), after="close"
        )
        for name, answer in {
            "different-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
            b"Content-Length: 3\r\n\r\nokk",
            "length-and-chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "unknown-coding": b"HTTP/1.1 200 OK\r\n"
            b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "signed-length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
            "header-without-colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\nok",
            "folded-header": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n 2\r\nContent-Length: 2\r\n\r\nok",
            "nul-in-value": b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Length: 2\r\n\r\nok",
            "bare-cr": b"HTTP/1.1 200 OK\r\nX-A: a\rX-B: b\r\nContent-Length: 2\r\n\r\nok",
            "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n",
            "space-before-colon": b"HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 2\r\n\r\nok",
            "status-of-two-digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
            "version-2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "unasked-101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
            b"Upgrade: h2c\r\n\r\n",
        }.items()
    ),
    row("8.10-two-hosts", Ask("/", headers=(("Host", "other"),)), BAD_REQUEST),
    row(
        "8.10-no-host",
        Ask("/", host=None),
        Answered(400, b"400 Bad Request: missing required Host header"),
    ),
    row(
        "8.10-head-too-large",
        Ask("/", headers=(("X-Big", "x" * 70_000),)),
        text_reply(431, "Request Header Fields Too Large"),
        difference="64 KiB (maxHeaderBytes) in place of 1 MiB",
    ),
    Case(
        "8.10-options-star",
        {},
        ((Ask("*", method="OPTIONS"), Answered(200, b"", {"Content-Length": ("0",)})),),
    ),
    row(
        "8.7-other-expectation",
        Ask("/", headers=(("Expect", "the-impossible"),)),
        Answered(417, b"", {"Connection": ("close",)}),
    ),
]


@pytest.mark.parametrize("case", parameters(CASES))
def test_proxying(case: Case, table: CaseTable) -> None:
    table.run(case)


def port_of(table: CaseTable) -> int:
    """Return the port of an entry point where everything goes to the echo server."""
    return table.port_of(next(case for case in CASES if case.identity == "8.2-via-not-added"))


def test_8_2_chunked_stays_chunked(table: CaseTable) -> None:
    request = build_request("/", method="POST", chunks=(b"hello", b"world"))
    with RawConnection(port_of(table)) as connection:
        seen = echoed(connection.request(request))
    assert seen.values("Transfer-Encoding") == [b"chunked"]
    assert seen.value("Content-Length") is None
    assert seen.body == b"helloworld"


def test_8_2_length_and_chunked_is_refused(table: CaseTable) -> None:
    """The reference drops the length; a message with two lengths is an attack (RFC 9112, 6.1)."""
    answer = fetch(
        port_of(table),
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n",
    )
    assert answer.status == 400
    assert answer.values("Connection") == [b"close"]


def test_8_4_date_is_added(table: CaseTable) -> None:
    table.servers["echo"].on("/undated", Answer((plain_answer(),)))
    dates = fetch(port_of(table), build_request("/undated")).values("Date")
    assert len(dates) == 1
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", dates[0])


@pytest.mark.parametrize(
    ("line", "status", "reason"),
    [
        pytest.param("200 Fine", 200, b"Fine", id="8.4-reason-kept"),
        pytest.param("599 Odd", 599, b"Odd", id="8.4-unknown-status-kept"),
        pytest.param("200 ", 200, b"", id="8.4-empty-reason"),
    ],
)
def test_8_4_reason_phrase(table: CaseTable, line: str, status: int, reason: bytes) -> None:
    """Differs: the reference writes the standard phrase; kvproxy passes the status line on."""
    path = f"/reason-{status}-{reason.decode()}"
    table.servers["echo"].on(path, Answer((plain_answer(status=line),)))
    answer = fetch(port_of(table), build_request(path))
    assert (answer.status, answer.reason) == (status, reason)


def test_8_4_early_hints_are_relayed(table: CaseTable) -> None:
    """Differs: the reference drops 1xx answers; RFC 9110 section 15.2 wants them passed on."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    table.servers["echo"].on("/hints", Answer((hints, hints, plain_answer())))
    with RawConnection(port_of(table)) as connection:
        connection.send(build_request("/hints"))
        first = connection.read_response(informational=True)
        second = connection.read_response(informational=True)
        last = connection.read_response(informational=True)
    assert [each.status for each in (first, second, last)] == [103, 103, 200]
    assert first.values("Link") == [b"</a.css>; rel=preload"]


def test_8_4_trailers(table: CaseTable) -> None:
    table.servers["echo"].on(
        "/trailers",
        Answer(
            (
                b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"2\r\nok\r\n0\r\nX-Sum: 42\r\nX-Unannounced: 1\r\n\r\n",
            )
        ),
    )
    answer = fetch(port_of(table), build_request("/trailers"))
    assert answer.values("Trailer") == [b"X-Sum"]
    assert answer.trailers == ((b"X-Sum", b"42"), (b"X-Unannounced", b"1"))


def test_8_5_pipelined_requests_are_answered_in_order(table: CaseTable) -> None:
    table.servers["echo"].on("/slow", Answer((0.05, plain_answer(b"slow"))))
    requests = [build_request("/slow"), build_request("/a"), build_request("/b", body=b"xyz")]
    with RawConnection(port_of(table)) as connection:
        connection.send(b"".join(requests))
        assert connection.read_response().body == b"slow"
        assert echoed(connection.read_response()).target == b"/a"
        last = echoed(connection.read_response())
    assert (last.target, last.body) == (b"/b", b"xyz")


EXPECTING = build_request(
    "/expect", method="POST", headers=(("Expect", "100-continue"),), body=b"x"
)


def test_8_7_server_says_continue(table: CaseTable) -> None:
    with RawConnection(port_of(table)) as connection:
        connection.send(EXPECTING[:-1])
        assert connection.read_head().status == 100
        connection.send(EXPECTING[-1:])
        seen = echoed(connection.read_response())
    assert seen.values("Expect") == [b"100-continue"]
    assert seen.body == b"x"


def test_8_7_server_answers_at_once(table: CaseTable) -> None:
    refusal = plain_answer(b"no", status="403 Forbidden")
    table.servers["echo"].on("/expect-refused", Answer((refusal,), "close", read="head"))
    request = EXPECTING.replace(b"/expect", b"/expect-refused")
    with RawConnection(port_of(table)) as connection:
        connection.send(request[:-1])
        answer = connection.read_response(informational=True)
        assert (answer.status, answer.body) == (403, b"no")
        connection.assert_closed()


def test_8_7_server_silent(table: CaseTable) -> None:
    """After a second the proxy asks for the body in the server's place."""
    gate = Gate()
    answer = Answer((gate, plain_answer(b"at last")), says_continue=False)
    table.servers["echo"].on("/expect-silent", answer)
    request = EXPECTING.replace(b"/expect", b"/expect-silent")
    with RawConnection(port_of(table)) as connection:
        connection.send(request[:-1])
        assert connection.silent_for(0.7)
        assert connection.read_head().status == 100
        connection.send(request[-1:])
        assert gate.reached.wait(5)
        gate.open()
        assert connection.read_response().body == b"at last"


def test_8_10_idle_connections_to_servers_are_reused(table: CaseTable) -> None:
    port = port_of(table)
    seen = set()
    with RawConnection(port) as connection:
        for _ in range(20):
            connection.request(build_request("/reuse"))
    for request in table.servers["echo"].requests_for("/reuse"):
        seen.add(request.connection)
    assert len(seen) == 1
