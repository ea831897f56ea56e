from __future__ import annotations

import gzip
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.model.packed import UNPACKED_BYTES, NotTextError, readable


@given(st.text())
def test_text_comes_back_plain_and_packed(text: str) -> None:
    value = text.encode()
    assert readable(value) == value
    assert readable(gzip.compress(value)) == value


@given(st.binary(max_size=64))
def test_any_bytes_are_text_or_a_named_error(value: bytes) -> None:
    for each in (value, b"\x1f\x8b" + value, b"\x1f\x8b\x08\x00" + value):
        try:
            readable(each).decode()
        except NotTextError as error:
            assert str(error)
            assert error.expected


PACKED = gzip.compress(b"text" * 100)
WRONG = {
    "not UTF-8": (b"\xff", "the value is not UTF-8"),
    "packed and not UTF-8": (gzip.compress(b"\xff"), "the value is not UTF-8"),
    "cut": (PACKED[:-5], "damaged gzip: it is cut or goes on"),
    "nothing behind the mark": (b"\x1f\x8b", "damaged gzip: it is cut or goes on"),
    "goes on": (PACKED + b"x", "damaged gzip: it is cut or goes on"),
    "changed": (PACKED[:-8] + b"\0" + PACKED[-7:], "damaged gzip: Error -3"),
    "too long": (
        gzip.compress(b" " * (UNPACKED_BYTES + 1)),
        "gzip of more than 4,194,304 bytes",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_text_is_named(name: str) -> None:
    value, message = WRONG[name]
    with pytest.raises(NotTextError, match=message):
        readable(value)


def test_the_longest_text_is_read() -> None:
    text = b"x" * UNPACKED_BYTES
    assert readable(gzip.compress(text)) == text


def test_a_bomb_costs_no_more_than_a_large_value() -> None:
    bomb = gzip.compress(bytes(1 << 26), 1)
    began = time.process_time()
    with pytest.raises(NotTextError):
        readable(bomb)
    assert time.process_time() - began < 0.2
