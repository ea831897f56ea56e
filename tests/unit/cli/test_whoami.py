from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

WHOAMI = [sys.executable, "-m", "kvproxy", "whoami"]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    process = subprocess.Popen([*WHOAMI, "--name", "blue"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("blue listens on http://127.0.0.1:"), line
    yield int(line.rpartition(":")[2])
    process.terminate()
    process.wait(10)
    process.stdout.close()


def test_it_answers_with_its_name_and_the_request(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/a?b=c", headers={"X-Test": "1"})
    lines = connection.getresponse().read().decode().splitlines()
    assert lines[0] == "Name: blue"
    assert "GET /a?b=c HTTP/1.1" in lines
    assert "X-Test: 1" in lines
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_a_connection_is_kept_after_any_method(port: int, method: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    body = b"x" * 1000 if method in ("POST", "PUT") else None
    for _ in range(2):
        connection.request(method, "/", body=body)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read().startswith(b"" if method == "HEAD" else b"Name: blue")
        assert not answer.will_close
    connection.close()


def test_a_connection_is_kept_after_a_chunked_body(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    for _ in range(2):
        connection.request("POST", "/", body=iter([b"abc", b"d" * 5000]), encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.read().startswith(b"Name: blue")
        assert not answer.will_close
    connection.close()


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 99999999\r\n\r\n",
        b"Content-Length: x\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
def test_a_body_that_is_too_long_or_wrong_ends_the_connection(port: int, body: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n" + body)
        with connection.makefile("rb") as answer:
            head = answer.read().partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in head


@pytest.mark.parametrize("address", ["9001", "127.0.0.1:http", "127.0.0.1:70000"])
def test_a_bad_address_is_a_usage_error(address: str) -> None:
    result = subprocess.run(
        [*WHOAMI, "--address", address], capture_output=True, text=True, timeout=30, check=False
    )
    assert result.returncode == 2
    assert "expected host:port" in result.stderr


def test_an_address_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = subprocess.run(
            [*WHOAMI, "--address", address], capture_output=True, text=True, timeout=30, check=False
        )
    assert result.returncode == 1
    assert f"cannot listen on `{address}`: Address already in use" in result.stderr
