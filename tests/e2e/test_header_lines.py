"""Headers that requests or answers always get: the short way, on which the client's connection adds
them, says what the way through the middlewares says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.backend import Answer, Backend, echoed, plain_answer
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.http2_client import LibraryClient
from tests.support.http_client import RawConnection, build_request
from tests.support.proxy_process import ProxyProcess, single_backend
from tests.support.tls_client import open_connection, tls_options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.backend import Behaviour, LoopThread

BIG = b"0123456789abcdef" * 100_000
COLLISIONS = ("X-Site: theirs", "x-frame-options: theirs", "X-Frame-Options: too", "X-Gone: 1")
HEADERS = {
    "customResponseHeaders": {"X-Site": "ours", "X-Gone": "", "Cache-Control": "no-transform"},
    "frameDeny": True,
    "contentTypeNosniff": True,
    "stsSeconds": 42,
    "customRequestHeaders": {"X-Role": "guest", "X_Tenant": "blue", "X-Secret": ""},
}
ANSWERS: dict[str, Behaviour] = {
    "whole": Answer((plain_answer(b"ok"),)),
    "undated": Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",)),
    "collisions": Answer((plain_answer(b"X-Site: body\r\n\r\nX-Site: x", *COLLISIONS),)),
    "large": Answer((plain_answer(BIG),)),
    "in-pieces": Answer(
        (b"HTTP/1.1 200 OK\r\nX-Site: the", b"irs\r\nContent-Length: 4\r\n\r\n", b"good")
    ),
    "chunked": Answer(
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",)
    ),
    "until-the-end": Answer((b"HTTP/1.1 200 OK\r\nX-Gone: 1\r\n\r\nall of it",), "close"),
    "http-1.0": Answer((b"HTTP/1.0 200 OK\r\n\r\nold",), "close"),
    "no-content": Answer((b"HTTP/1.1 204 No Content\r\n\r\n",)),
    "not-modified": Answer((b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',)),
    "early-hints": Answer(
        (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", plain_answer(b"later"))
    ),
    "failure": Answer((plain_answer(b"no", status="500 Internal Server Error"),)),
    "no-answer": Answer(after="close"),
}
ENTRY_POINTS = ("http", "https", "compressing", "http2")


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    made = Backend(loop_thread, script={f"/{name}": each for name, each in ANSWERS.items()})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def proxy(backend: Backend) -> Iterator[ProxyProcess]:
    """Return a proxy with the same headers on two frontends: one has error pages too, which are
    never needed, and takes the way through the middlewares because of them."""
    rules = {
        "short": "Host:short",
        "short-by-path": "Host:short;PathPrefixStrip:/stripped",
        "long": "Host:long",
        "long-by-path": "Host:long;PathPrefixStrip:/stripped",
    }
    routes = single_backend(backend.url, rules, headers=HEADERS)
    for name in ("long", "long-by-path"):
        pages = {"none": {"status": ["599"], "backend": "pages"}}
        routes["frontends"][name]["errors"] = pages
    routes["backends"]["pages"] = routes["backends"]["server"]
    entry_points = {
        "http": {},
        "https": tls_options(authority().issue("short", "long")),
        "compressing": {"compress": True},
    }
    with ProxyProcess(routes, entry_points=entry_points) as running:
        yield running


def said(proxy: ProxyProcess, entry_point: str, host: str, path: str) -> list[object]:
    """Return everything that a client is told but the time."""
    if entry_point == "http2":
        with LibraryClient(proxy.port) as h2:
            reply = h2.fetch(path.encode(), host=host.encode())
        fields = [field for field in reply.fields if field[0] != b"date"]
        return [reply.informational, fields, reply.body, reply.trailers]
    port = proxy.ports[entry_point]
    if entry_point == "https":
        connection = open_connection(port, host, context=authority().client_context())
    else:
        connection = RawConnection(port)
    with connection as client:
        client.send(build_request(path, host=host, headers=(("Accept-Encoding", "gzip"),)))
        answers = [client.read_response(informational=True)]
        if answers[0].status < 200:
            answers.append(client.read_response())
    return [
        (
            each.status,
            [field for field in each.headers if field[0] != b"Date"],
            each.framing,
            each.body,
            each.trailers,
        )
        for each in answers
    ]


@pytest.mark.parametrize("entry_point", ENTRY_POINTS)
@pytest.mark.parametrize("name", ANSWERS)
def test_both_ways_say_the_same(proxy: ProxyProcess, name: str, entry_point: str) -> None:
    short, long = (said(proxy, entry_point, host, f"/{name}") for host in ("short", "long"))
    assert short == long
    assert (b"ours" in repr(short).encode()) is (name != "no-answer")


@pytest.mark.parametrize(("entry_point", "strict"), [("http", []), ("https", [b"max-age=42"])])
def test_what_stands_in_the_answer(
    proxy: ProxyProcess, entry_point: str, strict: list[bytes]
) -> None:
    port = proxy.ports[entry_point]
    context = authority().client_context()
    tls = entry_point == "https"
    with open_connection(port, "short", context=context) if tls else RawConnection(port) as client:
        for _ in range(2):
            answer = client.request(build_request("/collisions", host="short"))
            assert answer.values("X-Site") == [b"ours"]
            assert answer.values("X-Frame-Options") == [b"DENY"]
            assert answer.values("X-Gone") == []
            assert answer.values("Strict-Transport-Security") == strict
            assert answer.body.startswith(b"X-Site: body\r\n\r\n")
        # An answer of the proxy itself has none of it.
        gone = client.request(build_request("/no-answer", host="short"))
    assert (gone.status, gone.values("X-Site"), gone.values("X-Frame-Options")) == (502, [], [])


SPOOFED = (
    *(("X-Role", "admin"), ("x_role", "admin"), ("X-Tenant", "red"), ("X_TENANT", "red")),
    *(("X-Secret", "s"), ("X_Secret", "s"), ("X-Other", "kept")),
)
FORWARDED = (("X-Forwarded-For", "192.0.2.9"), ("X-Forwarded-Proto", "https"))
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "spoofed": {"headers": SPOOFED},
    "forwarded": {"headers": (*SPOOFED, *FORWARDED)},
    "named-in-connection": {"headers": (("Connection", "X-Role, X_Tenant"),)},
    "length": {"method": "POST", "body": b"content", "headers": SPOOFED},
    "chunked": {"method": "POST", "chunks": (b"con", b"tent"), "headers": SPOOFED},
}


@pytest.mark.parametrize("path", ["/asked", "/stripped/asked"])
@pytest.mark.parametrize("name", REQUESTS)
def test_both_ways_ask_the_same(proxy: ProxyProcess, name: str, path: str) -> None:
    asked = []
    for host in ("short", "long"):
        seen = echoed(proxy.fetch(path, host=host, **REQUESTS[name]))
        assert (seen.values("X-Role"), seen.values("X_Tenant")) == ([b"guest"], [b"blue"])
        own = {b"host", b"x-forwarded-host", b"x_role", b"x-tenant", b"x-secret", b"x_secret"}
        fields = sorted(field for field in seen.headers if field[0].lower() not in own)
        assert {field[0].lower() for field in seen.headers} & own == {b"host", b"x-forwarded-host"}
        asked.append((seen.method, seen.target, fields, seen.body))
    assert asked[0] == asked[1]


@pytest.mark.parametrize("host", ["short", "long"])
def test_no_trailer_says_what_the_proxy_says(
    proxy: ProxyProcess, backend: Backend, host: str
) -> None:
    path = f"/trailers-{host}"
    request = build_request(path, host=host, method="POST", chunks=(b"x",))
    trailers = b"X-Role: admin\r\nx_tenant: red\r\nX-Tenant: red\r\nX-Sum: 1\r\n\r\n"
    with proxy.connect() as client:
        assert client.request(request[:-2] + trailers).status == 200
    (seen,) = backend.wait_for(path)
    assert seen.trailers == ((b"X-Sum", b"1"),)
    assert seen.values("X-Role") == [b"guest"]


def test_http_2_asks_the_same(proxy: ProxyProcess, backend: Backend) -> None:
    spoofed = [(name.lower().encode(), value.encode()) for name, value in SPOOFED]
    with LibraryClient(proxy.port) as h2:
        for host in (b"short", b"long", b"short"):
            assert h2.fetch(b"/of-http-2", *spoofed, host=host).status == 200
    seen = backend.wait_for("/of-http-2", 3)
    for each in seen:
        assert (each.values("X-Role"), each.values("X_Tenant")) == ([b"guest"], [b"blue"])
        spelled = {name.lower() for name, _ in each.headers}
        assert not spelled & {b"x_role", b"x-tenant", b"x-secret", b"x_secret"}
        assert each.values("X-Other") == [b"kept"]


def logged(path: Path, frontend: str) -> list[dict[str, Any]]:
    """Return the lines of an access log, as far as they are whole, that are of a frontend."""
    text = path.read_text() if path.exists() else ""
    lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [line for line in lines if line["FrontendName"] == frontend]


def test_lines_of_the_access_log_have_them(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    routes = single_backend(backend.url, {"short": "Host:short"}, headers=HEADERS)
    log = {"filePath": str(path), "format": "json"}
    with ProxyProcess(routes, static={"accessLog": log}) as proxy:
        proxy.fetch("/whole", host="short")
        proxy.fetch("/chunked", host="short")
        with LibraryClient(proxy.port) as h2:
            h2.fetch(b"/whole", host=b"short")
            h2.fetch(b"/chunked", host=b"short")
        wait_until(lambda: len(logged(path, "short")) == 4, "four lines", 10.0)
    lines = logged(path, "short")
    assert [line["downstream_X-Site"] for line in lines] == ["ours"] * 4
    assert [line["DownstreamContentSize"] for line in lines] == [2, 3, 2, 3]
