"""Which answers get which page (specification section 9.8, cases E17, E19, E20)."""

from __future__ import annotations

import pytest

from kvproxy.middleware.error_pages import StatusRanges, pages_of
from kvproxy.model.dynamic import ErrorPage
from tests.unit.middleware.requests import a_request

RANGES = {
    "E19-range-and-one": (("200-500", "502"), (200, 404, 500, 502), (199, 501, 503)),
    "E19-inside": (("200-500", "205"), (205,), (501,)),
    "E19-none": ((), (), (200, 500)),
    "E20-range": (("200-299",), (200,), (300,)),
    "E20-one": (("200",), (200,), (201,)),
    "E20-two": (("200-299", "500-599"), (250, 599), (400,)),
    "E17-same": (("503-503",), (503,), (502, 504)),
    "spaces": ((" 404 ",), (404,), (403,)),
    "backwards": (("599-500",), (), (500, 550, 599)),
}


@pytest.mark.parametrize(("texts", "inside", "outside"), RANGES.values(), ids=RANGES)
def test_ranges(texts: tuple[str, ...], inside: tuple[int, ...], outside: tuple[int, ...]) -> None:
    ranges = StatusRanges(texts)
    assert [each for each in inside if each not in ranges] == []
    assert [each for each in outside if each in ranges] == []


@pytest.mark.parametrize("text", ["aaa", "", "-", "500-", "-500", "1-2-3", "4xx", "50000"])
def test_e19_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match="no status"):
        StatusRanges(["200-500", text])


def test_pages_come_in_the_order_of_their_names_without_the_frontends_own_backend() -> None:
    page = ErrorPage(status=("500",), backend="errors")
    found = pages_of({"b": page, "a": page, "c": ErrorPage(backend="own")}, "own")
    assert [each.backend for each in found] == ["errors", "errors"]
    (first, _) = found
    assert first.takes(500)
    assert not first.takes(502)


def test_an_answer_that_has_no_body_gets_no_page() -> None:
    (page,) = pages_of({"a": ErrorPage(status=("200-599",), backend="e")}, "own")
    assert [status for status in (204, 304) if page.takes(status)] == []


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("/{status}", "/503"),
        ("{status}.html?code={status}", "/503.html?code=503"),
        ("", "/"),
        ("/", "/"),
        ("//evil", "//evil"),
        ("/a b\r\nX: y", "/a%20b%0D%0AX:%20y"),
    ],
)
def test_what_is_asked(query: str, target: str) -> None:
    (page,) = pages_of({"a": ErrorPage(status=("503",), backend="e", query=query)}, "own")
    head = page.head(a_request("/original", method="POST"), 503)
    assert head == f"GET {target} HTTP/1.1\r\n".encode()


def test_the_page_is_not_told_who_asked() -> None:
    """Neither credentials nor cookies reach the error backend (CVE-2026-41181)."""
    sent = (
        *(("Authorization", "Basic x"), ("cookie", "session=1"), ("Content-Length", "3")),
        *(("Range", "bytes=0-1"), ("If-None-Match", "x"), ("Accept-Language", "de")),
        *(("Expect", "100-continue"), ("Content-Type", "text/plain")),
    )
    (page,) = pages_of({"a": ErrorPage(status=("503",), backend="e", query="/{status}")}, "own")
    head = page.head(a_request(headers=sent, method="HEAD"), 503)
    assert head == b"HEAD /503 HTTP/1.1\r\nAccept-Language: de\r\n"
