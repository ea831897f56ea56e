"""The access log of a running proxy: both protocols, formats, filters, rotation, trouble with the
disk."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.conformance.cases import frontend
from tests.support.access_log import parse_line
from tests.support.backend import Answer, Backend, ReservedPort, plain_answer
from tests.support.certificates import authority
from tests.support.deadline import wait_until
from tests.support.http_client import RawConnection, build_request
from tests.support.proxy_process import ProxyProcess
from tests.support.tls_client import curl, open_connection, tls_options
from tests.support.websocket import WebSocketServer, handshake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.access_log import Line
    from tests.support.backend import LoopThread

BIG = b"0123456789" * 100_000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def backend(loop_thread: LoopThread) -> Iterator[Backend]:
    hold = Answer((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",), "hang")
    script = {
        "/big": Answer((plain_answer(BIG),)),
        "/chunked": Answer((CHUNKED, b"5\r\nhello\r\n", b"6\r\n world\r\n0\r\n\r\n")),
        "/hang": Answer((), "hang"),
        "/part": hold,
        "/teapot": Answer((plain_answer(b"", status="418 I'm a teapot"),)),
        "/slow": Answer((0.3, plain_answer())),
    }
    made = Backend(loop_thread, script=script)
    yield made
    made.stop()


def routes_to(backend: Backend) -> dict[str, Any]:
    """Return routes to a server, and to one beside one that refuses connections."""
    echo = {"one": {"url": backend.url}}
    half = {"one": {"url": "http://127.0.0.1:1", "weight": 1000}, "two": {"url": backend.url}}
    return {
        "backends": {"web": {"servers": echo}, "half": {"servers": half}},
        "frontends": {
            "web": frontend("Host:web.test", backend="web"),
            "half": frontend("Host:half.test", backend="half"),
        },
    }


def running(
    backend: Backend, path: Path, options: dict[str, Any] | None = None, **more: Any
) -> AbstractContextManager[ProxyProcess]:
    """Return a proxy with an access log at ``path``."""
    section = {"filePath": str(path), **(options or {})}
    static = {"accessLog": section, **more.pop("static", {})}
    return ProxyProcess(more.pop("routes", None) or routes_to(backend), static=static, **more)


def lines_for(path: Path, target: str, count: int = 1) -> list[Line]:
    """Wait for the lines of requests for ``target``."""

    def found() -> list[Line]:
        text = path.read_text() if path.exists() else ""
        lines = [parse_line(line) for line in text.splitlines(keepends=True)]
        return [line for line in lines if line.path == target]

    wait_until(lambda: len(found()) >= count, f"{count} lines for {target}", 10.0)
    assert len(found()) == count
    return found()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "access.log"


@pytest.fixture(scope="module")
def proxy(backend: Backend, loop_thread: LoopThread, path: Path) -> Iterator[ProxyProcess]:
    server = WebSocketServer(loop_thread)
    routes = routes_to(backend)
    routes["backends"]["ws"] = {"servers": {"one": {"url": f"http://127.0.0.1:{server.port}"}}}
    routes["frontends"]["ws"] = frontend("Host:ws.test", backend="ws")
    points = {
        "http": {},
        "strict": {"forwardedHeaders": {"trustedIPs": ["10.0.0.1"]}},
        "https": tls_options(authority().issue("web.test")),
        "compressing": {"compress": True},
    }
    static = {"ping": {"entryPoint": "http"}, "retry": {"attempts": 3}}
    with running(backend, path, entry_points=points, static=static, routes=routes) as made:
        yield made


def test_a_line_holds_what_the_client_said(proxy: ProxyProcess, path: Path) -> None:
    headers = (("Referer", "http://from.test/a"), ("User-Agent", "tester/1.0"))
    proxy.fetch("/said?a=b", host="web.test", headers=headers)
    (line,) = lines_for(path, "/said?a=b")
    assert (line.method, line.protocol, line.status) == ("GET", "HTTP/1.1", "200")
    assert (line.referer, line.agent) == ("http://from.test/a", "tester/1.0")
    assert (line.user, line.frontend) == ("-", "web")
    assert line.duration.removesuffix("ms").isdigit()


def test_sizes_are_those_of_the_body(proxy: ProxyProcess, path: Path) -> None:
    with proxy.connect() as client:
        for target in ("/big", "/chunked", "/teapot"):
            client.request(build_request(target, host="web.test"))
        client.send(build_request("/big", host="web.test", method="HEAD"))
        client.read_response(head_only=True)
    big, head = lines_for(path, "/big", 2)
    assert (big.size, head.size, head.method) == ("1000000", "0", "HEAD")
    assert lines_for(path, "/chunked")[0].size == "11"
    (teapot,) = lines_for(path, "/teapot")
    assert (teapot.status, teapot.size) == ("418", "0")


@pytest.mark.parametrize("target", ["/big", "/chunked"])
def test_the_size_is_that_before_compression(proxy: ProxyProcess, path: Path, target: str) -> None:
    answer = proxy.fetch(
        f"{target}?compressed",
        host="web.test",
        entry_point="compressing",
        headers=(("Accept-Encoding", "gzip"),),
    )
    assert answer.value("Content-Encoding") == b"gzip"
    size = {"/big": "1000000", "/chunked": "11"}[target]
    assert lines_for(path, f"{target}?compressed")[0].size == size


def test_pipelined_requests_have_a_line_each(proxy: ProxyProcess, path: Path) -> None:
    with proxy.connect() as client:
        client.send(build_request("/pipelined", host="web.test") * 20)
        for _ in range(20):
            client.read_response()
    assert len(lines_for(path, "/pipelined", 20)) == 20


def test_requests_of_http_2_are_logged(proxy: ProxyProcess, path: Path) -> None:
    code, text = curl(proxy.ports["https"], "web.test", "--http2", "--user-agent", "two")
    assert code == 0, text
    (line,) = lines_for_agent(path, "two")
    assert (line.protocol, line.status, line.frontend) == ("HTTP/2.0", "200", "web")
    assert line.url.startswith("http://127.0.0.1:")
    assert int(line.size) > 0
    code, text = curl(proxy.ports["https"], "web.test", "--http1.1", "--user-agent", "one")
    assert [each.protocol for each in lines_for_agent(path, "one")] == ["HTTP/1.1"]


def lines_for_agent(path: Path, agent: str) -> list[Line]:
    def found() -> list[Line]:
        lines = [parse_line(line) for line in path.read_text().splitlines(keepends=True)]
        return [line for line in lines if line.agent == agent]

    wait_until(lambda: bool(found()), f"a line of {agent}", 10.0)
    return found()


def test_a_client_that_leaves_is_logged(proxy: ProxyProcess, backend: Backend, path: Path) -> None:
    for number, entry_point in enumerate(("http", "https")):
        seen = len(backend.requests_for("/hang"))
        client = (
            open_connection(proxy.ports["https"], "web.test")
            if entry_point == "https"
            else RawConnection(proxy.port)
        )
        with client:
            client.send(build_request(f"/hang?{number}", host="web.test"))
            backend.wait_for("/hang", seen + 1, 10.0)
            if entry_point == "http":
                # One that only closes may still wait for its answer.
                client.reset()
        (line,) = lines_for(path, f"/hang?{number}")
        assert (line.status, line.size, line.frontend) == ("499", "0", "web")
    with RawConnection(proxy.port) as client:
        client.send(build_request("/part", host="web.test"))
        assert client.read_head().status == 200
        client.reset()
    (line,) = lines_for(path, "/part")
    assert line.status == "200"


def test_a_tunnel_is_logged_when_it_ends(proxy: ProxyProcess, path: Path) -> None:
    with proxy.connect() as client:
        client.send(handshake("/tunnel", host="ws.test"))
        assert client.read_head().status == 101
        assert "/tunnel" not in path.read_text()
    (line,) = lines_for(path, "/tunnel")
    assert (line.status, line.frontend) == ("101", "ws")


def test_the_paths_of_the_proxy_itself_are_not_logged(proxy: ProxyProcess, path: Path) -> None:
    assert proxy.fetch("/ping").status == 200
    proxy.fetch("/after-ping", host="web.test")
    lines_for(path, "/after-ping")
    assert "/ping HTTP" not in path.read_text()


def test_nobody_can_write_lines_of_their_own(proxy: ProxyProcess, path: Path) -> None:
    agent = 'x" 1 "web" "http://a" 0ms \\ \xe9\t'
    proxy.fetch("/hostile", host="web.test", headers=(("User-Agent", agent), ("Referer", '"')))
    (line,) = lines_for(path, "/hostile")
    assert line.agent == r"x\x22 1 \x22web\x22 \x22http://a\x22 0ms \x5C \xE9"
    assert line.referer == r"\x22"


def test_a_forwarded_address_is_believed_of_trusted_clients_alone(
    proxy: ProxyProcess, path: Path
) -> None:
    headers = (("X-Forwarded-For", "1.2.3.4"),)
    proxy.fetch("/untrusted", host="web.test", entry_point="strict", headers=headers)
    assert lines_for(path, "/untrusted")[0].host == "127.0.0.1"
    proxy.fetch("/trusted", host="web.test", headers=headers)
    assert lines_for(path, "/trusted")[0].host == "1.2.3.4"


# Filters.


def test_a_request_is_logged_that_any_filter_keeps(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    filters = {
        "statusCodes": ["400-499", "nonsense"],
        "retryAttempts": True,
        "minDuration": "200ms",
    }
    static = {"retry": {"attempts": 3}}
    with running(backend, path, {"filters": filters}, static=static) as proxy:
        for target in ("/ok", "/teapot", "/slow"):
            proxy.fetch(target, host="web.test")
        assert proxy.fetch("/retried", host="half.test").status == 200
        assert "`nonsense` is no status" in proxy.log()
        assert proxy.stop() == 0
    lines = [parse_line(line) for line in path.read_text().splitlines(keepends=True)]
    assert {"/teapot", "/slow", "/retried"} <= {line.path for line in lines}
    for line in lines:
        # On a busy machine any request may be slow.
        kept = line.path in ("/teapot", "/retried")
        assert kept or int(line.duration.removesuffix("ms")) >= 200, line


# Formats and fields.


def objects(path: Path, target: str, count: int = 1) -> list[dict[str, Any]]:
    def found() -> list[dict[str, Any]]:
        text = path.read_text() if path.exists() else ""
        lines = [json.loads(line) for line in text.splitlines()]
        return [line for line in lines if line.get("RequestPath") == target]

    wait_until(lambda: len(found()) >= count, f"{count} lines for {target}", 10.0)
    return found()


def test_json(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    names = {"Authorization": "redact", "cookie": "drop"}
    options = {"format": "json", "fields": {"headers": {"names": names}}}
    headers = (("Authorization", "Basic c2VjcmV0"), ("Cookie", "secret"), ("X-One", "1"))
    points = {"http": {}, "compressing": {"compress": True}}
    static = {"retry": {"attempts": 3}}
    with running(backend, path, options, entry_points=points, static=static) as proxy:
        target = "/json?a=b"
        proxy.fetch(target, host="web.test:81", method="POST", body=b"12345", headers=headers)
        (line,) = objects(path, target)
        generation = proxy.generation()
        gzip = (("Accept-Encoding", "gzip"),)
        proxy.fetch("/big", host="web.test", entry_point="compressing", headers=gzip)
        (compressed,) = objects(path, "/big")
        proxy.fetch("/nowhere", host="nowhere.test")
        (unmatched,) = objects(path, "/nowhere")
        proxy.fetch("/retried", host="half.test")
        (retried,) = objects(path, "/retried")
    authority_of = backend.url.removeprefix("http://")
    wanted = {
        "FrontendName": "web",
        "BackendName": "web",
        "BackendAddr": authority_of,
        "ClientHost": "127.0.0.1",
        "ClientUsername": "-",
        "RequestAddr": "web.test:81",
        "RequestHost": "web.test",
        "RequestPort": "81",
        "RequestMethod": "POST",
        "RequestPath": target,
        "RequestProtocol": "HTTP/1.1",
        "RequestLine": f"POST {target} HTTP/1.1",
        "RequestContentSize": 5,
        "OriginStatus": 200,
        "OriginStatusLine": "200 OK",
        "DownstreamStatus": 200,
        "DownstreamStatusLine": "200 OK",
        "RetryAttempts": 0,
        "Generation": generation,
        "request_Authorization": "REDACTED",
        "request_X-One": "1",
        "origin_X-Server": "echo",
        "downstream_X-Server": "echo",
        "level": "info",
        "msg": "",
    }
    assert {name: line.get(name) for name in wanted} == wanted
    assert "request_Cookie" not in line
    assert "secret" not in json.dumps(line)
    assert line["ClientAddr"] == f"127.0.0.1:{line['ClientPort']}"
    assert line["BackendURL"]["Scheme"] == "http"
    assert line["BackendURL"]["Host"] == authority_of
    assert line["OriginContentSize"] == line["DownstreamContentSize"] > 0
    assert line["Duration"] == line["OriginDuration"] + line["Overhead"]
    assert line["StartUTC"].endswith("Z")
    assert "GzipRatio" not in line
    assert compressed["OriginContentSize"] == len(BIG)
    assert compressed["GzipRatio"] == len(BIG) / compressed["DownstreamContentSize"] > 10
    assert unmatched["FrontendName"] == "backend not found"
    assert unmatched["BackendName"] == "Traefik"
    assert unmatched["BackendURL"]["Path"] == "/nowhere"
    assert "OriginDuration" not in unmatched
    assert retried["RetryAttempts"] == 1


def test_dropped_fields(backend: Backend, tmp_path: Path) -> None:
    common, as_json = tmp_path / "common.log", tmp_path / "json.log"
    fields = {
        "defaultMode": "drop",
        "names": {"RequestPath": "keep", "OriginStatus": "keep", "Duration": "nonsense"},
        "headers": {"defaultMode": "drop", "names": {"user-agent": "redact"}},
    }
    headers = (("User-Agent", "tester"), ("Referer", "http://secret/"))
    with running(backend, common, {"fields": fields}) as proxy:
        proxy.fetch("/dropped", host="web.test", headers=headers)
        (line,) = lines_for(common, "/dropped")
        assert "accessLog.fields.names.Duration: `nonsense` is no mode" in proxy.log()
    kept = {"path": "/dropped", "status": "200", "agent": "REDACTED"}
    dropped = ("host", "user", "method", "protocol", "size", "referer", "count", "frontend", "url")
    assert {name: getattr(line, name) for name in kept} == kept
    assert {getattr(line, name) for name in dropped} == {"-"}
    assert line.duration == "-"
    with running(backend, as_json, {"format": "json", "fields": fields}) as proxy:
        proxy.fetch("/dropped", host="web.test", headers=headers)
        (found,) = objects(as_json, "/dropped")
    always = {"level", "msg", "time"}
    assert found.keys() - always == {"RequestPath", "OriginStatus", "request_User-Agent"}


# Files.


def test_lines_of_several_workers_stay_whole(backend: Backend, tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    agent = (("User-Agent", "x" * 3000),)
    with running(backend, path, workers=3) as proxy:
        for number in range(150):
            proxy.fetch(f"/many-{number}", host="web.test", headers=agent)
            if number == 75:
                path.rename(moved)
                proxy.signal(signal.SIGUSR1)
                wait_until(path.exists, "a new file", 10.0)
        assert proxy.stop() == 0
    lines = [
        parse_line(line)
        for part in (moved, path)
        for line in part.read_text().splitlines(keepends=True)
    ]
    mine = [line for line in lines if line.path.startswith("/many-")]
    assert sorted(line.path for line in mine) == sorted(f"/many-{each}" for each in range(150))
    assert all(line.agent == "x" * 3000 for line in mine)
    counts = [line.count for line in lines]
    assert len(set(counts)) == len(counts)


def test_buffered_lines_come_in_time_and_at_the_end(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with running(backend, path, {"bufferingSize": 1000}) as proxy:
        proxy.fetch("/in-time", host="web.test")
        lines_for(path, "/in-time")
        proxy.fetch("/at-the-end", host="web.test")
        assert proxy.stop() == 0
    assert lines_for(path, "/at-the-end")


def test_a_file_that_cannot_be_had_harms_no_request(backend: Backend, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with running(backend, tmp_path / "file" / "access.log") as proxy:
        assert proxy.fetch("/", host="web.test").status == 200
        wait_until(lambda: "access log: " in proxy.log(), "a complaint", 10.0)
        assert "cannot be opened: Not a directory" in proxy.log()
        (tmp_path / "file").unlink()

        def logged() -> bool:
            assert proxy.fetch("/found", host="web.test").status == 200
            return (tmp_path / "file" / "access.log").exists()

        wait_until(logged, "the file, once it can be had", 10.0)


def test_a_full_disk_harms_no_request(backend: Backend, tmp_path: Path) -> None:
    link = tmp_path / "access.log"
    link.symlink_to("/dev/full")
    with running(backend, link) as proxy:
        for _ in range(50):
            assert proxy.fetch("/", host="web.test").status == 200
        wait_until(lambda: "No space left on device" in proxy.log(), "a complaint", 10.0)
        assert proxy.log().count("No space left on device") < 5


def test_without_a_path_lines_go_to_standard_output(backend: Backend, tmp_path: Path) -> None:
    """Nobody reads the pipe at first: that stops no request."""
    file = tmp_path / "kvproxy.toml"
    with ReservedPort() as reserved:
        port = reserved.port
        file.write_text(
            f'[entryPoints.http]\naddress = "127.0.0.1:{port}"\n[accessLog]\n[file]\n'
            f'[backends.web.servers.one]\nurl = "{backend.url}"\n'
            '[frontends.web]\nbackend = "web"\n[frontends.web.routes.r]\nrule = "Path:/stdout"\n'
        )
        command = [sys.executable, "-m", "kvproxy", "run", f"--configFile={file}", "--workers=1"]
        process = subprocess.Popen(
            [*command, f"--stateDir={tmp_path / 'state'}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            output = ask_and_read(process, port)
        finally:
            process.kill()
            process.wait(10)
    lines = [parse_line(line) for line in output.decode().splitlines(keepends=True)]
    assert len([line for line in lines if line.status == "200"]) >= 100


def ask_and_read(process: subprocess.Popen[bytes], port: int) -> bytes:
    """Have more logged than a pipe holds, then stop the program and read what it wrote."""
    request = build_request("/stdout", headers=(("User-Agent", "y" * 2000),))

    def answered() -> bool:
        try:
            with RawConnection(port) as client:
                return client.request(request).status == 200
        except (OSError, AssertionError):
            return False

    wait_until(answered, "an answer", 20.0)
    with RawConnection(port) as client:
        for _ in range(100):
            assert client.request(request).status == 200
    process.terminate()
    output, _ = process.communicate(timeout=20)
    return output


def test_a_hand_over_goes_on_with_the_log(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with running(backend, path) as proxy:
        proxy.fetch("/before", host="web.test")
        read_before = lines_for(path, "/before")
        first = proxy.process.pid
        proxy.signal(signal.SIGUSR2)
        wait_until(lambda: proxy.ask("status")["pid"] != first, "another supervisor", 20.0)
        proxy.fetch("/after", host="web.test")
        assert len(read_before + lines_for(path, "/after")) == 2
