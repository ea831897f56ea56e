"""Lines that requests get: what they do at once, and header by header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.middleware.header_values import settable
from kvproxy.middleware.headers import CustomRequestHeaders
from kvproxy.middleware.request_lines import RequestLines
from tests.unit.middleware.requests import a_request

NAMES = st.sampled_from(["X-A", "x-a", "X_A", "x_b", "X-B", "X-AB", "Cookie", "Accept"])
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from(["1", "", "X-A: 2"])), max_size=5)
SETTINGS = st.dictionaries(NAMES, st.sampled_from(["", "ours", "2"]), min_size=1)


@given(SETTINGS, FIELDS)
def test_at_once_as_header_by_header(
    headers: dict[str, str], fields: list[tuple[str, str]]
) -> None:
    request = a_request("/X-A:?x_b:", headers=fields)
    head = request.head
    CustomRequestHeaders(headers).request(request)
    assert RequestLines(settable(headers)).apply(head) == request.head


@pytest.mark.parametrize("name", ["X-Forwarded-Prefix", "X_Forwarded_For", "X-Real-Ip"])
def test_headers_that_the_proxy_writes_itself_are_not_known_beforehand(name: str) -> None:
    assert CustomRequestHeaders({"X-A": "1", name: "2"}).request_lines() is None
    assert CustomRequestHeaders({"X-A": "1"}).request_lines() is not None
