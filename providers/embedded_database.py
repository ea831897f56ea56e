"""The file of the embedded store: a SQLite database in WAL mode that several processes share.

Everything here blocks; `providers.embedded` calls it from threads of its own. The store counts its
write transactions: that count is the version. Each key carries the version of its last change, and
each deleted key leaves a mark with the version of its deletion, so what happened after a version is
one indexed query, and only the marks need a bound.

A key that is announced has a row that says whose it is and until when. Its owner moves that time on
(which is no write of keys and changes no version); whoever reads deletes keys whose time is over.
Times are those of the machine's monotonic clock, which all processes share.

To put a backup in place while the store is in use, remove the ``-wal`` and ``-shm`` files beside it
in the same go: SQLite would apply what they hold to the new file.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kvproxy.provider import (
    ANNOUNCEMENT_SECONDS,
    Changes,
    Compacted,
    Conflict,
    StoreError,
    Transaction,
    Tree,
)
from providers.checks import check_transaction, conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAXIMUM_VALUE_BYTES = 16 * 1024 * 1024
MAXIMUM_KEY_BYTES = 4096
RETAINED_DELETIONS = 10_000
"""So many deleted keys are remembered at least; a watch from before them is `Compacted`."""

BUSY_SECONDS = 5.0
"""How long a write waits for its turn behind other processes."""

ANNOUNCEMENT_LIFE_SECONDS = 0.5 * ANNOUNCEMENT_SECONDS
"""How long an announced key is kept without a word of its owner; the rest is for the reader."""

_SCHEMA_VERSION = 2
_APPLICATION_ID = 0x6B767078  # "kvpx", shown by file(1)
_JOURNAL_BYTES = 16 * 1024 * 1024

_SCHEMA = """
CREATE TABLE state (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    forgotten INTEGER NOT NULL
);
INSERT INTO state VALUES (1, 0, 0);
CREATE TABLE entries (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX entries_by_version ON entries (version);
CREATE TABLE deletions (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX deletions_by_version ON deletions (version);
"""
_SCHEMA_OF_FORMAT_2 = """
CREATE TABLE announcements (
    key TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    ends REAL NOT NULL
) WITHOUT ROWID;
"""

# "0" is the character after "/": the half-open range holds the keys that start with prefix + "/".
_UNDER_PREFIX = (
    "(:prefix = '' OR key = :prefix OR (key >= :prefix || '/' AND key < :prefix || '0'))"
)

_READ_ALL = "SELECT key, value FROM entries"
_READ_PREFIX = (
    "SELECT key, value FROM entries WHERE key = :prefix UNION ALL "
    "SELECT key, value FROM entries WHERE key >= :prefix || '/' AND key < :prefix || '0'"
)
# The index is named here and below because the planner would rather walk the whole prefix.
_NEWEST = (
    "SELECT version FROM entries INDEXED BY entries_by_version "
    f"WHERE {_UNDER_PREFIX} ORDER BY version DESC LIMIT 1"
)
_CHANGED = (
    "SELECT key, value FROM entries INDEXED BY entries_by_version "
    f"WHERE version > :version AND {_UNDER_PREFIX} UNION ALL "
    "SELECT key, NULL FROM deletions INDEXED BY deletions_by_version "
    f"WHERE version > :version AND {_UNDER_PREFIX}"
)
_PUT = (
    "INSERT INTO entries VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version"
)
_MARK_PREFIX = (
    f"INSERT OR REPLACE INTO deletions SELECT key, :version FROM entries WHERE {_UNDER_PREFIX}"
)
_DELETE_PREFIX = f"DELETE FROM entries WHERE {_UNDER_PREFIX}"
_MARK_KEY = "INSERT OR REPLACE INTO deletions SELECT key, ? FROM entries WHERE key = ?"
_ANNOUNCE = (
    "INSERT INTO announcements VALUES (?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, ends = excluded.ends"
)
# A time further away than any owner sets it was set before the machine was started again.
_ENDED = "SELECT key FROM announcements WHERE ends < :now OR ends > :now + :life"

_REASONS = {
    "SQLITE_BUSY": f"locked by another process for more than {BUSY_SECONDS:g} s",
    "SQLITE_CANTOPEN": "cannot be opened: check the permissions of the file and its directory",
    "SQLITE_CORRUPT": "damaged: restore it from a backup",
    "SQLITE_FULL": "the disk is full",
    "SQLITE_NOTADB": "not an embedded store: some other kind of file, or a damaged one",
    "SQLITE_READONLY": "cannot be written: check the permissions of the file and its directory",
}


class Position:
    """How far a watch has come: the ``version`` that it knows, and of which opened file."""

    def __init__(self, prefix: str, version: int) -> None:
        """Start behind ``version`` of the keys under ``prefix``."""
        self.prefix = prefix
        self.version = version
        self.connection: sqlite3.Connection | None = None
        self.seen = (-1, -1)


class Database:
    """One connection to the file, opened at first use and again when another file took its place.

    Not for use by two threads at a time. Every method raises `StoreError` that names the file.
    """

    def __init__(self, path: Path, retained_deletions: int = RETAINED_DELETIONS) -> None:
        """Keep the path; nothing is opened yet."""
        self._path = path
        self._retained_deletions = retained_deletions
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._sweeps = 0

    def read(self, prefix: str) -> Tree:
        """Return all keys under ``prefix`` from one read transaction."""
        with self._errors_named():
            connection = self._opened()
            with _transaction(connection, "BEGIN"):
                version, _ = _state(connection)
                if prefix:
                    rows = connection.execute(_READ_PREFIX, {"prefix": prefix})
                else:
                    rows = connection.execute(_READ_ALL)
                values = dict(rows)
                newest = connection.execute(_NEWEST, {"prefix": prefix}).fetchone()
                return Tree(version, values, changed=newest[0] if newest else 0)

    def version(self) -> int:
        """Return the number of write transactions so far."""
        with self._errors_named():
            return _state(self._opened())[0]

    def changes(self, position: Position) -> Changes | None:
        """Return what happened behind ``position`` and move it on; None when nothing did.

        Costs a few microseconds while no other connection has written. Raises `Compacted` when the
        deletions since then are forgotten, or when the file is another one or older than the
        position.
        """
        with self._errors_named():
            connection = self._opened()
            if position.connection is not connection:
                if position.connection is not None:
                    raise Compacted(f"embedded store `{self._path}`: the file has been replaced")
                position.connection = connection
            # Asked before the content is read: a write in between is seen by the next call.
            # SQLite counts what others committed, so sweeps of our own are counted beside it.
            seen = (connection.execute("PRAGMA data_version").fetchone()[0], self._sweeps)
            if seen == position.seen:
                return None
            with _transaction(connection, "BEGIN"):
                version, forgotten = _state(connection)
                if not forgotten <= position.version <= version:
                    raise Compacted(
                        f"embedded store `{self._path}`: changes after version {position.version} "
                        f"are not known; it holds those from {forgotten} to {version}"
                    )
                rows = connection.execute(
                    _CHANGED, {"prefix": position.prefix, "version": position.version}
                )
                values: dict[str, bytes | None] = dict(rows)
            position.seen = seen
            position.version = version
            return Changes(version, values) if values else None

    def write(self, transaction: Transaction) -> int:
        """Write all or nothing and return the version; raises `Conflict` and `StoreError`.

        A missing file is created. A key both deleted and put is put.
        """
        check_transaction(transaction, MAXIMUM_KEY_BYTES, MAXIMUM_VALUE_BYTES)
        with self._errors_named():
            connection = self._opened(create=True)
            with _transaction(connection, "BEGIN IMMEDIATE"):
                return self._apply(connection, transaction)

    def announce(self, values: Mapping[str, bytes], owner: str) -> None:
        """Write keys that belong to ``owner`` and end unless `keep_announced` is called in time."""
        transaction = Transaction(put=values)
        check_transaction(transaction, MAXIMUM_KEY_BYTES, MAXIMUM_VALUE_BYTES)
        with self._errors_named():
            # Not to be made again when it was deleted: an empty store looks like no routes.
            connection = self._opened()
            with _transaction(connection, "BEGIN IMMEDIATE"):
                self._apply(connection, transaction)
                ends = time.monotonic() + ANNOUNCEMENT_LIFE_SECONDS
                connection.executemany(_ANNOUNCE, [(key, owner, ends) for key in values])

    def keep_announced(self, owner: str) -> int:
        """Move the end of an owner's keys on; returns how many there are still."""
        with self._errors_named():
            connection = self._opened()
            ends = time.monotonic() + ANNOUNCEMENT_LIFE_SECONDS
            return connection.execute(
                "UPDATE announcements SET ends = ? WHERE owner = ?", (ends, owner)
            ).rowcount

    def withdraw(self, owner: str) -> None:
        """Delete the keys of an owner."""
        with self._errors_named():
            connection = self._opened()
            self._end(connection, "SELECT key FROM announcements WHERE owner = ?", (owner,))

    def sweep(self) -> None:
        """Delete announced keys whose owner has not been heard of for too long."""
        now = {"now": time.monotonic(), "life": ANNOUNCEMENT_LIFE_SECONDS}
        with self._errors_named():
            connection = self._opened()
            if connection.execute(_ENDED, now).fetchone() is not None:
                self._end(connection, _ENDED, now)
                self._sweeps += 1

    def _end(
        self,
        connection: sqlite3.Connection,
        question: str,
        values: Mapping[str, float] | tuple[str],
    ) -> None:
        with _transaction(connection, "BEGIN IMMEDIATE"):
            keys = [row[0] for row in connection.execute(question, values)]
            if keys:
                self._apply(connection, Transaction(delete=tuple(keys)))
                connection.executemany(
                    "DELETE FROM announcements WHERE key = ?", [(key,) for key in keys]
                )

    def _apply(self, connection: sqlite3.Connection, transaction: Transaction) -> int:
        """Write inside the transaction that has begun; returns the version."""
        version = _state(connection)[0] + 1
        _compare(connection, transaction)
        deleted = _delete(connection, transaction, version)
        put = transaction.put
        connection.executemany(_PUT, [(key, put[key], version) for key in put])
        if deleted or version > 1:
            connection.executemany("DELETE FROM deletions WHERE key = ?", [(k,) for k in put])
        connection.execute("UPDATE state SET version = ?", (version,))
        if deleted:
            self._forget(connection)
        return version

    def close(self) -> None:
        """Close the file; a later call opens it again."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _forget(self, connection: sqlite3.Connection) -> None:
        """Drop the oldest marks of deleted keys, always those of a whole version."""
        row = connection.execute(
            "SELECT version FROM deletions ORDER BY version DESC LIMIT 1 OFFSET ?",
            (self._retained_deletions,),
        ).fetchone()
        if row is not None:
            oldest = row[0]
            if connection.execute("DELETE FROM deletions WHERE version < ?", (oldest,)).rowcount:
                connection.execute("UPDATE state SET forgotten = ?", (oldest - 1,))

    def _opened(self, *, create: bool = False) -> sqlite3.Connection:
        """Return the connection to the file that stands at the path now.

        A file that vanished while it was in use is not made again by reading: an empty store would
        look as if all routes had been deleted.
        """
        try:
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise StoreError(f"embedded store `{self._path}`: not a regular file")
            identity = (status.st_dev, status.st_ino)
        except FileNotFoundError:
            self.close()
            if self._identity is not None and not create:
                raise StoreError(
                    f"embedded store `{self._path}`: the file has been deleted"
                ) from None
            identity = _create(self._path)
        if self._connection is None or identity != self._identity:
            self.close()
            self._connection = _connect(self._path)
            self._identity = identity
        return self._connection

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Turn errors into `StoreError`; anything but a busy file is opened anew next time."""
        try:
            yield
        except sqlite3.Error as error:
            name = getattr(error, "sqlite_errorname", "")
            if not name.startswith("SQLITE_BUSY"):
                self.close()
            reason = str(error)
            for prefix, text in _REASONS.items():
                if name.startswith(prefix):
                    reason = f"{text} ({error})"
            raise StoreError(f"embedded store `{self._path}`: {reason}") from error
        except OSError as error:
            self.close()
            raise StoreError(f"embedded store `{self._path}`: {error.strerror or error}") from error


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _state(connection: sqlite3.Connection) -> tuple[int, int]:
    """Return (version, newest version whose deletions are forgotten)."""
    row: tuple[int, int] = connection.execute("SELECT version, forgotten FROM state").fetchone()
    return row


def _compare(connection: sqlite3.Connection, transaction: Transaction) -> None:
    for key, expected in transaction.expect.items():
        row = connection.execute("SELECT value FROM entries WHERE key = ?", (key,)).fetchone()
        found = None if row is None else row[0]
        if found != expected:
            raise Conflict(conflict(key, expected, found))


def _delete(connection: sqlite3.Connection, transaction: Transaction, version: int) -> int:
    """Delete what the transaction names, leave marks, and return how many keys there were."""
    deleted = 0
    for prefix in transaction.delete_prefixes:
        values = {"prefix": prefix.strip("/"), "version": version}
        connection.execute(_MARK_PREFIX, values)
        deleted += connection.execute(_DELETE_PREFIX, values).rowcount
    for key in transaction.delete:
        connection.execute(_MARK_KEY, (version, key))
        deleted += connection.execute("DELETE FROM entries WHERE key = ?", (key,)).rowcount
    return deleted


def _create(path: Path) -> tuple[int, int]:
    """Make an empty file that only its owner can read: certificates' keys may be stored in it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(descriptor)
        return status.st_dev, status.st_ino
    finally:
        os.close(descriptor)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
    )
    try:
        # Before anything is changed: it may be a file of somebody else.
        new = _is_new(connection, path)
        _retry_busy(connection, "PRAGMA journal_mode = WAL")
        # An acknowledged write survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_BYTES}")
        if new:
            _make_schema(connection, path)
        else:
            _upgrade(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _retry_busy(connection: sqlite3.Connection, statement: str) -> None:
    """Execute a statement for which SQLite does not wait by itself when the file is busy."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(statement)
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorname.startswith("SQLITE_BUSY")
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _is_new(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether a file is empty; refuses other programs' files and those of newer versions."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application == _APPLICATION_ID:
        found = _format(connection)
        if found > _SCHEMA_VERSION:
            raise StoreError(
                f"embedded store `{path}`: its format {found} is newer than {_SCHEMA_VERSION}, "
                "the newest that this version of kvproxy knows"
            )
        return False
    if application or connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
        raise StoreError(f"embedded store `{path}`: another program's database")
    return True


def _make_schema(connection: sqlite3.Connection, path: Path) -> None:
    with _transaction(connection, "BEGIN IMMEDIATE"):
        # Another process may have been faster.
        if _is_new(connection, path):
            for statement in (_SCHEMA + _SCHEMA_OF_FORMAT_2).split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring a file of format 1, which knew no announcements, to the present format."""
    if _format(connection) == _SCHEMA_VERSION:
        return
    with _transaction(connection, "BEGIN IMMEDIATE"):
        # Another process may have been faster.
        if _format(connection) < _SCHEMA_VERSION:
            connection.execute(_SCHEMA_OF_FORMAT_2)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")


def _format(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found
