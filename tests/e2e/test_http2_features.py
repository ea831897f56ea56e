"""Every option works over HTTP/2 as it does over HTTP/1.1: the same requests, both ways."""

from __future__ import annotations

import base64
import gzip
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Answer, Backend, ReservedPort, parse_request_head, plain_answer
from tests.support.http2_client import FrameClient, LibraryClient
from tests.support.http2_frames import (
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    GET,
    HEADERS,
    NO_ERROR,
    POST,
    PREFACE,
    Ended,
    Goaway,
    Head,
    block,
    data,
    frame,
    headers,
    settings,
)
from tests.support.http_client import build_request
from tests.support.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

USER = "test:$apr1$H6uskkkW$IgXLP6ewTrSuBkTrqE8wj/"
GOOD = (("Authorization", "Basic " + base64.b64encode(b"test:test").decode()),)
BAD = (("Authorization", "Basic " + base64.b64encode(b"test:wrong").decode()),)

# Frontends by the first label of their host.
FRONTENDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "own-host": {"passHostHeader": False},
    "strip": {"routes": {"r": {"rule": "Host:strip.test;PathPrefixStrip:/api"}}},
    "replace": {"routes": {"r": {"rule": "Host:replace.test;ReplacePath:/other"}}},
    "basic": {"auth": {"basic": {"users": [USER], "headerField": "X-User"}}},
    "closed": {"whiteList": {"sourceRange": ["10.0.0.0/8"]}},
    "open": {"whiteList": {"sourceRange": ["127.0.0.1/32"]}},
    "redirect": {
        "redirect": {"regex": "^http://([^/]+)/old(.*)", "replacement": "http://$1/new$2"}
    },
    "headers": {
        "headers": {
            "customRequestHeaders": {"X-Custom": "asked", "X-Gone": ""},
            "customResponseHeaders": {"X-Custom": "answered", "X-Server": ""},
            "frameDeny": True,
        }
    },
    "pages": {"errors": {"any": {"status": ["500-599"], "backend": "live", "query": "/{status}"}}},
    "dead": {"backend": "dead"},
    "empty": {"backend": "empty"},
    "sticky": {"backend": "sticky"},
    "buffered": {"backend": "buffered"},
}

# id: (frontend, path, headers)
ROWS: dict[str, tuple[str, str, tuple[tuple[str, str], ...]]] = {
    "plain": ("plain", "/a?b=c", (("X-A", "1"),)),
    "passHostHeader = false": ("own-host", "/", ()),
    "PathPrefixStrip": ("strip", "/api/x", ()),
    "ReplacePath": ("replace", "/x?y", ()),
    "no credentials": ("basic", "/", ()),
    "wrong credentials": ("basic", "/", BAD),
    "right credentials": ("basic", "/", GOOD),
    "white list, outside": ("closed", "/", ()),
    "white list, inside": ("open", "/", ()),
    "redirect": ("redirect", "/old/x?y", ()),
    "no redirect": ("redirect", "/other", ()),
    "custom headers": ("headers", "/", (("X-Gone", "here"), ("X-Custom", "client"))),
    "error page": ("pages", "/503", ()),
    "no error page": ("pages", "/", ()),
    "dead server": ("dead", "/", ()),
    "no server": ("empty", "/", ()),
    "stickiness": ("sticky", "/", ()),
    "buffering": ("buffered", "/", ()),
    "no such host": ("nobody", "/", ()),
    "no such path": ("strip", "/x", ()),
    "bad path": ("plain", "/a%2fb", ()),
    "compressed": ("plain", "/text", (("Accept-Encoding", "gzip"),)),
    "not compressed": ("plain", "/text", ()),
    "compressed, unknown length": ("plain", "/chunked-text", (("Accept-Encoding", "gzip"),)),
    "ping": ("plain", "/ping", ()),
    "forwarded": ("plain", "/", (("X-Forwarded-For", "1.2.3.4"), ("X-Forwarded-Proto", "https"))),
    "expect something else": ("plain", "/", (("Expect", "x"),)),
}

TEXT = b"a text that can be made shorter " * 100
CHUNKED_TEXT = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"


class Stage:
    """One proxy with all frontends; its only entry point compresses."""

    def __init__(self, loop_thread: LoopThread) -> None:
        script = {
            "/503": Answer((plain_answer(b"down", status="503 Service Unavailable"),)),
            "/text": Answer((plain_answer(TEXT, "Content-Type: text/plain"),)),
            "/chunked-text": Answer((CHUNKED_TEXT + b"%x\r\n%b\r\n0\r\n\r\n" % (len(TEXT), TEXT),)),
            "/hold": Answer((), after="hang"),
        }
        self.server = Backend(loop_thread, script=script)
        self.dead = ReservedPort()
        one = {"servers": {"s": {"url": self.server.url}}}
        routes = {
            "backends": {
                "live": one,
                "dead": {"servers": {"s": {"url": f"http://127.0.0.1:{self.dead.port}"}}},
                "empty": {},
                "sticky": {**one, "loadBalancer": {"stickiness": {"cookieName": "c"}}},
                "buffered": {**one, "buffering": {"memResponseBodyBytes": 10}},
            },
            "frontends": {
                name: {
                    "backend": "live",
                    "passHostHeader": True,
                    "routes": {"r": {"rule": f"Host:{name}.test"}},
                    **options,
                }
                for name, options in FRONTENDS.items()
            },
        }
        self.proxy = ProxyProcess(
            routes,
            entry_points={"http": {"compress": True}},
            static={"ping": {"entryPoint": "http"}},
        )
        self.proxy.start()

    def stop(self) -> None:
        self.proxy.stop()
        self.server.stop()
        self.dead.close()


@pytest.fixture(scope="module")
def stage(loop_thread: LoopThread) -> Iterator[Stage]:
    made = Stage(loop_thread)
    yield made
    made.stop()


def without_what_varies(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers by name, without framing and time."""
    dropped = (b"date", b"transfer-encoding", b"connection", b"content-length")
    return sorted((n.lower(), v) for n, v in fields if n.lower() not in dropped)


def body_of(fields: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """The content; a request that the server has echoed in the form that protocols share."""
    if (b"content-encoding", b"gzip") in [(n.lower(), v) for n, v in fields]:
        body = gzip.decompress(body)
    if b" HTTP/1.1\r\n" not in body[:200]:
        return body
    request = parse_request_head(body)
    lines = [b"%b: %b" % (name.title(), value) for name, value in sorted(request.headers)]
    return b"\n".join([request.method, request.target, *lines])


@pytest.mark.parametrize(("name", "path", "more"), ROWS.values(), ids=ROWS.keys())
def test_the_same_both_ways(
    stage: Stage, name: str, path: str, more: tuple[tuple[str, str], ...]
) -> None:
    old = stage.proxy.fetch(path, host=f"{name}.test", headers=more)
    fields = [(key.lower().encode(), value.encode()) for key, value in more]
    with LibraryClient(stage.proxy.port) as client:
        new = client.fetch(path.encode(), *fields, host=f"{name}.test".encode())
    assert new.status == old.status
    assert without_what_varies(new.fields[1:]) == without_what_varies(list(old.headers))
    assert body_of(new.fields, new.body) == body_of(list(old.headers), old.body)


# Deadlines.


@pytest.fixture(scope="module")
def hurried(stage: Stage) -> Iterator[ProxyProcess]:
    """A proxy with little patience."""
    routes = {
        "backends": {"live": {"servers": {"s": {"url": stage.server.url}}}},
        "frontends": {"all": {"backend": "live", "routes": {"r": {"rule": "PathPrefix:/"}}}},
    }
    static = {
        "respondingTimeouts": {"readTimeout": "1s", "idleTimeout": "1s"},
        "forwardingTimeouts": {"responseHeaderTimeout": "1s"},
    }
    with ProxyProcess(routes, static=static) as proxy:
        yield proxy


# id: what a client sends before it falls silent
UNFINISHED: dict[str, bytes] = {
    "nothing of the preface but its start": PREFACE[:20],
    "no settings": PREFACE,
    "half a frame": PREFACE + settings() + headers(GET)[:-3],
    "half a block": PREFACE + settings() + frame(HEADERS, END_STREAM, 1, block(GET)),
}


@pytest.mark.parametrize("sent", UNFINISHED.values(), ids=UNFINISHED.keys())
def test_what_is_not_finished_in_time(hurried: ProxyProcess, sent: bytes) -> None:
    started = time.monotonic()
    with FrameClient(hurried.port, handshake=False) as client:
        client.send(sent)
        client.expect(Goaway((ENHANCE_YOUR_CALM,)))
        client.wait_for_end()
    assert 0.9 < time.monotonic() - started < 5


def test_a_quiet_connection_is_closed(hurried: ProxyProcess) -> None:
    with FrameClient(hurried.port) as client:
        client.send(headers(GET))
        client.expect(Ended())
        started = time.monotonic()
        client.expect(Goaway((NO_ERROR,)))
        client.wait_for_end()
    assert 0.5 < time.monotonic() - started < 5


def test_a_body_that_does_not_come(hurried: ProxyProcess) -> None:
    with LibraryClient(hurried.port) as client:
        stream = client.ask(method=b"POST", ended=False)
        reply = client.wait(stream)
        assert reply.status == 408


def test_a_server_that_does_not_answer(hurried: ProxyProcess) -> None:
    with LibraryClient(hurried.port) as client:
        assert client.fetch(b"/hold").status == 504
        assert client.fetch(b"/").status == 200


def test_other_streams_do_not_suffer(hurried: ProxyProcess) -> None:
    with FrameClient(hurried.port) as client:
        client.send(headers(POST, 1, END_HEADERS) + data(b"a", flags=0))
        client.expect(Head())
        client.send(headers(GET, 3))
        client.expect(Ended(3))


def test_http_1_1_goes_on_after_a_failed_preface(stage: Stage) -> None:
    with stage.proxy.connect() as connection:
        connection.send(b"PRI * HTTP/2.1\r\n\r\n")
        assert connection.read_response().status == 505
    request = build_request("/", host="plain.test")
    with stage.proxy.connect() as connection:
        assert connection.request(request).status == 200
