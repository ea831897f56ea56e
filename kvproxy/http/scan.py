"""The head scanner in use: the C one where it was built, else its pure-Python twin.

`KVPROXY_PURE_PYTHON=1` in the environment forces the twin.
"""

import os
from typing import Literal

from kvproxy.http.flags import (
    ABSOLUTE,
    CHUNKED,
    CHUNKED_BODY,
    CLOSE,
    EXPECT,
    FORWARDED,
    HEAD,
    HTTP10,
    IDEMPOTENT,
    INFORMATIONAL,
    KEEP_ALIVE,
    LENGTH,
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    NO_BODY,
    OPTIONS_STAR,
    PLAIN_PATH,
    SPLIT,
    SWITCHING,
    UPGRADE,
)

IMPLEMENTATION: Literal["c", "python"]

try:
    if os.environ.get("KVPROXY_PURE_PYTHON") == "1":
        raise ImportError
    from kvproxy.http._scan import scan_request, scan_response, send

    IMPLEMENTATION = "c"
except ImportError:
    from kvproxy.http.scan_pure import forget_heads, scan_request, scan_response, send

    IMPLEMENTATION = "python"
else:

    def forget_heads() -> None:
        """Do nothing: the C scanner remembers no heads."""


__all__ = [
    "ABSOLUTE",
    "CHUNKED",
    "CHUNKED_BODY",
    "CLOSE",
    "EXPECT",
    "FORWARDED",
    "HEAD",
    "HTTP10",
    "IDEMPOTENT",
    "IMPLEMENTATION",
    "INFORMATIONAL",
    "KEEP_ALIVE",
    "LENGTH",
    "MAX_HEADERS",
    "MAX_HEAD_BYTES",
    "NO_BODY",
    "OPTIONS_STAR",
    "PLAIN_PATH",
    "SPLIT",
    "SWITCHING",
    "UPGRADE",
    "forget_heads",
    "scan_request",
    "scan_response",
    "send",
]
