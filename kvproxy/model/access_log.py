"""The access log's formats, the names of its fields, and the modes of fields and headers."""

from __future__ import annotations

COMMON, JSON = FORMATS = ("common", "json")

KEEP, DROP, REDACT = HEADER_MODES = ("keep", "drop", "redact")

FIELD_MODES = (KEEP, DROP)

REQUEST, ORIGIN, DOWNSTREAM = "request_", "origin_", "downstream_"
"""How the names of fields that hold headers begin."""

FIELDS = (
    *("StartUTC", "StartLocal", "Duration", "FrontendName", "BackendName", "BackendURL"),
    *("BackendAddr", "ClientAddr", "ClientHost", "ClientPort", "ClientUsername"),
    *("RequestAddr", "RequestHost", "RequestPort", "RequestMethod", "RequestPath"),
    *("RequestProtocol", "RequestLine", "RequestContentSize", "RequestCount"),
    *("OriginDuration", "OriginContentSize", "OriginStatus", "OriginStatusLine"),
    *("DownstreamStatus", "DownstreamStatusLine", "DownstreamContentSize"),
    *("GzipRatio", "Overhead", "RetryAttempts"),
    "Generation",
)
"""Fields that can be dropped (specification section 8.3); ``Generation`` is ours."""
