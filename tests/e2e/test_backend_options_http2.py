"""Options of backends where HTTP/2 is spoken: by the client, by the server, by both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Backend
from tests.support.http2_backend import Http2Backend
from tests.support.http2_client import LibraryClient
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

BODY = bytes(range(256)) * 2000


class Stage:
    """Hosts are named by option and protocol of the server: ``sticky-1``, ``sticky-2``."""

    def __init__(self, loop_thread: LoopThread) -> None:
        self.old = Backend(loop_thread, "old")
        self.new = Http2Backend(loop_thread)
        self.urls = {"1": self.old.url, "2": self.new.url}
        options: dict[str, dict[str, Any]] = {
            "sticky": {"loadBalancer": {"stickiness": {"cookieName": "s"}}},
            "buffered": {"buffering": {"memRequestBodyBytes": 1000, "memResponseBodyBytes": 1000}},
            "limited": {"maxConn": {"amount": 2, "extractorFunc": "request.host"}},
            "small": {"buffering": {"maxRequestBodyBytes": 10}},
        }
        hosts = {
            f"{name}-{version}": {"servers": {"a": {"url": url}}, **option}
            for name, option in options.items()
            for version, url in self.urls.items()
        }
        frontends = {
            name: {"backend": name, "routes": {"r": {"rule": f"Host:{name}"}}} for name in hosts
        }
        self.proxy = ProxyProcess({"backends": hosts, "frontends": frontends})
        self.proxy.start()

    def client(self) -> LibraryClient:
        return LibraryClient(self.proxy.port)

    def stop(self) -> None:
        self.proxy.stop()
        self.old.stop()
        self.new.stop()


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    made = Stage(loop_thread)
    yield made
    made.stop()


versions = pytest.mark.parametrize("version", ["1", "2"])


@versions
def test_stickiness(stage: Stage, version: str) -> None:
    host = f"sticky-{version}".encode()
    url = stage.urls[version].encode()
    with stage.client() as client:
        first = client.fetch(b"/echo", host=host)
        assert (first.status, first.value(b"set-cookie")) == (200, b"s=" + url + b"; Path=/")
        again = client.fetch(b"/echo", (b"cookie", b"s=" + url), host=host)
        assert (again.status, again.value(b"set-cookie")) == (200, None)


@versions
def test_buffers_both_ways(stage: Stage, version: str) -> None:
    with stage.client() as client:
        stream = client.ask(
            b"/echo", method=b"POST", host=f"buffered-{version}".encode(), ended=False
        )
        client.upload(stream, BODY)
        reply = client.wait(stream)
    assert reply.status == 200
    assert reply.value(b"content-length") == b"%d" % len(reply.body)
    if version == "1":
        assert reply.body.endswith(BODY)
        assert b"Content-Length: %d\r\n" % len(BODY) in reply.body
    else:
        said = json.loads(reply.body)
        assert said["body"].encode("latin-1") == BODY
        assert ["content-length", str(len(BODY))] in said["fields"]


def test_buffered_trailers(stage: Stage) -> None:
    with stage.client() as client:
        reply = client.fetch(b"/trailers", host=b"buffered-2")
        assert (reply.status, reply.body) == (200, b"message")
        assert dict(reply.trailers) == {b"grpc-status": b"0", b"grpc-message": b"fine"}
    answer = stage.proxy.fetch("/trailers", host="buffered-2")
    assert answer.body == b"message"
    assert dict(answer.trailers)[b"Grpc-Status"] == b"0"


@versions
def test_a_request_that_is_too_large(stage: Stage, version: str) -> None:
    with stage.client() as client:
        stream = client.ask(b"/echo", method=b"POST", host=f"small-{version}".encode(), ended=False)
        client.upload(stream, b"x" * 11)
        assert client.wait(stream).status == 413
        stream = client.ask(b"/echo", method=b"POST", host=f"small-{version}".encode(), ended=False)
        client.upload(stream, b"x" * 10)
        assert client.wait(stream).status == 200


def test_each_stream_counts(stage: Stage) -> None:
    with stage.client() as client:
        held = [client.ask(b"/wait", host=b"limited-2") for _ in range(2)]
        refused = client.fetch(b"/echo", host=b"limited-2")
        assert (refused.status, refused.body) == (429, b"max connections reached: 2")
        assert client.fetch(b"/echo", host=b"limited-1").status == 200
        stage.new.release()
        assert [client.wait(stream).status for stream in held] == [200, 200]
        assert client.fetch(b"/echo", host=b"limited-2").status == 200


def test_a_stream_that_is_reset_counts_no_more(stage: Stage) -> None:
    with stage.client() as client:
        for _ in range(3):
            stream = client.ask(b"/echo", method=b"POST", host=b"limited-1", ended=False)
            client.library.reset_stream(stream)
            client.flush()
        assert client.fetch(b"/echo", host=b"limited-1").status == 200


def test_http_1_clients_of_http_2_servers(stage: Stage) -> None:
    with stage.proxy.connect() as client:
        client.send(build_request("/echo", host="buffered-2", method="POST", body=BODY))
        answer = client.read_response()
        assert json.loads(answer.body)["body"].encode("latin-1") == BODY
        client.send(build_request("/large/300000", host="buffered-2"))
        answer = client.read_response()
        assert answer.values("Content-Length") == [b"300000"]
        assert answer.body == b"0123456789" * 30_000
