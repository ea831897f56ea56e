"""What is logged: filters, fields, headers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kvproxy.model.access_log import FIELDS
from kvproxy.model.static_observability import AccessLogFields, AccessLogFilters
from kvproxy.proxy.access_log.choice import Fields, Filters, HeaderFields

FAST, SLOW = 0.01, 0.3


@pytest.mark.parametrize(
    ("options", "status", "retries", "seconds", "kept"),
    [
        (None, 200, 0, FAST, True),
        ({}, 200, 0, FAST, True),
        ({"statusCodes": []}, 200, 0, FAST, True),
        ({"statusCodes": ["404"]}, 404, 0, FAST, True),
        ({"statusCodes": ["404"]}, 403, 0, FAST, False),
        ({"statusCodes": ["200", "400-499"]}, 499, 0, FAST, True),
        ({"statusCodes": ["200", "400-499"]}, 500, 0, FAST, False),
        ({"statusCodes": ["nonsense"]}, 500, 0, FAST, True),
        ({"statusCodes": ["nonsense", "500"]}, 404, 0, FAST, False),
        ({"retryAttempts": True}, 200, 0, FAST, False),
        ({"retryAttempts": True}, 200, 1, FAST, True),
        ({"minDuration": 0.25}, 200, 0, FAST, False),
        ({"minDuration": 0.25}, 200, 0, 0.25, False),
        ({"minDuration": 0.25}, 200, 0, SLOW, True),
        ({"minDuration": 0.25, "statusCodes": ["500"]}, 500, 0, FAST, True),
        ({"minDuration": 0.25, "statusCodes": ["500"], "retryAttempts": True}, 200, 2, FAST, True),
        ({"minDuration": 0.25, "statusCodes": ["500"], "retryAttempts": True}, 200, 0, FAST, False),
    ],
)
def test_any_filter_keeps(
    options: dict[str, Any] | None, status: int, retries: int, seconds: float, kept: bool
) -> None:
    chosen = None if options is None else msgspec.convert(options, AccessLogFilters)
    filters = Filters(chosen)
    assert (filters.all or filters.keep(status, retries, seconds)) is kept


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (None, set(FIELDS)),
        ({}, set(FIELDS)),
        ({"defaultMode": "drop"}, set()),
        ({"defaultMode": "nonsense"}, set()),
        ({"names": {"Duration": "drop"}}, set(FIELDS) - {"Duration"}),
        ({"names": {"Duration": "nonsense"}}, set(FIELDS) - {"Duration"}),
        ({"defaultMode": "drop", "names": {"Duration": "keep", "Other": "keep"}}, {"Duration"}),
    ],
)
def test_fields(options: dict[str, Any] | None, kept: set[str]) -> None:
    chosen = None if options is None else msgspec.convert(options, AccessLogFields)
    assert Fields(chosen).kept == kept


@pytest.mark.parametrize(
    ("headers", "logged"),
    [
        (None, b"value"),
        ({}, b"value"),
        ({"defaultMode": "keep"}, b"value"),
        ({"defaultMode": "drop"}, None),
        ({"defaultMode": "redact"}, b"REDACTED"),
        ({"defaultMode": "nonsense"}, None),
        ({"names": {"X-Header": "redact"}}, b"REDACTED"),
        ({"names": {"x-header": "drop"}}, None),
        ({"names": {"X-HEADER": "nonsense"}}, None),
        ({"defaultMode": "drop", "names": {"X-Header": "keep"}}, b"value"),
        ({"defaultMode": "drop", "names": {"X-Other": "keep"}}, None),
    ],
)
def test_headers(headers: dict[str, Any] | None, logged: bytes | None) -> None:
    fields = Fields(msgspec.convert({"headers": headers}, AccessLogFields))
    found: dict[str, Any] = {}
    lines = [(b"x-header", b"value"), (b"X-Header", b"more")]
    HeaderFields("request_", fields).add(found, lines)
    assert found == ({} if logged is None else {"request_X-Header": logged.decode()})
    assert fields.headers or logged is None
