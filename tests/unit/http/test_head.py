"""Reading and changing single headers in the bytes of a head."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http import head as heads

HEAD = b"GET / HTTP/1.1\r\nX-A: 1\r\nx-b:2 \r\nX-A: 3\r\nX-AB: 4\r\n"


def test_values_in_order_of_arrival() -> None:
    assert heads.values(HEAD, b"x-a") == [b"1", b"3"]
    assert heads.values(HEAD, b"x-b") == [b"2"]
    assert heads.values(HEAD, b"x-c") == []


def test_without_removes_every_line_and_no_other() -> None:
    assert heads.without(HEAD, b"x-a") == b"GET / HTTP/1.1\r\nx-b:2 \r\nX-AB: 4\r\n"
    assert heads.without(HEAD, b"x") == HEAD


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_lines_are_added_before_the_end(end: bytes) -> None:
    assert heads.with_lines(HEAD + end, b"X-C: 5\r\n") == HEAD + b"X-C: 5\r\n" + end


def test_replaced() -> None:
    assert heads.replaced(HEAD, b"x-a", b"9").endswith(b"X-AB: 4\r\nX-A: 9\r\n")
    assert heads.replaced(HEAD, b"x-a", b"") == heads.without(HEAD, b"x-a")


names = st.sampled_from([b"a", b"b", b"a-b", b"A", b"B-a"])
lines = st.lists(st.tuples(names, st.sampled_from([b"", b"1", b"a: 1", b"a"])), max_size=6)


@given(lines, names)
def test_agrees_with_a_list_of_lines(given_lines: list[tuple[bytes, bytes]], name: bytes) -> None:
    name = name.lower()
    head = b"GET / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % line for line in given_lines)
    assert heads.values(head, name) == [value for key, value in given_lines if key.lower() == name]
    left = [line for line in given_lines if line[0].lower() != name]
    expected = b"GET / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % line for line in left)
    assert heads.without(head, name) == expected
