"""Digest authentication (RFC 2617 with MD5 and ``qop=auth``; specification section 9.4).

A nonce is known only to the worker that gave it out, so that no answer can be replayed to another
one. A client that shows a right answer to a nonce that is not known (any more) is told that it is
stale: it then answers the new one without asking its user.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from kvproxy.http.answer import Answer
from kvproxy.middleware.credentials import CredentialCheck, check_name
from kvproxy.middleware.users import UsersError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvproxy.middleware.contract import Outcome, Request

REALM = "traefik"
NONCE_BYTES = 12
MAX_NONCES = 1100
DROPPED_NONCES = 200

_SCHEME = b"Digest "
_PARAMETER = re.compile(
    rb'[ \t]*([A-Za-z0-9_-]+)=(?:"((?:[^"\\]|\\.)*)"|([^", \t]*))[ \t]*(?:,|\Z)'
)
_HA1 = re.compile(r"[0-9a-fA-F]{32}")
_COUNT = re.compile(rb"[0-9a-fA-F]{1,16}")


class DigestAuth(CredentialCheck[bytes]):
    """Lets users pass who prove that they know their password."""

    __slots__ = ("_dummy", "_nonces", "_opaque")

    def __init__(
        self,
        users: Sequence[str],
        users_file: str = "",
        *,
        remove_header: bool = False,
        header_field: str = "",
    ) -> None:
        """``header_field``: tells the server the name of the user. Raises UsersError,
        HeaderError."""
        super().__init__(
            parse_user, users, users_file, remove_header=remove_header, header_field=header_field
        )
        self._opaque = _token()
        self._dummy = secrets.token_hex(16).encode()
        # The highest count that was seen with each nonce, the oldest nonce first.
        self._nonces: dict[bytes, int] = {}

    def request(self, request: Request) -> Outcome:
        """Answer 401 with a new challenge unless the proof is right and new."""
        self._users.refresh()
        parameters = read_parameters(request.first(b"authorization"))
        if parameters is None or not _is_for(parameters.get(b"uri", b""), request):
            return self._challenge()
        name = parameters[b"username"].decode("utf-8", "surrogateescape")
        known = self._users.present.get(name)
        expected = _proof(known or self._dummy, request.method, parameters)
        right = hmac.compare_digest(expected, parameters[b"response"].lower())
        if not right or known is None:
            return self._challenge()
        nonce, count = parameters[b"nonce"], int(parameters[b"nc"], 16)
        seen = self._nonces.get(nonce)
        if seen is None or parameters.get(b"opaque") != self._opaque:
            return self._challenge(stale=True)
        if count <= seen:
            return self._challenge()
        self._nonces[nonce] = count
        self._let_pass(request, name)
        return None

    def _challenge(self, *, stale: bool = False) -> Answer:
        if len(self._nonces) >= MAX_NONCES:
            for old in list(self._nonces)[:DROPPED_NONCES]:
                del self._nonces[old]
        nonce = _token()
        self._nonces[nonce] = 0
        challenge = b'Digest realm="%b", nonce="%b", opaque="%b", algorithm="MD5", qop="auth"' % (
            REALM.encode(),
            nonce,
            self._opaque,
        )
        if stale:
            challenge += b", stale=true"
        headers = ((b"Www-Authenticate", challenge), (b"Content-Type", b"text/plain"))
        return Answer(401, b"401 Unauthorized\n", headers)


def parse_user(line: str) -> tuple[str, bytes]:
    """Return name and HA1 of a line ``name:realm:HA1``; raises `UsersError`."""
    fields = line.split(":")
    if len(fields) != 3:
        raise UsersError("expected `name:realm:HA1`, three fields")
    name, realm, proof = fields
    check_name(name)
    if realm != REALM:
        raise UsersError(f"the realm is not `{REALM}`: this user could never log in")
    if not _HA1.fullmatch(proof):
        raise UsersError("HA1 is not 32 hexadecimal digits")
    return name, proof.lower().encode()


def read_parameters(value: bytes) -> dict[bytes, bytes] | None:
    """Return the parameters of an ``Authorization`` value; None: this is no proof we can check."""
    if not value.startswith(_SCHEME):
        return None
    found: dict[bytes, bytes] = {}
    at = len(_SCHEME)
    while at < len(value):
        match = _PARAMETER.match(value, at)
        if match is None:
            return None
        quoted = match[2]
        found[match[1].lower()] = match[3] if quoted is None else re.sub(rb"\\(.)", rb"\1", quoted)
        at = match.end()
    needed = (b"username", b"nonce", b"uri", b"response", b"nc", b"cnonce")
    if not all(name in found for name in needed) or not _COUNT.fullmatch(found[b"nc"]):
        return None
    if found.get(b"algorithm", b"MD5") != b"MD5" or found.get(b"qop") != b"auth":
        return None
    return found


def _is_for(uri: bytes, request: Request) -> bool:
    """Tell whether a proof for ``uri`` is one for this request, as the client spelled it.

    As in Traefik 1.7, the path in ``uri`` may be a prefix of that of the request.
    """
    if uri == request.original_uri:
        return True
    path = unquote_to_bytes(uri.partition(b"?")[0])
    asked = unquote_to_bytes(request.original_uri.partition(b"?")[0])
    return path.startswith(b"/") and asked.startswith(path)


def _proof(known: bytes, method: bytes, parameters: dict[bytes, bytes]) -> bytes:
    """Return the response that a client with this HA1 gives (RFC 2617 section 3.2.2)."""
    action = _md5(method + b":" + parameters[b"uri"])
    parts = (b"nonce", b"nc", b"cnonce", b"qop")
    return _md5(b":".join([known, *(parameters[name] for name in parts), action]))


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()


def _token() -> bytes:
    return b64encode(secrets.token_bytes(NONCE_BYTES))
