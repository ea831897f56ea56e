"""The key of a health check: what the supervisor and the workers call it."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from kvproxy.model.dynamic import HealthCheck

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def check_key(url: str, check: HealthCheck | None) -> bytes:
    """Return what stands for a check of the server at ``url``; empty when it is not checked.

    Servers of one URL that are checked alike have one key, whatever backends name them.
    """
    if check is None or not check.path:
        return b""
    return blake2b(_encode((url, check)), digest_size=16).digest()
