"""HPACK, the header compression of HTTP/2 (RFC 7541).

Decoding is complete. Encoding uses the static table only: a table of our own for each connection
would cost more time and memory than the bytes it saves
(docs/decisions/hpack-without-a-table.md).
"""

from __future__ import annotations

from collections import deque
from typing import Final, TypeAlias

from kvproxy.http.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM

TABLE_BYTES: Final = 4096
"""SETTINGS_HEADER_TABLE_SIZE: the dynamic table of a decoder, as RFC 7541 (4.1) counts it."""

FIELD_OVERHEAD: Final = 32
"""What each field counts beside its name and value (RFC 7541, section 4.1)."""

MAX_DECODED_BYTES: Final = 1 << 20
"""What one block may decode to; more is an attack, and ends the connection."""

STATIC_TABLE: Final = (
    (b":authority", b""),
    (b":method", b"GET"),
    (b":method", b"POST"),
    (b":path", b"/"),
    (b":path", b"/index.html"),
    (b":scheme", b"http"),
    (b":scheme", b"https"),
    (b":status", b"200"),
    (b":status", b"204"),
    (b":status", b"206"),
    (b":status", b"304"),
    (b":status", b"400"),
    (b":status", b"404"),
    (b":status", b"500"),
    (b"accept-charset", b""),
    (b"accept-encoding", b"gzip, deflate"),
    (b"accept-language", b""),
    (b"accept-ranges", b""),
    (b"accept", b""),
    (b"access-control-allow-origin", b""),
    (b"age", b""),
    (b"allow", b""),
    (b"authorization", b""),
    (b"cache-control", b""),
    (b"content-disposition", b""),
    (b"content-encoding", b""),
    (b"content-language", b""),
    (b"content-length", b""),
    (b"content-location", b""),
    (b"content-range", b""),
    (b"content-type", b""),
    (b"cookie", b""),
    (b"date", b""),
    (b"etag", b""),
    (b"expect", b""),
    (b"expires", b""),
    (b"from", b""),
    (b"host", b""),
    (b"if-match", b""),
    (b"if-modified-since", b""),
    (b"if-none-match", b""),
    (b"if-range", b""),
    (b"if-unmodified-since", b""),
    (b"last-modified", b""),
    (b"link", b""),
    (b"location", b""),
    (b"max-forwards", b""),
    (b"proxy-authenticate", b""),
    (b"proxy-authorization", b""),
    (b"range", b""),
    (b"referer", b""),
    (b"refresh", b""),
    (b"retry-after", b""),
    (b"server", b""),
    (b"set-cookie", b""),
    (b"strict-transport-security", b""),
    (b"transfer-encoding", b""),
    (b"user-agent", b""),
    (b"vary", b""),
    (b"via", b""),
    (b"www-authenticate", b""),
)
"""RFC 7541, appendix A; the first field has index 1."""

# fmt: off
HUFFMAN_LENGTHS: Final = (
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
)
# fmt: on
"""Bits of each symbol's code (RFC 7541, appendix B). Among codes of one length the symbols are in
order, so the lengths say all. The last symbol is EOS."""

_EOS: Final = 256
_SENSITIVE: Final = frozenset((b"authorization", b"cookie", b"set-cookie"))
# The index of a name alone is that of its first field.
_NAME_INDEX: Final = {field[0]: 61 - at for at, field in enumerate(reversed(STATIC_TABLE))}
_FIELD_INDEX: Final = {field: 1 + at for at, field in enumerate(STATIC_TABLE) if field[1]}

Field: TypeAlias = tuple[bytes, bytes]


class HpackError(Exception):
    """A block that cannot be decoded: the table is lost, and with it the connection."""


class Decoder:
    """Decodes the header blocks of one direction of a connection.

    ``changes`` grows with every change of the dynamic table: between two blocks with the same
    number, equal bytes mean equal fields.
    """

    __slots__ = ("_capacity", "_size", "_table", "changes")

    def __init__(self) -> None:
        """Start with an empty table."""
        self._table: deque[Field] = deque()
        self._size = 0
        self._capacity = TABLE_BYTES
        self.changes = 0

    def decode(self, block: bytes, max_bytes: int) -> list[Field] | int:
        """Decode a block: its fields, 431 when they count more than ``max_bytes``, or the code of
        a connection error.

        However much they count, the whole block is read, so that the table stays right.
        """
        try:
            return self._decode(block, max_bytes)
        except (HpackError, IndexError):
            return COMPRESSION_ERROR

    def _decode(self, block: bytes, max_bytes: int) -> list[Field] | int:
        fields: list[Field] = []
        counted = 0
        position = 0
        size = len(block)
        while position < size:
            first = block[position]
            if first >= 0x80:
                index, position = decode_integer(block, position, 7)
                field = self._entry(index)
            elif first & 0xE0 == 0x20:
                if counted:
                    raise HpackError("table size update behind a field")
                capacity, position = decode_integer(block, position, 5)
                if capacity > TABLE_BYTES:
                    raise HpackError("table size update beyond the limit")
                self._capacity = capacity
                self._evict(0)
                self.changes += 1
                continue
            else:
                indexed = first >= 0x40
                index, position = decode_integer(block, position, 6 if indexed else 4)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, position = decode_string(block, position)
                value, position = decode_string(block, position)
                field = (name, value)
                if indexed:
                    self._insert(field)
            counted += len(field[0]) + len(field[1]) + FIELD_OVERHEAD
            if counted > MAX_DECODED_BYTES:
                return ENHANCE_YOUR_CALM
            if counted <= max_bytes:
                fields.append(field)
        return fields if counted <= max_bytes else 431

    def _entry(self, index: int) -> Field:
        if index == 0:
            raise HpackError("index 0")
        if index <= len(STATIC_TABLE):
            return STATIC_TABLE[index - 1]
        return self._table[index - len(STATIC_TABLE) - 1]

    def _insert(self, field: Field) -> None:
        """Add a field; one that is larger than the table empties it (RFC 7541, section 4.4)."""
        self.changes += 1
        size = len(field[0]) + len(field[1]) + FIELD_OVERHEAD
        self._evict(size)
        if size <= self._capacity:
            self._table.appendleft(field)
            self._size += size

    def _evict(self, room: int) -> None:
        """Drop the oldest fields until ``room`` bytes fit."""
        while self._table and self._size + room > self._capacity:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + FIELD_OVERHEAD


def decode_integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """Read an integer whose first byte ends with ``prefix`` bits of it (RFC 7541, section 5.1).

    The answer is the integer and the position behind it. Raises HpackError above 2**28, and
    IndexError at the end of the block.
    """
    limit = (1 << prefix) - 1
    value = block[position] & limit
    position += 1
    if value < limit:
        return value, position
    for shift in (0, 7, 14, 21):
        byte = block[position]
        position += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise HpackError("integer too large")


def decode_string(block: bytes, position: int) -> tuple[bytes, int]:
    """Read a string (RFC 7541, section 5.2); the answer is it and the position behind it."""
    huffman = block[position] & 0x80
    length, position = decode_integer(block, position, 7)
    end = position + length
    if end > len(block):
        raise HpackError("string beyond the end of the block")
    text = block[position:end]
    return huffman_decode(text) if huffman else text, end


class _State:
    """A place between the bits of the Huffman code.

    ``row``: for each byte the next state and the symbols that end in it, None where EOS would.
    """

    __slots__ = ("may_end", "node", "row")

    def __init__(self, node: list[object], may_end: bool) -> None:
        self.node = node
        self.may_end = may_end
        self.row: list[tuple[_State, bytes] | None] = []

    def expand(self) -> list[tuple[_State, bytes] | None]:
        """Work out `row`."""
        self.row = [self._follow(byte) for byte in range(256)]
        return self.row

    def _follow(self, byte: int) -> tuple[_State, bytes] | None:
        node = self.node
        symbols = bytearray()
        for shift in range(7, -1, -1):
            following = node[byte >> shift & 1]
            if isinstance(following, list):
                node = following
                continue
            assert isinstance(following, int)
            if following == _EOS:
                return None
            symbols.append(following)
            node = _ROOT
        return _STATES[id(node)], bytes(symbols)


def _code_tree() -> list[object]:
    """The code as a tree: a node has two branches, each a node or a symbol."""
    root: list[object] = [None, None]
    code = length = 0
    for symbol in sorted(range(257), key=lambda each: HUFFMAN_LENGTHS[each]):
        code <<= HUFFMAN_LENGTHS[symbol] - length
        length = HUFFMAN_LENGTHS[symbol]
        node = root
        for shift in range(length - 1, 0, -1):
            bit = code >> shift & 1
            if node[bit] is None:
                node[bit] = [None, None]
            following = node[bit]
            assert isinstance(following, list)
            node = following
        node[code & 1] = symbol
        code += 1
    return root


def _states(root: list[object]) -> dict[int, _State]:
    """A state for every node of the tree; a string may end less than 8 one bits below the root."""
    states: dict[int, _State] = {}
    pending: list[tuple[list[object], int]] = [(root, 0)]
    while pending:
        node, ones = pending.pop()
        states[id(node)] = _State(node, 0 <= ones < 8)
        for bit, following in enumerate(node):
            if isinstance(following, list):
                pending.append((following, ones + 1 if bit and ones >= 0 else -1))
    return states


_ROOT: Final = _code_tree()
_STATES: Final = _states(_ROOT)
_START: Final = _STATES[id(_ROOT)]


def huffman_decode(text: bytes) -> bytes:
    """Decode a Huffman-coded string (RFC 7541, section 5.2). Raises HpackError."""
    state = _START
    decoded: list[bytes] = []
    for byte in text:
        step = (state.row or state.expand())[byte]
        if step is None:
            raise HpackError("EOS in a string")
        state, symbols = step
        decoded.append(symbols)
    if not state.may_end:
        raise HpackError("bad padding of a string")
    return b"".join(decoded)


def encode_integer(value: int, prefix: int, first: int) -> bytes:
    """Write an integer; ``first`` has the bits before it in its first byte."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes((first | value,))
    encoded = bytearray((first | limit,))
    value -= limit
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_field(name: bytes, value: bytes) -> bytes:
    """Write a field that no table remembers; ``name`` is in lower case.

    Credentials are marked as never to be indexed by anybody (RFC 7541, section 7.1.3).
    """
    index = _FIELD_INDEX.get((name, value))
    if index is not None:
        return bytes((0x80 | index,))
    first = 0x10 if name in _SENSITIVE else 0
    index = _NAME_INDEX.get(name, 0)
    start = encode_integer(index, 4, first)
    if not index:
        start += encode_integer(len(name), 7, 0) + name
    return start + encode_integer(len(value), 7, 0) + value
