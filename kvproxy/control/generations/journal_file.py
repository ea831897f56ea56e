"""The journal's file: its tables, and each reading and writing as one transaction.

A row of ``entries`` is one served entry as it is now. A row of ``history`` is one generation, and
its ``undo`` tells how to get from it back to the one before; so a generation costs what it changed,
and any generation that is kept can be put together from the entries of now. Content is kept as the
very bytes that its digest was made of, so that a later version of the model can still verify it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from kvproxy.model.digest import add_digests, digest_text, encode_content, encoded_digest
from kvproxy.model.messages import BackendEntry, CertificateEntry, FrontendEntry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from kvproxy.control.generations.generation import Changes, Generation
    from kvproxy.model.digest import Section
    from kvproxy.model.messages import EntryKey

_APPLICATION_ID = 0x6B767078
_SCHEMA_VERSION = 1
_SECTIONS: tuple[Section, ...] = ("frontends", "backends", "tls")
_BUSY_SECONDS = 5.0
_KEPT_LOG_BYTES = 4 * 1024 * 1024

_SCHEMA = (
    "CREATE TABLE writer (token TEXT NOT NULL)",
    "CREATE TABLE providers (name TEXT PRIMARY KEY, revision TEXT NOT NULL, read_at REAL NOT NULL,"
    " digest TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE entries (provider TEXT, section TEXT, name TEXT, digest BLOB NOT NULL,"
    " content BLOB NOT NULL, PRIMARY KEY (provider, section, name)) WITHOUT ROWID",
    "CREATE TABLE history (number INTEGER PRIMARY KEY, digest TEXT NOT NULL,"
    " created_at REAL NOT NULL, revisions TEXT NOT NULL, counts TEXT NOT NULL,"
    " bytes INTEGER NOT NULL)",
    "CREATE TABLE undo (number INTEGER PRIMARY KEY, entries BLOB NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)


class JournalError(Exception):
    """The journal cannot be used."""


class JournalDamagedError(JournalError):
    """What was read is not what was written, or is no journal; the message says what."""


class JournalTakenError(JournalError):
    """Another process has taken the journal over; this one must not write any more."""


class Counts(Struct, frozen=True):
    """How many entries of one section a generation added, changed and removed."""

    added: int = 0
    changed: int = 0
    removed: int = 0


class HistoryEntry(Struct, frozen=True, kw_only=True):
    """One generation as the history lists it; ``created_at``: ``time.time()``."""

    number: int
    digest: str
    created_at: float
    revisions: dict[str, str]
    frontends: Counts
    backends: Counts
    tls: Counts = Counts()


class Record(Struct, frozen=True):
    """What is written of a generation: all of it but its maps. ``read_at``: by provider."""

    number: int
    digest: str
    created_at: float
    revisions: dict[str, str]
    read_at: dict[str, float]
    base: int
    changes: Changes


class StoredEntry(Struct, frozen=True):
    """One entry as bytes, with the digest computed anew from them."""

    provider: str
    section: str
    name: str
    content: bytes
    digest: bytes


class StoredProvider(Struct, frozen=True):
    """The last known good state of one provider, verified."""

    name: str
    revision: str
    read_at: float
    entries: list[StoredEntry]


_Place = tuple[str, str, str]
"""Provider, section, name: the key of an entry."""

_Undo = dict[_Place, bytes | None]
"""Place to the content before; None: there was no such entry."""

_Stored = dict[_Place, tuple[bytes, bytes] | None]
"""Place to (digest, content) of now; None: there is no such entry any more."""

_Entry = FrontendEntry | BackendEntry | CertificateEntry

_SELECT_HISTORY = (
    "SELECT number, digest, created_at, revisions, counts FROM history ORDER BY number DESC"
)
_SELECT_HISTORY_OF = (
    "SELECT number, digest, created_at, revisions, counts FROM history WHERE number = ?"
)


class JournalFile:
    """One connection to a journal. To be used from one thread at a time.

    Every method may raise `sqlite3.Error` (disk full, locked) and, when it reads,
    `JournalDamagedError`.
    """

    def __init__(self, path: Path) -> None:
        """Open the journal and create it if there is none, readable by this user alone.

        Raises OSError, also when the file is a symbolic link, and `JournalDamagedError`.
        """
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)
        self._connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            with _reading():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def last(self) -> tuple[int, str]:
        """Return number and digest of the newest generation; 0 and an empty text if there is
        none."""
        with _reading():
            row = self._connection.execute(
                "SELECT number, digest FROM history ORDER BY number DESC LIMIT 1"
            ).fetchone()
        return (int(row[0]), str(row[1])) if row else (0, "")

    def providers(self, names: Iterable[str]) -> list[StoredProvider]:
        """Return the last known good state of the providers that are known, each verified."""
        with _reading(), self._transaction("DEFERRED"):
            return [
                StoredProvider(name, str(revision), float(read_at), self._verified(name, digest))
                for name, revision, read_at, digest in self._connection.execute(
                    "SELECT name, revision, read_at, digest FROM providers ORDER BY name"
                ).fetchall()
                if name in names
            ]

    def history(self) -> list[HistoryEntry]:
        """Return the generations that are kept, the newest first."""
        with _reading():
            return [_history_entry(row) for row in self._connection.execute(_SELECT_HISTORY)]

    def generation(self, number: int) -> tuple[HistoryEntry, list[StoredEntry]] | None:
        """Return a kept generation with its entries, verified; None when it is not kept."""
        with _reading(), self._transaction("DEFERRED"):
            row = self._connection.execute(_SELECT_HISTORY_OF, (number,)).fetchone()
            if row is None:
                return None
            known = _history_entry(row)
            contents: dict[_Place, bytes] = {
                (provider, section, name): content
                for provider, section, name, content in self._connection.execute(
                    "SELECT provider, section, name, content FROM entries"
                )
            }
            for (packed,) in self._connection.execute(
                "SELECT entries FROM undo WHERE number > ? ORDER BY number DESC", (number,)
            ):
                for place, content in _unpack(packed).items():
                    if content is None:
                        contents.pop(place, None)
                    else:
                        contents[place] = content
            entries = [
                _stored_entry(*place, content)
                for place, content in contents.items()
                if place[0] in known.revisions
            ]
        if _digest_of(entries) != known.digest:
            raise JournalDamagedError(f"the entries of generation {number} do not fit its digest")
        return known, entries

    def take_over(self, token: str) -> None:
        """Become the only writer: whoever wrote before is refused from now on."""
        with self._transaction("IMMEDIATE"):
            self._connection.execute("DELETE FROM writer")
            self._connection.execute("INSERT INTO writer VALUES (?)", (token,))

    def write(self, record: Record, token: str) -> bool:
        """Write a generation that was made from the newest one that is written; False if it was
        not.

        Costs what the generation changed. Raises `JournalTakenError` when another process took
        over.
        """
        undo: _Undo = {}
        stored: _Stored = {}
        for section, changes in _sections(record.changes):
            for (provider, name), (old, new) in changes.items():
                place = (provider, section, name)
                undo[place] = None if old is None else encode_entry(old)
                stored[place] = None if new is None else (new.digest, encode_entry(new))
        with self._transaction("IMMEDIATE"):
            self._check_owner(token)
            if self.last()[0] != record.base:
                return False
            self._store(record, stored, undo)
        return True

    def write_whole(
        self,
        record: Record,
        generation: Generation,
        configured: frozenset[str] | None,
        token: str,
    ) -> None:
        """Write a generation whatever is written; ``record`` describes it, its changes are not
        used.

        Entries of providers that the generation does not know are kept while they are
        ``configured`` (None: all are): such a provider has not spoken yet. Raises
        `JournalTakenError`.
        """
        with self._transaction("IMMEDIATE"):
            self._check_owner(token)
            known = record.revisions
            before: dict[_Place, bytes] = {
                (provider, section, name): digest
                for provider, section, name, digest in self._connection.execute(
                    "SELECT provider, section, name, digest FROM entries"
                )
                if provider in known or (configured is not None and provider not in configured)
            }
            stored: _Stored = {}
            for section, entries in _maps(generation):
                for (provider, name), entry in entries.items():
                    place = (provider, section, name)
                    if before.pop(place, None) != entry.digest:
                        stored[place] = (entry.digest, encode_entry(entry))
            stored.update(dict.fromkeys(before))
            self._store(record, stored, {place: self._content(place) for place in stored})

    def prune(self, keep: int, keep_bytes: int) -> None:
        """Forget the oldest generations until at most ``keep`` of ``keep_bytes`` are left, at least
        1."""
        with self._transaction("IMMEDIATE"):
            sizes = self._connection.execute(
                "SELECT number, bytes FROM history ORDER BY number DESC"
            ).fetchall()
            total = 0
            for place, (number, size) in enumerate(sizes):
                total += size
                if place and (place >= keep or total > keep_bytes):
                    self._forget(f"number <= {int(number)}")
                    return

    def _prepare(self) -> None:
        execute = self._connection.execute
        application, version, tables = (
            execute("PRAGMA application_id").fetchone()[0],
            execute("PRAGMA user_version").fetchone()[0],
            execute("SELECT count(*) FROM sqlite_master").fetchone()[0],
        )
        execute("PRAGMA journal_mode = WAL")
        # A power cut may cost the newest generations, never the file; a dying process costs
        # nothing.
        execute("PRAGMA synchronous = NORMAL")
        execute(f"PRAGMA journal_size_limit = {_KEPT_LOG_BYTES}")
        if tables == 0:
            with self._transaction("IMMEDIATE"):
                if execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
                    for statement in _SCHEMA:
                        execute(statement)
        elif (application, version) != (_APPLICATION_ID, _SCHEMA_VERSION):
            raise JournalDamagedError("the file is no journal of this version")

    @contextlib.contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[None]:
        self._connection.execute(f"BEGIN {kind}")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def _check_owner(self, token: str) -> None:
        row = self._connection.execute("SELECT token FROM writer").fetchone()
        if row is None or row[0] != token:
            raise JournalTakenError("another process writes the journal now")

    def _content(self, place: _Place) -> bytes | None:
        row = self._connection.execute(
            "SELECT content FROM entries WHERE provider = ? AND section = ? AND name = ?", place
        ).fetchone()
        return None if row is None else row[0]

    def _verified(self, provider: str, digest: str) -> list[StoredEntry]:
        entries = [
            _stored_entry(provider, section, name, content)
            for section, name, content in self._connection.execute(
                "SELECT section, name, content FROM entries WHERE provider = ?", (provider,)
            )
        ]
        if _digest_of(entries) != digest:
            raise JournalDamagedError(
                f"the entries of provider `{provider}` do not fit their digest"
            )
        return entries

    def _store(self, record: Record, stored: _Stored, undo: _Undo) -> None:
        """Write inside a transaction: the entries, the providers and the history row."""
        counts = {section: _count(section, stored, undo) for section in _SECTIONS}
        self._sum_up(record, stored)
        self._connection.executemany(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?)",
            [(*place, *entry) for place, entry in stored.items() if entry is not None],
        )
        self._connection.executemany(
            "DELETE FROM entries WHERE provider = ? AND section = ? AND name = ?",
            [place for place, entry in stored.items() if entry is None],
        )
        # A generation of this number or above can only stem from a process that we took over from:
        # its steps become part of this one.
        for (packed,) in self._connection.execute(
            "SELECT entries FROM undo WHERE number >= ? ORDER BY number DESC", (record.number,)
        ).fetchall():
            undo.update(_unpack(packed))
        self._forget(f"number >= {record.number}")
        packed = _pack(undo)
        revisions = msgspec.json.encode(record.revisions).decode()
        self._connection.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)",
            (
                record.number,
                record.digest,
                record.created_at,
                revisions,
                msgspec.json.encode(counts).decode(),
                len(packed) + len(revisions),
            ),
        )
        self._connection.execute("INSERT INTO undo VALUES (?, ?)", (record.number, packed))

    def _sum_up(self, record: Record, stored: _Stored) -> None:
        """Bring the providers' rows up to date before their entries are."""
        added: dict[str, list[bytes]] = {provider: [] for provider in record.revisions}
        removed: dict[str, list[bytes]] = {}
        for place, entry in stored.items():
            if entry is not None:
                added.setdefault(place[0], []).append(entry[0])
            row = self._connection.execute(
                "SELECT digest FROM entries WHERE provider = ? AND section = ? AND name = ?", place
            ).fetchone()
            if row is not None:
                removed.setdefault(place[0], []).append(row[0])
        for provider in {**added, **removed}:
            if provider not in record.revisions:
                self._connection.execute("DELETE FROM providers WHERE name = ?", (provider,))
                continue
            row = self._connection.execute(
                "SELECT digest FROM providers WHERE name = ?", (provider,)
            ).fetchone()
            digest = add_digests(
                int(row[0], 16) if row else 0, added.get(provider, ()), removed.get(provider, ())
            )
            self._connection.execute(
                "INSERT OR REPLACE INTO providers VALUES (?, ?, ?, ?)",
                (
                    provider,
                    record.revisions[provider],
                    record.read_at.get(provider, record.created_at),
                    digest_text(digest),
                ),
            )

    def _forget(self, condition: str) -> None:
        self._connection.execute(f"DELETE FROM history WHERE {condition}")
        self._connection.execute(f"DELETE FROM undo WHERE {condition}")


def encode_entry(entry: _Entry) -> bytes:
    """Return the bytes of an entry's content that its digest is made of."""
    if isinstance(entry, FrontendEntry):
        return encode_content(entry.frontend)
    return encode_content(entry.backend if isinstance(entry, BackendEntry) else entry.certificate)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turn what only a damaged file can cause into `JournalDamagedError`."""
    try:
        yield
    except (msgspec.DecodeError, zlib.error, ValueError, TypeError, UnicodeError) as error:
        raise JournalDamagedError(f"unreadable: {error}") from error
    except sqlite3.DatabaseError as error:
        if is_corruption(error):
            raise JournalDamagedError(str(error)) from error
        raise


def is_corruption(error: sqlite3.Error) -> bool:
    """Whether SQLite found the file damaged or to be no database (and not just locked or full)."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)


def _sections(
    changes: Changes,
) -> tuple[tuple[str, Mapping[EntryKey, tuple[_Entry | None, _Entry | None]]], ...]:
    return (
        ("frontends", changes.frontends),
        ("backends", changes.backends),
        ("tls", changes.certificates),
    )


def _maps(
    generation: Generation,
) -> tuple[tuple[str, Mapping[EntryKey, _Entry]], ...]:
    return (
        ("frontends", generation.frontends),
        ("backends", generation.backends),
        ("tls", generation.certificates),
    )


def _count(section: str, stored: _Stored, undo: _Undo) -> Counts:
    places = [place for place in stored if place[1] == section]
    return Counts(
        added=sum(undo[place] is None for place in places),
        changed=sum(undo[place] is not None and stored[place] is not None for place in places),
        removed=sum(stored[place] is None for place in places),
    )


def _history_entry(row: tuple[object, ...]) -> HistoryEntry:
    number, digest, created_at, revisions, counts = row
    by_section = msgspec.json.decode(str(counts), type=dict[str, Counts])
    return msgspec.convert(
        {
            "number": number,
            "digest": digest,
            "created_at": created_at,
            "revisions": msgspec.json.decode(str(revisions)),
            "frontends": by_section.get("frontends", Counts()),
            "backends": by_section.get("backends", Counts()),
            "tls": by_section.get("tls", Counts()),
        },
        HistoryEntry,
    )


def _stored_entry(provider: object, section: object, name: object, content: object) -> StoredEntry:
    if (
        isinstance(provider, str)
        and isinstance(name, str)
        and isinstance(content, bytes)
        and (section == "frontends" or section == "backends" or section == "tls")
    ):
        digest = encoded_digest(section, provider, name, content)
        return StoredEntry(provider, section, name, content, digest)
    raise JournalDamagedError("a row of entries is not as it was written")


def _digest_of(entries: Iterable[StoredEntry]) -> str:
    return digest_text(add_digests(0, [entry.digest for entry in entries]))


def _pack(undo: _Undo) -> bytes:
    rows = [(*place, content) for place, content in undo.items()]
    return zlib.compress(msgspec.msgpack.encode(rows), 1)


def _unpack(packed: bytes) -> _Undo:
    rows = msgspec.msgpack.decode(
        zlib.decompress(packed), type=list[tuple[str, str, str, bytes | None]]
    )
    return {(provider, section, name): content for provider, section, name, content in rows}
