"""The users of basic and digest authentication, from the configuration and from a file."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

logger = logging.getLogger("kvproxy.middleware")

T = TypeVar("T")

MAX_FILE_BYTES = 4 << 20
"""Largest users file."""

CHECK_SECONDS = 1.0
"""How often at most a users file is looked at for changes."""


class UsersError(ValueError):
    """Users cannot be read; the message names the place, never a secret."""


def read_users(
    parse: Callable[[str], tuple[str, T]], lines: Iterable[str], users_file: str
) -> dict[str, T]:
    """Return the users of ``lines`` and of a file; the file wins. Raises `UsersError`.

    ``parse`` gives name and secret of a line or raises UsersError.
    """
    users: dict[str, T] = {}
    for number, line in enumerate(lines, 1):
        try:
            name, secret = parse(line)
        except UsersError as error:
            raise UsersError(f"user {number}: {error}") from None
        users[name] = secret
    if users_file:
        users.update(_parse_file(parse, users_file, _read_file(users_file)))
    return users


def _read_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsersError(f"the users file `{path}` cannot be read: {reason}") from None
    if len(content) > MAX_FILE_BYTES:
        raise UsersError(f"the users file `{path}` is larger than {MAX_FILE_BYTES >> 20} MiB")
    return content.decode("utf-8", "surrogateescape")


def _parse_file(parse: Callable[[str], tuple[str, T]], path: str, content: str) -> Mapping[str, T]:
    """Read one user a line; blank lines and lines that begin with ``#`` are passed over."""
    users: dict[str, T] = {}
    for number, line in enumerate(content.splitlines(), 1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        try:
            name, secret = parse(entry)
        except UsersError as error:
            raise UsersError(f"{path}:{number}: {error}") from None
        users[name] = secret
    return users


class Users(Generic[T]):
    """``present``: the secrets by name. A changed file is read again, in a thread; while it cannot
    be read or has a bad line, the users before it stay."""

    def __init__(
        self, parse: Callable[[str], tuple[str, T]], lines: Iterable[str], users_file: str
    ) -> None:
        """Read them all; raises `UsersError`."""
        self._parse = parse
        self._lines = tuple(lines)
        self._file = users_file
        self._mark = _mark_of(users_file)
        self._next_check = monotonic() + CHECK_SECONDS
        self._reading: asyncio.Future[None] | None = None
        self.present: dict[str, T] = read_users(parse, self._lines, users_file)

    def refresh(self) -> None:
        """Look for a change of the file, if it is time to; to be called from the event loop."""
        if not self._file or self._reading is not None or monotonic() < self._next_check:
            return
        loop = asyncio.get_running_loop()
        self._reading = loop.run_in_executor(None, self._read_again)
        self._reading.add_done_callback(self._done)

    def _read_again(self) -> None:
        mark = _mark_of(self._file)
        if mark == self._mark:
            return
        self._mark = mark
        try:
            self.present = read_users(self._parse, self._lines, self._file)
        except UsersError as error:
            logger.error("the users stay as they were: %s", error)

    def _done(self, reading: asyncio.Future[None]) -> None:
        self._reading = None
        self._next_check = monotonic() + CHECK_SECONDS
        if not reading.cancelled() and (error := reading.exception()) is not None:
            logger.error("the users stay as they were", exc_info=error)


def _mark_of(path: str) -> tuple[int, int, int] | None:
    """Return what changes with the content of a file; None when it is not there."""
    if not path:
        return None
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
