"""Random traffic: every mix of framings, cuts, pipelines and departures, on few connections.

Each answer is known beforehand, so that any byte that is lost, doubled or given to the wrong client
is seen. The seed is fixed; a failure names the request that went wrong.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.backend import Answer, Backend, echoed
from tests.support.certificates import authority
from tests.support.http_client import RawConnection, build_request
from tests.support.proxy_process import ProxyProcess, single_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.backend import LoopThread

ANSWERS = 200
CLIENTS = 8
ROUNDS = 60


@dataclass(frozen=True)
class Known:
    """An answer that a server will give: its status and body, and whether its connection ends."""

    path: str
    status: int
    body: bytes
    closes: bool


def chunked(source: random.Random, body: bytes) -> bytes:
    """Return ``body`` in chunks of random sizes."""
    wire = b""
    while body:
        size = source.randint(1, len(body))
        wire += b"%x\r\n%b\r\n" % (size, body[:size])
        body = body[size:]
    return wire + b"0\r\n" + source.choice([b"", b"X-Sum: 1\r\n"]) + b"\r\n"


def cut(source: random.Random, wire: bytes) -> tuple[bytes | float, ...]:
    """Return ``wire`` in random pieces with short pauses between some of them."""
    cuts = sorted(source.sample(range(1, len(wire)), min(source.randint(0, 4), len(wire) - 1)))
    parts: list[bytes | float] = []
    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        parts.append(wire[start:end])
        if source.random() < 0.3:
            parts.append(source.random() * 0.003)
    return tuple(parts)


def make_answer(source: random.Random, number: int) -> tuple[Known, Answer]:
    """Return a random answer, and the behaviour of the server that gives it."""
    path = f"/answer-{number}"
    size = source.choice([0, 1, 10, 1000, 70_000, 300_000])
    body = (b"%d " % number * (size // 2 + 1))[:size]
    status = source.choice([200, 200, 200, 201, 204, 304, 404, 500])
    hints = source.choice([b"", b"", b"HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n"])
    head = b"HTTP/1.1 %d Whatever\r\nX-Number: %d\r\n" % (status, number)
    framing = source.choice(["length", "length", "chunked", "close"])
    closes = framing == "close" and status not in (204, 304)
    leaves = closes or source.random() < 0.1
    if leaves:
        # Announced: a POST on a connection that its server just closed must fail, rightly.
        head += b"Connection: close\r\n"
    if status in (204, 304):
        body, wire = b"", head + b"\r\n"
    elif framing == "length":
        wire = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    elif framing == "chunked":
        wire = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(source, body)
    else:
        wire = head + b"\r\n" + body
    known = Known(path, status, body, closes)
    return known, Answer(cut(source, hints + wire), "close" if leaves else "keep")


@pytest.fixture(scope="module")
def known(backend: Backend) -> list[Known]:
    source = random.Random(7)
    made = []
    for number in range(ANSWERS):
        answer, behaviour = make_answer(source, number)
        backend.on(answer.path, behaviour)
        made.append(answer)
    return made


@pytest.fixture(scope="module", params=["plain", "tls"])
def backend(loop_thread: LoopThread, request: pytest.FixtureRequest) -> Iterator[Backend]:
    tls = authority().server_context("127.0.0.1") if request.param == "tls" else None
    made = Backend(loop_thread, tls=tls)
    yield made
    made.stop()


def random_request(source: random.Random, path: str) -> tuple[bytes, bytes]:
    """Return the bytes of a request and the body that its server must see."""
    body = b"q" * source.choice([0, 0, 0, 5, 5000, 100_000])
    headers = tuple((f"X-{i}", "v" * source.randint(0, 100)) for i in range(source.randint(0, 5)))
    if body and source.random() < 0.5:
        pieces = tuple(body[i : i + 4000] for i in range(0, len(body), 4000))
        return build_request(path, host="a", method="POST", headers=headers, chunks=pieces), body
    method = "POST" if body else "GET"
    return build_request(path, host="a", method=method, headers=headers, body=body), body


def talk(port: int, known: list[Known], seed: int) -> int:
    """One client: pipelines of random length, now and then an early departure."""
    source = random.Random(seed)
    answered = 0
    connection = RawConnection(port, seconds=20)
    for _ in range(ROUNDS):
        wanted: list[Known | tuple[str, bytes]] = []
        data = b""
        for _ in range(source.choice([1, 1, 2, 5])):
            if source.random() < 0.5:
                path = f"/echo-{seed}-{source.randint(0, 10**9)}"
                request, body = random_request(source, path)
                wanted.append((path, body))
            else:
                answer = source.choice(known)
                request, _ = random_request(source, answer.path)
                wanted.append(answer)
            data += request
        ends = next(
            (i for i, each in enumerate(wanted) if isinstance(each, Known) and each.closes), None
        )
        sent = connection.send_if_open(data)
        assert sent or ends is not None
        if source.random() < 0.1:
            connection.reset()
            connection = RawConnection(port, seconds=20)
            continue
        for each in wanted[: None if ends is None else ends + 1]:
            response = connection.read_response()
            if isinstance(each, Known):
                assert (response.status, response.body) == (each.status, each.body), each.path
            else:
                seen = echoed(response)
                assert (seen.target, seen.body) == (each[0].encode(), each[1])
            answered += 1
        if ends is not None:
            connection.assert_closed()
            connection.close()
            connection = RawConnection(port, seconds=20)
    connection.close()
    return answered


def test_random_traffic(backend: Backend, known: list[Known]) -> None:
    routes = single_backend(backend.url, {"a": "Host:a"})
    with ProxyProcess(routes, static={"rootCAs": [authority().pem]}) as proxy:
        with ThreadPoolExecutor(CLIENTS) as pool:
            talks = [pool.submit(talk, proxy.port, known, seed) for seed in range(CLIENTS)]
            answered = sum(each.result(60) for each in talks)
        assert answered > CLIENTS * ROUNDS
        assert "Traceback" not in proxy.log()
        (status,) = {proxy.fetch("/end", host="a").status}
        assert status == 200
