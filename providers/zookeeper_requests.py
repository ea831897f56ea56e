"""Requests of ZooKeeper's protocol that kazoo 2.11 does not have, in the form that kazoo sends.

Layouts are those of ``zookeeper.jute`` of ZooKeeper 3.6 and later, which is also the oldest version
that knows these requests. A request has ``type``, ``serialize`` and ``deserialize`` (called by
kazoo's connection thread).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from kazoo.protocol.serialization import write_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_INT = struct.Struct("!i")
_MULTI_HEADER = struct.Struct("!iBi")
_STAT = struct.Struct("!qqqqiiiqiiq")

_GET_DATA = 4
_GET_CHILDREN = 8
_ERROR = -1
_ANY_WATCH = 3
_PERSISTENT_RECURSIVE = 1

_BATCH_NODES = 250
"""Nodes in one request: few enough that an answer is handled in a moment."""
_BATCH_BYTES = 256 * 1024
"""Bytes of names in one request; the server takes no more than 1 MiB."""

NO_NODE = -101
"""Error of the server: there is no such node."""
NO_AUTH = -102
"""Error of the server: the permission is missing."""


class Stat(NamedTuple):
    """What ZooKeeper knows about a node, in the order of the wire.

    ``czxid``, ``mzxid`` and ``pzxid`` are the transactions that created it, last changed its data,
    and last created or deleted a child. ``version`` counts changes of the data, ``cversion`` those
    of the set of children. ``ephemeral_owner`` is a session, or 0.
    """

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeral_owner: int
    data_length: int
    num_children: int
    pzxid: int


class NodeRead(NamedTuple):
    """The answer about one node: ``stat`` is None when ``error`` is an error of the server.

    ``children`` is None when they were not asked for. Data that the node does not have (which is
    not the same as empty data) are None.
    """

    path: str
    error: int
    data: bytes | None
    stat: Stat | None
    children: list[str] | None


class AddWatch:
    """Be told of every change at and below a path for as long as the connection lives."""

    type: ClassVar[int] = 106

    def __init__(self, path: str) -> None:
        """Watch ``path``, which need not exist."""
        self._path = path

    def serialize(self) -> bytes:
        """Return the body of the request."""
        return bytes(write_string(self._path) + _INT.pack(_PERSISTENT_RECURSIVE))

    def deserialize(self, buffer: bytes, offset: int) -> None:
        """Take the answer, which says nothing."""


class RemoveWatches:
    """Be told no more of what `AddWatch` asked for."""

    type: ClassVar[int] = 18

    def __init__(self, path: str) -> None:
        """Forget the watch at ``path``."""
        self._path = path

    def serialize(self) -> bytes:
        """Return the body of the request."""
        return bytes(write_string(self._path) + _INT.pack(_ANY_WATCH))

    def deserialize(self, buffer: bytes, offset: int) -> None:
        """Take the answer, which says nothing."""


class MultiRead:
    """Read many nodes in one request; the answer is a list of `NodeRead` in the same order."""

    type: ClassVar[int] = 22

    def __init__(self, nodes: Iterable[tuple[str, bool]]) -> None:
        """``nodes`` are paths and whether the children are asked for too."""
        self._nodes = tuple(nodes)

    def serialize(self) -> bytes:
        """Return the body of the request."""
        body = bytearray()
        for path, with_children in self._nodes:
            operand = bytes(write_string(path)) + b"\0"
            body += _MULTI_HEADER.pack(_GET_DATA, False, -1) + operand
            if with_children:
                body += _MULTI_HEADER.pack(_GET_CHILDREN, False, -1) + operand
        body += _MULTI_HEADER.pack(-1, True, -1)
        return bytes(body)

    def deserialize(self, buffer: bytes, offset: int) -> list[NodeRead]:
        """Return what was read."""
        found: list[NodeRead] = []
        for path, with_children in self._nodes:
            error, data, stat, offset = _read_data(buffer, offset)
            children: list[str] | None = None
            if with_children:
                children_error, children, offset = _read_children(buffer, offset)
                error = error or children_error
            found.append(NodeRead(path, error, data, None if error else stat, children))
        return found


def _read_data(buffer: bytes, offset: int) -> tuple[int, bytes | None, Stat | None, int]:
    kind, _, _ = _MULTI_HEADER.unpack_from(buffer, offset)
    offset += _MULTI_HEADER.size
    length = _INT.unpack_from(buffer, offset)[0]
    offset += _INT.size
    if kind == _ERROR:
        return length, None, None, offset
    data = None
    if length >= 0:
        data = bytes(buffer[offset : offset + length])
        offset += length
    stat = Stat._make(_STAT.unpack_from(buffer, offset))
    return 0, data, stat, offset + _STAT.size


def _read_children(buffer: bytes, offset: int) -> tuple[int, list[str], int]:
    kind, _, _ = _MULTI_HEADER.unpack_from(buffer, offset)
    offset += _MULTI_HEADER.size
    count = _INT.unpack_from(buffer, offset)[0]
    offset += _INT.size
    if kind == _ERROR:
        return count, [], offset
    children: list[str] = []
    for _ in range(count):
        length = _INT.unpack_from(buffer, offset)[0]
        offset += _INT.size
        children.append(str(buffer[offset : offset + length], "utf-8"))
        offset += length
    return 0, children, offset


def event_of(buffer: Any, offset: int) -> tuple[int, str]:
    """Return (type, path) of a watch event; its third part, the state of the session, is unused."""
    kind = _INT.unpack_from(buffer, offset)[0]
    offset += 2 * _INT.size
    length = _INT.unpack_from(buffer, offset)[0]
    offset += _INT.size
    return kind, str(buffer[offset : offset + length], "utf-8", "replace")


def batches(nodes: Mapping[str, bool]) -> Iterator[list[tuple[str, bool]]]:
    """Split nodes (and whether with their children) into parts for one `MultiRead` each."""
    batch: list[tuple[str, bool]] = []
    size = 0
    for path, with_children in nodes.items():
        # In UTF-8 a character of a node's name takes three bytes at most.
        size += 6 * len(path)
        if batch and (size > _BATCH_BYTES or len(batch) == _BATCH_NODES):
            yield batch
            batch, size = [], 6 * len(path)
        batch.append((path, with_children))
    if batch:
        yield batch
