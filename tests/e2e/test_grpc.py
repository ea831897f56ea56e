"""gRPC through the proxy, with the real client and server of grpcio: rows K17 and K18 of case table
10.15, and specification section 8.9."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.support.backend import ReservedPort
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

SECONDS = 10.0
SERVICE = "test.Greeter"


class Greeter:
    """A service whose messages are bare bytes.

    ``Hello`` answers once, ``Count`` streams as many answers as it is asked for, ``Sum`` counts the
    bytes of what is streamed to it, ``Echo`` streams both ways, ``Fail`` fails, ``Wait`` waits
    until the call is over.
    """

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.remaining: float | None = None
        self.metadata: dict[str, str] = {}

    def hello(self, name: bytes, context: grpc.ServicerContext) -> bytes:
        self.remaining = context.time_remaining()
        self.metadata = {str(k): str(v) for k, v in context.invocation_metadata()}
        context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "2"), ("x-data-bin", b"\0\xff")))
        return b"Hello " + name

    def count(self, number: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for i in range(int(number)):
            yield b"%d" % i * 512

    def sum(self, pieces: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        return b"%d" % sum(len(piece) for piece in pieces)

    def echo(self, pieces: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from pieces

    def fail(self, _: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not \u00fcberhaupt")

    def wait(self, _: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        self.ended.clear()
        context.add_callback(self.ended.set)
        yield b"first"
        self.ended.wait(SECONDS)

    def handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Hello": grpc.unary_unary_rpc_method_handler(self.hello),
                "Count": grpc.unary_stream_rpc_method_handler(self.count),
                "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
                "Echo": grpc.stream_stream_rpc_method_handler(self.echo),
                "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
                "Wait": grpc.unary_stream_rpc_method_handler(self.wait),
            },
        )


class Stage:
    """Servers in clear and over TLS behind one proxy; hosts are named after the backends."""

    def __init__(self) -> None:
        self.greeter = Greeter()
        self._server = grpc.server(ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((self.greeter.handlers(),))
        clear = self._server.add_insecure_port("127.0.0.1:0")
        pair = authority().issue("127.0.0.1")
        credentials = grpc.ssl_server_credentials([(pair.key.encode(), pair.certificate.encode())])
        secure = self._server.add_secure_port("127.0.0.1:0", credentials)
        self._server.start()
        self.dead = ReservedPort()
        urls = {
            "h2c": {"a": {"url": f"h2c://127.0.0.1:{clear}"}},
            "https": {"a": {"url": f"https://127.0.0.1:{secure}"}},
            "retried": {
                "a": {"url": f"h2c://127.0.0.1:{self.dead.port}", "weight": 1},
                "b": {"url": f"h2c://127.0.0.1:{clear}", "weight": 1},
            },
        }
        names = [authority().issue(f"{name}.test") for name in urls]
        self._proxies = []
        for static in ({"rootCAs": [str(authority().path)]}, {"insecureSkipVerify": True}):
            proxy = ProxyProcess(
                {
                    "backends": {name: {"servers": servers} for name, servers in urls.items()},
                    "frontends": {
                        name: {"backend": name, "routes": {"r": {"rule": f"Host:{name}.test"}}}
                        for name in urls
                    },
                },
                entry_points={
                    "http": {},
                    "https": {"tls": {"certificates": [pair.option() for pair in names]}},
                },
                static={**static, "retry": {}},
            )
            proxy.start()
            self._proxies.append(proxy)
        self._channels: dict[tuple[str, str, int], grpc.Channel] = {}

    def call(
        self, kind: str, method: str, *, way: str = "http", name: str = "h2c", proxy: int = 0
    ) -> Any:
        """Return a callable; ``kind``: ``unary_unary`` and so on."""
        key = (way, name, proxy)
        if key not in self._channels:
            address = f"127.0.0.1:{self._proxies[proxy].ports[way]}"
            if way == "http":
                options = (("grpc.default_authority", f"{name}.test"),)
                self._channels[key] = grpc.insecure_channel(address, options)
            else:
                options = (("grpc.ssl_target_name_override", f"{name}.test"),)
                trusted = grpc.ssl_channel_credentials(authority().path.read_bytes())
                self._channels[key] = grpc.secure_channel(address, trusted, options)
        return getattr(self._channels[key], kind)(f"/{SERVICE}/{method}")

    def stop(self) -> None:
        for channel in self._channels.values():
            channel.close()
        for proxy in self._proxies:
            proxy.stop()
        self._server.stop(None).wait(SECONDS)
        self.dead.close()


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.stop()


# id: entry point, backend, proxy (1 trusts every server)
WAYS: dict[str, tuple[str, str, int]] = {
    "clear to h2c": ("http", "h2c", 0),
    "clear to TLS with rootCAs": ("http", "https", 0),
    "clear to TLS with insecureSkipVerify": ("http", "https", 1),
    "TLS to h2c": ("https", "h2c", 0),
    "TLS to TLS": ("https", "https", 0),
}


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    entry_point, name, proxy = request.param
    return {"way": entry_point, "name": name, "proxy": proxy}


def test_k17_unary(stage: Stage, way: dict[str, Any]) -> None:
    hello = stage.call("unary_unary", "Hello", **way)
    answer, call = hello.with_call(b"World", timeout=SECONDS, metadata=(("x-a", "b"),))
    assert answer == b"Hello World"
    assert ("x-initial", "1") in [tuple(each) for each in call.initial_metadata()]
    trailing = [tuple(each) for each in call.trailing_metadata()]
    assert ("x-trailing", "2") in trailing
    assert ("x-data-bin", b"\0\xff") in trailing
    assert stage.greeter.metadata["x-a"] == "b"
    assert stage.greeter.remaining is not None
    assert 0 < stage.greeter.remaining <= SECONDS


def test_unary_with_large_messages(stage: Stage, way: dict[str, Any]) -> None:
    name = b"x" * 1_000_000
    assert stage.call("unary_unary", "Hello", **way)(name, timeout=SECONDS) == b"Hello " + name


def test_k18_server_stream(stage: Stage, way: dict[str, Any]) -> None:
    count = stage.call("unary_stream", "Count", **way)
    assert list(count(b"100", timeout=SECONDS)) == [b"%d" % i * 512 for i in range(100)]


def test_client_stream(stage: Stage, way: dict[str, Any]) -> None:
    total = stage.call("stream_unary", "Sum", **way)
    assert total(iter([b"a" * 5000] * 100), timeout=SECONDS) == b"500000"


def test_both_stream(stage: Stage, way: dict[str, Any]) -> None:
    pieces = [b"%d" % i * 300 for i in range(100)]
    echo = stage.call("stream_stream", "Echo", **way)
    assert list(echo(iter(pieces), timeout=SECONDS)) == pieces


def test_k18_messages_come_one_by_one(stage: Stage, way: dict[str, Any]) -> None:
    """Each message is delivered before the next is sent."""
    answered = threading.Event()

    def ask() -> Iterator[bytes]:
        for i in range(20):
            yield b"%d" % i
            assert answered.wait(SECONDS)
            answered.clear()

    echo = stage.call("stream_stream", "Echo", **way)
    for number, message in enumerate(echo(ask(), timeout=SECONDS)):
        assert message == b"%d" % number
        answered.set()


def test_failures_keep_their_status(stage: Stage, way: dict[str, Any]) -> None:
    with pytest.raises(grpc.RpcError) as error:
        stage.call("unary_unary", "Fail", **way)(b"", timeout=SECONDS)
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert error.value.details() == "not \u00fcberhaupt"


def test_deadline(stage: Stage, way: dict[str, Any]) -> None:
    started = time.monotonic()
    stream = stage.call("unary_stream", "Wait", **way)(b"", timeout=0.5)
    with pytest.raises(grpc.RpcError) as error:
        list(stream)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - started < SECONDS / 2
    wait_until(stage.greeter.ended.is_set, "the end of the call at the server")


def test_a_client_that_cancels(stage: Stage, way: dict[str, Any]) -> None:
    stream = stage.call("unary_stream", "Wait", **way)(b"", timeout=SECONDS)
    assert next(stream) == b"first"
    assert not stage.greeter.ended.is_set()
    stream.cancel()
    wait_until(stage.greeter.ended.is_set, "the end of the call at the server")


def test_a_server_that_ends_early(stage: Stage, way: dict[str, Any]) -> None:
    """The server answers and resets the stream while the client still sends."""
    stop = threading.Event()

    def ask() -> Iterator[bytes]:
        while not stop.wait(0.01):
            yield b"x"

    with pytest.raises(grpc.RpcError) as error:
        stage.call("stream_unary", "Fail", **way)(ask(), timeout=SECONDS)
    stop.set()
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION


def test_calls_at_a_time(stage: Stage, way: dict[str, Any]) -> None:
    hello = stage.call("unary_unary", "Hello", **way)
    calls = [hello.future(b"%d" % i, timeout=SECONDS) for i in range(200)]
    assert [call.result() for call in calls] == [b"Hello %d" % i for i in range(200)]


@pytest.mark.parametrize("entry_point", ["http", "https"])
def test_k17_with_retry_another_server_is_asked(stage: Stage, entry_point: str) -> None:
    hello = stage.call("unary_unary", "Hello", way=entry_point, name="retried")
    for _ in range(6):
        assert hello(b"World", timeout=SECONDS) == b"Hello World"


def test_errors_of_the_proxy_are_errors_of_the_call(stage: Stage) -> None:
    hello = stage.call("unary_unary", "Hello", name="nobody")
    with pytest.raises(grpc.RpcError) as error:
        hello(b"", timeout=SECONDS)
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED
