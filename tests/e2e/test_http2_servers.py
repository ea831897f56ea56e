"""Servers that speak HTTP/2, in clear and over TLS, behind a proxy whose clients speak HTTP/1.1."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Backend
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.http2_backend import Http2Backend
from tests.support.http2_client import FrameClient
from tests.support.http2_frames import GET, Ended, Head, headers, settings
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread
    from tests.support.http_client import Response


class Stage:
    """One proxy in front of HTTP/2 in clear, over TLS, with two streams a connection and with very
    many, and HTTP/1.1 over TLS; hosts are named after them."""

    def __init__(self, loop_thread: LoopThread) -> None:
        context = authority().server_context("127.0.0.1", protocols=("h2", "http/1.1"))
        self.clear = Http2Backend(loop_thread)
        self.tls = Http2Backend(loop_thread, tls=context)
        self.narrow = Http2Backend(loop_thread, streams=2)
        self.wide = Http2Backend(loop_thread, streams=1000)
        self.old = Backend(loop_thread, tls=authority().server_context("127.0.0.1"))
        servers = {
            "clear": self.clear.url,
            "tls": self.tls.url,
            "narrow": self.narrow.url,
            "wide": self.wide.url,
            "old": self.old.url,
        }
        self.proxy = ProxyProcess(
            {
                "backends": {
                    name: {"servers": {"a": {"url": url}}} for name, url in servers.items()
                },
                "frontends": {
                    name: {"backend": name, "routes": {"r": {"rule": f"Host:{name}"}}}
                    for name in servers
                },
            },
            static={"rootCAs": [str(authority().path)], "workers": 1},
        )
        self.proxy.start()

    def stop(self) -> None:
        self.proxy.stop()
        for backend in (self.clear, self.tls, self.narrow, self.wide, self.old):
            backend.stop()

    def ask(self, host: str, path: str, **options: Any) -> Response:
        return self.proxy.fetch(path, host=host, **options)


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    made = Stage(loop_thread)
    yield made
    made.stop()


both = pytest.mark.parametrize("host", ["clear", "tls"])


@both
def test_a_request_becomes_fields_and_the_answer_a_head(stage: Stage, host: str) -> None:
    answer = stage.ask(host, "/echo?a=b", headers=(("X-Some", "Thing"), ("TE", "trailers, gzip")))
    assert answer.status == 200
    assert answer.value("Content-Type") == b"application/json"
    fields = dict(json.loads(answer.body)["fields"])
    assert fields[":method"] == "GET"
    assert fields[":path"] == "/echo?a=b"
    assert fields[":scheme"] == ("https" if host == "tls" else "http")
    assert fields[":authority"].startswith("127.0.0.1:")
    assert fields["x-some"] == "Thing"
    assert fields["te"] == "trailers"
    assert fields["x-forwarded-host"] == host
    assert not {"host", "connection", "upgrade", "transfer-encoding"} & set(fields)


@both
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_both_ways(stage: Stage, host: str, chunked: bool) -> None:
    body = b"0123456789" * 20_000
    framing: tuple[tuple[str, str], ...] = (("Content-Length", str(len(body))),)
    sent = body
    with stage.proxy.connect() as client:
        if chunked:
            framing = (("Transfer-Encoding", "chunked"), ("Trailer", "X-End"))
            sent = b"".join(
                b"%x\r\n%b\r\n" % (len(body[at : at + 7000]), body[at : at + 7000])
                for at in range(0, len(body), 7000)
            )
            sent += b"0\r\nX-End: here\r\n\r\n"
        client.send(build_request("/echo", method="POST", host=host, headers=framing) + sent)
        said = json.loads(client.read_response().body)
        assert said["body"].encode() == body
        assert dict(said["trailers"]) == ({"x-end": "here"} if chunked else {})


@both
@pytest.mark.parametrize("path", ["/large/3000000", "/length/3000000", "/large/0", "/length/0"])
def test_large_answers_come_whole(stage: Stage, host: str, path: str) -> None:
    answer = stage.ask(host, path)
    size = int(path.rpartition("/")[2])
    assert answer.body == b"0123456789" * (size // 10)
    assert answer.framing == ("chunked" if path.startswith("/large") else "length")


@both
@pytest.mark.parametrize("status", [200, 204, 304, 404, 503])
def test_statuses(stage: Stage, host: str, status: int) -> None:
    answer = stage.ask(host, f"/status/{status}")
    assert answer.status == status
    assert answer.body == (b"" if status in (204, 304) else b"%d" % status)


def test_head_has_no_body(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        client.send(build_request("/length/50", method="HEAD", host="clear"))
        assert client.read_response(head_only=True).value("Content-Length") == b"50"
        assert client.silent_for(0.2)


def test_http_1_0_clients_get_no_chunks(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        client.send(b"GET /large/30 HTTP/1.0\r\nHost: clear\r\n\r\n")
        answer = client.read_response()
        assert answer.framing == "close"
        assert answer.body == b"0123456789" * 3


def test_trailers_of_an_answer(stage: Stage) -> None:
    answer = stage.ask("clear", "/trailers")
    assert answer.body == b"message"
    assert dict(answer.trailers) == {b"Grpc-Status": b"0", b"Grpc-Message": b"fine"}


def test_interim_answers_pass(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        client.send(build_request("/hints", host="clear"))
        assert b" 103 " in client.read_until(b"\r\n\r\n")
        assert client.read_response().status == 200


def test_requests_share_a_connection(stage: Stage) -> None:
    before = stage.clear.connections
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda _: stage.ask("clear", "/echo"), range(300)))
    assert {answer.status for answer in answers} == {200}
    assert stage.clear.connections <= max(before, 1) + 1


def test_a_connection_that_is_full_gets_a_second_one(stage: Stage) -> None:
    assert stage.ask("narrow", "/echo").status == 200
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(stage.ask, "narrow", "/wait") for _ in range(6)]
        asked = stage.narrow.requests
        wait_until(lambda: len(asked) == 7, "six more requests at the server")
        stage.narrow.release()
        answers = [each.result() for each in waiting]
    assert {answer.status for answer in answers} == {200}
    assert sum(each.connection == 1 for each in asked[1:]) == 2


def test_many_requests_at_once_open_no_more_connections_than_they_need(stage: Stage) -> None:
    """Those who find the connection full that they have waited for wait for one more, together."""
    fields = [*GET[:2], (b":authority", b"wide"), (b":path", b"/wait")]
    numbers = range(1, 251, 2)
    worker = stage.proxy.worker_pids()[0]
    before = stage.proxy.resident_kilobytes(worker)
    clients = [FrameClient(stage.proxy.port) for _ in range(8)]
    try:
        for client in clients:
            client.send(b"".join(headers(fields, number) for number in numbers))
        wait_until(lambda: len(stage.wide.requests) == 1000, "all requests at the server", 20)
        assert stage.wide.connections <= 10
        assert stage.proxy.resident_kilobytes(worker) - before < 1000 * 8
        stage.wide.release()
        for client in clients:
            ended: set[int] = set()
            end = time.monotonic() + 20
            while len(ended) < len(numbers) and (frame := client.next(end)) is not None:
                if Ended(frame.stream).matches(frame):
                    ended.add(frame.stream)
            assert ended == set(numbers)
    finally:
        for client in clients:
            client.close()


def test_connections_to_a_server_that_is_gone_end_with_their_requests(
    loop_thread: LoopThread,
) -> None:
    old, new = Http2Backend(loop_thread), Http2Backend(loop_thread)
    rules = {"all": "PathPrefix:/"}
    with ProxyProcess(single_backend(old.url, rules)) as proxy, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(proxy.fetch, "/wait")
        wait_until(lambda: len(old.requests) == 1, "the request at the server")
        proxy.apply(single_backend(new.url, rules))
        assert proxy.fetch("/echo").status == 200
        assert (old.open_connections, new.open_connections) == (1, 1)
        old.release()
        assert waiting.result().status == 200
        wait_until(lambda: old.open_connections == 0, "the end of the old connection")
        assert new.open_connections == 1
    for backend in (old, new):
        backend.stop()


def test_clients_that_do_not_read_hold_nobody_up(stage: Stage) -> None:
    """They share a connection to the server with everybody else."""
    fields = [*GET[:2], (b":authority", b"clear"), (b":path", b"/large/5000000")]
    with FrameClient(stage.proxy.port) as slow:
        slow.send(settings((4, 1_000_000)))
        before = len(stage.clear.requests)
        slow.send(b"".join(headers(fields, number) for number in range(1, 81, 2)))
        wait_until(lambda: len(stage.clear.requests) == before + 40, "the large requests", 20)
        for _ in range(10):
            assert len(stage.ask("clear", "/large/200000").body) == 200_000
        slow.expect(Head(79))


@both
def test_a_refused_stream_is_tried_again(stage: Stage, host: str) -> None:
    assert stage.ask(host, f"/refuse-once?{host}").status == 200


def test_a_stream_that_the_server_resets_is_500(stage: Stage) -> None:
    assert stage.ask("clear", "/reset").status == 500
    wait_until(lambda: "INTERNAL_ERROR" in stage.proxy.log(), "a log line")


def test_requests_that_a_goaway_turns_down_are_tried_elsewhere(stage: Stage) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: stage.ask("tls", "/goaway"), range(8)))
    assert {answer.status for answer in answers} == {200}


def test_more_than_its_length_is_no_answer(stage: Stage) -> None:
    answer = stage.ask("clear", "/broken")
    assert answer.status == 500
    assert b"more than two" not in answer.body
    assert stage.ask("clear", "/echo").status == 200


def test_an_answer_may_come_before_the_body(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        head = build_request(
            "/early", method="POST", host="clear", headers=(("Content-Length", "100"),)
        )
        client.send(head + b"some")
        answer = client.read_response()
        assert answer.body == b"early"
        assert answer.value("Connection") == b"close"


@both
def test_a_lost_connection_is_replaced(stage: Stage, host: str) -> None:
    backend = stage.clear if host == "clear" else stage.tls
    assert stage.ask(host, "/echo").status == 200
    backend.close_connections()
    assert stage.ask(host, "/echo").status == 200


def test_who_leaves_resets_the_stream(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        client.send(build_request("/wait?left", host="clear"))
        wait_until(
            lambda: any(asked.path == "/wait?left" for asked in stage.clear.requests), "the request"
        )
        client.reset()
    (asked,) = [asked for asked in stage.clear.requests if asked.path == "/wait?left"]
    wait_until(lambda: asked.reset_code == 8, "the stream to be cancelled")


def test_https_servers_that_know_no_http2_get_http_1_1(stage: Stage) -> None:
    for _ in range(3):
        assert stage.ask("old", "/x").status == 200


@pytest.mark.parametrize(("host", "status"), [("clear", 500), ("tls", 500)])
def test_a_websocket_needs_http_1_1(stage: Stage, host: str, status: int) -> None:
    upgrade = (
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    )
    assert stage.ask(host, "/", headers=upgrade).status == status
