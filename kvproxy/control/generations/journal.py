"""The journal: the last known good configuration of each provider and the history, on disk.

Written in order by a thread of its own, so that a slow disk delays nothing. Whatever happens to the
disk or the file, serving goes on: a damaged journal is moved aside and a new one started, a failed
write is repeated whole, and all of it is said in `Journal.problems` and the log.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from kvproxy.control.generations.generation import Changes, Generation
from kvproxy.control.generations.journal_file import (
    HistoryEntry,
    JournalDamagedError,
    JournalFile,
    JournalTakenError,
    Record,
    is_corruption,
)
from kvproxy.model.dynamic import Backend, Frontend
from kvproxy.model.messages import BackendEntry, CertificateEntry, FrontendEntry
from kvproxy.model.problem import Problem
from kvproxy.model.tls import ServedCertificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kvproxy.control.generations.journal_file import StoredEntry

logger = logging.getLogger("kvproxy.control.journal")

FILE_NAME = "journal.db"
KEEP_GENERATIONS = 1000
KEEP_BYTES = 64 * 1024 * 1024

_LONGEST_QUEUE = 256
_RETRY_SECONDS = 5.0

_decode_frontend = msgspec.msgpack.Decoder(Frontend).decode
_decode_backend = msgspec.msgpack.Decoder(Backend).decode
_decode_certificate = msgspec.msgpack.Decoder(ServedCertificate).decode

Answer = TypeVar("Answer")


class GoodProvider(Struct, frozen=True):
    """What a provider said last that was good, with the revision and time of that read."""

    provider: str
    revision: str
    read_at: float
    frontends: tuple[FrontendEntry, ...]
    backends: tuple[BackendEntry, ...]
    certificates: tuple[CertificateEntry, ...] = ()


class LastGood(Struct, frozen=True):
    """The newest generation of the journal and the providers' entries; number 0: there is none."""

    number: int
    digest: str
    providers: tuple[GoodProvider, ...]


class _Item(Struct, frozen=True):
    """A generation to write; its maps only where they are needed."""

    record: Record
    generation: Generation | None


class _Condemned(Struct, frozen=True):
    """A damaged file that must be moved aside, and why."""

    reason: str
    inode: int


class Journal:
    """The journal of one state directory.

    A process that writes takes the journal over: an older process (a version of the program that is
    being replaced) stops writing. `history`, `generation` and `restore` read from disk in the
    calling thread; all methods may be called from any thread.
    """

    def __init__(
        self,
        directory: Path,
        keep_generations: int = KEEP_GENERATIONS,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        """Open or create ``journal.db`` in ``directory``; never raises for what is found there.

        ``last_number`` is the number of the newest generation that was found in it, 0 if none.
        """
        self.path = directory / FILE_NAME
        self.last_number = 0
        self._keep = (keep_generations, keep_bytes)
        self._token = secrets.token_hex(16)
        self._configured: frozenset[str] | None = None
        self._problems: dict[str, Problem] = {}
        self._changed = threading.Condition()
        # Under the condition: what the writer has to do and how far it is.
        self._queue: deque[_Item] = deque()
        self._newest: _Item | None = None
        self._last_recorded = 0
        self._condemned: _Condemned | None = None
        self._pause = 0.0
        self._behind = False
        self._busy = False
        self._closing = False
        self._lost = False
        # The writer's own.
        self._file: JournalFile | None = None
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.last_number = self._last_recorded = self._read(JournalFile.last)[0]
        except JournalDamagedError:
            # The writer, which starts below, moves it aside.
            pass
        except (OSError, sqlite3.Error) as error:
            self._report("open", f"the journal cannot be used: {error}")
        self._thread = threading.Thread(target=self._run, name="kvproxy-journal", daemon=True)
        self._thread.start()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the journal now or was found damaged since the start."""
        return tuple(self._problems.values())

    @property
    def taken_over(self) -> bool:
        """Whether another process writes the journal now, so that this one does not any more."""
        return self._lost

    def record(self, generation: Generation, read_at: dict[str, float]) -> None:
        """Have a generation written soon; returns at once.

        ``read_at``: provider to the time of the read that the generation holds. When the disk does
        not keep up, generations between are left out of the history, never the newest.
        """
        record = Record(
            generation.number,
            generation.digest,
            generation.created_at,
            generation.revisions,
            read_at,
            generation.base,
            generation.changes,
        )
        with self._changed:
            if self._closing or self._lost:
                return
            if len(self._queue) >= _LONGEST_QUEUE:
                self._queue.clear()
            # A generation that does not follow the one before it has to be written whole. Only then
            # is it kept: its maps are large, its changes are not.
            follows = record.base == self._last_recorded
            self._queue.append(_Item(record, None if follows else generation))
            self._newest = _Item(record, generation)
            self._last_recorded = record.number
            self._changed.notify_all()

    def restore(self, configured: Iterable[str]) -> LastGood:
        """Return the last known good entries of the configured providers, each verified by digest.

        A damaged journal yields nothing, is moved aside and reported. Entries of providers that are
        not ``configured`` are dropped from the journal with the next generation.
        """
        names = frozenset(configured)
        with self._changed:
            self._configured = names
        try:
            return self._read(lambda file: _last_good(file, names))
        except JournalDamagedError:
            return LastGood(0, "", ())
        except (OSError, sqlite3.Error) as error:
            self._report("read", f"the journal cannot be read: {error}")
            return LastGood(0, "", ())

    def history(self) -> list[HistoryEntry]:
        """Return the generations that are kept, the newest first.

        Raises `JournalDamagedError`, OSError or `sqlite3.Error`.
        """
        return self._read(JournalFile.history)

    def generation(self, number: int) -> Generation | None:
        """Return a kept generation, verified by its digest; None when it is not kept.

        Costs reading every entry. Raises `JournalDamagedError`, OSError or `sqlite3.Error`.
        """
        return self._read(lambda file: _generation(file, number))

    def flush(self, timeout: float) -> bool:
        """Wait until everything recorded is on disk; False when that takes over ``timeout``
        seconds."""
        with self._changed:
            return self._changed.wait_for(
                lambda: not (self._queue or self._busy or self._behind or self._condemned), timeout
            )

    def close(self, timeout: float = 10.0) -> None:
        """Write what waits and stop; gives up after ``timeout`` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _read(self, question: Callable[[JournalFile], Answer]) -> Answer:
        """Ask the file through a connection of its own; what is corrupt will be moved aside."""
        inode = _inode(self.path)
        try:
            file = JournalFile(self.path)
            try:
                return question(file)
            finally:
                file.close()
        except JournalDamagedError as error:
            with self._changed:
                self._condemned = _Condemned(str(error), inode)
                self._changed.notify_all()
            raise

    def _run(self) -> None:
        while (newest := self._next()) is not None:
            try:
                self._work(*newest)
                failure: Exception | None = None
            except JournalTakenError as error:
                logger.info("%s", error)
                failure = error
            except (OSError, sqlite3.Error, JournalDamagedError) as error:
                self._report("write", f"the journal cannot be written: {error}")
                failure = error
            if self._settle(failure):
                break
        if self._file is not None:
            self._file.close()

    def _next(self) -> tuple[_Item | None, _Item | None] | None:
        """Wait for work: the next item (None: write the newest one whole), and the newest one."""
        with self._changed:
            if self._pause:
                self._changed.wait_for(lambda: self._closing, self._pause)
            else:
                self._changed.wait_for(lambda: self._queue or self._condemned or self._closing)
            if not (self._queue or self._condemned or self._behind):
                return None
            self._busy = True
            if self._behind or self._condemned:
                self._queue.clear()
            return self._queue.popleft() if self._queue else None, self._newest

    def _work(self, item: _Item | None, newest: _Item | None) -> None:
        if self._condemned:
            self._set_aside()
        if newest is None:
            return
        if self._file is None:
            file = JournalFile(self.path)
            file.take_over(self._token)
            self._file = file
        if item is None or item.generation is not None:
            self._write_whole(self._file, item or newest)
        elif not self._file.write(item.record, self._token):
            with self._changed:
                self._queue = deque(
                    waiting
                    for waiting in self._queue
                    if waiting.record.number > newest.record.number
                )
            self._write_whole(self._file, newest)
        self._file.prune(*self._keep)
        for kind in ("open", "read", "write"):
            self._problems.pop(kind, None)

    def _write_whole(self, file: JournalFile, item: _Item) -> None:
        if item.generation is not None:
            file.write_whole(item.record, item.generation, self._configured, self._token)

    def _settle(self, failure: Exception | None) -> bool:
        """Note how the work ended; True when it was the last."""
        corrupt = isinstance(failure, JournalDamagedError) or (
            isinstance(failure, sqlite3.Error) and is_corruption(failure)
        )
        with self._changed:
            # A damaged file is replaced at once; if that does not help, not in a tight loop.
            again = failure is not None and (self._behind or not corrupt)
            self._pause = _RETRY_SECONDS if again else 0.0
            self._busy = False
            self._lost = isinstance(failure, JournalTakenError)
            self._behind = failure is not None and not self._lost
            if corrupt:
                self._condemned = _Condemned(str(failure), _inode(self.path))
            if self._lost:
                self._queue.clear()
            self._changed.notify_all()
            return self._lost or (self._behind and self._closing)

    def _set_aside(self) -> None:
        """Move a damaged journal out of the way; one is kept for whoever wants to look at it."""
        with self._changed:
            condemned, self._condemned = self._condemned, None
        if condemned is None or condemned.inode != _inode(self.path):
            # Two readers may have met the same damage; the file is a new one by now.
            return
        if self._file is not None:
            self._file.close()
            self._file = None
        aside = self.path.with_name(f"{FILE_NAME}.damaged")
        for suffix in ("-wal", "-shm", ""):
            try:
                Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")
            except FileNotFoundError:
                # SQLite removes its logs by itself, whenever a reader closes the file.
                Path(f"{aside}{suffix}").unlink(missing_ok=True)
        self._report(
            "damaged",
            f"the journal was damaged and is not used: {condemned.reason}; it was moved to {aside}",
        )

    def _report(self, kind: str, message: str) -> None:
        problem = Problem(message=message, where=str(self.path), fatal=False)
        if self._problems.get(kind) != problem:
            self._problems[kind] = problem
            logger.error("%s", problem)


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def _last_good(file: JournalFile, names: frozenset[str]) -> LastGood:
    number, digest = file.last()
    good = []
    for provider in file.providers(names):
        entries = _entries(provider.entries)
        good.append(GoodProvider(provider.name, provider.revision, provider.read_at, *entries))
    return LastGood(number, digest, tuple(good))


def _generation(file: JournalFile, number: int) -> Generation | None:
    found = file.generation(number)
    if found is None:
        return None
    known, entries = found
    frontends, backends, certificates = _entries(entries)
    return Generation(
        number=known.number,
        digest=known.digest,
        revisions=known.revisions,
        frontends={(entry.provider, entry.name): entry for entry in frontends},
        backends={(entry.provider, entry.name): entry for entry in backends},
        certificates={(entry.provider, entry.name): entry for entry in certificates},
        created_at=known.created_at,
        base=-1,
        changes=Changes(),
    )


def _entries(
    entries: Iterable[StoredEntry],
) -> tuple[tuple[FrontendEntry, ...], tuple[BackendEntry, ...], tuple[CertificateEntry, ...]]:
    """Decode entries; raises `JournalDamagedError` when the model does not know their content."""
    frontends: list[FrontendEntry] = []
    backends: list[BackendEntry] = []
    certificates: list[CertificateEntry] = []
    try:
        for stored in entries:
            if stored.section == "frontends":
                frontend = _decode_frontend(stored.content)
                frontends.append(
                    FrontendEntry(stored.provider, stored.name, stored.digest, frontend)
                )
            elif stored.section == "backends":
                backend = _decode_backend(stored.content)
                backends.append(BackendEntry(stored.provider, stored.name, stored.digest, backend))
            else:
                certificate = _decode_certificate(stored.content)
                certificates.append(
                    CertificateEntry(stored.provider, stored.name, stored.digest, certificate)
                )
    except msgspec.DecodeError as error:
        raise JournalDamagedError(f"an entry cannot be decoded: {error}") from error
    return tuple(frontends), tuple(backends), tuple(certificates)
