from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kvproxy.http import head_memory, scan_pure
from kvproxy.http.flags import HEAD, KEEP_ALIVE
from kvproxy.http.head_memory import HeadMemory

if TYPE_CHECKING:
    from collections.abc import Iterator

DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
FIELDS = b"\r\nHost: a.test\r\nCookie: session=1\r\n\r\n"
REQUEST = b"GET / HTTP/1.1" + FIELDS
RESPONSE_HEAD = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 2\r\n\r\n"


@pytest.fixture(autouse=True)
def _ignorance() -> Iterator[None]:
    scan_pure.forget_heads()
    yield
    scan_pure.forget_heads()


def numbered(first: int, count: int) -> list[bytes]:
    return [b"head %d" % number for number in range(first, first + count)]


def test_kept_when_it_comes_for_the_second_time() -> None:
    memory: HeadMemory[int] = HeadMemory()
    memory.offer(b"head", 1)
    assert memory.get(b"head") is None
    memory.offer(b"head", 1)
    assert memory.get(b"head") == 1


def test_heads_that_differ_are_never_kept() -> None:
    memory: HeadMemory[int] = HeadMemory()
    for head in numbered(0, 20_000):
        memory.offer(head, 1)
    assert not memory


def test_bounded() -> None:
    memory: HeadMemory[int] = HeadMemory()
    most = 0
    for head in numbered(0, 5 * head_memory.MAX_KNOWN):
        for _ in range(2):
            memory.offer(head, 1)
        most = max(most, len(memory))
    assert most == head_memory.MAX_KNOWN
    assert memory.get(head) == 1


def test_useless_after_many_misses_until_it_forgets() -> None:
    memory: HeadMemory[int] = HeadMemory()
    *first, last = numbered(0, head_memory.MAX_MISSES)
    for head in first:
        memory.offer(head, 1)
    assert memory.useful
    memory.offer(last, 1)
    assert not memory.useful
    memory.forget()
    assert memory.useful
    memory.offer(last, 1)
    assert memory.useful


def test_forgets() -> None:
    memory: HeadMemory[int] = HeadMemory()
    for _ in range(2):
        memory.offer(b"head", 1)
    memory.forget()
    assert not memory


def test_requests_share_what_their_header_lines_say() -> None:
    for target in (b"/a", b"/b"):
        scan_pure.scan_request(b"GET " + target + b" HTTP/1.1" + FIELDS, 4096, 100)
    assert set(scan_pure.known_requests) == {FIELDS}
    for method, target in ((b"POST", b"/c?d"), (b"GET", b"/%2e"), (b"HEAD", b"http://b.test/")):
        line = method + b" " + target + b" HTTP/1.1"
        known = scan_pure.scan_request(line + FIELDS, 4096, 100)
        scan_pure.forget_heads()
        assert known == scan_pure.scan_request(line + FIELDS, 4096, 100)


def test_what_a_limit_refuses_is_refused_though_known() -> None:
    for _ in range(3):
        assert isinstance(scan_pure.scan_request(REQUEST, len(REQUEST), 2), tuple)
    assert scan_pure.known_requests
    assert scan_pure.scan_request(REQUEST, len(REQUEST), 1) == 431
    assert scan_pure.scan_request(REQUEST, len(REQUEST) - 1, 2) == 431


def test_answers_share_what_their_heads_say() -> None:
    for body in (b"ab", b"cd"):
        scan_pure.scan_response(RESPONSE_HEAD + body, KEEP_ALIVE, DATE)
    assert set(scan_pure.known_responses) == {RESPONSE_HEAD}
    whole = scan_pure.scan_response(RESPONSE_HEAD + b"ef", KEEP_ALIVE, DATE)
    assert whole == RESPONSE_HEAD + b"ef"
    assert scan_pure.scan_response(RESPONSE_HEAD, KEEP_ALIVE | HEAD, DATE) == RESPONSE_HEAD


@pytest.mark.parametrize(
    "data",
    [
        REQUEST + b"body",
        b"GET / HTTP/1.1\r\nHost: a.test\r\nA: " + b"b" * head_memory.MAX_KNOWN_BYTES + b"\r\n\r\n",
    ],
    ids=["with-body", "large"],
)
def test_requests_that_are_not_remembered(data: bytes) -> None:
    for _ in range(3):
        assert isinstance(scan_pure.scan_request(data, 1 << 16, 100), tuple)
    assert not scan_pure.known_requests


def test_large_answers_are_not_remembered() -> None:
    line = b"A: " + b"b" * head_memory.MAX_KNOWN_BYTES + b"\r\n"
    data = RESPONSE_HEAD[:-2] + line + b"\r\nab"
    for _ in range(3):
        assert scan_pure.scan_response(data, KEEP_ALIVE, DATE) == data
    assert not scan_pure.known_responses


def test_forgotten_heads_leave_nothing() -> None:
    for _ in range(2):
        scan_pure.scan_request(REQUEST, 4096, 100)
        scan_pure.scan_response(RESPONSE_HEAD + b"ab", KEEP_ALIVE, DATE)
    assert scan_pure.known_requests
    assert scan_pure.known_responses
    scan_pure.forget_heads()
    assert not scan_pure.known_requests
    assert not scan_pure.known_responses
