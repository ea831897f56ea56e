"""The ends of TLS connections: answers that come before the request is complete, and clients that
end their own direction."""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest

from kvproxy.http.frames import PROTOCOL_ERROR
from tests.conformance.cases import frontend
from tests.support.backend import Answer, Backend, plain_answer
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.http2_client import FrameClient
from tests.support.http2_frames import Goaway, data
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess
from tests.support.tls_client import curl, open_connection, tls_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.backend import LoopThread

UPLOAD_BYTES = 5_000_000
SENT_FIRST_BYTES = 1_000_000
"""What a client that does not read meanwhile can send within the two seconds that the proxy waits,
however busy the machine is."""

REFUSALS = {
    "unauthorised": 401,
    "unlisted": 403,
    "nowhere": 404,
    "small": 413,
    "early": 413,
    "broken": 502,
}
"""Hosts to what is answered before the body of a request has come."""


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread)
    refusal = plain_answer(b"too large", "Connection: close", status="413 Payload Too Large")
    made.on("/early", Answer((refusal,), "hang", read="head"))
    made.on("/broken", Answer((), "close", read="head"))
    made.on("/held", Answer((), "hang", read="head"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def proxy(backend: Backend) -> Iterator[ProxyProcess]:
    def to(host: str, rule: str = "", **options: Any) -> dict[str, Any]:
        return frontend(f"Host:{host}.test{rule}", **options)

    servers = {"one": {"url": backend.url}}
    routes = {
        "backends": {
            "echo": {"servers": servers},
            "small": {"servers": servers, "buffering": {"maxRequestBodyBytes": 1000}},
        },
        "frontends": {
            "plain": to("plain"),
            "early": to("early", ";ReplacePath:/early"),
            "broken": to("broken", ";ReplacePath:/broken"),
            "small": to("small", backend="small"),
            "unauthorised": to(
                "unauthorised", auth={"basic": {"users": ["u:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M="]}}
            ),
            "unlisted": to("unlisted", whiteList={"sourceRange": ["10.0.0.1"]}),
        },
    }
    points = {"https": tls_options(authority().issue(*[f"{host}.test" for host in REFUSALS]))}
    with ProxyProcess(routes, entry_points=points) as running:
        yield running


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize("host", REFUSALS)
def test_an_early_answer_reaches_a_client_that_sends_first(
    proxy: ProxyProcess, host: str, chunked: bool
) -> None:
    """Such a client reads when everything is sent: the answer must still be there."""
    body = bytes(SENT_FIRST_BYTES)
    request = build_request(
        "/",
        host=f"{host}.test",
        method="POST",
        body=b"" if chunked else body,
        chunks=(body,) if chunked else None,
    )
    with open_connection(proxy.port, f"{host}.test", seconds=20.0) as client:
        client.send(request)
        answer = client.read_response()
        assert answer.status == REFUSALS[host]
        if host not in ("early", "broken"):
            # The server may have had the whole body by the time it answered.
            assert answer.values("Connection") == [b"close"]


@pytest.mark.parametrize("version", ["http1.1", "http2"])
@pytest.mark.parametrize("host", REFUSALS)
def test_an_early_answer_reaches_curl(
    proxy: ProxyProcess, tmp_path: Path, host: str, version: str
) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(UPLOAD_BYTES))
    arguments = (f"--{version}", "--data-binary", f"@{upload}", "--header", "Expect:")
    written = ("--output", str(tmp_path / "answer"), "--write-out", "%{http_code}")
    _, text = curl(proxy.port, f"{host}.test", *arguments, *written, seconds=30.0)
    assert text.endswith(str(REFUSALS[host]))


def test_a_client_that_goes_on_sending_is_cut_off(proxy: ProxyProcess) -> None:
    """What is discarded of it is bounded in time."""
    with open_connection(proxy.port, "nowhere.test", seconds=20.0) as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: nowhere.test\r\nContent-Length: 100000000000\r\n\r\n"
        )
        assert client.read_response().status == 404

        def sending() -> bool:
            return client.send_if_open(bytes(10_000))

        wait_until(lambda: not sending(), "end of the connection", 20.0)


def test_http_2_says_why_to_a_client_that_goes_on_sending(proxy: ProxyProcess) -> None:
    context = authority().client_context(protocols=("h2",))
    with FrameClient(proxy.port, context, "plain.test") as client:
        # The body of no stream ends the connection (RFC 9113 section 6.1); more follows it at once.
        client.send(data(b"", stream=0) + bytes(SENT_FIRST_BYTES))
        client.expect(Goaway((PROTOCOL_ERROR,)))
        client.wait_for_end()


class HalfClosing:
    """A TLS client that can end its own direction alone, which Python's sockets cannot."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="plain.test")
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._exchange()
        self._flush()

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.socket.sendall(self._outgoing.read())

    def _exchange(self) -> None:
        self._flush()
        data = self.socket.recv(65536)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def send(self, data: bytes) -> None:
        self._tls.write(data)
        self._flush()

    def say_goodbye(self, last: bytes = b"", *, shut: bool = False) -> None:
        """Send ``last`` and close_notify at once; ``shut``: end the direction in TCP too."""
        if last:
            self._tls.write(last)
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        if shut:
            self.socket.shutdown(socket.SHUT_WR)

    def read_to_end(self) -> bytes:
        """Return what comes until the server says goodbye; raises OSError when it does not."""
        received = b""
        while True:
            try:
                data = self._tls.read(65536)
            except ssl.SSLWantReadError:
                self._exchange()
                continue
            except ssl.SSLZeroReturnError:
                return received
            if not data:
                return received
            received += data


@pytest.mark.parametrize("shut", [False, True], ids=["in TLS alone", "in TCP too"])
def test_a_half_closed_client_gets_its_answers(proxy: ProxyProcess, shut: bool) -> None:
    client = HalfClosing(proxy.port, authority().client_context())
    with client.socket:
        requests = b"".join(build_request(f"/{each}", host="plain.test") for each in range(5))
        client.say_goodbye(requests, shut=shut)
        received = client.read_to_end()
    assert received.count(b"HTTP/1.1 200 OK") == 5
    assert received.endswith(b"\r\n\r\n")
    assert b"GET /4 HTTP/1.1" in received


def given_up(backend: Backend, target: bytes) -> bool:
    """Tell whether the connection that a request came on has ended."""
    return any(
        backend.connections[request.connection].ended
        for request in backend.requests_for("/held")
        if request.target == target
    )


def test_before_tls_1_3_a_goodbye_ends_both_directions(
    proxy: ProxyProcess, backend: Backend
) -> None:
    """RFC 5246 section 7.2.1: the answer is given up."""
    context = authority().client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    client = HalfClosing(proxy.port, context)
    seen = len(backend.requests_for("/held"))
    with client.socket:
        client.send(build_request("/held?old", host="plain.test"))
        backend.wait_for("/held", seen + 1, 10.0)
        client.say_goodbye()
        assert client.read_to_end() == b""
    wait_until(lambda: given_up(backend, b"/held?old"), "end at the server", 10.0)


def test_a_client_that_is_cut_off_is_given_up(proxy: ProxyProcess, backend: Backend) -> None:
    """Without a goodbye nobody knows whether it was the client that ended."""
    seen = len(backend.requests_for("/held"))
    with open_connection(proxy.port, "plain.test", seconds=10.0) as client:
        client.send(build_request("/held?cut", host="plain.test"))
        backend.wait_for("/held", seen + 1, 10.0)
        assert isinstance(client.socket, ssl.SSLSocket)
        with socket.socket(fileno=client.socket.detach()) as bare:
            bare.shutdown(socket.SHUT_WR)
            wait_until(lambda: given_up(backend, b"/held?cut"), "end at the server", 10.0)


def test_what_comes_after_a_goodbye_is_not_kept(proxy: ProxyProcess, backend: Backend) -> None:
    (worker,) = proxy.worker_pids()
    seen = len(backend.requests_for("/held"))
    client = HalfClosing(proxy.port, authority().client_context())
    with client.socket:
        client.send(build_request("/held?more", host="plain.test"))
        backend.wait_for("/held", seen + 1, 10.0)
        client.say_goodbye()
        before = proxy.resident_kilobytes(worker)
        client.socket.settimeout(20.0)
        for _ in range(400):
            client.socket.sendall(bytes(100_000))
        assert proxy.resident_kilobytes(worker) - before < 20_000


def test_a_client_that_says_nothing_but_goodbye_is_let_go(proxy: ProxyProcess) -> None:
    client = HalfClosing(proxy.port, authority().client_context())
    with client.socket:
        client.say_goodbye()
        assert client.read_to_end() == b""
