"""The two implementations of the head scanner against each other, for a short while."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("kvproxy.http._scan", reason="not compiled")

from kvproxy.http import _scan, flags
from tests.fuzz import scan as fuzzer

_REQUEST_LINES = [b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"OPTIONS * HTTP/1.0"]
_FIELD = st.sampled_from(fuzzer.GOOD_FIELDS) | st.builds(
    lambda name, value: name + b": " + value,
    st.sampled_from(fuzzer.NAMES),
    st.sampled_from(fuzzer.VALUES) | st.binary(max_size=20),
)
_FIELDS = st.lists(_FIELD, max_size=8).map(lambda fields: b"".join(f + b"\r\n" for f in fields))
_OFFSET = st.integers(0, 400)


@given(st.sampled_from(_REQUEST_LINES), _FIELDS, _OFFSET)
def test_requests(line: bytes, fields: bytes, cut: int) -> None:
    data = line + b"\r\nHost: a.test\r\n" + fields + b"\r\n"
    fuzzer.check_request(data, 4096, 100, min(cut, len(data)))


@given(st.binary(max_size=80), _OFFSET)
def test_requests_of_any_bytes(data: bytes, cut: int) -> None:
    fuzzer.check_request(data, 64, 3, min(cut, len(data)))


@given(
    st.sampled_from(fuzzer.GOOD_STATUS_LINES),
    _FIELDS,
    st.binary(max_size=10),
    st.integers(0, flags.HTTP10 * 2 - 1),
    st.sampled_from([0, flags.SPLIT]),
    _OFFSET,
)
def test_responses(
    line: bytes, fields: bytes, body: bytes, request_flags: int, split: int, cut: int
) -> None:
    data = line + b"\r\n" + fields + b"\r\n" + body
    fuzzer.check_response(data, request_flags | split, min(cut, len(data)))


@given(st.binary(max_size=80), _OFFSET)
def test_responses_of_any_bytes(data: bytes, cut: int) -> None:
    fuzzer.check_response(data, flags.KEEP_ALIVE, min(cut, len(data)))


def test_large_heads_around_the_limit() -> None:
    for size in range(flags.MAX_RESPONSE_HEAD_BYTES - 60, flags.MAX_RESPONSE_HEAD_BYTES + 10):
        data = b"HTTP/1.1 204 OK\r\nA: " + b"b" * (size - 24) + b"\r\n\r\n"
        assert len(data) == size
        assert fuzzer.check_response(data, flags.KEEP_ALIVE, size - 1) == (
            "whole" if size <= flags.MAX_RESPONSE_HEAD_BYTES else "500"
        )


def test_fuzzer() -> None:
    outcomes = fuzzer.run(seed=1, inputs=10**9, seconds=6)
    for outcome in ("request 400", "request accepted", "response accepted", "response whole"):
        assert outcomes[outcome] > 20


def test_no_reference_is_leaked() -> None:
    rng = random.Random(3)
    maker = fuzzer.Maker(rng)
    requests = [maker.request() for _ in range(500)]
    responses = [maker.response() for _ in range(500)]

    def scan_all() -> int:
        for data in requests:
            _scan.scan_request(data, 4096, 100)
        for data in responses:
            _scan.scan_response(data, flags.KEEP_ALIVE, fuzzer.DATE)
        return sys.getallocatedblocks()

    scan_all()
    before = scan_all()
    for _ in range(20):
        after = scan_all()
    assert after - before < 100


@pytest.mark.parametrize(
    "arguments",
    [(), (b"",), (b"", 1, 1, 1), ("", 1, 1), (bytearray(), 1, 1), (b"", "1", 1), (b"", 1, None)],
    ids=repr,
)
def test_wrong_arguments(arguments: tuple[object, ...]) -> None:
    for function in (_scan.scan_request, _scan.scan_response, _scan.send):
        with pytest.raises(TypeError):
            function(*arguments)  # type: ignore[arg-type]
