"""One file of the file provider: its text, its entries, and what a new text changes in them."""

from __future__ import annotations

import logging
import re
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from kvproxy.model.decode import SECTIONS, decode_configuration, decode_entry
from kvproxy.model.problem import Problem
from kvproxy.model.toml import TomlError, load_toml
from providers.toml_chunks import Change, Chunks, Entry, cut

if TYPE_CHECKING:
    from collections.abc import Callable

    from kvproxy.model.dynamic import Backend, Frontend, TLSCertificate

    Decoded = Frontend | Backend | TLSCertificate

MAXIMUM_BYTES = 64 * 1024 * 1024
"""Larger files are refused: 100,000 frontends with their backends take 25 MB."""

_PAGE_BYTES = 4096
_CUT_SECTIONS = ("frontends", "backends")
_SECTION_AS_KEY = re.compile(
    rb"^[ \t]*[\"']?(?:frontends|backends)[\"']?[ \t]*[.=]", re.MULTILINE | re.IGNORECASE
)
_encode = msgspec.msgpack.encode
_logger = logging.getLogger(__name__)


class UnusableError(Exception):
    """A text that must not take the place of the one before; ``problem`` says why and where."""

    def __init__(self, problem: Problem) -> None:
        """Keep ``problem``."""
        super().__init__(str(problem))
        self.problem = problem


class _Document(NamedTuple):
    """The plain data of one entry, and where its keys stand."""

    data: Any
    where: Callable[[tuple[str, ...]], str]


class _Reading(NamedTuple):
    """What a new text says: the entries read anew and those that are gone."""

    documents: dict[Entry, _Document]
    gone: set[Entry]
    chunks: Chunks | None
    general: tuple[Problem, ...]


class FileContent:
    """What the last good text of one file says.

    ``entries`` are the decoded entries by (section, name), ``names`` all that the file defines,
    good or bad. Equal entries stay the very same objects from text to text.
    """

    def __init__(self, name: str, *, certificates: str = "", main: bool = False) -> None:
        """``name`` is used in messages, ``certificates`` begins the names of ``[[tls]]`` elements.

        ``main``: the file is the main configuration file, with static options beside the sections.
        """
        self.name = name
        self.text = b""
        self.entries: dict[Entry, Decoded] = {}
        self.problems: tuple[Problem, ...] = ()
        self._certificates = certificates
        self._main = main
        self._fingerprints: dict[Entry, bytes] = {}
        self._entry_problems: dict[Entry, list[Problem]] = {}
        self._general: tuple[Problem, ...] = ()
        self._chunks: Chunks | None = None

    @property
    def names(self) -> set[Entry]:
        """All entries that the text defines."""
        return set(self._fingerprints)

    def defines(self, entry: Entry) -> bool:
        """Whether the text defines an entry, good or bad."""
        return entry in self._fingerprints

    def place(self, entry: Entry) -> str:
        """Return ``file:line`` of an entry."""
        section, name = entry
        path = (section, name.removeprefix(self._certificates) if section == "tls" else name)
        if self._chunks is not None:
            return self._chunks.place(path, self.name)
        return load_toml(self.text, self.name).where(path)

    def update(self, text: bytes) -> set[Entry]:
        """Take a new text and return the entries that it touched.

        Raises `UnusableError` for a text that is no TOML, too large, empty, or looks half-written;
        what the text before said then stays.
        """
        if not text or text.isspace():
            raise UnusableError(
                Problem(
                    message="the file is empty",
                    where=self.name,
                    expected="at least a comment, if there are to be no routes",
                )
            )
        if text == self.text:
            return set()
        reading = self._read_changed(text) or self._read_whole(text)
        self._refuse_half_written(text, reading.gone)
        self._general = reading.general
        self._chunks = reading.chunks
        self.text = text
        touched = set(reading.gone)
        for entry in reading.gone:
            del self._fingerprints[entry]
            self.entries.pop(entry, None)
            self._entry_problems.pop(entry, None)
        for entry, document in reading.documents.items():
            fingerprint = _encode(document.data)
            known = self._fingerprints.get(entry)
            # Places move with the text around them, so entries with problems are always told anew.
            if fingerprint != known or entry in self._entry_problems:
                self._fingerprints[entry] = fingerprint
                if self._decode(entry, document) or fingerprint != known:
                    touched.add(entry)
        if reading.chunks is not None:
            self._tell_places_again(reading)
        self.problems = (*self._general, *chain.from_iterable(self._entry_problems.values()))
        return touched

    def _read_changed(self, text: bytes) -> _Reading | None:
        """Read only the chunks that differ; None when the whole text must be read."""
        if self._chunks is None or len(text) > MAXIMUM_BYTES:
            return None
        change = self._chunks.changed_to(text)
        if change is None:
            return None
        chunks = change.chunks
        found = chunks.entries[change.first : change.last]
        named = [entry for entry in found if entry is not None]
        before = {entry for entry in change.replaced if entry is not None}
        if len(set(named)) < len(named):
            return None
        if any(entry in self._fingerprints and entry not in before for entry in named):
            return None
        try:
            documents = {
                entry: self._chunk_document(chunks, index, entry)
                for index, entry in enumerate(found, change.first)
                if entry is not None
            }
            gone = before - documents.keys()
            if None in found or None in change.replaced or self._has_problems_between():
                return self._read_between(change, documents, gone)
            return _Reading(documents, gone, chunks, self._general)
        except (TomlError, KeyError):
            # Reading the whole text tells what is wrong, and in which line.
            return None

    def _has_problems_between(self) -> bool:
        """Whether problems must be told again because their lines may have moved."""
        return bool(self._general) or any(entry[0] == "tls" for entry in self._entry_problems)

    def _read_between(
        self, change: Change, documents: dict[Entry, _Document], gone: set[Entry]
    ) -> _Reading | None:
        between = change.chunks.between()
        data = load_toml(between, self.name).data
        if not _defines_no_cut_entry(between, data):
            return None
        where = partial(change.chunks.place, name=self.name)
        others = self._documents(data, where)
        general = self._general_problems(data, where)
        held = {entry for entry in self._fingerprints if entry[0] == "tls"}
        gone = gone | (held - others.keys())
        return _Reading({**documents, **others}, gone, change.chunks, general)

    def _read_whole(self, text: bytes) -> _Reading:
        try:
            document = load_toml(text, self.name, maximum_bytes=MAXIMUM_BYTES)
        except TomlError as error:
            raise UnusableError(error.problem) from None
        chunks = cut(text)
        if chunks is not None and not self._trusted(chunks, document.data):
            chunks = None
        where = document.where if chunks is None else partial(chunks.place, name=self.name)
        documents = self._documents(document.data, where)
        general = self._general_problems(document.data, where)
        return _Reading(documents, self.names - documents.keys(), chunks, general)

    def _trusted(self, chunks: Chunks, data: dict[str, Any]) -> bool:
        """Whether the chunks say what the whole text says."""
        names = {section: data.get(section, {}) for section in _CUT_SECTIONS}
        if any(type(entries) is not dict for entries in names.values()):
            return False
        found = {entry for entry in chunks.entries if entry is not None}
        if found != {(section, name) for section in names for name in names[section]}:
            return False
        between = chunks.between()
        try:
            return _defines_no_cut_entry(between, load_toml(between, self.name).data)
        except TomlError:
            return False

    def _refuse_half_written(self, text: bytes, gone: set[Entry]) -> None:
        """Refuse a text that lost entries and ends where no editor would end a file."""
        if not gone or not self.text.endswith(b"\n"):
            return
        broken_off = not text.endswith(b"\n")
        stopped_at_page = len(text) % _PAGE_BYTES == 0 and self.text.startswith(text)
        if broken_off or stopped_at_page:
            raise UnusableError(
                Problem(
                    message=f"the file looks half-written: it lost {len(gone)} entries "
                    "and does not end as it did before",
                    where=self.name,
                    expected="a line break at the end, if it is complete",
                )
            )

    def _documents(
        self, data: dict[str, Any], where: Callable[[tuple[str, ...]], str]
    ) -> dict[Entry, _Document]:
        """Return the documents of all entries; the first counts of names that differ in case."""
        documents: dict[Entry, _Document] = {}
        for key, value in data.items():
            section = key.lower()
            if section not in SECTIONS:
                continue
            if section == "tls" and type(value) is list:
                for number, element in enumerate(value):
                    entry = (section, f"{self._certificates}{number}")
                    documents[entry] = _Document(element, _element_place(where, str(number)))
            elif type(value) is dict:
                for name, document in value.items():
                    documents.setdefault((section, name), _Document(document, where))
        return documents

    def _general_problems(
        self, data: dict[str, Any], where: Callable[[tuple[str, ...]], str]
    ) -> tuple[Problem, ...]:
        """Return what is wrong outside of entries; raises `UnusableError` when it is a section."""
        hollow = {
            key: type(value)() if type(value) in (dict, list) else value
            for key, value in data.items()
        }
        _, problems = decode_configuration(hollow, where=where, style="file")
        for problem in problems:
            if problem.fatal:
                raise UnusableError(problem)
        # The static part of the main file is judged where it is read.
        return () if self._main else problems

    def _chunk_document(self, chunks: Chunks, index: int, entry: Entry) -> _Document:
        section, name = entry
        data = load_toml(chunks.chunk(index), self.name).data[section][name]
        return _Document(data, partial(chunks.place, name=self.name))

    def _tell_places_again(self, reading: _Reading) -> None:
        """Decode the entries with problems that were not read: their lines may have moved."""
        chunks = reading.chunks
        waiting = self._entry_problems.keys() - reading.documents.keys()
        if chunks is None or not waiting:
            return
        for entry in sorted(waiting):
            if entry[0] in _CUT_SECTIONS:
                document = self._chunk_document(chunks, chunks.position(entry), entry)
                self._decode(entry, document)

    def _decode(self, entry: Entry, document: _Document) -> bool:
        """Decode one entry; False when it is what it was."""
        try:
            decoded, problems = decode_entry(
                *entry, document.data, where=document.where, style="file"
            )
        except Exception as error:
            # The wall between entries: whatever one of them holds, the others live.
            _logger.exception("%s: %s cannot be decoded", self.name, ".".join(entry))
            decoded = None
            reason = f"cannot be decoded: {type(error).__name__}"
            problems = [Problem(message=reason, where=self.name, entry=entry)]
        if problems:
            self._entry_problems[entry] = problems
        else:
            self._entry_problems.pop(entry, None)
        if decoded == self.entries.get(entry):
            return False
        if decoded is None:
            del self.entries[entry]
        else:
            self.entries[entry] = decoded
        return True


def _defines_no_cut_entry(between: bytes, data: dict[str, Any]) -> bool:
    if _SECTION_AS_KEY.search(between):
        return False
    return all(value == {} for key, value in data.items() if key.lower() in _CUT_SECTIONS)


def _element_place(
    where: Callable[[tuple[str, ...]], str], number: str
) -> Callable[[tuple[str, ...]], str]:
    return lambda path: where((path[0], number, *path[2:]))
