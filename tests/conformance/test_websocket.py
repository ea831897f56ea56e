"""Case table 10.15 and section 8.8: WebSocket through the proxy.

kvproxy joins the two connections after the server's 101 and passes bytes on as they are, where the
reference reads and writes each message anew; what follows from that is said in the tests concerned.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from tests.support.backend import ManualServer, ReservedPort
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.http_client import build_request, fetch
from tests.support.proxy_process import ProxyProcess
from tests.support.websocket import (
    CLOSE,
    KEY,
    PING,
    PONG,
    TEXT,
    UPGRADE_HEADERS,
    WebSocketServer,
    accept_key,
    frame,
    handshake,
    switching,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from websockets.sync.client import ClientConnection

    from tests.support.backend import LoopThread
    from tests.support.http_client import RawConnection


class Stage:
    """The proxy and the servers that the rows share."""

    def __init__(self, loop_thread: LoopThread) -> None:
        """Start the servers; the proxies follow with `start`."""
        self.server = WebSocketServer(loop_thread)
        context = authority().server_context("127.0.0.1", protocols=("h2", "http/1.1"))
        self.tls_server = WebSocketServer(loop_thread, tls=context)
        self.manual = ManualServer()
        self.dead = [ReservedPort() for _ in range(2)]
        self.backends = {
            "plain": {"servers": {"a": {"url": self.server.url}}},
            "tls": {"servers": {"a": {"url": self.tls_server.url}}},
            "manual": {"servers": {"a": {"url": self.manual.url}}},
            "dead": {"servers": {"a": {"url": f"http://127.0.0.1:{self.dead[0].port}"}}},
            "ws-scheme": {"servers": {"a": {"url": self.server.url.replace("http", "ws")}}},
            "dead-dead-live": {
                "servers": {
                    "1": {"url": f"http://127.0.0.1:{self.dead[0].port}"},
                    "2": {"url": f"http://127.0.0.1:{self.dead[1].port}"},
                    "3": {"url": self.server.url},
                }
            },
        }
        self._proxies: dict[str, ProxyProcess] = {}

    def proxy(self, **static: Any) -> ProxyProcess:
        """Return the proxy with these static options; hosts are named after the backends."""
        key = repr(static)
        if key not in self._proxies:
            frontends = {
                f"{name}-{pass_host}": {
                    "backend": name,
                    "passHostHeader": pass_host,
                    "routes": {"r": {"rule": f"Host:{name}{'.passed' if pass_host else ''}"}},
                }
                for name in self.backends
                for pass_host in (False, True)
            }
            proxy = ProxyProcess({"frontends": frontends, "backends": self.backends}, static=static)
            proxy.start()
            self._proxies[key] = proxy
        return self._proxies[key]

    def stop(self) -> None:
        """Stop everything."""
        for proxy in self._proxies.values():
            proxy.stop()
        self.server.stop()
        self.tls_server.stop()
        self.manual.stop()
        for port in self.dead:
            port.close()


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    made = Stage(loop_thread)
    yield made
    made.stop()


def dial(proxy: ProxyProcess, host: str, target: str = "/", **options: Any) -> ClientConnection:
    """Open a WebSocket with a real client."""
    options = {"sock": proxy.connect().socket, "proxy": None, "close_timeout": 2, **options}
    client: ClientConnection = connect(f"ws://{host}{target}", **options)
    return client


def send_and_close(client: RawConnection, data: bytes) -> None:
    """What a client does that says everything and leaves."""
    client.send(data)
    client.close()


def refusal(proxy: ProxyProcess, host: str, target: str = "/", **options: Any) -> int:
    """Return the status with which the handshake is refused."""
    with pytest.raises(InvalidStatus) as refused:
        dial(proxy, host, target, **options)
    return refused.value.response.status_code


def test_k01_text_is_echoed(stage: Stage) -> None:
    with dial(stage.proxy(), "plain") as client:
        client.send("OK")
        assert client.recv(timeout=5) == "OK"
        client.send(b"\x00\xff" * 100_000)
        assert client.recv(timeout=5) == b"\x00\xff" * 100_000


def test_k02_wrong_origin_is_refused_by_the_server(stage: Stage) -> None:
    status = refusal(stage.proxy(), "plain.passed", "/origin", origin="http://evil.test")
    assert status == 403


def test_k03_right_origin(stage: Stage) -> None:
    with dial(stage.proxy(), "plain.passed", "/origin", origin="http://plain.passed") as client:
        client.send("OK")
        assert client.recv(timeout=5) == "OK"


def test_k04_wrong_origin_that_the_server_ignores(stage: Stage) -> None:
    with dial(stage.proxy(), "plain.passed", "/", origin="http://evil.test") as client:
        client.send("OK")
        assert client.recv(timeout=5) == "OK"


def test_k06_tls_server_that_also_offers_h2(stage: Stage) -> None:
    with dial(stage.proxy(insecureSkipVerify=True), "tls") as client:
        client.send("OK")
        assert client.recv(timeout=5) == "OK"


def test_k07_server_refuses_with_401(stage: Stage) -> None:
    assert refusal(stage.proxy(), "plain", "/refuse/401") == 401


def test_k08_escaped_path(stage: Stage) -> None:
    target = "/ws/http%3A%2F%2Ftest"
    with dial(stage.proxy(allowUnsafePaths=True), "plain", target):
        assert stage.server.handshakes[-1].path == target


def test_k08_escaped_path_by_default(stage: Stage) -> None:
    """Differs: encoded separators are refused unless ``allowUnsafePaths`` is set."""
    assert refusal(stage.proxy(), "plain", "/ws/http%3A%2F%2Ftest") == 400


def test_k09_header_reaches_the_server(stage: Stage) -> None:
    with dial(stage.proxy(), "plain", additional_headers={"X-Token": "t", "Cookie": "a=b"}):
        headers = stage.server.handshakes[-1].headers
    assert headers["X-Token"] == "t"
    assert headers["Cookie"] == "a=b"


def test_k10_query_reaches_the_server(stage: Stage) -> None:
    with dial(stage.proxy(), "plain", "/?query=test"):
        assert stage.server.handshakes[-1].path == "/?query=test"


def test_k11_dropped_client_is_an_abnormal_closure(stage: Stage) -> None:
    before = len(stage.server.close_codes)
    with stage.proxy().connect() as client:
        client.send(handshake(host="plain"))
        assert client.read_head().status == 101
    wait_until(lambda: len(stage.server.close_codes) > before, "the end at the server")
    assert stage.server.close_codes[-1] == 1006


def test_k12_ping_is_answered_by_the_server(stage: Stage) -> None:
    with stage.proxy().connect() as client:
        client.send(handshake(host="manual"))
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            server.send(switching())
            assert client.read_head().status == 101
            ping = frame(PING, b"Ping", masked=True)
            client.send(ping)
            assert server.read_exactly(len(ping)) == ping
            pong = frame(PONG, b"PingPong")
            server.send(pong)
            assert client.read_exactly(len(pong)) == pong


@pytest.mark.parametrize(
    ("host", "passed"),
    [pytest.param("plain", False, id="off"), pytest.param("plain.passed", True, id="on")],
)
def test_k13_pass_host_header(stage: Stage, host: str, passed: bool) -> None:
    with dial(stage.proxy(), host):
        seen = stage.server.handshakes[-1].headers["Host"]
    assert seen == (host if passed else f"127.0.0.1:{stage.server.port}")


def test_k14_server_refuses_with_400(stage: Stage) -> None:
    assert refusal(stage.proxy(), "plain", "/refuse/400") == 400


def test_k15_tls_server_without_trust(stage: Stage) -> None:
    assert refusal(stage.proxy(), "tls") == 500


def test_k15_tls_server_with_root_cas(stage: Stage) -> None:
    with dial(stage.proxy(rootCAs=[authority().pem]), "tls") as client:
        client.send("OK")
        assert client.recv(timeout=5) == "OK"


# --- K16: the rows of section 8.8


def test_k16_scheme_ws(stage: Stage) -> None:
    with dial(stage.proxy(), "ws-scheme") as client:
        client.send("OK")
        assert client.recv(timeout=5) == "OK"


def test_k16_scheme_ws_without_upgrade(stage: Stage) -> None:
    assert fetch(stage.proxy().port, build_request(host="ws-scheme")).status == 500


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param((("Connection", "upgrade"), ("Upgrade", "WebSocket")), id="other-case"),
        pytest.param((("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket")), id="list"),
        pytest.param((("Connection", "Upgrade"), ("Upgrade", "h2c, websocket")), id="second"),
    ],
)
def test_k16_detection(stage: Stage, headers: tuple[tuple[str, str], ...]) -> None:
    request = build_request(host="plain", headers=(*headers, *UPGRADE_HEADERS[2:]))
    with stage.proxy().connect() as client:
        client.send(request)
        assert client.read_head().status == 101


def test_k16_handshake_headers_pass_unchanged(stage: Stage) -> None:
    """Differs: the reference makes a new key; kvproxy leaves the handshake to the two ends."""
    extra = (("Sec-WebSocket-Protocol", "superchat"), ("Authorization", "Basic eDp5"))
    with stage.proxy().connect() as client:
        client.send(handshake(host="plain", headers=extra))
        answer = client.read_head()
    assert answer.values("Sec-WebSocket-Accept") == [accept_key(KEY).encode()]
    assert answer.values("Sec-WebSocket-Protocol") == [b"superchat"]
    assert answer.values("Upgrade") == [b"websocket"]
    assert [value.lower() for value in answer.values("Connection")] == [b"upgrade"]
    seen = stage.server.handshakes[-1].headers
    assert seen["Sec-WebSocket-Key"] == KEY
    assert seen["Authorization"] == "Basic eDp5"
    assert seen.get_all("Upgrade") == ["websocket"]
    assert [value.lower() for value in seen.get_all("Connection")] == ["upgrade"]


def test_k16_extensions_are_negotiated_by_the_ends(stage: Stage) -> None:
    """Differs: the reference drops ``permessage-deflate``; a tunnel need not."""
    with dial(stage.proxy(), "plain", compression="deflate") as client:
        assert client.protocol.extensions
        client.send("OK" * 10_000)
        assert client.recv(timeout=5) == "OK" * 10_000


def test_k16_forwarded_headers_of_a_handshake(stage: Stage) -> None:
    """Differs (as the later versions of the library): the same as of every other request."""
    with stage.proxy().connect() as client:
        client.send(handshake(host="plain", headers=(("X-Forwarded-For", "1.2.3.4"),)))
        assert client.read_head().status == 101
    seen = stage.server.handshakes[-1].headers
    assert seen["X-Forwarded-For"] == "1.2.3.4, 127.0.0.1"
    assert seen["X-Forwarded-Proto"] == "http"
    assert seen["X-Forwarded-Host"] == "plain"
    assert seen["X-Forwarded-Port"] == "80"


def test_k16_refusal_is_a_normal_answer(stage: Stage) -> None:
    """Differs: the reference cuts the body at 1024 bytes and closes."""
    with stage.proxy().connect() as client:
        client.send(handshake("/refuse/403", host="plain"))
        answer = client.read_response()
    assert (answer.status, answer.body) == (403, b"refused\n")


def test_k16_server_unreachable(stage: Stage) -> None:
    assert refusal(stage.proxy(), "dead") == 502


def test_k16_server_closes_without_answer(stage: Stage) -> None:
    """Differs: 502 as for every other request, where the reference says 500."""
    with stage.proxy().connect() as client:
        client.send(handshake(host="manual"))
        stage.manual.accept().close()
        # An unanswered GET is tried once more only if its connection was an old one.
        assert client.read_response().status == 502


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(
            build_request(host="plain", headers=UPGRADE_HEADERS[:3]),
            id="no-key",
        ),
        pytest.param(
            build_request(
                host="plain",
                headers=(
                    *UPGRADE_HEADERS[:2],
                    ("Sec-WebSocket-Version", "8"),
                    UPGRADE_HEADERS[3],
                ),
            ),
            id="version-8",
        ),
    ],
)
def test_k16_bad_client_handshake(stage: Stage, request_bytes: bytes) -> None:
    before = len(stage.server.handshakes)
    answer = fetch(stage.proxy().port, request_bytes)
    assert answer.status == 400
    assert answer.body == b"Bad Request\n"
    assert answer.values("Sec-WebSocket-Version") == [b"13"]
    assert len(stage.server.handshakes) == before


def test_k16_upgrade_of_a_post_is_a_plain_request(stage: Stage) -> None:
    """Differs: no tunnel but for GET; the Upgrade goes no further, and the server answers."""
    request = build_request(method="POST", host="manual", headers=UPGRADE_HEADERS)
    with stage.proxy().connect() as client:
        client.send(request)
        with stage.manual.accept() as server:
            head = server.read_until(b"\r\n\r\n").lower()
            assert b"\r\nupgrade:" not in head
            assert b"\r\nconnection:" not in head
            server.send(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")
            assert client.read_response().status == 426


def test_k16_bytes_before_the_101_are_held_back(stage: Stage) -> None:
    """Nothing is tunnelled until the server has switched; then it arrives."""
    early = frame(TEXT, b"early", masked=True)
    with stage.proxy().connect() as client:
        client.send(handshake(host="manual") + early)
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            assert server.silent_for(0.2)
            server.send(switching())
            assert server.read_exactly(len(early)) == early


def test_k16_early_bytes_of_a_refused_upgrade_are_the_next_request(stage: Stage) -> None:
    """They never reach the server as a tunnel: they are parsed as HTTP, here refused."""
    with stage.proxy().connect() as client:
        client.send(handshake(host="manual") + frame(TEXT, b"GET /smuggled", masked=True))
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            server.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            assert client.read_response().status == 403
            assert client.read_response().status == 400
            client.assert_closed()
            assert server.pending == b""


def test_k16_close_code_and_reason_reach_the_other_side(stage: Stage) -> None:
    """Differs: both ends see code and reason; the reference echoes the code without the reason."""
    before = len(stage.server.close_codes)
    with dial(stage.proxy(), "plain") as client:
        client.close(4001, "going")
    wait_until(lambda: len(stage.server.close_codes) > before, "the end at the server")
    assert stage.server.close_codes[-1] == 4001
    assert stage.server.close_reasons[-1] == "going"
    assert client.close_code == 4001


def test_k16_close_without_code_stays_without_code(stage: Stage) -> None:
    """Differs: the reference makes 1000 `websocket: close 1005 (no status)` of it."""
    with stage.proxy().connect() as client:
        client.send(handshake(host="manual"))
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            server.send(switching())
            assert client.read_head().status == 101
            server.send(frame(CLOSE))
            assert client.read_exactly(2) == frame(CLOSE)


def test_k16_dropped_server_closes_the_client(stage: Stage) -> None:
    with stage.proxy().connect() as client:
        client.send(handshake(host="manual"))
        server = stage.manual.accept()
        server.read_until(b"\r\n\r\n")
        server.send(switching() + frame(TEXT, b"last words"))
        server.close()
        assert client.read_head().status == 101
        assert client.read_to_end() == frame(TEXT, b"last words")


def test_k16_dropped_server_is_abnormal_for_a_real_client(stage: Stage) -> None:
    with dial(stage.proxy(), "plain") as client:
        stage.server.abort_connections()
        with pytest.raises(ConnectionClosedError):
            client.recv(timeout=5)
    assert client.close_code == 1006


def test_k16_bytes_sent_just_before_the_client_closes_arrive(stage: Stage) -> None:
    """All that a client sent before it closed reaches the server."""
    data = frame(TEXT, b"x" * 3_000_000, masked=True)
    with stage.proxy().connect() as client:
        client.send(handshake(host="manual"))
        with stage.manual.accept() as server:
            server.read_until(b"\r\n\r\n")
            server.send(switching())
            assert client.read_head().status == 101
            sender = threading.Thread(target=send_and_close, args=(client, data))
            sender.start()
            assert len(server.read_to_end()) == len(data)
            sender.join(5)


@pytest.mark.parametrize(
    ("attempts", "status"), [pytest.param(3, 101, id="3"), pytest.param(2, 502, id="2")]
)
def test_e13_websocket_dead_dead_live(stage: Stage, attempts: int, status: int) -> None:
    proxy = stage.proxy(retry={"attempts": attempts})
    with proxy.connect() as client:
        client.send(handshake(host="dead-dead-live"))
        assert client.read_head().status == status


def test_k16_100_websockets_at_once(stage: Stage) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(dial(stage.proxy(), "plain")) for _ in range(100)]
        for number, client in enumerate(clients):
            client.send(f"message {number}")
        for number, client in enumerate(clients):
            assert client.recv(timeout=5) == f"message {number}"
