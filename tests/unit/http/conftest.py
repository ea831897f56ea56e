from __future__ import annotations

from typing import Protocol, cast

import pytest

from kvproxy.http import scan_pure

Request = int | tuple[bytes, bytes, bytes, int, int, int] | None
Response = int | bytes | tuple[bytes, int, int, int, int, int] | None


class Scanner(Protocol):
    """What both implementations of the head scanner offer."""

    def scan_request(self, data: bytes, max_bytes: int, max_headers: int, /) -> Request: ...
    def scan_response(self, data: bytes, request_flags: int, date: bytes, /) -> Response: ...
    def send(self, fd: int, data: bytes, /) -> int | None: ...


@pytest.fixture(params=["c", "python"])
def scanner(request: pytest.FixtureRequest) -> Scanner:
    """Each implementation of the head scanner in turn."""
    if request.param == "python":
        return cast("Scanner", scan_pure)
    return cast("Scanner", pytest.importorskip("kvproxy.http._scan", reason="not compiled"))
