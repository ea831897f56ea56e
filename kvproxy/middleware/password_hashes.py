"""Password hashes as htpasswd writes them: SHA-1, bcrypt and MD5-crypt (specification section 9.3).

New users should get bcrypt; the others are here to read the files that exist.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import bcrypt

SHA = "{SHA}"
BCRYPT = ("$2a$", "$2b$", "$2x$", "$2y$")
MD5_CRYPT = ("$apr1$", "$1$")

_BCRYPT_BYTES = 72
"""What bcrypt looks at of a password; Go and the reference programs pass over the rest."""

_ALPHABET = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_GROUPS = ((0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5))
"""The bytes of the digest in the order in which MD5-crypt writes them; byte 11 comes last."""


def is_slow(hashed: str) -> bool:
    """Tell whether verifying takes so long that it must not be done in the event loop."""
    return hashed.startswith((*BCRYPT, *MD5_CRYPT))


def cost(hashed: str) -> int:
    """Return a number that grows with the time that verifying takes."""
    if hashed.startswith(BCRYPT):
        rounds = hashed[4:6]
        return 2 + int(rounds) if rounds.isdigit() else 2
    return 1 if is_slow(hashed) else 0


def verify(password: bytes, hashed: str) -> bool:
    """Tell whether ``password`` gives ``hashed``; compared in constant time.

    A text that is no hash matches nothing, least of all itself.
    """
    if hashed.startswith(SHA):
        digest = b64encode(hashlib.sha1(password, usedforsecurity=False).digest())
        return hmac.compare_digest(digest, hashed[len(SHA) :].encode())
    if hashed.startswith(BCRYPT):
        return _verify_bcrypt(password, hashed)
    for prefix in MD5_CRYPT:
        if hashed.startswith(prefix):
            salt = hashed[len(prefix) :].partition("$")[0][:8]
            return hmac.compare_digest(
                md5_crypt(password, salt.encode(), prefix.encode()), hashed.encode()
            )
    return False


def _verify_bcrypt(password: bytes, hashed: str) -> bool:
    try:
        # $2x$ marks hashes of a program with a defect that only shows in other letters than ASCII.
        return bcrypt.checkpw(password[:_BCRYPT_BYTES], b"$2b$" + hashed[4:].encode())
    except ValueError:
        return False


def md5_crypt(password: bytes, salt: bytes, prefix: bytes) -> bytes:
    """Return the MD5-crypt hash (Poul-Henning Kamp, FreeBSD 1994; ``$apr1$`` is Apache's)."""

    def digest(data: bytes) -> bytes:
        return hashlib.md5(data, usedforsecurity=False).digest()

    length = len(password)
    inner = digest(password + salt + password)
    seed = password + prefix + salt + (inner * (length // 16 + 1))[:length]
    bits = length
    while bits:
        seed += b"\x00" if bits & 1 else password[:1]
        bits >>= 1
    final = digest(seed)
    for turn in range(1000):
        piece = password if turn & 1 else final
        if turn % 3:
            piece += salt
        if turn % 7:
            piece += password
        final = digest(piece + (final if turn & 1 else password))
    text = bytearray()
    for first, second, third in _GROUPS:
        number = final[first] << 16 | final[second] << 8 | final[third]
        text += bytes(_ALPHABET[number >> shift & 63] for shift in (0, 6, 12, 18))
    text += bytes(_ALPHABET[final[11] >> shift & 63] for shift in (0, 6))
    return b"%b%b$%b" % (prefix, salt, bytes(text))
