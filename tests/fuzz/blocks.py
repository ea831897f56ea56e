"""Differential fuzzer of the header blocks of HTTP/2: the C codec, its pure-Python twin, and
the library hpack.

    python -m tests.fuzz.blocks --inputs 1000000 --seed 1

Blocks follow each other on connections, so that the tables of the decoders are compared too. For
each block the two implementations must give equal answers, and decode what hpack decodes; a request
that is accepted gives a head that the HTTP/1.1 scanner accepts unchanged. Heads of answers and
requests are encoded by both, and read back by hpack.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections import Counter

import hpack
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable

from kvproxy.http import _http2, blocks_pure, scan_pure
from kvproxy.http.flags import CHUNKED, KEEP_ALIVE, UPGRADE
from kvproxy.http.frames import (
    COMPRESSION_ERROR,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    headers,
    pack_header,
)
from kvproxy.http.hpack import encode_integer
from tests.fuzz import scan

_HUFFMAN = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)

GOOD_START = [
    (b":method", [b"GET", b"GET", b"POST", b"HEAD", b"OPTIONS", b"PUT", b"BREW"]),
    (b":scheme", [b"https", b"http"]),
    (b":authority", [b"a.test", b"a.test:8080", b"[::1]"]),
    (b":path", [b"/", b"/index.html", b"/a?b", b"/a/../b", b"/\xc3\xa9", b"/" + b"p" * 150]),
]
GOOD_STATUS = [b"200", b"404", b"103", b"999"]
BAD_STATUS = [b"101", b"099", b"2000", b"20", b"2x0", b""]
BAD_PSEUDO = [
    (b":method", [b"CONNECT", b"G T", b"", b"PO\r\nST", b"get"]),
    (b":scheme", [b"ftp", b"", b"HTTPS"]),
    (b":authority", [b"", b"u@a.test", b"a test", b"a.test:123456"]),
    (b":path", [b"", b"*", b"a", b"/ a", b"/\x7f", b"/a HTTP/1.1\r\nX: y", b"http://b.test/"]),
    (b":protocol", [b"websocket", b"connect-udp", b""]),
    (b":status", [b"200"]),
    (b":", [b""]),
    (b":unknown", [b"a"]),
]
NAMES = [
    *(b"accept", b"accept-encoding", b"user-agent", b"x-a", b"x--b", b"-c-", b"x-a_b", b"1x"),
    *(b"cookie", b"te", b"host", b"expect", b"content-length", b"content_length", b"x-real-ip"),
    *(b"x_real_ip", b"x-forwarded-for", b"x-forwarded-a_b", b"x_forwarded-a", b"idempotency-key"),
    *(b"idempotency_key", b"trailer", b"proxy-authorization", b"proxy-authenticate", b"date"),
    *(
        b"authorization",
        b"set-cookie",
        b"set_cookie",
        b"content-type",
        b"content_md5",
        b"keep_alive",
    ),
]
BAD_NAMES = [
    *(b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"),
    *(b"", b"X-A", b"a b", b"a:b", b"a\r\nb", b"\xe9", b"a\0", b"x-\x7f"),
]
VALUES = [
    *(b"", b"a", b"gzip, deflate", b"trailers", b"100-continue", b"0", b"5", b"a.test", b"A.TEST"),
    *(b"a\tb", b"\xff\x80", b"x" * 126, b"y" * 127, b"z" * 128, b"w" * 300, b"v" * 4064),
]
FITTING = {
    b"te": [b"trailers"],
    b"content-length": [b"0", b"5", b"123456789012345678"],
    b"expect": [b"100-continue", b"100-Continue"],
    b"host": [b"a.test", b"A.test"],
}
BAD_VALUES = [
    b" a",
    b"a ",
    b"\ta",
    b"a\r\nb: c",
    b"\0",
    b"a\nb",
    b"a\x7f",
    b"\x01",
    b"05x",
    b"9" * 19,
]


class Maker:
    """Builds blocks; `wildness` is the chance that one part of the block under way is bad."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.wildness = 0.0

    def wild(self) -> bool:
        return self.rng.random() < self.wildness

    def fields(self, kind: str) -> list[tuple[bytes, bytes]]:
        """The fields of a request, an answer or trailers, or of something else."""
        rng = self.rng
        self.wildness = rng.choice([0.0, 0.0, 0.1, 0.4])
        if self.wild():
            kind = rng.choice(["request", "response", "trailers"])
        fields = []
        if kind == "request":
            fields = [(name, rng.choice(values)) for name, values in GOOD_START if not self.wild()]
            if rng.random() < 0.05:
                protocol = b"connect-udp" if self.wild() else b"websocket"
                fields[:1] = [(b":method", b"CONNECT"), (b":protocol", protocol)]
        elif kind == "response":
            fields = [(b":status", rng.choice(BAD_STATUS if self.wild() else GOOD_STATUS))]
        for _ in range(rng.choice([0, 1, 2, 4, 8])):
            name = rng.choice(BAD_NAMES if self.wild() else NAMES)
            values = BAD_VALUES if self.wild() else FITTING.get(name, VALUES)
            fields.append((name, rng.choice(values)))
        if self.wild():
            name, values = rng.choice(BAD_PSEUDO)
            fields.insert(rng.randrange(len(fields) + 1), (name, rng.choice(values)))
        if self.wild():
            rng.shuffle(fields)
        return fields

    def string(self, text: bytes) -> bytes:
        if self.rng.random() < 0.5:
            coded = _HUFFMAN.encode(text)
            if self.rng.random() < self.wildness / 10:
                coded += self.rng.choice([b"\xff", b"\xff\xff\xff\xff", b"\0", b"\xfe"])
            return encode_integer(len(coded), 7, 0x80) + coded
        return encode_integer(len(text), 7, 0) + text

    def block(self, kind: str) -> bytes:
        """A block in one of the many ways to encode it."""
        rng = self.rng
        pieces = []
        fields = self.fields(kind)
        if rng.random() < 0.05:
            pieces.append(encode_integer(rng.choice([0, 30, 31, 100, 4096]), 5, 0x20))
        for name, value in fields:
            how = rng.choice([0x40, 0x40, 0x00, 0x10])
            prefix = 6 if how == 0x40 else 4
            known = [i for i, each in enumerate(HeaderTable.STATIC_TABLE) if each[0] == name]
            if known and rng.random() < 0.7:
                exact = [i for i in known if HeaderTable.STATIC_TABLE[i][1] == value]
                if exact and rng.random() < 0.7:
                    pieces.append(encode_integer(exact[0] + 1, 7, 0x80))
                    continue
                pieces.append(encode_integer(rng.choice(known) + 1, prefix, how))
            else:
                pieces.append(bytes((how,)) + self.string(name))
            pieces.append(self.string(value))
        if rng.random() < 0.3:
            index = rng.choice([15, 16, 62, 62, 63, 64, 70, rng.randrange(200)])
            position = rng.randrange(len(pieces) + 1) if self.wild() else len(pieces)
            pieces.insert(position, encode_integer(index, 7, 0x80))
        if rng.random() < 0.01:
            pieces.append(b"\xbe" * rng.choice([100, 300, 3000]))
        if self.wild() and rng.random() < 0.2:
            pieces.append(
                rng.choice([b"\x20", b"\x3f\xe2\x1f", b"\x80", b"\xff\xff\xff\xff\xff\x0f"])
            )
        block = b"".join(pieces)
        if rng.random() < self.wildness / 4:
            block = self.mutated(block)
        return block

    def mutated(self, data: bytes) -> bytes:
        """`data` with a byte replaced, or a piece cut off."""
        mutated = bytearray(data)
        position = self.rng.randrange(len(mutated) + 1)
        if self.rng.random() < 0.5:
            mutated[position : position + 1] = bytes([self.rng.randrange(256)])
        else:
            del mutated[position:]
        return bytes(mutated)


class Connection:
    """The decoders of one direction of a connection."""

    def __init__(self) -> None:
        self.native = _http2.BlockDecoder()
        self.pure = blocks_pure.BlockDecoder()
        self.plain = blocks_pure.BlockDecoder()
        self.library = hpack.Decoder(max_header_list_size=1 << 24)

    def check(self, kind: str, block: bytes, max_bytes: int, max_headers: int, ended: bool) -> str:
        """Hold all properties for one block; the answer names the class of the outcome."""
        before = self.native.changes
        arguments = (block, max_bytes, max_headers, *((ended,) if kind == "request" else ()))
        answer = getattr(self.pure, kind)(*arguments)
        native = getattr(self.native, kind)(*arguments)
        if native != answer or self.native.changes != self.pure.changes:
            raise scan.DifferenceError(f"{kind} {arguments}: {native!r} != {answer!r}")
        fields = self.plain.decode(block, 1 << 24)
        if fields == ENHANCE_YOUR_CALM:
            return str(answer)
        try:
            decoded = [tuple(field) for field in self.library.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError):
            if fields != COMPRESSION_ERROR:
                raise scan.DifferenceError(f"hpack refuses {block!r}") from None
            return str(answer)
        if fields != decoded:
            raise scan.DifferenceError(f"{block!r}: {fields!r} != {decoded!r}")
        if isinstance(answer, int):
            return str(answer)
        if before == self.native.changes:
            again = getattr(self.native, kind)(*arguments)
            if again != answer:
                raise scan.DifferenceError(f"{block!r} is not stable: {again!r} != {answer!r}")
        if kind == "request":
            check_head(block, answer)
        return "accepted"


def check_head(block: bytes, answer: tuple[bytes, bytes, bytes, int, int, bytes]) -> None:
    """The head that a server is sent means to the scanner of HTTP/1.1 what the block meant."""
    head, host, target, flags, length, cut = answer
    if b"\r\n\r\n" in head or head.lower().count(b"\r\nhost:"):
        raise scan.DifferenceError(f"{block!r} is split: {head!r}")
    whole = head + b"Host: %b\r\n\r\n" % host
    again = scan_pure.scan_request(whole, 1 << 20, 256)
    if not isinstance(again, tuple) or again[:3] != (head, host, target):
        raise scan.DifferenceError(f"{block!r} gives a bad head: {head!r} -> {again!r}")
    if again[4] != max(length, 0) or again[5] != len(whole):
        raise scan.DifferenceError(f"{block!r} is framed badly: {head!r}")
    if (again[3] ^ flags) & (CHUNKED | UPGRADE | KEEP_ALIVE):
        raise scan.DifferenceError(f"{block!r}: other flags {flags} for {head!r}")
    received = scan_pure.scan_request(head + cut + b"Host: %b\r\n\r\n" % host, 1 << 20, 256)
    if not isinstance(received, tuple) or received[:3] != again[:3]:
        raise scan.DifferenceError(f"{block!r}: what is cut is not cut by the scanner: {cut!r}")


def plain_fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields = [(n.lower(), v.strip(b" \t")) for n, _, v in (line.partition(b":") for line in lines)]
    return [f for f in fields if f[0] not in BAD_NAMES[:5]]


def check_encoding(data: bytes, kind: str) -> str:
    """Both encode the same; hpack reads back what was written."""
    arguments = (data, b"https") if kind == "request" else (data,)
    outcomes = []
    for module in (blocks_pure, _http2):
        try:
            outcomes.append(getattr(module, f"encode_{kind}")(*arguments))
        except ValueError:
            outcomes.append(None)
    if outcomes[0] != outcomes[1]:
        raise scan.DifferenceError(f"encode_{kind} {data!r}: {outcomes[1]!r} != {outcomes[0]!r}")
    if outcomes[0] is None:
        return "refused"
    block = outcomes[0][0] if kind == "response" else outcomes[0]
    if kind == "response":
        check_answer(data, *outcomes[0])
    end = data.find(b"\r\n\r\n")
    lines = (data[:end] if end >= 0 else data[:-2]).split(b"\r\n")
    decoded = [tuple(field) for field in hpack.Decoder(1 << 24).decode(block, raw=True)]
    if kind == "response":
        expected = [(b":status", lines[0][9:12])]
        expected += [field for field in plain_fields(lines[1:]) if field[0] != b"te"]
    elif kind == "request":
        method, target, _ = lines[0].split(b" ")
        fields = plain_fields(lines[1:])
        expected = [(b":method", method), (b":scheme", b"https")]
        expected += [(b":authority", dict(fields)[b"host"]), (b":path", target)]
        expected += [
            field
            for field in fields
            if field[0] != b"host" and (field[0] != b"te" or field[1].lower() == b"trailers")
        ]
    else:
        expected = plain_fields(lines)
    if decoded != expected:
        raise scan.DifferenceError(f"encode_{kind} {data!r}: {decoded!r} != {expected!r}")
    return "encoded"


def check_answer(data: bytes, block: bytes, end: int) -> None:
    """The frames of a whole answer are the block and the body, where there is room for them."""
    size = len(data) - end
    for room in (size, size - 1):
        frames = blocks_pure.encode_answer(data, 7, room)
        if _http2.encode_answer(data, 7, room) != frames:
            raise scan.DifferenceError(f"encode_answer {data!r} {room}")
        if room < size:
            expected = None
        elif size:
            expected = headers(7, block, ended=False, frame_size=1 << 20)
            expected = (expected + size.to_bytes(3, "big") + b"\0\1\0\0\0\7" + data[end:], size)
        else:
            expected = (headers(7, block, ended=True, frame_size=1 << 20), 0)
        if frames != expected and len(block) <= 16384:
            raise scan.DifferenceError(f"encode_answer {data!r} {room}: {frames!r}")


def encode_some(rng: random.Random, maker: scan.Maker) -> tuple[str, str]:
    """Encode a random head or trailer."""
    kind = rng.choice(["response", "response", "request", "trailers"])
    if kind == "trailers":
        data = maker.fields()
        data = maker.mutated(data) if rng.random() < 0.2 else data
        return kind, check_encoding(data, kind) if data else "empty"
    data = maker.response() if kind == "response" else maker.request()
    if kind == "response" and rng.random() < 0.5:
        answer = scan_pure.scan_response(data, rng.choice([KEEP_ALIVE, 0, 65536]), scan.DATE)
        if isinstance(answer, (bytes, tuple)):
            data = answer if isinstance(answer, bytes) else answer[0]
    return kind, check_encoding(data, kind)


def check_frame(rng: random.Random, maker: Maker) -> str:
    """Look for a whole request in a frame that may be one, or almost one."""
    block = maker.block("request")
    stream = rng.choice([1, 3, 0x7FFFFFFF])
    kind, flags, number, position = HEADERS, END_STREAM | END_HEADERS, stream, 0
    odd = rng.random() < 0.5
    if odd:
        kind = rng.choice([HEADERS, HEADERS, DATA])
        flags = rng.choice([flags, 0xD7, 1, 4, 13, 37])
        number = rng.choice([stream, stream | 1 << 31, stream + 2])
    data = pack_header(len(block) << 8 | kind, flags, number) + block
    if odd:
        data = maker.mutated(data) if rng.random() < 0.3 else data
        position = rng.choice([0, 0, rng.randrange(len(data) + 1)])
    data += rng.choice([b"", b"", data])
    native = _http2.request_block(data, position, stream)
    if native != blocks_pure.request_block(data, position, stream):
        raise scan.DifferenceError(f"request_block({data!r}, {position}, {stream}): {native!r}")
    return "other" if native is None else "request"


def run(seed: int, inputs: int, seconds: float | None = None) -> Counter[str]:
    """Check `inputs` blocks and heads, or as many as fit in `seconds`; counts by outcome.

    Raises DifferenceError at the first input on which a property does not hold.
    """
    rng = random.Random(seed)
    maker, heads = Maker(rng), scan.Maker(rng)
    connection = Connection()
    outcomes: Counter[str] = Counter()
    deadline = None if seconds is None else time.monotonic() + seconds
    for i in itertools.count():
        if i >= inputs or (deadline is not None and not i % 256 and time.monotonic() > deadline):
            break
        if i % 4 == 0:
            kind, outcome = encode_some(rng, heads)
            outcomes[f"encode {kind} {outcome}"] += 1
            continue
        if i % 16 == 1:
            outcomes[f"frame {check_frame(rng, maker)}"] += 1
            continue
        kind = rng.choice(["request"] * 4 + ["response", "trailers"])
        max_bytes = rng.choice([65536] * 9 + [rng.randrange(1, 500)])
        max_headers = rng.choice([128] * 9 + [rng.randrange(1, 8)])
        outcome = connection.check(
            kind, maker.block(kind), max_bytes, max_headers, rng.random() < 0.7
        )
        outcomes[f"decode {kind} {outcome}"] += 1
        if outcome in (str(COMPRESSION_ERROR), str(ENHANCE_YOUR_CALM)) or rng.random() < 0.02:
            connection = Connection()
    return outcomes


def main() -> int:
    """Command line: prints the counts, exits 1 on the first difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        outcomes = run(options.seed, options.inputs)
    except scan.DifferenceError as difference:
        print(difference)
        return 1
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:10} {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
