"""The files of a file provider: which there are, which changed, and what they say together."""

# There may be thousands of paths; they stay plain strings.
# ruff: noqa: PTH100, PTH114, PTH116, PTH123

from __future__ import annotations

import hashlib
import os
import stat
import time
from itertools import chain
from typing import TYPE_CHECKING, Any

from kvproxy.model.dynamic import Configuration
from kvproxy.model.problem import Problem
from kvproxy.model.sharded import ShardedMap
from providers.file_content import MAXIMUM_BYTES, FileContent, UnusableError
from providers.file_watch import QUIET_SECONDS, SUFFIX, News, Places

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from providers.toml_chunks import Entry

GONE_SECONDS = 0.1
"""A file that vanished may be on its way back (an editor renames the old one away first)."""

RECREATED_SECONDS = 1.0
"""When the directory itself was away and is back, its files have so long to come back too."""

_CHANGING_SECONDS = 0.02
_SECTIONS = ("frontends", "backends", "tls")
_TEMPLATE_SUFFIX = ".tmpl"

Signature = tuple[int, int, int, int, int]


class _ChangingError(Exception):
    """The file changed while it was being read."""


class FileSet:
    """One file, or all ``*.toml`` files below a directory, looked at again and again.

    After `look`: ``configuration``, ``problems`` and ``revision`` of what is good; ``failure`` is
    not empty when that is not what the files say now (and why); ``places`` are to be watched;
    ``again_at`` is the ``time.monotonic()`` at which a doubt can be settled, None for no doubt.
    """

    def __init__(
        self,
        path: str,
        touched: Callable[[], Collection[str]],
        *,
        directory: bool = False,
        main: bool = False,
    ) -> None:
        """Look at nothing yet. ``main``: the file is the main configuration file.

        ``touched`` tells which paths were changed in the moment that it took to read them.
        """
        self.configuration = Configuration()
        self.problems: tuple[Problem, ...] = ()
        self.failure: tuple[Problem, ...] = ()
        self.revision = ""
        self.places = Places()
        self.again_at: float | None = None
        self._shown = path
        self._path = os.path.abspath(path)
        self._touched = touched
        self._directory = directory
        self._main = main
        self._files: dict[str, _File] = {}
        self._definers: dict[Entry, list[_File]] = {}
        self._looked = False
        self._missing_since: float | None = None
        self._unreadable: list[str] = []
        self._duplicated: set[Entry] = set()
        self._warnings: list[Problem] = []

    def look(self, news: News) -> None:
        """Look for changes and read what changed. Blocks; not for two threads at a time."""
        now = time.monotonic()
        if self._look_only_at(news, now):
            return
        self.again_at = None
        self.places = Places()
        self.places.add(self._path)
        try:
            found, self._warnings = self._list()
        except OSError as error:
            self._listing_failed(error, now)
            return
        if self._missing_since is not None:
            self._missing_since = None
            for known in self._files.values():
                known.missing_since = now + RECREATED_SECONDS - GONE_SECONDS
        for path, linked in found.items():
            if linked:
                self.places.add(path)
        touched: set[Entry] = set()
        for path in found:
            file = self._files.get(path)
            if file is None:
                file = self._files[path] = self._new_file(path)
            touched |= self._look_at(file, news, now)
        for path in [path for path in self._files if path not in found]:
            file = self._files[path]
            if path.startswith(tuple(self._unreadable)):
                file.missing_since = None
            elif self._is_gone(file, now):
                del self._files[path]
                touched |= file.content.names
                self._undefine(file, file.content.names)
        self._looked = True
        self._merge(touched)
        self._tell()

    def _look_only_at(self, news: News, now: float) -> bool:
        """Look at nothing but what was finished; False when everything must be looked at."""
        if not news.only or not self._looked or self.failure or self.again_at is not None:
            return False
        files = [self._files.get(path) for path in news.finished]
        known = [file for file in files if file is not None]
        if len(known) < len(files) or any(os.path.islink(file.path) for file in known):
            return False
        touched: set[Entry] = set()
        for file in known:
            touched |= self._look_at(file, news, now)
        self._merge(touched)
        self._tell()
        return True

    def _list(self) -> tuple[dict[str, bool], list[Problem]]:
        """Return the paths of all files (True: through a link) in order, and warnings."""
        if not self._directory:
            return {self._path: True}, []
        warnings: list[Problem] = []
        self._unreadable.clear()
        found = dict(sorted(self._walk(self._path, set(), warnings, linked=False)))
        return found, warnings

    def _walk(
        self, directory: str, seen: set[tuple[int, int]], warnings: list[Problem], *, linked: bool
    ) -> Iterator[tuple[str, bool]]:
        """Yield the files below a directory without hidden ones, such as Kubernetes' ``..data``."""
        status = os.stat(directory)
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        self.places.directories.add(directory)
        with os.scandir(directory) as entries:
            children = sorted(entries, key=lambda entry: entry.name)
        for child in children:
            if child.name.startswith("."):
                continue
            by_link = linked or child.is_symlink()
            if _is_directory(child):
                try:
                    yield from self._walk(child.path, seen, warnings, linked=by_link)
                except OSError as error:
                    # What it held before goes on being served: a lost right is not a deletion.
                    self._unreadable.append(child.path + "/")
                    warnings.append(_unreadable(error, self._show(child.path)))
            elif child.name.endswith(SUFFIX):
                yield child.path, by_link
            elif child.name.endswith(_TEMPLATE_SUFFIX):
                warnings.append(
                    Problem(
                        message="templates are not read",
                        where=self._show(child.path),
                        expected=f"a *{SUFFIX} file",
                        fatal=False,
                    )
                )

    def _listing_failed(self, error: OSError, now: float) -> None:
        """Keep everything: a directory that is replaced is missing for a moment."""
        if self._missing_since is None:
            self._missing_since = now
        brief = now - self._missing_since < GONE_SECONDS
        if self._looked and brief and isinstance(error, FileNotFoundError):
            self._look_again(self._missing_since + GONE_SECONDS)
            return
        self.failure = (_unreadable(error, self._shown),)

    def _new_file(self, path: str) -> _File:
        shown = self._show(path)
        relative = _printable(path.removeprefix(self._path).lstrip("/"))
        certificates = f"{relative}:" if self._directory else ""
        return _File(path, FileContent(shown, certificates=certificates, main=self._main))

    def _show(self, path: str) -> str:
        """Return a path as the user wrote its begin."""
        below = path.removeprefix(self._path)
        return _printable(self._shown.rstrip("/") + below if below else self._shown)

    def _look_at(self, file: _File, news: News, now: float) -> set[Entry]:
        """Read one file if it changed and is not being written; return the touched entries."""
        try:
            signature = _signature(os.stat(file.path))
        except OSError as error:
            if self._is_gone(file, now) or not isinstance(error, FileNotFoundError):
                file.problem = _unreadable(error, file.content.name)
                file.signature = None
            return set()
        file.missing_since = None
        if signature == file.signature and file.path not in news.finished:
            return set()
        if not self._is_settled(file, signature, news, now):
            return set()
        file.signature = signature
        try:
            text, file.signature = _read(file.path, file.content.name)
            if file.path in self._touched():
                raise _ChangingError
            if not text and not self._is_quiet(file, signature, now):
                # Opening a file to write it anew empties it, and that is told only afterwards.
                file.signature = None
                return set()
            before = file.content.names if self._directory else set()
            touched = file.content.update(text)
        except _ChangingError:
            file.signature = None
            self._look_again(now + _CHANGING_SECONDS)
            return set()
        except OSError as error:
            file.problem = _unreadable(error, file.content.name)
            return set()
        except UnusableError as error:
            file.problem = error.problem
            return set()
        file.problem = None
        file.digest = hashlib.sha256(text).hexdigest()
        if self._directory and touched:
            after = file.content.names
            self._undefine(file, before - after)
            for entry in after - before:
                definers = self._definers.setdefault(entry, [])
                definers.append(file)
                if len(definers) > 1:
                    definers.sort(key=lambda each: each.path)
                    self._duplicated.add(entry)
        return touched

    def _is_settled(self, file: _File, signature: Signature, news: News, now: float) -> bool:
        """Whether a changed file may be read, rather than being in the middle of a write."""
        if not self._looked or file.path in news.finished:
            return True
        if file.path in news.written:
            return False
        return news.told or self._is_quiet(file, signature, now)

    def _is_quiet(self, file: _File, signature: Signature, now: float) -> bool:
        """Whether a file has been as it is for long enough to be believed without being told."""
        if not self._looked:
            return True
        if file.noticed != signature:
            file.noticed, file.noticed_at = signature, now
        if now - file.noticed_at >= QUIET_SECONDS:
            return True
        self._look_again(file.noticed_at + QUIET_SECONDS)
        return False

    def _is_gone(self, file: _File, now: float) -> bool:
        """Whether a missing file has been missing for long enough."""
        if file.missing_since is None:
            file.missing_since = now
        if not self._looked or now - file.missing_since >= GONE_SECONDS:
            return True
        self._look_again(file.missing_since + GONE_SECONDS)
        return False

    def _look_again(self, at: float) -> None:
        self.again_at = at if self.again_at is None else min(self.again_at, at)

    def _undefine(self, file: _File, entries: Iterable[Entry]) -> None:
        if not self._directory:
            return
        for entry in entries:
            definers = self._definers[entry]
            definers.remove(file)
            if len(definers) < 2:
                self._duplicated.discard(entry)
            if not definers:
                del self._definers[entry]

    def _definer(self, entry: Entry) -> _File | None:
        """Return the file whose version of an entry counts: the first."""
        if self._directory:
            definers = self._definers.get(entry)
            return definers[0] if definers else None
        return self._files.get(self._path)

    def _merge(self, touched: set[Entry]) -> None:
        """Bring the touched entries into the configuration."""
        changes: dict[str, dict[str, Any]] = {}
        for entry in touched:
            section, name = entry
            file = self._definer(entry)
            content = None if file is None else file.content.entries.get(entry)
            if getattr(self.configuration, section).get(name) is not content:
                changes.setdefault(section, {})[name] = content
        if changes:
            maps = {name: getattr(self.configuration, name) for name in _SECTIONS}
            for section, changed in changes.items():
                maps[section] = ShardedMap.of(maps[section]).changed(changed)
            self.configuration = Configuration(**maps)

    def _tell(self) -> None:
        """Put together the problems and the revision."""
        files = [self._files[path] for path in sorted(self._files)]
        warnings = tuple(self._warnings)
        if not files:
            message = f"there is no *{SUFFIX} file in the directory"
            warnings = (*warnings, Problem(message=message, where=self._shown, fatal=False))
        broken = tuple(file.problem for file in files if file.problem is not None)
        # Without a directory there is nothing else to serve; with nothing read yet, neither.
        self.failure = broken if not any(f.digest for f in files) or not self._directory else ()
        self.problems = (
            *warnings,
            *(() if self.failure else broken),
            *chain.from_iterable(self._problems_of(file) for file in files),
            *self._duplicates(),
        )
        if self._directory:
            names = "".join(f"{file.content.name}\0{file.digest}\0" for file in files)
            self.revision = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()
        elif files:
            self.revision = files[0].digest

    def _problems_of(self, file: _File) -> Iterable[Problem]:
        """Return the problems of a file, without those of entries that another file defines."""
        if not self._directory:
            return file.content.problems
        return [
            problem
            for problem in file.content.problems
            if problem.entry is None or self._definer(problem.entry) is file
        ]

    def _duplicates(self) -> Iterable[Problem]:
        for entry in sorted(self._duplicated):
            section, name = entry
            used, *others = self._definers[entry]
            for other in others:
                yield Problem(
                    message=f"is defined in {used.content.place(entry)} too, which is used",
                    where=other.content.place(entry),
                    path=f"{section}.{name}",
                    fatal=False,
                )


class _File:
    """One file: its last good content, and what is known about the file itself."""

    def __init__(self, path: str, content: FileContent) -> None:
        self.path = path
        self.content = content
        self.problem: Problem | None = None
        self.digest = ""
        self.signature: Signature | None = None
        self.noticed: Signature | None = None
        self.noticed_at = 0.0
        self.missing_since: float | None = None


def _signature(status: os.stat_result) -> Signature:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself, for example: reading it as a file tells what is wrong.
        return False


def _read(path: str, name: str) -> tuple[bytes, Signature]:
    """Return the content of a file that did not change meanwhile."""
    # Without O_NONBLOCK, opening a named pipe would wait for a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableError(Problem(message="not a regular file", where=name))
        if status.st_size > MAXIMUM_BYTES:
            raise UnusableError(
                Problem(
                    message=f"the file is too large ({status.st_size:,} bytes)",
                    where=name,
                    expected=f"at most {MAXIMUM_BYTES:,} bytes; split it and use a directory",
                )
            )
        text = file.read(MAXIMUM_BYTES + 1)
        signature = _signature(os.fstat(descriptor))
    if signature != _signature(status):
        raise _ChangingError
    return text, signature


def _printable(path: str) -> str:
    """Return a path as text that every encoder takes: file names need not be UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _unreadable(error: OSError, where: str) -> Problem:
    return Problem(message=f"cannot be read: {error.strerror or error}", where=where)
