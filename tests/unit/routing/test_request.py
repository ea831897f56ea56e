from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.routing.request import RequestView, parse_headers, parse_query


@pytest.mark.parametrize(
    ("query", "values"),
    [
        (b"", {}),
        (b"a=1&b=2", {b"a": b"1", b"b": b"2"}),
        (b"a=1&a=2", {b"a": b"1"}),
        (b"a", {b"a": b""}),
        (b"=x", {b"": b"x"}),
        (b"&&a=1&", {b"a": b"1"}),
        (b"a=b=c", {b"a": b"b=c"}),
        (b"a+b=c+d", {b"a b": b"c d"}),
        (b"a%2Bb=%2b", {b"a+b": b"+"}),
        (b"%61=%31", {b"a": b"1"}),
        (b"a=1;b=2&c=3", {b"c": b"3"}),
        (b"a=%3B", {b"a": b";"}),
        (b"a=%zz&a=2", {b"a": b"2"}),
        (b"%=1&a=%4&b=%", {}),
        (b"a=%ff\xff", {b"a": b"\xff\xff"}),
    ],
)
def test_query_is_read_as_go_reads_it(query: bytes, values: dict[bytes, bytes]) -> None:
    assert parse_query(query) == values


@given(st.binary())
def test_any_query_can_be_read(query: bytes) -> None:
    for key, value in parse_query(query).items():
        assert isinstance(key, bytes)
        assert isinstance(value, bytes)


def test_headers() -> None:
    head = b"\r\n".join(
        [
            *(b"", b"GET /:x HTTP/1.1", b"Host: h", b"X-Key:one", b"x-KEY: \ttwo: 2 "),
            *(b"Empty:", b"HOST: i", b"", b""),
        ]
    )
    assert parse_headers(head) == {b"x-key": [b"one", b"two: 2"], b"empty": [b""]}


def test_a_head_without_headers() -> None:
    assert parse_headers(b"GET / HTTP/1.0\r\n\r\n") == {}


@pytest.mark.parametrize(
    ("host", "canonical", "name"),
    [
        (b"Name.Test:8080", b"name.test", b"Name.Test"),
        (b"name", b"name", b"name"),
        (b"name:", b"name", b"name"),
        (b"", b"", b""),
        (b"[::1]", b"::1", b"::1"),
        (b"[FE80:0::1]:80", b"fe80::1", b"FE80:0::1"),
        (b"[::ffff:1.2.3.4]", b"::ffff:1.2.3.4", b"::ffff:1.2.3.4"),
        (b"[::1", b"[::1", b"[::1"),
        (b"[::1]x", b"[::1]x", b"[::1]x"),
        (b"a:b:c", b"a:b:c", b"a:b:c"),
        (b"dot.:1", b"dot.", b"dot."),
    ],
)
def test_host(host: bytes, canonical: bytes, name: bytes) -> None:
    request = RequestView(b"GET", host, b"/", b"", b"")
    assert request.canonical_host == canonical
    assert request.host_name == name


def test_parts_are_worked_out_once() -> None:
    request = RequestView(b"GET", b"h", b"/", b"a=1", b"GET / HTTP/1.1\r\nA: 1\r\n\r\n")
    assert request.headers is request.headers
    assert request.query_values is request.query_values
