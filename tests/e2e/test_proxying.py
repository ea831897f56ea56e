"""Bodies, streams and connections through the running proxy, byte for byte."""

from __future__ import annotations

import hashlib
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import (
    Answer,
    Backend,
    Gate,
    InTurn,
    ManualServer,
    ReservedPort,
    echoed,
    plain_answer,
)
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.http_client import RawConnection, build_request, fetch
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

MEGABYTE = 1_000_000
OUTGOING_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
BODY = random.Random(1).randbytes(5 * MEGABYTE)


class Stage:
    """One proxy before plain, TLS and manual servers; hosts are named after them."""

    def __init__(self, loop_thread: LoopThread) -> None:
        """Start everything."""
        self.nobody = ReservedPort()
        self.plain = Backend(loop_thread, "plain")
        self.tls = Backend(
            loop_thread, "tls", tls=authority().server_context("127.0.0.1", "localhost")
        )
        self.manual = ManualServer()
        servers = {"plain": self.plain.url, "tls": self.tls.url, "manual": self.manual.url}
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
            static={"rootCAs": [str(authority().path)]},
            environment=dict.fromkeys(OUTGOING_PROXY, f"http://127.0.0.1:{self.nobody.port}"),
        )
        self.proxy.start()

    def stop(self) -> None:
        """Stop everything."""
        self.proxy.stop()
        self.nobody.close()
        self.plain.stop()
        self.tls.stop()
        self.manual.stop()


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    made = Stage(loop_thread)
    yield made
    made.stop()


def send_in_background(client: RawConnection, data: bytes) -> threading.Thread:
    """Send while the test reads: both directions are full at once."""
    thread = threading.Thread(target=client.send_if_open, args=(data,))
    thread.start()
    return thread


HOSTS = ["plain", "tls"]


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_large_bodies_both_ways(stage: Stage, host: str, chunked: bool) -> None:
    if chunked:
        pieces = tuple(BODY[i : i + 70_001] for i in range(0, len(BODY), 70_001))
        request = build_request("/large", host=host, method="POST", chunks=pieces)
    else:
        request = build_request("/large", host=host, method="POST", body=BODY)
    with stage.proxy.connect(seconds=20) as client:
        thread = send_in_background(client, request + build_request("/after", host=host))
        seen = echoed(client.read_response())
        after = echoed(client.read_response())
        thread.join(5)
    assert hashlib.sha256(seen.body).digest() == hashlib.sha256(BODY).digest()
    assert after.target == b"/after"


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_large_answers(stage: Stage, host: str, framing: str) -> None:
    head = b"HTTP/1.1 200 OK\r\n"
    if framing == "length":
        wire = head + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    elif framing == "chunked":
        pieces = [BODY[i : i + 54_321] for i in range(0, len(BODY), 54_321)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        wire = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    else:
        wire = head + b"\r\n" + BODY
    server = stage.plain if host == "plain" else stage.tls
    server.on(f"/{framing}", Answer((wire,), "close" if framing == "close" else "keep"))
    with stage.proxy.connect(seconds=20) as client:
        answer = client.request(build_request(f"/{framing}", host=host))
        assert answer.body == BODY
        if framing == "close":
            client.assert_closed()
        else:
            assert echoed(client.request(build_request("/next", host=host))).target == b"/next"


@pytest.mark.parametrize("host", HOSTS)
def test_connections_to_servers_are_kept(stage: Stage, host: str) -> None:
    server = stage.plain if host == "plain" else stage.tls
    with stage.proxy.connect() as client:
        for _ in range(10):
            client.request(build_request("/kept", host=host))
            client.request(build_request("/kept", host=host, method="POST", body=b"x" * 1000))
    assert len({request.connection for request in server.requests_for("/kept")}) == 1


PIPELINE = [
    (build_request("/p0", host="plain"), b"/p0", b""),
    (build_request("/p1", host="plain", method="POST", body=b"hello"), b"/p1", b"hello"),
    (
        build_request("/p2", host="plain", method="POST", chunks=(b"abc", b"de")),
        b"/p2",
        b"abcde",
    ),
    (build_request("/p3", host="plain", headers=(("X-A", "b" * 500),)), b"/p3", b""),
] * 4


@pytest.mark.parametrize("seed", [None, 0, 1, 2], ids=["bytewise", "pieces0", "pieces1", "pieces2"])
def test_pipelines_cut_anywhere(stage: Stage, seed: int | None) -> None:
    data = b"".join(request for request, _, _ in PIPELINE)
    if seed is None:
        pieces = [data[i : i + 1] for i in range(len(data))]
    else:
        cuts = sorted(random.Random(seed).sample(range(1, len(data)), 60))
        pieces = [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    with stage.proxy.connect() as client:
        for piece in pieces:
            client.send(piece)
        for _, target, body in PIPELINE:
            seen = echoed(client.read_response())
            assert (seen.target, seen.body) == (target, body)


@pytest.mark.parametrize("size", [1, 2, 7])
def test_answers_cut_anywhere(stage: Stage, size: int) -> None:
    wire = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n"
        b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    parts = tuple(wire[i : i + size] for i in range(0, len(wire), size))
    stage.plain.on(f"/cut-{size}", Answer(parts))
    answer = stage.proxy.fetch(f"/cut-{size}", host="plain")
    assert (answer.body, answer.trailers) == (b"hello!", ((b"X-Sum", b"1"),))


def test_events_arrive_one_by_one(stage: Stage) -> None:
    """Row D12: server-sent events are not held back."""
    gates = [Gate() for _ in range(3)]
    parts: list[bytes | Gate] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    ]
    for number, gate in enumerate(gates):
        parts += [b"8\r\ndata: %d\n\r\n" % number, gate]
    stage.plain.on("/events", Answer((*parts, b"0\r\n\r\n")))
    with stage.proxy.connect() as client:
        client.send(build_request("/events", host="plain"))
        client.read_until(b"\r\n\r\n")
        for number, gate in enumerate(gates):
            assert client.read_until(b"\n\r\n") == b"8\r\ndata: %d\n\r\n" % number
            gate.open()
        assert client.read_exactly(5) == b"0\r\n\r\n"


def test_request_body_streams(stage: Stage) -> None:
    """The server gets the first part of a body before the client has sent the last."""
    with stage.proxy.connect() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: manual\r\nContent-Length: 10\r\n\r\nhello")
        with stage.manual.accept() as server:
            assert server.read_until(b"hello").endswith(b"\r\n\r\nhello")
            client.send(b"world")
            assert server.read_exactly(5) == b"world"
            server.send(plain_answer(b"done", "Connection: close"))
            assert client.read_response().body == b"done"


def test_http_1_0_client(stage: Stage) -> None:
    stage.plain.on(
        "/chunks",
        Answer((b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",)),
    )
    request = build_request("/chunks", host="plain", version="HTTP/1.0")
    with stage.proxy.connect() as client:
        answer = client.request(request)
        assert answer.body == b"ok"
        assert not answer.values("Transfer-Encoding")
        assert answer.values("Connection") == [b"close"]


@pytest.mark.parametrize(
    ("version", "connection", "stays"),
    [
        ("HTTP/1.1", "", True),
        ("HTTP/1.1", "close", False),
        ("HTTP/1.1", "x, Close", False),
        ("HTTP/1.1", "keep-alive", True),
        ("HTTP/1.0", "", False),
        ("HTTP/1.0", "close", False),
    ],
)
def test_connection_stays_or_closes(
    stage: Stage, version: str, connection: str, stays: bool
) -> None:
    headers = (("Connection", connection),) if connection else ()
    for host, status in (("plain", 200), ("nowhere", 404)):
        request = build_request(host=host, version=version, headers=headers)
        with stage.proxy.connect() as client:
            answer = client.request(request)
            assert answer.status == status
            if stays:
                assert not answer.values("Connection")
                assert client.request(request).status == status
            else:
                assert answer.values("Connection") == [b"close"]
                client.assert_closed()


def test_head_of_everything(stage: Stage) -> None:
    """No answer to HEAD has a body, and the connection stays in step."""
    with stage.proxy.connect() as client:
        for host, status in (("plain", 200), ("nowhere", 404)):
            answer = client.request(build_request(host=host, method="HEAD"))
            assert answer.status == status
            assert answer.value("Content-Length")
        assert echoed(client.request(build_request("/then", host="plain"))).target == b"/then"


def test_many_clients_get_their_own_answers(stage: Stage) -> None:
    def talk(number: int) -> int:
        with stage.proxy.connect() as client:
            for turn in range(50):
                target = f"/client-{number}/{turn}"
                body = b"%d" % number * (turn * 10)
                seen = echoed(client.request(build_request(target, host="plain", body=body)))
                assert (seen.target, seen.body) == (target.encode(), body)
        return number

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(talk, range(16))) == list(range(16))


def test_idle_connections_that_died_are_not_noticed(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        for _ in range(20):
            assert client.request(build_request("/again", host="plain")).status == 200
            stage.plain.close_connections()


def test_stale_connection_under_a_request(stage: Stage) -> None:
    """The server closes exactly when the next request comes: a GET is asked again, once."""
    gone = InTurn((Answer((plain_answer(b"first"),)), Answer(after="close")))
    stage.tls.on("/gone", gone)
    with stage.proxy.connect() as client:
        for _ in range(3):
            assert client.request(build_request("/gone", host="tls")).body == b"first"


def test_server_is_not_asked_twice_for_a_post(stage: Stage) -> None:
    stage.plain.on("/post", InTurn((Answer((plain_answer(b"first"),)), Answer(after="close"))))
    stage.plain.close_connections()
    with stage.proxy.connect() as client:
        request = build_request("/post", host="plain", method="POST", body=b"x")
        assert client.request(request).body == b"first"
        assert client.request(request).status == 502
    assert len(stage.plain.requests_for("/post")) == 2


def test_idempotency_key_allows_a_second_try(stage: Stage) -> None:
    stage.plain.on("/key", InTurn((Answer((plain_answer(b"first"),)), Answer(after="close"))))
    stage.plain.close_connections()
    headers = (("Idempotency-Key", "k"), ("Content-Length", "0"))
    request = build_request("/key", host="plain", method="POST", headers=headers)
    with stage.proxy.connect() as client:
        for _ in range(2):
            assert client.request(request).body == b"first"


def test_slow_client_holds_the_server_back(stage: Stage) -> None:
    """Back-pressure: what a client does not take is not read from the server."""
    body = b"x" * (40 * MEGABYTE)
    stage.plain.on("/huge", Answer((plain_answer(body),)))
    with stage.proxy.connect(receive_buffer=4096, seconds=30) as client:
        client.send(build_request("/huge", host="plain"))
        assert client.read_head().status == 200
        (request,) = stage.plain.wait_for("/huge")
        connection = stage.plain.connections[request.connection]
        # Sent is counted when a write is through; this one is not while the client does not read.
        before = connection.sent
        received = len(client.pending)
        client.pending = b""
        while received < len(body):
            received += len(client.socket.recv(1 << 20))
        wait_until(lambda: connection.sent >= before + len(body), "the server to have sent all")
        assert received == len(body)


def test_status_of_unknown_hosts_is_404_on_a_busy_connection(stage: Stage) -> None:
    requests = [build_request(f"/{i}", host="plain" if i % 2 else "nowhere") for i in range(20)]
    with stage.proxy.connect() as client:
        client.send(b"".join(requests))
        statuses = [client.read_response().status for _ in requests]
    assert statuses == [404, 200] * 10


def test_absolute_form_and_origin_form_are_one(stage: Stage) -> None:
    answers = [
        fetch(stage.proxy.port, build_request(target, host="plain"))
        for target in ("/x?y", "http://plain/x?y", "HTTP://plain/x?y")
    ]
    assert {echoed(answer).target for answer in answers} == {b"/x?y"}


def test_no_outgoing_proxy(stage: Stage) -> None:
    """A proxy that the environment names (this one refuses) does not stand before the servers."""
    for host in ("plain", "tls"):
        assert stage.proxy.fetch("/", host=host).value("X-Server") == host.encode()
