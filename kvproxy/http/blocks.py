"""The codec of header blocks in use: the C one where it was built, else its pure-Python twin.

`KVPROXY_PURE_PYTHON=1` in the environment forces the twin.
"""

import os

try:
    if os.environ.get("KVPROXY_PURE_PYTHON") == "1":
        raise ImportError
    from kvproxy.http._http2 import (
        BlockDecoder,
        encode_answer,
        encode_request,
        encode_response,
        encode_trailers,
        request_block,
    )
except ImportError:
    from kvproxy.http.blocks_pure import (  # type: ignore[assignment]
        BlockDecoder,
        encode_answer,
        encode_request,
        encode_response,
        encode_trailers,
        request_block,
    )

__all__ = [
    "BlockDecoder",
    "encode_answer",
    "encode_request",
    "encode_response",
    "encode_trailers",
    "request_block",
]
