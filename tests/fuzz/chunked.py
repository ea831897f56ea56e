"""Fuzzer of the chunked reader, with llhttp as the independent second reader.

    python -m tests.fuzz.chunked --inputs 1000000 --seed 1

A body is built from good and bad chunks, maybe mutated, and read in pieces cut at random. The
outcome must not depend on the cuts; the content of an accepted body must be what llhttp reads; what
is passed on must decode to the same content, end at the same place, and hold no forbidden trailer;
what llhttp refuses must be refused.
"""

import argparse
import itertools
import random
import sys
import time
from collections import Counter

import httptools

from kvproxy.http.chunked import ChunkedError, ChunkedReader
from tests.fuzz.scan import MUTATIONS, DifferenceError

GOOD_EXTENSIONS = [b""] * 8 + [b";a", b";a=b", b';a="b; \\" c"', b";a;b=c;d=e", b";" + b"x" * 200]
BAD_EXTENSIONS = [
    b" ",
    b";",
    b";=",
    b";a=",
    b' ;a="',
    b"; a",
    b";a = b",
    b";" + b"x" * 300,
    b"\x00",
]
BAD_SIZES = [b"", b"-1", b"+5", b"0x5", b"5_0", b" 5", b"g", b"1" * 16, b"f" * 17, b"\xb2", b"5 "]
BAD_LINE_ENDS = [b"\n", b"\r", b"", b"\r\r\n", b" \r\n", b"\n\r"]
GOOD_TRAILERS = [
    b"X-A: b",
    b"Grpc-Status:0",
    b"A: \t",
    b"Host: x",
    b"X_Forwarded-For: 1",
    b"Etag: x",
]
BAD_TRAILERS = [b" a: b", b"a : b", b"a", b": b", b"a: \x00", b"a: b\nc: d", b"\xe9: b", b"a: b\r"]
FORBIDDEN = (b"host", b"x-forwarded-for", b"content-length", b"transfer-encoding", b"cookie")


def make_body(rng: random.Random) -> bytes:
    """A chunked body, good or bad, often with bytes behind it."""
    wildness = rng.choice([0.0, 0.05, 0.2])

    def pick(good: list[bytes], bad: list[bytes]) -> bytes:
        return rng.choice(bad if rng.random() < wildness else good)

    parts = []
    for _ in range(rng.randrange(4)):
        content = rng.randbytes(rng.choice([1, 2, 5, 15, 16, 17, 300]))
        size = b"%0*x" % (rng.choice([0, 0, 0, 8]), len(content))
        if rng.random() < wildness / 2:
            size = rng.choice(BAD_SIZES)
        parts += [rng.choice([size, size.upper()]), pick(GOOD_EXTENSIONS, BAD_EXTENSIONS)]
        parts += [pick([b"\r\n"], BAD_LINE_ENDS), content, pick([b"\r\n"], BAD_LINE_ENDS)]
    parts += [rng.choice([b"0", b"0", b"000"]), pick(GOOD_EXTENSIONS, BAD_EXTENSIONS)]
    parts.append(pick([b"\r\n"], BAD_LINE_ENDS))
    for _ in range(rng.choice([0, 0, 1, 2])):
        parts += [pick(GOOD_TRAILERS, BAD_TRAILERS), pick([b"\r\n"], BAD_LINE_ENDS)]
    parts.append(pick([b"\r\n"], BAD_LINE_ENDS))
    parts.append(rng.choice([b"", b"", b"GET / HTTP/1.1\r\n\r\n"]))
    body = bytearray(b"".join(parts))
    if rng.random() < 0.3:
        for _ in range(rng.randrange(1, 3)):
            position = rng.randrange(len(body) + 1)
            match rng.randrange(3):
                case 0:
                    body[position : position + 1] = bytes([rng.choice(MUTATIONS)])
                case 1:
                    del body[position : position + rng.choice([1, 1, 2, 9])]
                case _:
                    body[position:position] = bytes([rng.choice(MUTATIONS)])
    return bytes(body)


def read(data: bytes, cuts: list[int], decode: bool) -> tuple[bytes, bytes] | str | None:
    """Feed `data` cut at the offsets: (passed on, behind), "refused", or None when unfinished."""
    reader = ChunkedReader(decode)
    out, rest = [], b""
    try:
        for start, end in itertools.pairwise([0, *cuts, len(data)]):
            passed, behind = reader.feed(data[start:end])
            out.append(passed)
            rest += behind
    except ChunkedError:
        return "refused"
    return (b"".join(out), rest) if reader.finished else None


class _Content:
    """What llhttp reports."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = False

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


def read_by_llhttp(data: bytes) -> bytes | str | None:
    """The content as llhttp reads it, "refused", or None when unfinished."""
    content = _Content()
    parser = httptools.HttpRequestParser(content)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(data)
    except httptools.HttpParserError:
        return "refused"
    return content.body if content.complete else None


def check(data: bytes, cuts: list[int]) -> str:
    """Hold all properties for one body; the answer names the class of the outcome."""
    outcome = read(data, [], decode=False)
    decoded = read(data, [], decode=True)
    if read(data, cuts, decode=False) != outcome:
        raise DifferenceError(f"{data!r} cut at {cuts}: {read(data, cuts, False)!r} != {outcome!r}")
    if read(data, cuts, decode=True) != decoded:
        raise DifferenceError(f"{data!r} cut at {cuts}: {read(data, cuts, True)!r} != {decoded!r}")
    if not isinstance(outcome, tuple) or not isinstance(decoded, tuple):
        if decoded != outcome:
            raise DifferenceError(f"{data!r}: {decoded!r} decoded, {outcome!r} passed on")
        if outcome is None and read_by_llhttp(data) == "refused":
            raise DifferenceError(f"{data!r}: refused by llhttp, awaited here")
        return "refused" if outcome else "unfinished"
    passed, behind = outcome
    content = decoded[0]
    if decoded[1] != behind or not data.endswith(behind):
        raise DifferenceError(f"{data!r}: ends before {behind!r} or before {decoded[1]!r}")
    for body in (data[: len(data) - len(behind)], passed):
        if read_by_llhttp(body) != content:
            raise DifferenceError(f"{body!r}: {read_by_llhttp(body)!r} by llhttp, {content!r} here")
    if read(passed, [], decode=False) != (passed, b""):
        raise DifferenceError(f"{data!r}: what is passed on changes when it is read again")
    trailers = passed[passed.rindex(b"\r\n0") + 4 if b"\r\n0" in passed else 0 :]
    for line in trailers.split(b"\r\n"):
        if line.partition(b":")[0].lower().replace(b"_", b"-") in FORBIDDEN:
            raise DifferenceError(f"{data!r}: forbidden trailer {line!r} passes")
    return "accepted"


def run(seed: int, inputs: int, seconds: float | None = None) -> Counter[str]:
    """Check `inputs` bodies, or as many as fit in `seconds`; counts by outcome.

    Raises DifferenceError at the first input on which a property does not hold.
    """
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    deadline = None if seconds is None else time.monotonic() + seconds
    for i in itertools.count():
        if i >= inputs or (deadline is not None and not i % 256 and time.monotonic() > deadline):
            break
        data = make_body(rng)
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(1, 6)))
        outcomes[check(data, cuts)] += 1
    return outcomes


def main() -> int:
    """Command line: prints the counts, exits 1 on the first difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    try:
        outcomes = run(options.seed, options.inputs)
    except DifferenceError as difference:
        print(difference)
        return 1
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:10} {outcome}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
