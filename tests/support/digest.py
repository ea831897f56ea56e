"""What a client of digest authentication says (RFC 2617)."""

from __future__ import annotations

import hashlib
import re


def digest_answer(challenge: bytes, uri: str, count: int, password: str = "test") -> str:
    """Return the ``Authorization`` of the user ``test`` for a challenge; ``count``: of its uses."""
    found = dict(re.findall(r'(\w+)="?([^",]*)"?', challenge.decode()))

    def md5(*parts: str) -> str:
        return hashlib.md5(":".join(parts).encode()).hexdigest()

    known = md5("test", "traefik", password)
    number = f"{count:08x}"
    proof = md5(known, found["nonce"], number, "c0", "auth", md5("GET", uri))
    return (
        f'Digest username="test", realm="traefik", nonce="{found["nonce"]}", uri="{uri}", '
        f'qop=auth, nc={number}, cnonce="c0", response="{proof}", opaque="{found["opaque"]}"'
    )
