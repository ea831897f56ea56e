"""etcd's terms: intervals of keys, and transactions that delete and put beside each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.provider import Transaction
from providers.etcd_requests import KeySpace, covers, intervals_without, transaction_request

KEYS = st.binary(min_size=1, max_size=4)
PARTS = st.sampled_from(["a", "b", "a-b", "a.b", "0"])
NAMES = st.lists(PARTS, min_size=1, max_size=3).map("/".join)
WITHOUT_END = b"\0"


def inside(key: bytes, interval: tuple[bytes, bytes]) -> bool:
    return interval[0] <= key and (interval[1] == WITHOUT_END or key < interval[1])


@given(KEYS, KEYS | st.just(WITHOUT_END), st.lists(KEYS), KEYS)
def test_intervals_without_keys_hold_everything_else(
    start: bytes, end: bytes, keys: list[bytes], probe: bytes
) -> None:
    parts = intervals_without((start, end), keys)
    for key in (probe, *keys, *(key + b"\0" for key in keys)):
        wanted = inside(key, (start, end)) and key not in keys
        assert [inside(key, part) for part in parts].count(True) == wanted


@pytest.mark.parametrize("root", ["", "/"])
@given(prefix=st.just("") | NAMES, key=NAMES)
def test_the_interval_of_a_prefix_holds_what_it_covers(root: str, prefix: str, key: str) -> None:
    keys = KeySpace(root)
    encoded = keys.encode(key)
    assert keys.decode(encoded) == key
    if covers(prefix, key):
        assert inside(encoded, keys.interval(prefix))
    assert inside(encoded, keys.below(prefix)) == (covers(prefix, key) and key != prefix)


def test_keys_of_others_are_not_below_the_root() -> None:
    assert not inside(b"elsewhere", KeySpace("/").interval(""))


def test_bytes_that_are_no_text_are_shown() -> None:
    assert KeySpace("/").decode(b"/t/\xff\xe4") == "t/\\xff\\xe4"


def test_a_transaction_deletes_around_what_it_puts() -> None:
    request = transaction_request(
        Transaction(
            put={"t/b/c": b"1", "u": b"2"},
            delete=("t/x", "u"),
            delete_prefixes=("t/b",),
            expect={"t/a": b"0", "t/n": None},
        ),
        KeySpace(""),
    )
    assert request["success"] == [
        {"request_delete_range": {"key": b"t/x"}},
        {"request_delete_range": {"key": b"t/b"}},
        {"request_delete_range": {"key": b"t/b/", "range_end": b"t/b/c"}},
        {"request_delete_range": {"key": b"t/b/c\0", "range_end": b"t/b0"}},
        {"request_put": {"key": b"t/b/c", "value": b"1"}},
        {"request_put": {"key": b"u", "value": b"2"}},
    ]
    assert request["compare"] == [
        {"key": b"t/a", "target": "VALUE", "result": "EQUAL", "value": b"0"},
        {"key": b"t/n", "target": "CREATE", "result": "EQUAL", "create_revision": "0"},
    ]
    assert [each["request_range"]["key"] for each in request["failure"]] == [b"t/a", b"t/n"]
