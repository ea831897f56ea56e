"""Basic authentication (RFC 7617; specification section 9.3)."""

from __future__ import annotations

import asyncio
import binascii
import hmac
import secrets
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TYPE_CHECKING

from kvproxy.http.answer import Answer, text_answer
from kvproxy.middleware.credentials import CredentialCheck, check_name
from kvproxy.middleware.password_hashes import cost, is_slow, verify
from kvproxy.middleware.users import UsersError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kvproxy.middleware.contract import Outcome, Request

UNAUTHORISED = Answer(
    401,
    b"401 Unauthorized\n",
    ((b"Www-Authenticate", b'Basic realm="traefik"'), (b"Content-Type", b"text/plain")),
)

REMEMBERED = 1024
"""Passwords that are remembered as right, so that a slow hash is paid for once."""

MAX_PASSWORD_BYTES = 1024
"""A longer password matches nothing; MD5-crypt would take a long time for it."""

VERIFYING_THREADS = 2
MAX_WAITING = 256
"""Passwords that may wait to be verified in a worker; above that the answer is 503."""

_SCHEME = b"Basic "


class BasicAuth(CredentialCheck[str]):
    """Lets users with a right password pass.

    Time tells nothing of the users: for one that is unknown, or whose hash is cheaper than others,
    the most expensive hash of all users is verified too, and the verdict thrown away.
    """

    __slots__ = (
        "_dearest",
        "_dearest_of",
        "_key",
        "_remembered",
    )

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
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, str] = {}
        self._dearest_of: dict[str, str] | None = None
        self._dearest = ""

    def request(self, request: Request) -> Outcome:
        """Answer 401 unless the credentials are right; slow hashes are verified in a thread."""
        users = self._users
        users.refresh()
        credentials = read_credentials(request.first(b"authorization"))
        if credentials is None:
            return UNAUTHORISED
        name, password = credentials
        hashed = users.present.get(name)
        mark = self._mark(name, password)
        if hashed is not None and self._remembered.get(mark) == hashed:
            return self._verdict(True, request, name)
        if not is_slow(self._dearest_hash()):
            right = verify(password, hashed or self._dearest) and hashed is not None
            return self._verdict(right, request, name)
        if _waiting.full:
            return text_answer(503)
        return self._verify(request, name, password, hashed)

    async def _verify(
        self, request: Request, name: str, password: bytes, hashed: str | None
    ) -> Answer | None:
        right = await _waiting.verify(password, hashed, self._dearest)
        if right and hashed is not None:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[self._mark(name, password)] = hashed
        return self._verdict(right, request, name)

    def _verdict(self, right: bool, request: Request, name: str) -> Answer | None:
        if not right:
            return UNAUTHORISED
        self._let_pass(request, name)
        return None

    def _mark(self, name: str, password: bytes) -> bytes:
        """Return what stands for a user and a password; nobody can work out either from it.

        The length stands before the name: no other pair of name and password gives the same bytes.
        """
        encoded = name.encode("utf-8", "surrogateescape")
        message = b"%d:%b%b" % (len(encoded), encoded, password)
        return hmac.digest(self._key, message, "sha256")

    def _dearest_hash(self) -> str:
        """Return the hash that takes the longest; worked out again when the users change."""
        present = self._users.present
        if self._dearest_of is not present:
            self._dearest_of = present
            self._dearest = max(present.values(), key=cost, default="")
        return self._dearest


class _Waiting:
    """Passwords on their way through the threads that verify them."""

    def __init__(self) -> None:
        self._count = 0

    @property
    def full(self) -> bool:
        """Whether no more may wait."""
        return self._count >= MAX_WAITING

    async def verify(self, password: bytes, hashed: str | None, dearest: str) -> bool:
        """Verify in a thread, for as long as the dearest hash takes."""
        self._count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                _threads(), partial(_verify_for_long, password, hashed, dearest)
            )
        finally:
            self._count -= 1


def _verify_for_long(password: bytes, hashed: str | None, dearest: str) -> bool:
    right = hashed is not None and verify(password, hashed)
    if hashed is None or cost(hashed) < cost(dearest):
        verify(password, dearest)
    return right


_waiting = _Waiting()


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(VERIFYING_THREADS, thread_name_prefix="passwords")


def parse_user(line: str) -> tuple[str, str]:
    """Return name and hash of a line ``name:hash``; raises `UsersError`."""
    name, colon, hashed = line.partition(":")
    if not colon or ":" in hashed:
        raise UsersError("expected `name:hash`, two fields")
    check_name(name)
    return name, hashed


def read_credentials(value: bytes) -> tuple[str, bytes] | None:
    """Return user and password of an ``Authorization`` value; None: there are none."""
    if not value.startswith(_SCHEME):
        return None
    try:
        decoded = b64decode(value[len(_SCHEME) :], validate=True)
    except binascii.Error:
        return None
    name, colon, password = decoded.partition(b":")
    if not colon or len(password) > MAX_PASSWORD_BYTES:
        return None
    return name.decode("utf-8", "surrogateescape"), password
