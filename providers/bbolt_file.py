"""Reading files of BoltDB and bbolt (format version 2), the databases of Traefik 1.7 and etcd.

Only what a reader needs, and everything checked: a file that is damaged, truncated, of another kind
or made to deceive gives `BadFile`, whatever it holds. The format, as the sources of bbolt have it
(all numbers in the byte order of the machine that wrote them, which is little-endian here):

- The file is a sequence of pages. Pages 0 and 1 hold the *meta* records; a transaction with number
  n writes that of page n % 2 last, so the valid one with the larger number is the state, and a
  torn one is found by its checksum.
- A page begins with its number, its kind, the count of its elements, and how many more pages it
  overflows into. Elements of a *branch* page are the first keys of other pages and their numbers;
  those of a *leaf* page are keys and values. Elements give their place relative to themselves.
- A *bucket* is a tree of such pages. In the bucket above it, it is a leaf element with the flag 1
  whose value begins with the number of its root page. A small bucket has the number 0 there, and
  its only page follows inside the value.
"""

from __future__ import annotations

import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAXIMUM_FILE_BYTES = 1 << 30
"""Larger files are refused: a configuration is small, and a copy of it is held while it is read."""

_META = struct.Struct("<IIIIQQQQQQ")
_PAGE = struct.Struct("<QHHI")
_BRANCH_ELEMENT = struct.Struct("<IIQ")
_LEAF_ELEMENT = struct.Struct("<IIII")
_BUCKET = struct.Struct("<QQ")

_MAGIC = 0xED0CDAED
_VERSION = 2
_BRANCH, _LEAF, _META_KIND = 0x01, 0x02, 0x04
_BUCKET_FLAG = 0x01
_PAGE_SIZES = tuple(1 << exponent for exponent in range(9, 17))
_CHECKED_BYTES = _META.size - 8
_MOST_LEVELS = 64
"""No real tree is so deep."""
_TRIES = 200
"""How often a file is read again because it changed meanwhile."""


class BadFile(Exception):  # noqa: N818 - what the file is, not what went wrong here
    """The file is no database that can be read; the message says why."""


class BusyFile(Exception):  # noqa: N818 - as above
    """The file changed each time it was read."""


class Meta(NamedTuple):
    """The state that a file is in: number of the last transaction, and where its tree begins."""

    transaction: int
    page_size: int
    root: int
    pages: int
    checksum: int


class Content:
    """A database as it was at one transaction, which ``meta`` tells."""

    def __init__(self, data: bytes) -> None:
        """Read from ``data``, the bytes of the file; raises `BadFile`."""
        self._data = data
        self.meta = find_meta(data)
        self._visited: set[int] = set()

    def buckets(self, *path: bytes) -> list[bytes]:
        """Return the names of the buckets in the one at ``path``."""
        return [key for key, value, is_bucket in self._elements(path) if is_bucket]

    def items(self, *path: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values of the bucket at ``path``, in order; raises KeyError without it."""
        for key, value, is_bucket in self._elements(path):
            if not is_bucket:
                yield key, value

    def _elements(self, path: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes, bool]]:
        self._visited = set()
        found = self._tree(self.meta.root)
        for name in path:
            header = next((value for key, value, bucket in found if bucket and key == name), None)
            if header is None:
                raise KeyError(name)
            found = self._bucket(header, name)
        return found

    def _bucket(self, header: bytes, name: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
        if len(header) < _BUCKET.size:
            raise BadFile(f"the bucket {name!r} has no header")
        root, _ = _BUCKET.unpack_from(header)
        if root:
            return self._tree(root)
        page = header[_BUCKET.size :]
        if len(page) < _PAGE.size:
            raise BadFile(f"the bucket {name!r} is cut off")
        _, kind, count, _ = _PAGE.unpack_from(page)
        if kind != _LEAF:
            raise BadFile(f"the bucket {name!r} holds a page of the kind {kind:#x}")
        return self._leaf(page, count, f"the page inside the bucket {name!r}")

    def _tree(self, root: int) -> Iterator[tuple[bytes, bytes, bool]]:
        """Yield (key, value, is a bucket) of all leaves, in order."""
        previous: bytes | None = None
        levels = [iter((root,))]
        while levels:
            number = next(levels[-1], None)
            if number is None:
                levels.pop()
                continue
            kind, count, page = self._page(number)
            if kind == _BRANCH:
                if len(levels) == _MOST_LEVELS:
                    raise BadFile(f"the pages of a tree are more than {_MOST_LEVELS} deep")
                levels.append(iter(self._branch(page, count, number)))
                continue
            for element in self._leaf(page, count, f"page {number}"):
                if previous is not None and element[0] <= previous:
                    raise BadFile(f"the keys of page {number} are not in order")
                previous = element[0]
                yield element

    def _page(self, number: int) -> tuple[int, int, memoryview]:
        """Return (kind, count of elements, bytes) of a page that is used for the first time."""
        size = self.meta.page_size
        if not 2 <= number < self.meta.pages:
            raise BadFile(f"page {number} is not among the {self.meta.pages} pages in use")
        if number in self._visited:
            raise BadFile(f"page {number} is used twice")
        self._visited.add(number)
        start = number * size
        if start + size > len(self._data):
            raise BadFile(f"the file is cut off before page {number}")
        found, kind, count, overflow = _PAGE.unpack_from(self._data, start)
        if found != number:
            raise BadFile(f"page {number} says that it is page {found}")
        if kind not in (_BRANCH, _LEAF):
            raise BadFile(f"page {number} is of the kind {kind:#x}, not a branch or a leaf")
        end = start + (overflow + 1) * size
        if end > len(self._data) or number + overflow >= self.meta.pages:
            raise BadFile(f"the file is cut off within page {number}")
        return kind, count, memoryview(self._data)[start:end]

    def _branch(self, page: memoryview, count: int, number: int) -> list[int]:
        if _PAGE.size + count * _BRANCH_ELEMENT.size > len(page):
            raise BadFile(f"page {number} is too small for {count} elements")
        first = _PAGE.size
        last = first + count * _BRANCH_ELEMENT.size
        return [child for _, _, child in _BRANCH_ELEMENT.iter_unpack(page[first:last])]

    def _leaf(
        self, page: memoryview | bytes, count: int, where: str
    ) -> Iterator[tuple[bytes, bytes, bool]]:
        least = _PAGE.size + count * _LEAF_ELEMENT.size
        if least > len(page):
            raise BadFile(f"{where} is too small for {count} elements")
        for offset in range(_PAGE.size, least, _LEAF_ELEMENT.size):
            flags, position, key_size, value_size = _LEAF_ELEMENT.unpack_from(page, offset)
            start = offset + position
            middle = start + key_size
            end = middle + value_size
            if start < least or end > len(page):
                raise BadFile(f"an element of {where} is outside of it")
            yield bytes(page[start:middle]), bytes(page[middle:end]), bool(flags & _BUCKET_FLAG)


def find_meta(data: bytes) -> Meta:
    """Return the state of a file that begins with ``data``; raises `BadFile`."""
    found: list[Meta] = []
    for page in (0, 1):
        # A damaged first record does not tell the size of pages, so the second is looked for.
        sizes = (found[0].page_size,) if found else _PAGE_SIZES
        for size in sizes if page else (0,):
            meta = _meta_at(data, page * size)
            if meta is not None and (not page or meta.page_size == size):
                found.append(meta)
                break
    if not found:
        raise BadFile(_what_else(data))
    meta = max(found)
    if meta.page_size not in _PAGE_SIZES:
        raise BadFile(f"pages of {meta.page_size} bytes")
    return meta


def _meta_at(data: bytes, offset: int) -> Meta | None:
    """Return the meta record of the page at ``offset``, or None when there is no valid one."""
    if offset + _PAGE.size + _META.size > len(data):
        return None
    start = offset + _PAGE.size
    magic, version, size, _, root, _, _, pages, transaction, checksum = _META.unpack_from(
        data, start
    )
    if magic != _MAGIC or version != _VERSION:
        return None
    if checksum != _fnv1a(data[start : start + _CHECKED_BYTES]):
        return None
    return Meta(transaction, size, root, pages, checksum)


def _what_else(data: bytes) -> str:
    """Return why there is no valid meta record."""
    if not data:
        return "the file is empty"
    if len(data) < _PAGE.size + _META.size:
        return f"a file of {len(data)} bytes is too short for a BoltDB database"
    magic, version = struct.unpack_from("<II", data, _PAGE.size)
    if magic == struct.unpack("<I", struct.pack(">I", _MAGIC))[0]:
        return "a BoltDB database of a machine with the other byte order"
    if magic != _MAGIC:
        return "not a BoltDB database"
    if version != _VERSION:
        return f"a BoltDB database of format version {version}; only {_VERSION} is known"
    return "a damaged BoltDB database: the checksums of both meta records are wrong"


def _fnv1a(data: bytes) -> int:
    """Return the 64-bit FNV-1a hash."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


class BboltFile:
    """The file at ``path``; every call opens it anew and never waits for a writer's lock.

    A writer uses a page of an old state again only when two further transactions have begun. So
    what was read while the meta records stayed as they were is one state.
    """

    def __init__(self, path: Path) -> None:
        """Open nothing yet."""
        self._path = path

    def meta(self) -> tuple[Meta, os.stat_result]:
        """Return the present state, and the status of the file just before.

        Raises OSError and `BadFile`.
        """
        descriptor = self._open()
        try:
            status = os.fstat(descriptor)
            return find_meta(_head(descriptor)), status
        finally:
            os.close(descriptor)

    def content(self) -> tuple[Content, os.stat_result]:
        """Return the database at one transaction, and the status of the file just before.

        Raises OSError, `BadFile`, and `BusyFile` when it is written faster than it can be read.
        """
        descriptor = self._open()
        try:
            for _ in range(_TRIES):
                status = os.fstat(descriptor)
                before = _records(_head(descriptor))
                data = _whole(descriptor)
                if before == _records(data) == _records(_head(descriptor)):
                    return Content(data), status
            raise BusyFile(f"it changed each of {_TRIES} times that it was read")
        finally:
            os.close(descriptor)

    def _open(self) -> int:
        # Not to wait for the writer of a named pipe.
        descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise BadFile("not a regular file")
            if status.st_size > MAXIMUM_FILE_BYTES:
                raise BadFile(
                    f"a file of {status.st_size:,} bytes; at most {MAXIMUM_FILE_BYTES:,} are read"
                )
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def _head(descriptor: int) -> bytes:
    """Return the beginning of the file with both meta records, whatever its page size."""
    return os.pread(descriptor, _PAGE_SIZES[-1] + _PAGE.size + _META.size, 0)


def _records(data: bytes) -> tuple[bytes, bytes]:
    """Return both meta records of a file that begins with ``data``, valid or not."""
    second = find_meta(data).page_size + _PAGE.size
    return data[_PAGE.size : _PAGE.size + _META.size], data[second : second + _META.size]


def _whole(descriptor: int) -> bytes:
    parts: list[bytes] = []
    offset = 0
    while part := os.pread(descriptor, 1 << 24, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
