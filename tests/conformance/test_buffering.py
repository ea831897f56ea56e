"""Section 7.8 and rows B32 to B38 of table 10.11: bodies that are read completely first."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

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
from tests.support.backend import Answer, Gate, plain_answer
from tests.support.deadline import wait_until
from tests.support.http_client import RawConnection, build_request, fetch

if TYPE_CHECKING:
    from tests.conformance.cases import CaseTable, Outcome
    from tests.support.backend import Behaviour

CHUNKED_14 = b"4\r\ntest\r\n5\r\ntest1\r\n5\r\ntest2\r\n0\r\n\r\n"
CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = text_reply(413, "Request Entity Too Large")
SERVER_ERROR = text_reply(500, "Internal Server Error")
LENGTH_14 = {"Content-Length": ("14",), "Transfer-Encoding": ()}
AGAIN = {"retryExpression": "IsNetworkError() && Attempts() <= 2"}


def row(
    identity: str,
    options: dict[str, Any],
    outcome: Outcome,
    *,
    target: str = "/",
    method: str = "GET",
    body: bytes = b"",
    behaviour: Behaviour | None = None,
    urls: tuple[str, ...] = ("{echo}",),
    difference: str = "",
) -> Case:
    """A frontend to servers whose backend buffers; one request."""
    servers = {str(number): {"url": url} for number, url in enumerate(urls)}
    return Case(
        identity,
        {"all": frontend("PathPrefix:/", backend="buffered")},
        ((Ask(target, method=method, body=body), outcome),),
        {"buffered": {"servers": servers, "buffering": options}},
        {target: behaviour} if behaviour else {},
        difference=difference,
    )


def post(identity: str, options: dict[str, Any], size: int, outcome: Outcome) -> Case:
    return row(identity, options, outcome, method="POST", body=b"x" * size)


DEAD, LIVE = "{dead}", "{echo}"

CASES = [
    post("7.8-request-of-the-limit", {"maxRequestBodyBytes": 8}, 8, Forwarded()),
    post("7.8-request-above-the-limit", {"maxRequestBodyBytes": 8}, 9, TOO_LARGE),
    post("B34", {"maxRequestBodyBytes": 4}, 100_000, TOO_LARGE),
    post(
        "7.8-request-in-a-file",
        {"memRequestBodyBytes": 1000},
        1_000_000,
        Forwarded(headers={"Content-Length": ("1000000",)}),
    ),
    row(
        "B35",
        {"maxResponseBodyBytes": 4},
        SERVER_ERROR,
        target="/b35",
        behaviour=Answer((plain_answer(b"longer"),)),
    ),
    row(
        "B35-chunked",
        {"maxResponseBodyBytes": 4},
        SERVER_ERROR,
        target="/b35c",
        behaviour=Answer((CHUNKED_HEAD, 0.01, CHUNKED_14)),
        difference="the reference sends a truncated body when some of it had fitted",
    ),
    row(
        "7.8-response-of-the-limit",
        {"maxResponseBodyBytes": 14},
        Answered(200, b"testtest1test2", LENGTH_14),
        target="/b35e",
        behaviour=Answer((CHUNKED_HEAD, CHUNKED_14)),
    ),
    row(
        "B36",
        {"memResponseBodyBytes": 4},
        Answered(200, b"long " * 100_000),
        target="/b36",
        behaviour=Answer((plain_answer(b"long " * 100_000),)),
    ),
    row(
        "B37",
        {},
        Answered(200, b"testtest1test2", LENGTH_14),
        target="/b37",
        behaviour=Answer((CHUNKED_HEAD, 0.01, CHUNKED_14)),
    ),
    row(
        "B37-until-the-end-of-the-connection",
        {},
        Answered(200, b"testtest1test2", LENGTH_14),
        target="/b37c",
        behaviour=Answer((b"HTTP/1.1 200 OK\r\n\r\n", b"testtest1", 0.01, b"test2"), "close"),
    ),
    row(
        "B38-304",
        {},
        Answered(304, b""),
        target="/b38",
        behaviour=Answer((b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",)),
    ),
    row(
        "B38-empty",
        {},
        Answered(200, b"", {"Content-Length": ("0",)}),
        target="/b38e",
        behaviour=Answer((plain_answer(b""),)),
    ),
    row(
        "7.8-empty-without-length",
        {},
        Answered(200, b"", {"Content-Length": ("0",)}),
        target="/b38c",
        behaviour=Answer((CHUNKED_HEAD, b"0\r\n\r\n")),
        difference="the reference answers 500",
    ),
    row("7.8-head", {}, Forwarded(), method="HEAD"),
    row("7.8-no-body", {}, Forwarded(headers={"Content-Length": ()})),
    row(
        "7.8-answer-cut-short",
        {},
        text_reply(502, "Bad Gateway"),
        target="/cut",
        behaviour=Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",), "close"),
        difference="the reference sends what it has and closes",
    ),
    row("7.8-dead-live", AGAIN, Forwarded(), urls=(DEAD, LIVE), method="POST", body=b"x" * 300_000),
    row(
        "7.8-three-dead",
        AGAIN,
        text_reply(502, "Bad Gateway"),
        urls=(DEAD, f"{DEAD}/2", f"{DEAD}/3", LIVE),
    ),
    row(
        "7.8-closes-then-answers",
        AGAIN,
        Answered(200, b"ok"),
        target="/closes",
        urls=("{closes}", "{answers}"),
    ),
    Case(
        "7.8-bad-expression",
        {"all": frontend("PathPrefix:/", backend="buffered")},
        ((Ask(), NOT_FOUND),),
        {"buffered": {"servers": {"a": {"url": LIVE}}, "buffering": {"retryExpression": "Foo()"}}},
    ),
    Case(
        "7.8-negative-size",
        {"all": frontend("PathPrefix:/", backend="buffered")},
        ((Ask(), NOT_FOUND),),
        {"buffered": {"servers": {"a": {"url": LIVE}}, "buffering": {"maxRequestBodyBytes": -1}}},
    ),
]
COUNTED = 'ResponseCode() == 503 && Attempts() < 3 && RequestMethod() == "GET"'
SHARED = [
    row("chunked", {"maxRequestBodyBytes": 20}, Forwarded()),
    row("small", {"maxRequestBodyBytes": 8}, Forwarded()),
    row("counted", {"retryExpression": COUNTED}, Forwarded()),
    row("held", {}, Forwarded()),
    row("tiny-memory", {"memRequestBodyBytes": 1, "memResponseBodyBytes": 1}, Forwarded()),
]
CASES += SHARED
BY_NAME = {case.identity: case for case in CASES}


@pytest.mark.parametrize("case", parameters(CASES))
def test_buffering(case: Case, table: CaseTable) -> None:
    if case.identity == "7.8-closes-then-answers":
        table.servers["closes"].on("/closes", Answer(after="close"))
        table.servers["answers"].on("/closes", Answer((plain_answer(),)))
    table.run(case)


def chunked_post(target: str = "/") -> bytes:
    head = build_request(target, method="POST", headers=(("Transfer-Encoding", "chunked"),))
    return head + CHUNKED_14


def test_b32_a_chunked_request_gets_a_length(table: CaseTable) -> None:
    answer = fetch(table.port_of(BY_NAME["chunked"]), chunked_post())
    assert b"testtest1test2" in answer.body
    assert b"Content-Length: 14\r\n" in answer.body
    assert b"chunked" not in answer.body


def test_b33_a_chunked_request_above_the_limit(table: CaseTable) -> None:
    answer = fetch(table.port_of(BY_NAME["small"]), chunked_post())
    assert (answer.status, answer.body) == (413, b"Request Entity Too Large")


def test_a_server_sees_nothing_of_a_request_that_is_not_whole(table: CaseTable) -> None:
    echo = table.servers["echo"]
    with RawConnection(table.port_of(BY_NAME["held"])) as client:
        client.send(b"POST /held HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello")
        assert client.silent_for(0.1)
        assert echo.requests_for("/held") == []
        client.send(b"world")
        assert client.read_response().body.endswith(b"helloworld")


def test_a_client_that_waits_for_100_gets_it(table: CaseTable) -> None:
    with RawConnection(table.port_of(BY_NAME["held"])) as client:
        client.send(
            b"POST /100 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.read_head().status == 100
        client.send(b"hello")
        answer = client.read_response()
        assert answer.status == 200
        assert b"Expect" not in answer.body


def test_a_client_sees_nothing_of_an_answer_that_is_not_whole(table: CaseTable) -> None:
    gate = Gate()
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf"
    table.servers["echo"].on("/whole", Answer((half, gate, b"more")))
    with RawConnection(table.port_of(BY_NAME["held"])) as client:
        client.send(build_request("/whole"))
        wait_until(gate.reached.is_set, "half of the answer")
        assert client.silent_for(0.1)
        gate.open()
        assert client.read_response().body == b"halfmore"


def test_a_status_is_asked_for_again(table: CaseTable) -> None:
    """Row "always 503": three attempts, then the 503."""
    echo = table.servers["echo"]
    echo.on("/counted", Answer((plain_answer(b"down", status="503 Service Unavailable"),)))
    port = table.port_of(BY_NAME["counted"])
    answer = fetch(port, build_request("/counted"))
    assert (answer.status, answer.body) == (503, b"down")
    assert len(echo.requests_for("/counted")) == 3
    answer = fetch(port, build_request("/counted", method="POST", body=b"x"))
    assert answer.status == 503
    assert len(echo.requests_for("/counted")) == 4


def test_trailers_are_kept(table: CaseTable) -> None:
    trailers = b"4\r\ntest\r\n0\r\nX-Sum: 4\r\n\r\n"
    table.servers["echo"].on("/trailers", Answer((CHUNKED_HEAD, 0.01, trailers)))
    with RawConnection(table.port_of(BY_NAME["held"])) as client:
        client.send(build_request("/trailers"))
        assert client.read_head().values("Transfer-Encoding") == [b"chunked"]
        assert client.read_exactly(len(trailers)) == trailers


def test_large_bodies_both_ways_to_a_slow_reader(table: CaseTable) -> None:
    """Nothing is kept in memory, and a client that does not read gets no more than it takes."""
    body = os.urandom(1 << 20) * 4
    with RawConnection(table.port_of(BY_NAME["tiny-memory"]), seconds=20) as client:
        client.send(build_request("/large", method="POST", body=body))
        assert client.silent_for(0.3) is False
        answer = client.read_response()
        assert answer.body.endswith(body)
        client.send(build_request("/next"))
        assert client.read_response().status == 200


def test_a_client_that_leaves_is_forgotten(table: CaseTable) -> None:
    echo, gate = table.servers["echo"], Gate()
    echo.on("/left", Answer((gate, plain_answer())))
    port = table.port_of(BY_NAME["held"])
    with RawConnection(port) as client:
        client.send(build_request("/left"))
        (request,) = echo.wait_for("/left")
        client.reset()
    gate.open()
    wait_until(lambda: echo.connections[request.connection].ended, "the server to be left")
    assert fetch(port, build_request("/after")).status == 200
