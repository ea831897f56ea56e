"""Numbers in the answers of the head scanner; the C implementation has the same in an enum."""

from typing import Final

# Facts about a request. They are bits of one integer.
KEEP_ALIVE: Final = 1
"""The client's connection may carry another request after this one."""
HEAD: Final = 2
"""The method is HEAD: the answer has no body, whatever its headers say."""
IDEMPOTENT: Final = 4
"""GET, HEAD, OPTIONS, TRACE, or a request that carries an idempotency key: safe to send again."""
CHUNKED: Final = 8
"""The request body is in the chunked coding."""
FORWARDED: Final = 16
"""The client sent X-Forwarded-* or X-Real-Ip; they are cut from the outgoing head."""
UPGRADE: Final = 32
"""The client asks to switch to WebSocket, in a GET request of HTTP/1.1 without a body."""
EXPECT: Final = 64
"""The client waits for 100 (Continue) before it sends the body."""
PLAIN_PATH: Final = 128
"""The target needs no canonicalisation: what is written is what is meant."""
ABSOLUTE: Final = 256
"""The target was in absolute-form; host and target are taken from it."""
OPTIONS_STAR: Final = 512
"""The request is `OPTIONS *`."""
HTTP10: Final = 1024
"""The client speaks HTTP/1.0."""
HTTP2: Final = 2048
"""The client speaks HTTP/2: bodies come and go without a transfer coding."""
SPLIT: Final = 65536
"""Only for scan_response: give the head alone and open, because headers will be added."""

# How the body of an answer ends.
LENGTH: Final = 1
CHUNKED_BODY: Final = 2
CLOSE: Final = 3
SWITCHING: Final = 4
INFORMATIONAL: Final = 5
NO_BODY: Final = 6

# Limits that are not the caller's to choose.
MAX_HEADERS: Final = 256
"""Most header lines of any head; also the largest `max_headers` a caller may give."""
MAX_HEAD_BYTES: Final = 1 << 24
"""The largest `max_bytes` a caller may give."""
MAX_RESPONSE_HEAD_BYTES: Final = 256 * 1024
"""Largest head of an answer."""
MAX_EMPTY_LINES: Final = 4
"""Empty lines that are skipped before a request line (RFC 9112, section 2.2)."""
MAX_CONNECTION_OPTIONS: Final = 64
"""Most names in all Connection lines of a head; each one is compared with each header."""
