"""The keys of session tickets: the same in every worker of a node, others on each entry point.

A ticket lets a client resume its session with any worker. It must not let it into an entry point
that asks for more than the one that gave the ticket (client certificates, above all), so the keys
depend on the entry point and on everything that it asks of clients.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

import msgspec

from kvproxy.proxy.tls.openssl import TICKET_KEY_BYTES

if TYPE_CHECKING:
    from kvproxy.model.tls import ServedTLS

_LABEL = b"kvproxy session tickets 1"


def ticket_keys(secret: bytes, entry_point: str, tls: ServedTLS) -> bytes:
    """Return the keys that ``secret``, which all workers know, means for an entry point."""
    asked = msgspec.msgpack.encode(
        [
            entry_point,
            tls.min_version,
            tls.cipher_suites,
            tls.client_authorities,
            tls.client_optional,
            tls.sni_strict,
        ]
    )
    blocks = b""
    number = 0
    while len(blocks) < TICKET_KEY_BYTES:
        number += 1
        message = _LABEL + bytes([number]) + asked
        blocks += hmac.digest(secret, message, hashlib.sha512)
    return blocks[:TICKET_KEY_BYTES]
