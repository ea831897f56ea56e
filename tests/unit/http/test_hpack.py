"""HPACK: the examples of RFC 7541, and what must not be decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproxy.http.frames import COMPRESSION_ERROR, ENHANCE_YOUR_CALM
from kvproxy.http.hpack import (
    Decoder,
    HpackError,
    decode_integer,
    encode_field,
    encode_integer,
    huffman_decode,
)

if TYPE_CHECKING:
    from tests.unit.http.conftest import BlockCodec

MAX_BYTES = 65536

FIRST = [
    (b":method", b"GET"),
    (b":scheme", b"http"),
    (b":path", b"/"),
    (b":authority", b"www.example.com"),
]
SECOND = [*FIRST, (b"cache-control", b"no-cache")]
THIRD = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/index.html"),
    (b":authority", b"www.example.com"),
    (b"custom-key", b"custom-value"),
]
DATES = [b"Mon, 21 Oct 2013 20:13:21 GMT", b"Mon, 21 Oct 2013 20:13:22 GMT"]


def answer(status: bytes, date: bytes, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    location = (b"location", b"https://www.example.com")
    return [(b":status", status), (b"cache-control", b"private"), (b"date", date), location, *more]


ANSWERS = [
    answer(b"302", DATES[0]),
    answer(b"307", DATES[0]),
    [
        (b":status", b"200"),
        (b"cache-control", b"private"),
        (b"date", DATES[1]),
        (b"location", b"https://www.example.com"),
        (b"content-encoding", b"gzip"),
        (b"set-cookie", b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
    ],
]
# Appendix C.5 and C.6 have a table of 256 bytes: an update says so first.
SMALL_TABLE = "3fe101"

# id: (blocks that follow each other, their fields)
EXAMPLES: dict[str, tuple[list[str], list[list[tuple[bytes, bytes]]]]] = {
    "C.2.1 literal with indexing": (
        ["400a637573746f6d2d6b65790d637573746f6d2d686561646572"],
        [[(b"custom-key", b"custom-header")]],
    ),
    "C.2.2 literal without indexing": (
        ["040c2f73616d706c652f70617468"],
        [[(b":path", b"/sample/path")]],
    ),
    "C.2.3 literal never indexed": (
        ["100870617373776f726406736563726574"],
        [[(b"password", b"secret")]],
    ),
    "C.2.4 indexed": (["82"], [[(b":method", b"GET")]]),
    "C.3 requests": (
        [
            "828684410f7777772e6578616d706c652e636f6d",
            "828684be58086e6f2d6361636865",
            "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
        ],
        [FIRST, SECOND, THIRD],
    ),
    "C.4 requests with Huffman code": (
        [
            "828684418cf1e3c2e5f23a6ba0ab90f4ff",
            "828684be5886a8eb10649cbf",
            "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
        ],
        [FIRST, SECOND, THIRD],
    ),
    "C.5 answers": (
        [
            SMALL_TABLE + "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032"
            "303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d",
            "4803333037c1c0bf",
            "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738"
            "666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d33"
            "3630303b2076657273696f6e3d31",
        ],
        ANSWERS,
    ),
    "C.6 answers with Huffman code": (
        [
            SMALL_TABLE + "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff"
            "6e919d29ad171863c78f0b97c8e9ae82ae43d3",
            "4883640effc1c0bf",
            "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7"
            "b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
        ],
        ANSWERS,
    ),
}


@pytest.mark.parametrize(("blocks", "fields"), EXAMPLES.values(), ids=EXAMPLES.keys())
def test_examples_of_rfc_7541(blocks: list[str], fields: list[list[tuple[bytes, bytes]]]) -> None:
    decoder = Decoder()
    assert [decoder.decode(bytes.fromhex(block), MAX_BYTES) for block in blocks] == fields


BOMB = b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 300

# id: (block, code)
BAD_BLOCKS: dict[str, tuple[bytes, int]] = {
    "index 0": (b"\x80", COMPRESSION_ERROR),
    "index beyond the table": (b"\xbe", COMPRESSION_ERROR),
    "name index beyond the table": (b"\x7e\x01a", COMPRESSION_ERROR),
    "integer that is too large": (b"\xff\xff\xff\xff\xff\x0f", COMPRESSION_ERROR),
    "integer with zeros behind it": (b"\xff\x80\x80\x80\x80\x80\x00", COMPRESSION_ERROR),
    "integer without end": (b"\xff\x80", COMPRESSION_ERROR),
    "string without length": (b"\x00", COMPRESSION_ERROR),
    "string beyond the block": (b"\x00\x05abcd", COMPRESSION_ERROR),
    "value beyond the block": (b"\x00\x01a\x02b", COMPRESSION_ERROR),
    "no value": (b"\x00\x01a", COMPRESSION_ERROR),
    "Huffman EOS": (b"\x00\x84\xff\xff\xff\xff\x00", COMPRESSION_ERROR),
    "Huffman padding of 8 bits": (b"\x00\x82\x1f\xff\x00", COMPRESSION_ERROR),
    "Huffman padding of zeros": (b"\x00\x81\x18\x00", COMPRESSION_ERROR),
    "size update beyond the limit": (b"\x3f\xe2\x1f", COMPRESSION_ERROR),
    "size update behind a field": (b"\x0f\x12\x01a\x20", COMPRESSION_ERROR),
    "bomb": (BOMB, ENHANCE_YOUR_CALM),
    "bomb that ends well": (BOMB[:-200], 431),
}


@pytest.mark.parametrize(("block", "code"), BAD_BLOCKS.values(), ids=BAD_BLOCKS.keys())
def test_bad_blocks(codec: BlockCodec, block: bytes, code: int) -> None:
    assert codec.BlockDecoder().trailers(block, MAX_BYTES, 100) == code


def test_the_table_is_right_after_a_block_that_was_too_large(codec: BlockCodec) -> None:
    decoder = codec.BlockDecoder()
    assert decoder.trailers(b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000 + b"\xbe" * 20, 5000, 100) == 431
    assert decoder.trailers(b"\xbe", 5000, 100) == b"A: " + b"b" * 4000 + b"\r\n"


def test_a_field_larger_than_the_table_empties_it(codec: BlockCodec) -> None:
    decoder = codec.BlockDecoder()
    assert decoder.trailers(b"\x40\x01a\x01b", MAX_BYTES, 100) == b"A: b\r\n"
    large = b"\x40\x01c\x7f\x80\x20" + b"d" * 4223
    assert decoder.trailers(large, MAX_BYTES, 100) == b"C: " + b"d" * 4223 + b"\r\n"
    assert decoder.trailers(b"\xbe", MAX_BYTES, 100) == COMPRESSION_ERROR


def test_a_name_of_an_entry_that_its_own_insertion_evicts(codec: BlockCodec) -> None:
    decoder = codec.BlockDecoder()
    decoder.trailers(b"\x40\x01a\x7f\xa1\x1e" + b"b" * 4000, MAX_BYTES, 100)
    block = b"\x7e\x7f\xa1\x1e" + b"c" * 4000 + b"\xbe"
    assert decoder.trailers(block, MAX_BYTES, 100) == (b"A: " + b"c" * 4000 + b"\r\n") * 2


@pytest.mark.parametrize(
    ("value", "prefix", "encoded"),
    [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a"), (31, 5, "1f00"), (127, 7, "7f00")],
)
def test_integers(value: int, prefix: int, encoded: str) -> None:
    assert encode_integer(value, prefix, 0) == bytes.fromhex(encoded)
    assert decode_integer(bytes.fromhex(encoded), 0, prefix) == (value, len(encoded) // 2)


@given(st.binary(max_size=60))
def test_strings_of_any_bytes_are_decoded_as_hpack_does(text: bytes) -> None:
    try:
        expected = hpack.huffman_table.decode_huffman(text)
    except hpack.HPACKDecodingError:
        with pytest.raises(HpackError):
            huffman_decode(text)
    else:
        assert huffman_decode(text) == expected


_FIELDS = st.lists(st.tuples(st.binary(min_size=1, max_size=30), st.binary(max_size=300)))


@given(_FIELDS, st.booleans())
def test_what_hpack_encodes_is_decoded(fields: list[tuple[bytes, bytes]], huffman: bool) -> None:
    encoder, decoder = hpack.Encoder(), Decoder()
    for _ in range(2):
        assert decoder.decode(encoder.encode(fields, huffman), 1 << 20) == fields


@given(_FIELDS)
def test_what_is_encoded_is_decoded_by_hpack(fields: list[tuple[bytes, bytes]]) -> None:
    fields = [(name.lower(), value) for name, value in fields]
    block = b"".join([encode_field(name, value) for name, value in fields])
    decoded = hpack.Decoder(max_header_list_size=1 << 20).decode(block, raw=True)
    assert [tuple(field) for field in decoded] == fields
